//! What became of operations: told with a uuid until it is acknowledged, and whenever a framework asks.
//!
//! An operation with an id that is in the registry is PENDING until its agent has said that it applied the layout that the
//! operation made, then FINISHED, or FAILED where the agent could not do its part. What was refused (ERROR) or got lost
//! before it was in the registry (DROPPED) has changed nothing, and is told once, without a uuid: who misses it asks, and
//! hears UNKNOWN.

use proffer_proto::registry as wire;
use proffer_proto::v1::offer::Operation;
use proffer_proto::v1::scheduler::call::{AcknowledgeOperationStatus, ReconcileOperations};
use proffer_proto::v1::{self, OperationState, OperationStatus};
use proffer_proto::{Rejection, link};

use super::{convert, layout, put};
use crate::agents::{self, Agent, Deferred, Phase};
use crate::effect::Answer;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::proposals::Proposal;
use crate::slots::{AgentSlot, FrameworkSlot};
use crate::{events, frameworks};

/// How many bytes a uuid has.
const UUID_BYTES: usize = 16;

/// An operation was not carried out, and changed nothing. Who gave it no id hears nothing.
pub(crate) fn undone(
    leading: &Leading,
    step: &mut Step<'_>,
    framework: FrameworkSlot,
    agent: Option<AgentSlot>,
    operation: &Operation,
    state: OperationState,
    message: String,
) {
    let Some(id) = &operation.id else { return };
    let agent_id = agent.map(|slot| leading.agents[slot].id.clone());
    let status = OperationStatus {
        message: Some(message),
        ..of(id, state, agent_id)
    };
    frameworks::send(leading, step, framework, events::operation(status));
}

/// Names the final status of an operation: the same on every leader, and another one for every operation.
pub(super) fn uuid(framework: &v1::FrameworkId, agent: &v1::AgentId, id: &v1::OperationId, version: u64) -> Vec<u8> {
    let hash = |seed: u64| {
        let version = version.to_be_bytes();
        let parts = [
            framework.value.as_bytes(),
            agent.value.as_bytes(),
            id.value.as_bytes(),
            &version,
        ];
        let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0]));
        // FNV-1a.
        bytes.fold(seed, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let halves = [hash(0xcbf2_9ce4_8422_2325), hash(0x6c62_272e_07bb_0142)];
    halves.iter().flat_map(|half| half.to_be_bytes()).collect()
}

fn of(id: &v1::OperationId, state: OperationState, agent_id: Option<v1::AgentId>) -> OperationStatus {
    OperationStatus {
        operation_id: Some(id.clone()),
        state: state as i32,
        agent_id,
        ..OperationStatus::default()
    }
}

/// How an operation of the registry stands.
fn status(agent: &Agent, operation: &wire::Operation) -> OperationStatus {
    let id = operation.info.id.clone().unwrap_or_default();
    let status = |state| of(&id, state, Some(agent.id.clone()));
    if !is_final(agent, operation) {
        return status(match agent.phase {
            Phase::Unreachable { .. } => OperationState::OperationUnreachable,
            Phase::Recovered => OperationState::OperationRecovering,
            Phase::Attached(_) | Phase::Disconnected => OperationState::OperationPending,
        });
    }
    let converted_resources = operation.converted.clone();
    let volumes = volumes(&operation.info);
    let failure = agent.failures.iter().find(|failure| {
        failure.version == operation.version
            && volumes
                .iter()
                .any(|(role, id)| *role == failure.role && *id == failure.volume_id)
    });
    let told = match failure {
        Some(failure) => OperationStatus {
            message: Some(failure.message.clone()),
            ..status(OperationState::OperationFailed)
        },
        None => status(OperationState::OperationFinished),
    };
    OperationStatus {
        uuid: Some(v1::Uuid {
            value: operation.uuid.to_vec(),
        }),
        converted_resources,
        ..told
    }
}

fn is_final(agent: &Agent, operation: &wire::Operation) -> bool {
    operation.version <= agent.applied
}

/// The volumes that an operation is about.
fn volumes(operation: &Operation) -> Vec<(String, String)> {
    let mut list: Vec<v1::Resource> = Vec::new();
    list.extend(operation.create.iter().flat_map(|part| part.volumes.iter().cloned()));
    list.extend(operation.destroy.iter().flat_map(|part| part.volumes.iter().cloned()));
    list.extend(operation.grow_volume.iter().map(|part| part.volume.clone()));
    list.extend(operation.shrink_volume.iter().map(|part| part.volume.clone()));
    let resources = proffer_proto::resources::Resources::from_wire(&list).unwrap_or_default();
    resources.iter().filter_map(convert::name).collect()
}

/// An agent has done with a layout what it could.
pub(crate) fn applied(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, applied: link::LayoutApplied) {
    let agent = &mut leading.agents[slot];
    if applied.lineage != agent.lineage || applied.version > agent.layout.version {
        return;
    }
    let before = agent.applied;
    agent.applied = applied.version.max(before);
    agent.failures = applied.failures;
    let agent = &leading.agents[slot];
    for operation in &agent.layout.operations {
        if operation.version > before && is_final(agent, operation) {
            tell(leading, step, operation, status(agent, operation));
        }
    }
}

fn tell(leading: &Leading, step: &mut Step<'_>, operation: &wire::Operation, status: OperationStatus) {
    if let Some(framework) = leading.framework_ids.get(&operation.framework_id) {
        frameworks::send(leading, step, *framework, events::operation(status));
    }
}

/// Sends the final statuses again that are not acknowledged: the scheduler is new, or may have missed them.
pub(crate) fn send_pending(leading: &Leading, step: &mut Step<'_>, framework: FrameworkSlot) {
    let id = &leading.frameworks[framework].id;
    for (_, agent) in leading.agents.iter() {
        for operation in &agent.layout.operations {
            if operation.framework_id == *id && is_final(agent, operation) {
                tell(leading, step, operation, status(agent, operation));
            }
        }
    }
}

/// An agent is gone for good, and all that operations made of it.
pub(crate) fn agent_gone(leading: &Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let agent = &leading.agents[slot];
    for operation in &agent.layout.operations {
        let id = operation.info.id.clone().unwrap_or_default();
        let status = of(&id, OperationState::OperationGoneByOperator, Some(agent.id.clone()));
        tell(leading, step, operation, status);
    }
}

/// A scheduler's ACKNOWLEDGE_OPERATION_STATUS. What is not known is acknowledged already.
pub(crate) fn acknowledge(
    leading: &mut Leading,
    step: &mut Step<'_>,
    framework: FrameworkSlot,
    request: RequestId,
    call: AcknowledgeOperationStatus,
) -> Result<(), Rejection> {
    if call.uuid.len() != UUID_BYTES {
        let problem = format!("has {} bytes", call.uuid.len());
        let accepted = "the 16 bytes of the uuid of an operation's status";
        return Err(Rejection::new("uuid", problem, accepted));
    }
    step.effects.answer(request, Answer::Accepted);
    let id = &leading.frameworks[framework].id;
    let own = |operation: &wire::Operation| {
        operation.framework_id == *id
            && operation.uuid == call.uuid
            && operation.info.id.as_ref() == Some(&call.operation_id)
    };
    let found = leading
        .agents
        .iter()
        .find(|(_, agent)| agent.layout.operations.iter().any(own));
    if let Some((slot, _)) = found {
        forget(leading, step, slot, call.uuid);
    }
    Ok(())
}

/// The final status of an operation is acknowledged.
pub(crate) fn forget(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, uuid: Vec<u8>) {
    let agent = &mut leading.agents[slot];
    if agent.in_flight {
        agent.queue.push_back(Deferred::Forget(uuid));
        return;
    }
    let known = agent.layout.operations.iter().any(|operation| operation.uuid == uuid);
    if known {
        let layout = layout::without(agent, step, &uuid);
        put(leading, step, slot, layout, Proposal::Forget(slot));
    }
}

/// The registry has forgotten an operation.
pub(crate) fn forgotten(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    layout::take(leading, step, slot);
    agents::settled(leading, step, slot);
}

/// A scheduler's RECONCILE_OPERATIONS: about the operations that it names, or about all.
pub(crate) fn reconcile(leading: &Leading, step: &mut Step<'_>, framework: FrameworkSlot, call: &ReconcileOperations) {
    let id = &leading.frameworks[framework].id;
    let known = |agent: &Agent, wanted: Option<&v1::OperationId>| -> Vec<OperationStatus> {
        let operations = agent.layout.operations.iter();
        let own = operations.filter(|operation| {
            operation.framework_id == *id && wanted.is_none_or(|wanted| operation.info.id.as_ref() == Some(wanted))
        });
        own.map(|operation| status(agent, operation)).collect()
    };
    let every = |wanted| leading.agents.iter().flat_map(move |(_, agent)| known(agent, wanted));
    let under_way = |wanted: Option<&v1::OperationId>| -> Vec<OperationStatus> {
        let parked = leading.parked.values().filter(|parked| parked.is_of(framework));
        let operations = parked.flat_map(|parked| parked.operations.iter().map(|id| (parked.agent, id)));
        operations
            .filter(|(_, id)| wanted.is_none_or(|wanted| wanted == *id))
            .map(|(agent, id)| {
                of(
                    id,
                    OperationState::OperationPending,
                    Some(leading.agents[agent].id.clone()),
                )
            })
            .collect()
    };
    let mut statuses = Vec::new();
    if call.operations.is_empty() {
        statuses.extend(every(None));
        statuses.extend(under_way(None));
    }
    for asked in &call.operations {
        let wanted = Some(&asked.operation_id);
        let before = statuses.len();
        statuses.extend(every(wanted));
        statuses.extend(under_way(wanted));
        if statuses.len() == before {
            let gone = asked
                .agent_id
                .as_ref()
                .is_some_and(|agent| step.registry.is_gone(agent));
            let state = if gone {
                OperationState::OperationGoneByOperator
            } else {
                OperationState::OperationUnknown
            };
            statuses.push(of(&asked.operation_id, state, asked.agent_id.clone()));
        }
    }
    for status in statuses {
        frameworks::send(leading, step, framework, events::operation(status));
    }
}

/// Whether an id is in use by an operation that is not acknowledged.
pub(super) fn is_used(leading: &Leading, framework: FrameworkSlot, id: &v1::OperationId) -> bool {
    let own = &leading.frameworks[framework].id;
    leading.agents.iter().any(|(_, agent)| {
        let mut operations = agent.layout.operations.iter();
        operations.any(|operation| operation.framework_id == *own && operation.info.id.as_ref() == Some(id))
    })
}

/// All operations, for operators.
pub(crate) fn list(leading: &Leading) -> Vec<v1::Operation> {
    let of_agent = |agent: &Agent| -> Vec<v1::Operation> {
        let operations = agent.layout.operations.iter();
        operations
            .map(|operation| {
                let status = status(agent, operation);
                v1::Operation {
                    framework_id: Some(operation.framework_id.clone()),
                    agent_id: Some(agent.id.clone()),
                    info: operation.info.clone(),
                    latest_status: status.clone(),
                    statuses: vec![status],
                    uuid: v1::Uuid {
                        value: operation.uuid.to_vec(),
                    },
                }
            })
            .collect()
    };
    leading.agents.iter().flat_map(|(_, agent)| of_agent(agent)).collect()
}

//! Tells the master the whole truth at the start of every stream.

use proffer_proto::link::{Register, Registered, Rejected, agent_message};
use proffer_proto::v1;
use proffer_proto::v1::agent_info::{Capability, capability};

use super::{Core, Effect, Session, Timestamp, end, send, updates};
use crate::checkpoint::record::Fact;

/// The version of the protocol of the stream.
const PROTOCOL: u32 = 1;

/// What this agent can do.
const CAPABILITIES: [capability::Type; 5] = [
    capability::Type::MultiRole,
    capability::Type::HierarchicalRole,
    capability::Type::ReservationRefinement,
    capability::Type::ResizeVolume,
    capability::Type::AgentOperationFeedback,
];

/// A stream stands open: say who we are and what runs here.
pub(super) fn attached(core: &mut Core, now: Timestamp, session: u64, effects: &mut Vec<Effect>) {
    core.session = Session::None;
    core.unsaid.clear();
    updates::part_with_ended(core, now, effects);
    let dying = !core.executors.is_empty() || core.tasks.values().any(|task| task.muted);
    if core.id.is_none() && dying {
        // What the agent was under its former id still ends; only then are the resources free for a new one.
        effects.push(Effect::Close(session));
        return;
    }
    core.session = Session::Registering(session);
    let register = Register {
        protocol: PROTOCOL,
        agent: core.agent_info(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities: CAPABILITIES
            .map(|kind| Capability {
                r#type: Some(kind.into()),
            })
            .to_vec(),
        tasks: core
            .tasks
            .iter()
            .map(|(name, task)| {
                let mut wire = task.wire(name, user(core, &name.framework, &task.info));
                if wire.statuses.is_empty() {
                    // What its checks say was acknowledged: a master that is new learns it only here.
                    wire.statuses.extend(core.checks.latest(name, &wire));
                }
                wire
            })
            .collect(),
        frameworks: core.frameworks.values().cloned().collect(),
        executors: core.executors.values().map(|executor| executor.info.clone()).collect(),
        boot_id: Some(core.settings.boot_id.clone()),
    };
    effects.push(send(session, agent_message::Body::Register(register)));
}

/// The stream is over.
pub(super) fn detached(core: &mut Core, now: Timestamp, session: u64, effects: &mut Vec<Effect>) {
    match core.session {
        Session::Registering(current) | Session::Registered(current) if current == session => {
            core.session = Session::None;
            updates::part_with_ended(core, now, effects);
        }
        _ => {}
    }
}

/// The master has admitted the agent.
pub(super) fn registered(
    core: &mut Core,
    now: Timestamp,
    session: u64,
    registered: Registered,
    effects: &mut Vec<Effect>,
) {
    tracing::info!(agent_id = registered.agent_id.value, "registered with the master");
    if core.id.as_ref() != Some(&registered.agent_id) {
        if let Some(old) = &core.id {
            tracing::warn!(
                old = old.value,
                agent_id = registered.agent_id.value,
                "the master gave another id"
            );
        }
        core.id = Some(registered.agent_id);
        effects.push(core.identity());
    }
    core.session = Session::Registered(session);
    updates::part_with_ended(core, now, effects);
    updates::send_all(core, now, effects);
    for exited in std::mem::take(&mut core.unsaid) {
        effects.push(send(session, agent_message::Body::ExecutorExited(exited)));
    }
    end::leave_when_over(core, effects);
}

/// A master that admits the agent is of this cluster, and from now on only its masters are listened to.
pub(super) fn cluster(core: &mut Core, id: String, effects: &mut Vec<Effect>) {
    if core.cluster.as_ref() != Some(&id) {
        core.cluster = Some(id);
        effects.push(core.identity());
    }
}

/// The master does not want the agent.
pub(super) fn rejected(core: &mut Core, now: Timestamp, session: u64, rejected: &Rejected, effects: &mut Vec<Effect>) {
    tracing::error!(
        message = rejected.message,
        gone = rejected.gone(),
        "the master rejected this agent"
    );
    core.session = Session::None;
    if rejected.gone() {
        end::gone(core, now, effects);
    }
    effects.push(Effect::Close(session));
}

/// The framework's description changed.
pub(super) fn framework_updated(core: &mut Core, framework: v1::FrameworkInfo, effects: &mut Vec<Effect>) {
    let Some(id) = framework.id.as_ref().map(|id| &id.value) else {
        return;
    };
    if let Some(known) = core.frameworks.get_mut(id) {
        known.clone_from(&framework);
        effects.push(Effect::Checkpoint(Fact::Framework(framework).into()));
    }
}

/// Whom a task runs as.
fn user(core: &Core, framework: &str, task: &v1::TaskInfo) -> Option<String> {
    let own = task.command.as_ref().and_then(|command| command.user.clone());
    own.or_else(|| core.frameworks.get(framework).map(|framework| framework.user.clone()))
}

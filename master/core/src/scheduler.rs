//! The calls of schedulers, but SUBSCRIBE: who may call, and which handler it is for.

use proffer_proto::v1::scheduler::Call;
use proffer_proto::v1::scheduler::call::{Message, Shutdown, Type};
use proffer_proto::{Rejection, link};

use crate::accept;
use crate::effect::Answer;
use crate::input::{ConnectionId, RequestId, StreamId};
use crate::master::{Leading, Step};
use crate::operations::feedback;
use crate::proposals::Removal;
use crate::slots::{ClaimSlot, FrameworkSlot};
use crate::{frameworks, inverse, kill, offers, reconcile, updates};

/// Any call but SUBSCRIBE.
pub(crate) fn call(
    leading: &mut Leading,
    step: &mut Step<'_>,
    request: RequestId,
    stream: Option<StreamId>,
    call: Call,
) {
    match caller(leading, step, stream, &call) {
        Ok(slot) => {
            if let Err(rejection) = dispatch(leading, step, slot, request, call) {
                step.effects.answer(request, Answer::Rejected(rejection));
            }
        }
        Err(answer) => step.effects.answer(request, answer),
    }
}

/// The framework whose scheduler calls.
fn caller(leading: &Leading, step: &Step<'_>, stream: Option<StreamId>, call: &Call) -> Result<FrameworkSlot, Answer> {
    let Some(id) = &call.framework_id else {
        return Err(Answer::Rejected(Rejection::missing("framework_id")));
    };
    let slot = frameworks::find(leading, step, id).map_err(Answer::Rejected)?;
    let Some(current) = leading.frameworks[slot].stream() else {
        return Err(Answer::NotSubscribed("the framework is not subscribed".to_owned()));
    };
    if stream != Some(current) {
        let problem = "is missing, or names another stream than the framework's present one";
        let accepted = "the `mesos-stream-id` that the latest SUBSCRIBE was answered with";
        let rejection = Rejection::new("mesos-stream-id", problem, accepted);
        return Err(Answer::NotSubscribed(rejection.to_string()));
    }
    Ok(slot)
}

/// Handlers answer by themselves, except where this returns an error.
fn dispatch(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    call: Call,
) -> Result<(), Rejection> {
    let Some(number) = call.r#type else {
        return Err(Rejection::missing("type"));
    };
    let Ok(kind) = Type::try_from(number) else {
        let problem = format!("is {number}, which is no type of call");
        return Err(Rejection::new("type", problem, "a type of the scheduler API"));
    };
    let missing = |field: &str| Rejection::missing(field);
    match kind {
        Type::Teardown => frameworks::remove(leading, step, slot, Removal::Teardown(request)),
        Type::Accept => {
            let payload = call.accept.ok_or_else(|| missing("accept"))?;
            accept::accept(leading, step, slot, request, payload);
        }
        Type::Decline => {
            let payload = call.decline.ok_or_else(|| missing("decline"))?;
            offers::decline(leading, step, slot, request, &payload);
        }
        Type::Revive => {
            let roles = call.revive.map(|revive| revive.roles).unwrap_or_default();
            let claims = claims(leading, slot, &roles).map_err(|rejection| rejection.within("revive"))?;
            step.effects.answer(request, Answer::Accepted);
            suppress(leading, slot, &claims, false);
        }
        Type::Suppress => {
            let roles = call.suppress.map(|suppress| suppress.roles).unwrap_or_default();
            let claims = claims(leading, slot, &roles).map_err(|rejection| rejection.within("suppress"))?;
            step.effects.answer(request, Answer::Accepted);
            suppress(leading, slot, &claims, true);
        }
        Type::Kill => {
            let payload = call.kill.ok_or_else(|| missing("kill"))?;
            kill::kill(leading, step, slot, request, payload);
        }
        Type::Acknowledge => {
            let payload = call.acknowledge.ok_or_else(|| missing("acknowledge"))?;
            updates::acknowledge(leading, step, slot, request, payload);
        }
        Type::Reconcile => {
            let payload = call.reconcile.ok_or_else(|| missing("reconcile"))?;
            reconcile::reconcile(leading, step, slot, request, payload);
        }
        Type::Message => {
            let payload = call.message.ok_or_else(|| missing("message"))?;
            message(leading, step, slot, request, payload).map_err(|rejection| rejection.within("message"))?;
        }
        Type::Shutdown => {
            let payload = call.shutdown.ok_or_else(|| missing("shutdown"))?;
            shutdown(leading, step, slot, request, payload).map_err(|rejection| rejection.within("shutdown"))?;
        }
        Type::Request => {
            let payload = call.request.ok_or_else(|| missing("request"))?;
            frameworks::request(leading, step, slot, request, &payload)
                .map_err(|rejection| rejection.within("request"))?;
        }
        Type::UpdateFramework => {
            let payload = call.update_framework.ok_or_else(|| missing("update_framework"))?;
            frameworks::update(leading, step, slot, request, *payload);
        }
        Type::Subscribe => {
            let accepted = "another call; SUBSCRIBE opens a stream of its own";
            return Err(Rejection::new("type", "is SUBSCRIBE", accepted));
        }
        Type::Unknown => return Err(Rejection::new("type", "is UNKNOWN", "a type of the scheduler API")),
        Type::AcceptInverseOffers => {
            let payload = call
                .accept_inverse_offers
                .ok_or_else(|| missing("accept_inverse_offers"))?;
            let (ids, filters) = (&payload.inverse_offer_ids, payload.filters.as_ref());
            inverse::answer(leading, step, slot, request, ids, true, filters)
                .map_err(|rejection| rejection.within("accept_inverse_offers"))?;
        }
        Type::DeclineInverseOffers => {
            let payload = call
                .decline_inverse_offers
                .ok_or_else(|| missing("decline_inverse_offers"))?;
            let (ids, filters) = (&payload.inverse_offer_ids, payload.filters.as_ref());
            inverse::answer(leading, step, slot, request, ids, false, filters)
                .map_err(|rejection| rejection.within("decline_inverse_offers"))?;
        }
        Type::AcknowledgeOperationStatus => {
            let field = "acknowledge_operation_status";
            let payload = call.acknowledge_operation_status.ok_or_else(|| missing(field))?;
            feedback::acknowledge(leading, step, slot, request, payload)
                .map_err(|rejection| rejection.within(field))?;
        }
        Type::ReconcileOperations => {
            let payload = call.reconcile_operations;
            let payload = payload.ok_or_else(|| missing("reconcile_operations"))?;
            step.effects.answer(request, Answer::Accepted);
            feedback::reconcile(leading, step, slot, &payload);
        }
    }
    Ok(())
}

/// The claims of the roles that are named; all where none is.
fn claims(leading: &Leading, slot: FrameworkSlot, roles: &[String]) -> Result<Vec<ClaimSlot>, Rejection> {
    let framework = &leading.frameworks[slot];
    let subscribed = |claim: &ClaimSlot| leading.claims[*claim].subscribed;
    if roles.is_empty() {
        return Ok(framework.claims.values().copied().filter(subscribed).collect());
    }
    let mut claims = Vec::new();
    for (index, role) in roles.iter().enumerate() {
        match framework.claims.get(role).filter(|claim| subscribed(claim)) {
            Some(claim) => claims.push(*claim),
            None => {
                let problem = format!("is {role:?}, which is no role of the framework");
                return Err(Rejection::new(
                    format!("roles[{index}]"),
                    problem,
                    "a role of the framework",
                ));
            }
        }
    }
    Ok(claims)
}

fn suppress(leading: &mut Leading, slot: FrameworkSlot, claims: &[ClaimSlot], suppressed: bool) {
    for claim in claims {
        leading.claims[*claim].suppressed = suppressed;
        if !suppressed {
            leading.allocator.revive(*claim);
        }
    }
    frameworks::refresh_claims(leading, slot);
}

/// The stream of an agent that a call names; `None` while the agent is away.
fn connection_of(leading: &Leading, id: &proffer_proto::v1::AgentId) -> Result<Option<ConnectionId>, Rejection> {
    match leading.agent_ids.get(id) {
        Some(agent) => Ok(leading.agents[*agent].connection()),
        None => {
            let problem = format!("is {:?}, which names no agent", id.value);
            Err(Rejection::new("agent_id", problem, "the id of an admitted agent"))
        }
    }
}

fn message(
    leading: &Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    call: Message,
) -> Result<(), Rejection> {
    let connection = connection_of(leading, &call.agent_id)?;
    step.effects.answer(request, Answer::Accepted);
    if let Some(connection) = connection {
        let message = link::FrameworkMessage {
            framework_id: leading.frameworks[slot].id.clone(),
            executor_id: call.executor_id,
            data: call.data,
        };
        step.effects
            .send_agent(connection, link::master_message::Body::FrameworkMessage(message));
    }
    Ok(())
}

fn shutdown(
    leading: &Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    call: Shutdown,
) -> Result<(), Rejection> {
    let connection = connection_of(leading, &call.agent_id)?;
    step.effects.answer(request, Answer::Accepted);
    if let Some(connection) = connection {
        let shutdown = link::ShutdownExecutor {
            framework_id: leading.frameworks[slot].id.clone(),
            executor_id: call.executor_id,
        };
        step.effects
            .send_agent(connection, link::master_message::Body::ShutdownExecutor(shutdown));
    }
    Ok(())
}

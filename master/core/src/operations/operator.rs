//! What operators reserve and make: RESERVE_RESOURCES, UNRESERVE_RESOURCES, CREATE_VOLUMES, DESTROY_VOLUMES, GROW_VOLUME,
//! SHRINK_VOLUME.
//!
//! An operator need not wait for offers: those that hold what is asked for are taken back.

use std::collections::BTreeSet;

use proffer_proto::Rejection;
use proffer_proto::resources::Resources;
use proffer_proto::v1;
use proffer_proto::v1::master::Call;
use proffer_proto::v1::master::call::Type;
use proffer_proto::v1::offer::{Operation, operation};

use super::convert::{self, By};
use super::{Converting, Parked, able, layout, parked, put, volumes};
use crate::agents::Deferred;
use crate::effect::Answer;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::offers;
use crate::proposals::Proposal;
use crate::slots::AgentSlot;

/// What an operator wants done with the resources of an agent.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) request: RequestId,
    operation: Operation,
    /// The field of the call.
    field: &'static str,
}

/// The agent and the operation of a call; `None` for calls about something else.
pub(crate) fn order(call: &Call, request: RequestId) -> Result<Option<(v1::AgentId, Order)>, Rejection> {
    let mut operation = Operation::default();
    let missing = |field: &str| Rejection::missing(field);
    let (agent, kind, field) = match call.r#type() {
        Type::ReserveResources => {
            let field = "reserve_resources";
            let part = call.reserve_resources.clone().ok_or_else(|| missing(field))?;
            operation.reserve = Some(operation::Reserve {
                resources: part.resources,
                source: part.source,
            });
            (Some(part.agent_id), operation::Type::Reserve, field)
        }
        Type::UnreserveResources => {
            let field = "unreserve_resources";
            let part = call.unreserve_resources.clone().ok_or_else(|| missing(field))?;
            operation.unreserve = Some(operation::Unreserve {
                resources: part.resources,
            });
            (Some(part.agent_id), operation::Type::Unreserve, field)
        }
        Type::CreateVolumes => {
            let field = "create_volumes";
            let part = call.create_volumes.clone().ok_or_else(|| missing(field))?;
            operation.create = Some(operation::Create { volumes: part.volumes });
            (Some(part.agent_id), operation::Type::Create, field)
        }
        Type::DestroyVolumes => {
            let field = "destroy_volumes";
            let part = call.destroy_volumes.clone().ok_or_else(|| missing(field))?;
            operation.destroy = Some(operation::Destroy { volumes: part.volumes });
            (Some(part.agent_id), operation::Type::Destroy, field)
        }
        Type::GrowVolume => {
            let field = "grow_volume";
            let part = call.grow_volume.clone().ok_or_else(|| missing(field))?;
            operation.grow_volume = Some(Box::new(operation::GrowVolume {
                volume: part.volume,
                addition: part.addition,
            }));
            (part.agent_id, operation::Type::GrowVolume, field)
        }
        Type::ShrinkVolume => {
            let field = "shrink_volume";
            let part = call.shrink_volume.clone().ok_or_else(|| missing(field))?;
            operation.shrink_volume = Some(Box::new(operation::ShrinkVolume {
                volume: part.volume,
                subtract: part.subtract,
            }));
            (part.agent_id, operation::Type::ShrinkVolume, field)
        }
        _ => return Ok(None),
    };
    operation.set_type(kind);
    let agent = agent.ok_or_else(|| missing("agent_id").within(field))?;
    let order = Order {
        request,
        operation,
        field,
    };
    Ok(Some((agent, order)))
}

impl Order {
    /// Begins, or waits until no change of the agent is on its way.
    pub(crate) fn give(self, leading: &mut Leading, step: &mut Step<'_>, agent: &v1::AgentId) {
        let Some(&slot) = leading.agent_ids.get(agent) else {
            let problem = format!("is {:?}, which names no agent", agent.value);
            let rejection = Rejection::new("agent_id", problem, "the id of an admitted agent").within(self.field);
            return step.effects.answer(self.request, Answer::Rejected(rejection));
        };
        let state = &mut leading.agents[slot];
        if state.connection().is_none() {
            let message = format!("agent {agent} is away");
            return step.effects.answer(self.request, Answer::Refused(message));
        }
        if state.in_flight {
            return state.queue.push_back(Deferred::Convert(Box::new(self)));
        }
        if let Err(why) = able(&leading.agents[slot], step) {
            return step.effects.answer(self.request, Answer::Refused(why));
        }
        let request = self.request;
        if let Err(rejection) = self.begin(leading, step, slot) {
            step.effects.answer(request, Answer::Rejected(rejection));
        }
    }

    fn begin(self, leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) -> Result<(), Rejection> {
        let agent = &leading.agents[slot];
        // The fields of the call are called like those of the operation.
        let conversion = convert::conversion(&self.operation, By::Operator, &volumes(agent))?;
        make_room(leading, step, slot, &conversion.consumed);
        let agent = &leading.agents[slot];
        if !agent.free().contains(&conversion.consumed) {
            let problem = format!("needs {}, and not all of it is free", conversion.consumed);
            let free = agent.free();
            let accepted = if free.is_empty() {
                "what no task uses, which is nothing at the time".to_owned()
            } else {
                format!("what no task uses: at most {free}")
            };
            return Err(Rejection::new(self.field, problem, accepted));
        }
        let layout = layout::after(agent, step, &[&conversion]).ok_or_else(|| {
            let problem = "is about what the books of the agent do not hold";
            Rejection::new(self.field, problem, "resources of the agent")
        })?;
        let parked = Parked {
            agent: slot,
            owner: None,
            resources: conversion.consumed,
            operations: Vec::new(),
            waiting: Vec::new(),
            killed: BTreeSet::new(),
            is_for_gang: false,
        };
        let converting = Converting::Operator {
            parked: parked::park(leading, parked),
            request: self.request,
        };
        put(
            leading,
            step,
            slot,
            layout,
            Proposal::Convert(slot, Box::new(converting)),
        );
        Ok(())
    }
}

/// Takes offers back until the resources are free, those first that hold some of them.
fn make_room(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, wanted: &Resources) {
    for number in leading.agents[slot].offers.clone() {
        if leading.agents[slot].free().contains(wanted) {
            return;
        }
        let holds = leading
            .offers
            .get(&number)
            .is_some_and(|offer| !offer.resources.common(wanted).is_empty());
        if holds {
            offers::rescind(leading, step, number);
        }
    }
}

/// The registry knows it.
pub(super) fn done(step: &mut Step<'_>, request: RequestId) {
    step.effects.answer(request, Answer::Accepted);
}

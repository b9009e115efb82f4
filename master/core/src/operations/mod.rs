//! Operations that make other resources of resources: RESERVE, UNRESERVE, CREATE, DESTROY, GROW_VOLUME, SHRINK_VOLUME.
//!
//! ```text
//! ACCEPT or an operator's call --checked, resources held--> SetLayout proposed
//! SetLayout committed --> the resources are what they became; the agent is sent its layout; the rest of the ACCEPT goes on
//! the agent has applied the layout --> FINISHED (or FAILED), again until acknowledged
//! SetLayout dropped --> DROPPED: nothing has changed
//! ```
//!
//! The registry is the truth about what is reserved and which volumes there are. An agent is told the whole of it, not the
//! change, and makes its disk agree; so an operation is done once, however often anybody starts again in between.

mod convert;
pub(crate) mod feedback;
mod layout;
mod operator;
pub(crate) mod parked;

use std::collections::BTreeSet;

use proffer_proto::Rejection;
use proffer_proto::link::{self, master_message};
use proffer_proto::registry as wire;
use proffer_proto::registry::change::Body;
use proffer_proto::resources::Resources;
use proffer_proto::v1::offer::Operation;
use proffer_proto::v1::{self, OperationState};

pub(crate) use convert::{is_conversion, mounted};
pub(crate) use operator::{Order, order};
pub(crate) use parked::{Parked, ParkedNumber, disown, kill, waiting};

use crate::accept::{self, Acceptance};
use crate::agents::{self, Agent, Deferred};
use crate::input::RequestId;
use crate::level;
use crate::master::{Leading, Step};
use crate::proposals::{Proposal, propose};
use crate::slots::AgentSlot;
use convert::{By, Conversion};

/// The level that introduced layouts.
const LEVEL: u32 = 3;

/// Conversions that are proposed together, and what waits for them.
#[derive(Debug)]
pub(crate) enum Converting {
    Accept {
        parked: ParkedNumber,
        acceptance: Box<Acceptance>,
        /// The operations that are proposed, by their places in the call.
        run: Vec<Operation>,
        /// What is left of the offers then.
        left: Resources,
    },
    Operator {
        parked: ParkedNumber,
        request: RequestId,
    },
}

impl Converting {
    pub(crate) fn request(&self) -> Option<RequestId> {
        match self {
            Converting::Operator { request, .. } => Some(*request),
            Converting::Accept { .. } => None,
        }
    }
}

/// Begins the conversions that come next in an ACCEPT. Gives it back where none of them can be done, so that it goes on at once.
pub(crate) fn begin(
    leading: &mut Leading,
    step: &mut Step<'_>,
    mut acceptance: Box<Acceptance>,
) -> Option<Box<Acceptance>> {
    let slot = acceptance.launcher.agent;
    if leading.agents[slot].in_flight {
        let operations = acceptance.ids();
        let parked = park(leading, &acceptance, operations);
        leading.agents[slot]
            .queue
            .push_back(Deferred::Accept(parked, acceptance));
        return None;
    }
    let mut left = acceptance.launcher.left.clone();
    let (mut run, mut conversions) = (Vec::new(), Vec::new());
    let mut volumes = volumes(&leading.agents[slot]);
    while let Some((index, operation)) = acceptance.next_conversion() {
        match check(leading, step, &acceptance, &operation, &run, &left, &volumes) {
            Ok((conversion, rest)) => {
                left = rest;
                note(&mut volumes, &conversion);
                run.push(operation);
                conversions.push(conversion);
            }
            Err(rejection) => {
                let message = rejection.within(format!("accept.operations[{index}]")).to_string();
                let (framework, state) = (acceptance.launcher.framework, OperationState::OperationError);
                feedback::undone(leading, step, framework, Some(slot), &operation, state, message);
            }
        }
    }
    let all: Vec<&Conversion> = conversions.iter().collect();
    let Some(mut layout) = layout::after(&leading.agents[slot], step, &all).filter(|_| !run.is_empty()) else {
        for operation in &run {
            let message = "the books of the agent do not hold what the operation is about".to_owned();
            let (framework, state) = (acceptance.launcher.framework, OperationState::OperationDropped);
            feedback::undone(leading, step, framework, Some(slot), operation, state, message);
        }
        return Some(acceptance);
    };
    let framework = &leading.frameworks[acceptance.launcher.framework].id;
    for (operation, conversion) in run.iter().zip(&conversions) {
        if let Some(id) = &operation.id {
            layout.operations.push(wire::Operation {
                framework_id: framework.clone(),
                info: operation.clone(),
                version: layout.version,
                uuid: feedback::uuid(framework, &leading.agents[slot].id, id, layout.version).into(),
                converted: conversion.produced.to_wire(),
            });
        }
    }
    let ids = run.iter().filter_map(|operation| operation.id.clone()).collect();
    let parked = park(leading, &acceptance, ids);
    let converting = Converting::Accept {
        parked,
        acceptance,
        run,
        left,
    };
    put(
        leading,
        step,
        slot,
        layout,
        Proposal::Convert(slot, Box::new(converting)),
    );
    None
}

fn park(leading: &mut Leading, acceptance: &Acceptance, operations: Vec<v1::OperationId>) -> ParkedNumber {
    let launcher = &acceptance.launcher;
    let parked = Parked {
        agent: launcher.agent,
        owner: Some((launcher.framework, launcher.claim)),
        resources: launcher.left.clone(),
        operations,
        waiting: acceptance.waiting(),
        killed: BTreeSet::new(),
        is_for_gang: false,
    };
    parked::park(leading, parked)
}

/// What the next operation does, and what it leaves of the offers.
fn check(
    leading: &Leading,
    step: &Step<'_>,
    acceptance: &Acceptance,
    operation: &Operation,
    before: &[Operation],
    left: &Resources,
    volumes: &BTreeSet<(String, String)>,
) -> Result<(Conversion, Resources), Rejection> {
    let launcher = &acceptance.launcher;
    let agent = &leading.agents[launcher.agent];
    if let Err(why) = able(agent, step) {
        let problem = format!("cannot be done: {why}");
        return Err(Rejection::new(
            "type",
            problem,
            "LAUNCH or LAUNCH_GROUP for the time being",
        ));
    }
    if let Some(id) = &operation.id {
        let again = before.iter().any(|other| other.id.as_ref() == Some(id));
        if again || feedback::is_used(leading, launcher.framework, id) {
            let problem = format!("is {:?}, the id of an operation that is not acknowledged", id.value);
            return Err(Rejection::new("id", problem, "an id that is new within the framework"));
        }
    }
    let by = By::Framework {
        role: &launcher.role,
        principal: leading.frameworks[launcher.framework].info.principal.as_deref(),
    };
    let conversion = convert::conversion(operation, by, volumes)?;
    let Some(rest) = left.checked_sub(&conversion.consumed) else {
        let problem = format!(
            "needs {}, which is more than what is left of the offers",
            conversion.consumed
        );
        return Err(Rejection::new("", problem, format!("at most {left}")));
    };
    let rest = rest + &conversion.produced;
    Ok((conversion, rest))
}

/// Why operations cannot be done on the agent at all.
fn able(agent: &Agent, step: &Step<'_>) -> Result<(), String> {
    level::check_at(step, LEVEL, "resources are reserved, and volumes made,")?;
    if agent.follows_layouts() {
        return Ok(());
    }
    Err(format!(
        "agent {} is of a version that reserves nothing and makes no volumes: it lacks the capability \
         AGENT_OPERATION_FEEDBACK",
        agent.id
    ))
}

/// The roles and ids of the volumes of an agent.
fn volumes(agent: &Agent) -> BTreeSet<(String, String)> {
    agent.converted.iter().filter_map(convert::name).collect()
}

fn note(volumes: &mut BTreeSet<(String, String)>, conversion: &Conversion) {
    for entry in &conversion.consumed {
        convert::name(entry).map(|name| volumes.remove(&name));
    }
    volumes.extend(conversion.produced.iter().filter_map(convert::name));
}

/// Proposes a layout of an agent of which no change is on its way.
fn put(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, layout: wire::Layout, proposal: Proposal) {
    let agent = &mut leading.agents[slot];
    agent.in_flight = true;
    let agent_id = agent.id.clone();
    propose(
        leading,
        step,
        Body::SetLayout(wire::SetLayout { agent_id, layout }),
        proposal,
    );
}

/// The registry has the layout: the resources are what they became.
pub(crate) fn committed(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, converting: Converting) {
    leading.agents[slot].in_flight = false;
    match converting {
        Converting::Accept {
            parked,
            mut acceptance,
            left,
            ..
        } => {
            let owner = parked::unpark(leading, parked, Some(&mut acceptance));
            layout::take(leading, step, slot);
            send(leading, step, slot);
            if owner.is_some() {
                acceptance.launcher.left = left;
                acceptance.launcher.launched = true;
                accept::go_on(leading, step, acceptance);
            }
        }
        Converting::Operator { parked, request } => {
            parked::unpark(leading, parked, None);
            layout::take(leading, step, slot);
            send(leading, step, slot);
            operator::done(step, request);
        }
    }
    if !leading.agents[slot].in_flight {
        agents::settled(leading, step, slot);
    }
}

/// The log refused the layout: nothing has changed. The caller tells who waits for an answer, and settles the agent.
pub(crate) fn dropped(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, converting: Converting) {
    match converting {
        Converting::Accept {
            parked,
            mut acceptance,
            run,
            ..
        } => {
            if parked::unpark(leading, parked, Some(&mut acceptance)).is_some() {
                let message = "the masters could not agree on the operation";
                for operation in &run {
                    let (framework, state) = (acceptance.launcher.framework, OperationState::OperationDropped);
                    feedback::undone(
                        leading,
                        step,
                        framework,
                        Some(slot),
                        operation,
                        state,
                        message.to_owned(),
                    );
                }
                accept::abandon(leading, step, &acceptance, message);
            }
        }
        Converting::Operator { parked, .. } => {
            parked::unpark(leading, parked, None);
        }
    }
}

/// What waited in the agent's queue is next.
pub(crate) fn resume(
    leading: &mut Leading,
    step: &mut Step<'_>,
    parked: ParkedNumber,
    mut acceptance: Box<Acceptance>,
) {
    if parked::unpark(leading, parked, Some(&mut acceptance)).is_some() {
        accept::go_on(leading, step, acceptance);
    }
}

/// An agent is away, and so is what waits in its queue to be accepted.
pub(crate) fn give_up_waiting(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    for deferred in std::mem::take(&mut leading.agents[slot].queue) {
        match deferred {
            Deferred::Accept(parked, mut acceptance) => {
                if parked::unpark(leading, parked, Some(&mut acceptance)).is_some() {
                    accept::abandon(leading, step, &acceptance, "the agent has gone away meanwhile");
                }
            }
            other => leading.agents[slot].queue.push_back(other),
        }
    }
}

/// Tells an attached agent what is reserved and which volumes there are.
pub(crate) fn send(leading: &Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let agent = &leading.agents[slot];
    let Some(connection) = agent.connection() else { return };
    if agent.layout.version == 0 || !agent.follows_layouts() {
        return;
    }
    let destroyed = agent.layout.destroyed.iter().map(|destroyed| link::DestroyedVolume {
        volume: destroyed.volume.clone(),
        version: destroyed.version,
    });
    let layout = link::Layout {
        lineage: agent.lineage,
        version: agent.layout.version,
        resources: agent.layout.resources.clone(),
        destroyed: destroyed.collect(),
    };
    step.effects
        .send_agent(connection, master_message::Body::Layout(layout));
}

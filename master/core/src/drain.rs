//! Draining: an agent's tasks are ended and nothing of it is offered any more, so that its machine can be taken away.
//! Deactivating only stops the offers. Both are in the registry, so they hold over elections and while the agent is away;
//! reactivating ends both at any time.
//!
//! ```text
//! (offered) --DRAIN_AGENT--> draining --tasks and then executors ended, updates acknowledged--> drained [--mark_gone--> gone]
//! (offered) --DEACTIVATE_AGENT--> deactivated
//! draining, drained, deactivated --REACTIVATE_AGENT--> (offered)
//! ```

use std::time::Duration;

use proffer_proto::Rejection;
use proffer_proto::link::{self, master_message};
use proffer_proto::registry as wire;
use proffer_proto::registry::change::Body;
use proffer_proto::v1::master::call::DrainAgent;
use proffer_proto::v1::{self, DrainConfig, DrainState};

use crate::agents::{self, Deferred};
use crate::effect::Answer;
use crate::input::{ConnectionId, RequestId};
use crate::master::{Leading, Step};
use crate::proposals::{Proposal, propose};
use crate::slots::AgentSlot;
use crate::time::Timestamp;
use crate::timers::Timer;
use crate::{executors, gangs, level, offers, tasks};

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Order {
    Drain(DrainConfig),
    Deactivate,
    Reactivate,
}

/// A DRAIN_AGENT, checked.
pub(crate) fn config(call: &DrainAgent) -> Result<DrainConfig, Rejection> {
    let grace = call.max_grace_period.map(|grace| {
        let negative = grace.seconds < 0 || grace.nanos < 0 || grace.nanos >= 1_000_000_000;
        let span = u64::try_from(grace.seconds).map(|seconds| Duration::new(seconds, grace.nanos.unsigned_abs()));
        let nanoseconds = span.ok().and_then(|span| i64::try_from(span.as_nanos()).ok());
        match nanoseconds.filter(|_| !negative) {
            Some(nanoseconds) => Ok(v1::DurationInfo { nanoseconds }),
            None => {
                let problem = format!("is {} s and {} ns", grace.seconds, grace.nanos);
                let accepted = "a duration of zero or more, up to 292 years, with 0 to 999999999 ns";
                Err(Rejection::new("max_grace_period", problem, accepted))
            }
        }
    });
    Ok(DrainConfig {
        max_grace_period: grace.transpose()?,
        mark_gone: call.mark_gone,
    })
}

/// An operator's order about one agent.
pub(crate) fn order(leading: &mut Leading, step: &mut Step<'_>, id: &v1::AgentId, order: Order, request: RequestId) {
    if let Err(why) = level::check(step, "agents are drained and deactivated") {
        return step.effects.answer(request, Answer::Refused(why));
    }
    let Some(&slot) = leading.agent_ids.get(id) else {
        let problem = format!("is {:?}, which names no agent", id.value);
        let rejection = Rejection::new("agent_id", problem, "the id of an admitted agent");
        return step.effects.answer(request, Answer::Rejected(rejection));
    };
    let agent = &mut leading.agents[slot];
    if agent.in_flight {
        return agent.queue.push_back(Deferred::Order(order, request));
    }
    let known = &agent.standing;
    let wanted = match order {
        Order::Drain(config) => {
            let again = known.drain.as_ref().filter(|drain| drain.config == config).cloned();
            let drain = again.unwrap_or(wire::Drain {
                config,
                started_ms: step.now.as_millis_i64(),
                drained: None,
            });
            wire::Standing {
                deactivated: Some(true),
                drain: Some(drain),
            }
        }
        Order::Deactivate => wire::Standing {
            deactivated: Some(true),
            ..*known
        },
        Order::Reactivate => wire::Standing::default(),
    };
    if *known == wanted {
        return step.effects.answer(request, Answer::Accepted);
    }
    put(leading, step, slot, wanted, Some(request));
}

/// How far the draining of an agent has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Draining {
    /// Its executors were told to end.
    told: bool,
    /// The log refused a change of the agent a moment ago.
    waits: bool,
}

fn put(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: AgentSlot,
    standing: wire::Standing,
    request: Option<RequestId>,
) {
    let agent = &mut leading.agents[slot];
    agent.in_flight = true;
    let change = wire::SetStanding {
        agent_id: agent.id.clone(),
        standing,
    };
    propose(leading, step, Body::SetStanding(change), Proposal::Stand(slot, request));
}

/// The registry knows what is wanted of the agent.
pub(crate) fn committed(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, request: Option<RequestId>) {
    if let Some(request) = request {
        step.effects.answer(request, Answer::Accepted);
    }
    let agent = &mut leading.agents[slot];
    agent.in_flight = false;
    if let Some(known) = step.registry.agents.get(&agent.id) {
        agent.standing = known.standing.unwrap_or_default();
    }
    let (offered, attached) = (agent.is_offered(), agent.connection().is_some());
    leading.allocator.set_agent_active(slot, offered && attached);
    leading.gangs.touch(slot);
    if !offered {
        gangs::leave_agent(leading, slot);
        offers::rescind_agent(leading, step, slot);
    }
    resume(leading, step, slot);
    agents::settled(leading, step, slot);
}

/// The log refused a change of the agent: what [`review`] wants of it is proposed again, but not at once, as it would be
/// refused again.
pub(crate) fn dropped(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    if let Some(draining) = leading.draining.get_mut(&slot) {
        draining.waits = true;
        leading.timers.set(Timer::Drain(slot), step.now.plus(agents::RETRY));
    }
}

/// The wait is over.
pub(crate) fn try_again(leading: &mut Leading, slot: AgentSlot) {
    if let Some(draining) = leading.draining.get_mut(&slot) {
        draining.waits = false;
    }
}

/// Ends what runs on an agent that is being drained: from now on, or again after the agent or the master was away.
pub(crate) fn resume(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let agent = &leading.agents[slot];
    let Some(drain) = agent.standing.drain else {
        leading.draining.remove(&slot);
        return;
    };
    let config = drain.config;
    if drain.drained() && !config.mark_gone() {
        leading.draining.remove(&slot);
        return;
    }
    leading.draining.insert(slot, Draining::default());
    if drain.drained() {
        return;
    }
    let Some(connection) = agent.connection() else { return };
    for task in agent.tasks.iter().map(|task| &leading.tasks[*task]) {
        if tasks::is_terminal(task.state()) {
            continue;
        }
        let kill = link::Kill {
            framework_id: leading.frameworks[task.framework].id.clone(),
            task_id: task.record.id(),
            kill_policy: None,
            drain: Some(config),
        };
        step.effects.send_agent(connection, master_message::Body::Kill(kill));
    }
}

/// Finds the agents on which nothing is left, and those that are to be gone once they are drained.
pub(crate) fn review(leading: &mut Leading, step: &mut Step<'_>) {
    if leading.draining.is_empty() {
        return;
    }
    for (slot, Draining { told, waits }) in leading.draining.clone() {
        let Some(agent) = leading.agents.get(slot) else {
            leading.draining.remove(&slot);
            continue;
        };
        if waits || agent.in_flight {
            continue;
        }
        if agent.standing.drain.is_some_and(|drain| drain.drained()) {
            let id = agent.id.clone();
            agents::mark_gone(leading, step, &id, None);
            continue;
        }
        let empty = agent.tasks.is_empty() && agent.remnants.is_empty();
        let Some(connection) = agent.connection().filter(|_| empty) else {
            continue;
        };
        if !agent.executors.is_empty() {
            if !told {
                agent.executors.keys().for_each(|key| shut_down(step, connection, key));
                leading.draining.insert(slot, Draining { told: true, waits });
            }
            continue;
        }
        let mut standing = agent.standing;
        if let Some(drain) = &mut standing.drain {
            drain.drained = Some(true);
        }
        put(leading, step, slot, standing, None);
    }
}

fn shut_down(step: &mut Step<'_>, connection: ConnectionId, key: &executors::Key) {
    let (framework_id, executor_id) = key.clone();
    let shutdown = link::ShutdownExecutor {
        framework_id,
        executor_id,
    };
    step.effects
        .send_agent(connection, master_message::Body::ShutdownExecutor(shutdown));
}

/// How far an agent is drained, as operators see it, and since when.
pub(crate) fn info(standing: &wire::Standing) -> Option<(v1::DrainInfo, Timestamp)> {
    let drain = standing.drain.as_ref()?;
    let state = if drain.drained() {
        DrainState::Drained
    } else {
        DrainState::Draining
    };
    let info = v1::DrainInfo {
        state: state.into(),
        config: drain.config,
    };
    Some((info, Timestamp::from_millis_i64(drain.started_ms)))
}

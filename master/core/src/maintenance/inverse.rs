//! Inverse offers: each asks one framework to give back what it has on one agent, whose machine will not be available.
//!
//! A framework is asked once for an agent; when it declines it is asked again after its filter, while it has tasks there. An
//! inverse offer ends by its answer, is rescinded when the plan changes or nothing of the framework runs there any more, and ends
//! without a word with the framework's stream.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::Rejection;
use proffer_proto::v1::allocator::{InverseOfferStatus, inverse_offer_status::Status};
use proffer_proto::v1::{self, TimeInfo};

use crate::effect::Answer;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, FrameworkSlot};
use crate::time::Timestamp;
use crate::timers::Timer;
use crate::{events, frameworks, offers};

/// Numbers the inverse offers of one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Number(u64);

/// How far a framework has been asked for what it has on an agent.
#[derive(Debug)]
struct Asked {
    at: Timestamp,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open(Number),
    Accepted,
    Declined,
}

/// The inverse offers of one leader.
#[derive(Debug, Default)]
pub(super) struct InverseOffers {
    made: u64,
    asked: BTreeMap<(AgentSlot, FrameworkSlot), Asked>,
    open: BTreeMap<Number, (AgentSlot, FrameworkSlot)>,
}

/// Tasks of an agent came or went.
pub(crate) fn touch(leading: &mut Leading, agent: AgentSlot) {
    if leading.maintenance.windows.contains_key(&agent) {
        leading.maintenance.dirty.insert(agent);
    }
}

/// A framework is to be asked again.
pub(crate) fn expired(leading: &mut Leading, agent: AgentSlot, framework: FrameworkSlot) {
    leading.maintenance.inverse.asked.remove(&(agent, framework));
    touch(leading, agent);
}

/// Asks who has not been asked, and takes back what nobody needs to answer any more.
pub(crate) fn review(leading: &mut Leading, step: &mut Step<'_>) {
    if leading.maintenance.dirty.is_empty() {
        return;
    }
    let mut made: BTreeMap<FrameworkSlot, Vec<v1::InverseOffer>> = BTreeMap::new();
    for agent in std::mem::take(&mut leading.maintenance.dirty) {
        let Some(window) = leading.maintenance.window(agent) else {
            continue;
        };
        let tasks = leading.agents[agent].tasks.iter().map(|task| &leading.tasks[*task]);
        let users: BTreeSet<FrameworkSlot> = tasks.filter(|task| task.held).map(|task| task.framework).collect();
        for framework in asked_on(leading, agent) {
            if !users.contains(&framework) {
                rescind(leading, step, agent, framework);
            }
        }
        for framework in users {
            let connected = leading.frameworks[framework].stream().is_some();
            if connected && !leading.maintenance.inverse.asked.contains_key(&(agent, framework)) {
                let offer = make(leading, step.now, agent, framework, window);
                made.entry(framework).or_default().push(offer);
            }
        }
    }
    for (framework, offers) in made {
        frameworks::send(leading, step, framework, events::inverse_offers(offers));
    }
}

fn make(
    leading: &mut Leading,
    now: Timestamp,
    agent: AgentSlot,
    framework: FrameworkSlot,
    unavailability: v1::Unavailability,
) -> v1::InverseOffer {
    let inverse = &mut leading.maintenance.inverse;
    inverse.made += 1;
    let number = Number(inverse.made);
    inverse.open.insert(number, (agent, framework));
    let state = State::Open(number);
    inverse.asked.insert((agent, framework), Asked { at: now, state });
    let known = &leading.agents[agent];
    v1::InverseOffer {
        id: id(leading, number),
        url: Some(offers::url(known)),
        framework_id: leading.frameworks[framework].id.clone(),
        agent_id: Some(known.id.clone()),
        unavailability,
        resources: Vec::new(),
    }
}

fn id(leading: &Leading, number: Number) -> v1::OfferId {
    v1::OfferId::from(format!("{}-I{}", leading.incarnation, number.0))
}

fn asked_on(leading: &Leading, agent: AgentSlot) -> Vec<FrameworkSlot> {
    let asked = leading.maintenance.inverse.asked.keys();
    asked
        .filter(|(on, _)| *on == agent)
        .map(|(_, framework)| *framework)
        .collect()
}

/// Takes an inverse offer back, if it is open, and says so.
fn rescind(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot, framework: FrameworkSlot) {
    leading.timers.cancel(Timer::InverseOffer(agent, framework));
    let inverse = &mut leading.maintenance.inverse;
    if let Some(asked) = inverse.asked.remove(&(agent, framework))
        && let State::Open(number) = asked.state
    {
        inverse.open.remove(&number);
        let rescinded = events::rescind_inverse(id(leading, number));
        frameworks::send(leading, step, framework, rescinded);
    }
}

/// Takes all inverse offers for an agent back.
pub(super) fn rescind_agent(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot) {
    for framework in asked_on(leading, agent) {
        rescind(leading, step, agent, framework);
    }
}

/// An agent is removed.
pub(crate) fn forget_agent(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot) {
    rescind_agent(leading, step, agent);
    leading.maintenance.windows.remove(&agent);
    leading.maintenance.dirty.remove(&agent);
}

/// A framework's stream ended, or is new: what it was asked on the old one is asked again on the new one.
pub(crate) fn withdraw(leading: &mut Leading, framework: FrameworkSlot) {
    let inverse = &mut leading.maintenance.inverse;
    let asked: Vec<_> = inverse
        .asked
        .keys()
        .filter(|(_, of)| *of == framework)
        .copied()
        .collect();
    for key in asked {
        if let Some(Asked {
            state: State::Open(number),
            ..
        }) = leading.maintenance.inverse.asked.remove(&key)
        {
            leading.maintenance.inverse.open.remove(&number);
        }
        leading.timers.cancel(Timer::InverseOffer(key.0, key.1));
    }
    let windows = leading.maintenance.windows.keys();
    leading.maintenance.dirty.extend(windows);
}

/// A scheduler's answer. An inverse offer that has ended meanwhile is no fault of the caller.
pub(crate) fn answer(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    ids: &[v1::OfferId],
    accepted: bool,
    filters: Option<&v1::Filters>,
) -> Result<(), Rejection> {
    let refusal = offers::refusal(filters)?;
    let mut open = Vec::new();
    for (index, id) in ids.iter().enumerate() {
        open.extend(find(leading, slot, index, id)?);
    }
    if ids.is_empty() {
        let accepted = "the ids of one or more inverse offers";
        return Err(Rejection::new("inverse_offer_ids", "is empty", accepted));
    }
    step.effects.answer(request, Answer::Accepted);
    for number in open {
        let Some(key) = leading.maintenance.inverse.open.remove(&number) else {
            continue;
        };
        let state = match accepted {
            true => State::Accepted,
            false => State::Declined,
        };
        leading
            .maintenance
            .inverse
            .asked
            .insert(key, Asked { at: step.now, state });
        if !accepted {
            let again = step.now.plus(refusal.max(step.config.decline_pause));
            leading.timers.set(Timer::InverseOffer(key.0, key.1), again);
        }
    }
    Ok(())
}

/// The open inverse offer of an id from outside; `None` where it has ended.
fn find(
    leading: &Leading,
    slot: FrameworkSlot,
    index: usize,
    wanted: &v1::OfferId,
) -> Result<Option<Number>, Rejection> {
    let unknown = || {
        let problem = format!("is {:?}, which names no inverse offer to this framework", wanted.value);
        let accepted = "the id of an inverse offer from an INVERSE_OFFERS event";
        Rejection::new(format!("inverse_offer_ids[{index}]"), problem, accepted)
    };
    let (incarnation, number) = wanted.value.rsplit_once("-I").ok_or_else(unknown)?;
    let canonical = number.parse::<u64>().ok().filter(|parsed| parsed.to_string() == number);
    let number = Number(canonical.ok_or_else(unknown)?);
    if incarnation != leading.incarnation {
        return Ok(None);
    }
    let inverse = &leading.maintenance.inverse;
    match inverse.open.get(&number) {
        Some((_, framework)) if *framework == slot => Ok(Some(number)),
        None if number.0 > 0 && number.0 <= inverse.made => Ok(None),
        _ => Err(unknown()),
    }
}

/// What frameworks said of the agents that are asked about.
pub(super) fn statuses(leading: &Leading, on: impl Fn(AgentSlot) -> bool) -> Vec<InverseOfferStatus> {
    let asked = leading.maintenance.inverse.asked.iter();
    let status_of = |(key, asked): (&(AgentSlot, FrameworkSlot), &Asked)| InverseOfferStatus {
        status: match asked.state {
            State::Open(_) => Status::Unknown,
            State::Accepted => Status::Accept,
            State::Declined => Status::Decline,
        }
        .into(),
        framework_id: leading.frameworks[key.1].id.clone(),
        timestamp: TimeInfo {
            nanoseconds: asked.at.as_nanos_i64(),
        },
    };
    asked.filter(|(key, _)| on(key.0)).map(status_of).collect()
}

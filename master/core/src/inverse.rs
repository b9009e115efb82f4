//! Inverse offers: each asks one framework to give back what it has on one agent: all, because the agent's machine will not be
//! available, or some of it, because it was lent and is wanted back.
//!
//! A framework is asked once for an agent and a reason. An inverse offer ends by its answer, is rescinded when there is no
//! reason any more or nothing of the framework runs there, and ends without a word with the framework's stream.

use std::collections::BTreeMap;

use proffer_proto::Rejection;
use proffer_proto::v1::allocator::{InverseOfferStatus, inverse_offer_status::Status};
use proffer_proto::v1::{self, TimeInfo};

use crate::effect::Answer;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, FrameworkSlot};
use crate::time::Timestamp;
use crate::timers::Timer;
use crate::{events, frameworks, maintenance, offers, revocable};

/// Why a framework is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum About {
    /// The agent's machine will not be available.
    Maintenance,
    /// What was lent is wanted back.
    Recall,
}

/// Who is asked for what: each at most once at a time.
pub(crate) type Key = (AgentSlot, FrameworkSlot, About);

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
pub(crate) struct InverseOffers {
    made: u64,
    asked: BTreeMap<Key, Asked>,
    open: BTreeMap<Number, Key>,
}

impl InverseOffers {
    /// Says what is inconsistent: everybody who is asked is there, and so is the agent.
    ///
    /// # Errors
    /// A sentence about the first thing that does not hold.
    pub(crate) fn check(&self, leading: &Leading) -> Result<(), String> {
        for key @ (agent, framework, _) in self.asked.keys() {
            if leading.agents.get(*agent).is_none() || leading.frameworks.get(*framework).is_none() {
                return Err(format!("who is gone is asked: {key:?}"));
            }
        }
        let open = self
            .asked
            .values()
            .filter(|asked| matches!(asked.state, State::Open(_)));
        match open.count() == self.open.len() {
            true => Ok(()),
            false => Err("an inverse offer that has ended is still open".to_owned()),
        }
    }
}

/// Makes an inverse offer, which the framework is to be told.
pub(crate) fn ask(
    leading: &mut Leading,
    now: Timestamp,
    key: Key,
    unavailability: v1::Unavailability,
    resources: Vec<v1::Resource>,
) -> v1::InverseOffer {
    let inverse = &mut leading.inverse;
    inverse.made += 1;
    let number = Number(inverse.made);
    inverse.open.insert(number, key);
    let state = State::Open(number);
    inverse.asked.insert(key, Asked { at: now, state });
    let known = &leading.agents[key.0];
    v1::InverseOffer {
        id: id(leading, number),
        url: Some(offers::url(known)),
        framework_id: leading.frameworks[key.1].id.clone(),
        agent_id: Some(known.id.clone()),
        unavailability,
        resources,
    }
}

fn id(leading: &Leading, number: Number) -> v1::OfferId {
    v1::OfferId::from(format!("{}-I{}", leading.incarnation, number.0))
}

/// Whether the framework has been asked.
pub(crate) fn is_asked(leading: &Leading, key: Key) -> bool {
    leading.inverse.asked.contains_key(&key)
}

/// Who has been asked for what it has on an agent.
pub(crate) fn asked_on(leading: &Leading, agent: AgentSlot, about: About) -> Vec<FrameworkSlot> {
    let asked = leading.inverse.asked.keys();
    asked
        .filter(|(on, _, why)| *on == agent && *why == about)
        .map(|(_, framework, _)| *framework)
        .collect()
}

/// The framework may be asked again.
pub(crate) fn forget(leading: &mut Leading, key: Key) {
    if let Some(Asked {
        state: State::Open(number),
        ..
    }) = leading.inverse.asked.remove(&key)
    {
        leading.inverse.open.remove(&number);
    }
}

/// Takes an inverse offer back, and says so if it is open.
pub(crate) fn rescind(leading: &mut Leading, step: &mut Step<'_>, key: Key) {
    leading.timers.cancel(Timer::InverseOffer(key.0, key.1));
    if let Some(asked) = leading.inverse.asked.remove(&key)
        && let State::Open(number) = asked.state
    {
        leading.inverse.open.remove(&number);
        let rescinded = events::rescind_inverse(id(leading, number));
        frameworks::send(leading, step, key.1, rescinded);
    }
}

/// Takes all inverse offers for an agent back that have this reason.
pub(crate) fn rescind_agent(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot, about: About) {
    for framework in asked_on(leading, agent, about) {
        rescind(leading, step, (agent, framework, about));
    }
}

/// A framework's stream ended, or is new: what it was asked on the old one is asked again on the new one.
pub(crate) fn withdraw(leading: &mut Leading, framework: FrameworkSlot) {
    let asked = leading.inverse.asked.keys();
    let asked: Vec<Key> = asked.filter(|(_, of, _)| *of == framework).copied().collect();
    for key in asked {
        forget(leading, key);
        leading.timers.cancel(Timer::InverseOffer(key.0, key.1));
        revocable::touch(leading, key.0);
    }
    maintenance::touch_all(leading);
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
        let Some(key) = leading.inverse.open.remove(&number) else {
            continue;
        };
        let state = match accepted {
            true => State::Accepted,
            false => State::Declined,
        };
        leading.inverse.asked.insert(key, Asked { at: step.now, state });
        // What was lent is taken back all the same.
        if !accepted && key.2 == About::Maintenance {
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
    let inverse = &leading.inverse;
    match inverse.open.get(&number) {
        Some((_, framework, _)) if *framework == slot => Ok(Some(number)),
        None if number.0 > 0 && number.0 <= inverse.made => Ok(None),
        _ => Err(unknown()),
    }
}

/// What frameworks said of the agents that will not be available.
pub(crate) fn statuses(leading: &Leading, on: impl Fn(AgentSlot) -> bool) -> Vec<InverseOfferStatus> {
    let asked = leading.inverse.asked.iter();
    let status_of = |(key, asked): (&Key, &Asked)| InverseOfferStatus {
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
    asked
        .filter(|(key, _)| key.2 == About::Maintenance && on(key.0))
        .map(status_of)
        .collect()
}

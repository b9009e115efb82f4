//! Offers that are held too long, and what who holds them is trusted with.
//!
//! An offer is held *patiently* for a short time, `offer_patience`: who answers does so in milliseconds. After that it is
//! rescinded as soon as a framework waits for it that does answer: one that would be given what is in the offer if it were
//! free, that is served in its turn, and that holds no such offer itself. Where nobody waits nothing is rescinded before
//! its deadline. What a framework has of weights, guarantees or shares does not protect an offer that it does not answer;
//! what quota keeps from the others does, because then they do not wait.
//!
//! Who let an offer be rescinded in this way comes last from then on: it is offered what no other wants.
//!
//! ```text
//! Trusted --rescinded early--> Last --30 times what it held--> Trial --answers in time--> Trusted
//!                                ^------- rescinded, or answered late --+
//! ```
//!
//! On trial it is offered one agent in its turn. Each time it fails there it is given twice the time for the next trial,
//! up to 32 times the patience, and pays thirty times as much: so it costs others less than one part in thirty of *one
//! agent*, and still a framework that needs long to decide gets its turns. All trials together cost less than one part in
//! thirty of the cluster: they begin only so often.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use proffer_proto::resources::Resources;

use crate::allocator::Turn;
use crate::gangs;
use crate::master::{Leading, Step};
use crate::offers::{self, Made, Offer, OfferNumber};
use crate::optimistic;
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};
use crate::time::Timestamp;
use crate::timers::Timer;

/// A framework comes last for so many times as long as it held what others waited for.
const PRICE: u32 = 30;
/// The time of a trial is doubled up to this many times.
const STRIKES_MAX: u32 = 6;
/// So long after it was last trusted again, what a framework did before is forgotten.
const FORGIVEN: Duration = Duration::from_secs(600);

/// What is known of offers that are held long.
#[derive(Debug)]
pub(crate) struct Hoarding {
    /// Offers up to this one have been held for the patience, or a trial's part of it.
    aged: OfferNumber,
    /// Somebody may wait for them since they were looked at.
    stirred: bool,
    /// They are not looked at again before this for that.
    next: Timestamp,
    /// The first trial that is held longer than the patience ends then.
    trial_ends: Option<Timestamp>,
    /// No trial begins before this.
    next_trial: Timestamp,
}

impl Default for Hoarding {
    fn default() -> Self {
        Hoarding {
            aged: OfferNumber(0),
            stirred: false,
            next: Timestamp::default(),
            trial_ends: None,
            next_trial: Timestamp::default(),
        }
    }
}

/// What a framework is trusted with, where others want the same.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    standing: Standing,
    /// How often in a row it let an offer be rescinded.
    strikes: u32,
    /// When it was trusted again.
    restored: Timestamp,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Trusted,
    /// It comes after all others, until then.
    Last(Timestamp),
    /// It is offered one agent in its turn; here the offer, once it is made.
    Trial(Option<OfferNumber>),
}

impl Trust {
    /// Until when the framework is offered only what no other wants.
    pub(crate) fn last_until(&self) -> Option<Timestamp> {
        match self.standing {
            Standing::Last(until) => Some(until),
            Standing::Trusted | Standing::Trial(_) => None,
        }
    }

    fn turn(&self) -> Turn {
        match self.standing {
            Standing::Trusted => Turn::Regular,
            Standing::Trial(None) => Turn::Once,
            Standing::Last(_) | Standing::Trial(Some(_)) => Turn::Last,
        }
    }

    /// For how long it may hold the offer of a trial.
    fn allowance(&self, patience: Duration) -> Duration {
        patience * (1 << self.strikes.saturating_sub(1).min(STRIKES_MAX - 1))
    }
}

/// Tells the allocator when the framework's claims are served.
pub(crate) fn apply(leading: &mut Leading, slot: FrameworkSlot) {
    let framework = &leading.frameworks[slot];
    for claim in framework.claims.values() {
        leading.allocator.set_turn(*claim, framework.trust.turn());
    }
}

/// An offer is made, of what another would have taken where it is the framework's turn; says until when it is held patiently.
pub(crate) fn made(
    leading: &mut Leading,
    step: &Step<'_>,
    slot: FrameworkSlot,
    number: OfferNumber,
    in_turn: bool,
) -> Option<Timestamp> {
    let patience = step.config.offer_patience?;
    let trust = &mut leading.frameworks[slot].trust;
    if !in_turn || trust.standing != Standing::Trial(None) {
        return Some(step.now.plus(patience));
    }
    trust.standing = Standing::Trial(Some(number));
    let allowance = trust.allowance(patience);
    apply(leading, slot);
    Some(step.now.plus(allowance))
}

/// The framework accepted or declined an offer.
pub(crate) fn answered(leading: &mut Leading, step: &mut Step<'_>, number: OfferNumber, offer: &Offer) {
    let Some(patience) = step.config.offer_patience else {
        return;
    };
    let trust = &mut leading.frameworks[offer.framework].trust;
    if trust.standing != Standing::Trial(Some(number)) {
        return;
    }
    if step.now > offer.made.plus(patience) {
        return pay(leading, step, offer, patience);
    }
    trust.standing = Standing::Trusted;
    trust.restored = step.now;
    leading.hoarding.next_trial = step.now;
    apply(leading, offer.framework);
}

/// An offer ended without an answer of the framework.
pub(crate) fn unanswered(leading: &mut Leading, step: &mut Step<'_>, number: OfferNumber, offer: &Offer) {
    let Some(patience) = step.config.offer_patience else {
        return;
    };
    if leading.frameworks[offer.framework].trust.standing == Standing::Trial(Some(number)) {
        pay(leading, step, offer, patience);
    }
}

/// The deadline of an offer is over: that is early where the patience is longer, and somebody waits.
pub(crate) fn expired(leading: &mut Leading, step: &Step<'_>, number: OfferNumber) {
    let Some(patience) = step.config.offer_patience else {
        return;
    };
    let offer = &leading.offers[&number];
    let (slot, agent) = (offer.framework, offer.agent);
    let claims: Vec<ClaimSlot> = leading.frameworks[slot].claims.values().copied().collect();
    let held = [(offer.claim, &offer.resources)];
    if leading.allocator.is_wanted(agent, &held, &claims) {
        strike(leading, step, slot, number, patience);
    }
}

/// The offer of a trial was held for longer than the patience.
fn pay(leading: &mut Leading, step: &mut Step<'_>, offer: &Offer, patience: Duration) {
    let held = Duration::from_millis(step.now.0.saturating_sub(offer.made.0));
    let held = held.min(leading.frameworks[offer.framework].trust.allowance(patience));
    come_last(leading, offer.framework, step.now.plus(held * PRICE));
}

/// An offer of the framework is rescinded early.
fn strike(leading: &mut Leading, step: &Step<'_>, slot: FrameworkSlot, number: OfferNumber, patience: Duration) {
    let trust = &mut leading.frameworks[slot].trust;
    match trust.standing {
        Standing::Trusted if step.now >= trust.restored.plus(FORGIVEN) => trust.strikes = 0,
        Standing::Trusted => {}
        Standing::Trial(Some(own)) if own == number => {}
        // What it holds was offered to it because no other wanted it then.
        Standing::Last(_) | Standing::Trial(_) => return,
    }
    trust.strikes = (trust.strikes + 1).min(STRIKES_MAX);
    let until = step.now.plus(trust.allowance(patience) * PRICE);
    come_last(leading, slot, until);
}

fn come_last(leading: &mut Leading, slot: FrameworkSlot, until: Timestamp) {
    leading.frameworks[slot].trust.standing = Standing::Last(until);
    leading.timers.set(Timer::Trust(slot), until);
    apply(leading, slot);
}

/// A framework has come last for long enough.
pub(crate) fn try_again(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    let Some(patience) = step.config.offer_patience else {
        return;
    };
    let Some(framework) = leading.frameworks.get_mut(slot) else {
        return;
    };
    let trust = &mut framework.trust;
    let next_trial = leading.hoarding.next_trial;
    if step.now < next_trial {
        trust.standing = Standing::Last(next_trial);
        return leading.timers.set(Timer::Trust(slot), next_trial);
    }
    trust.standing = Standing::Trial(None);
    let price = trust.allowance(patience) * PRICE;
    let agents = u32::try_from(leading.agents.iter().count()).unwrap_or(u32::MAX);
    leading.hoarding.next_trial = step.now.plus(price / agents.max(1));
    apply(leading, slot);
}

/// When offers are to be looked at next: the first deadline, or the end of a patience that somebody may wait for.
pub(crate) fn due(leading: &Leading, step: &Step<'_>) -> Option<Timestamp> {
    let (first, offer) = leading.offers.first_key_value()?;
    let deadline = offer.deadline.into_iter().chain(optimistic::due(leading)).min();
    let hoarding = &leading.hoarding;
    let patience = step.config.offer_patience;
    let Some(patience) = patience.filter(|_| leading.allocator.active_claims() > 1) else {
        return deadline;
    };
    let young = young(leading).map(|(_, offer)| offer.made.plus(patience));
    let stirred = (hoarding.stirred && *first <= hoarding.aged).then_some(hoarding.next);
    let all = [deadline, young, stirred, hoarding.trial_ends];
    all.into_iter().flatten().min()
}

/// The first offer that has not been held for the patience.
fn young(leading: &Leading) -> Option<(&OfferNumber, &Offer)> {
    let after = (Bound::Excluded(leading.hoarding.aged), Bound::Unbounded);
    leading.offers.range(after).next()
}

/// Takes offers back that are held too long and that somebody waits for, and offers what was in them.
pub(crate) fn review(leading: &mut Leading, step: &mut Step<'_>, stirred: bool, made: &mut Made) {
    let Some(patience) = step.config.offer_patience else {
        return;
    };
    leading.hoarding.stirred |= stirred;
    if leading.allocator.active_claims() < 2 {
        return;
    }
    let mut aged = false;
    while let Some((number, offer)) = young(leading)
        && offer.made.plus(patience) <= step.now
    {
        leading.hoarding.aged = *number;
        aged = true;
    }
    let hoarding = &mut leading.hoarding;
    let first = leading.offers.first_key_value().map(|(number, _)| *number);
    if first.is_none_or(|first| first > hoarding.aged) {
        hoarding.stirred = false;
        hoarding.trial_ends = None;
        return;
    }
    let trial_ended = hoarding.trial_ends.is_some_and(|at| at <= step.now);
    if !aged && !trial_ended && (!hoarding.stirred || step.now < hoarding.next) {
        return;
    }
    hoarding.stirred = false;
    hoarding.next = step.now.plus(patience / 4);
    take_back(leading, step, patience, made);
}

fn take_back(leading: &mut Leading, step: &mut Step<'_>, patience: Duration, made: &mut Made) {
    let mut by_agent: BTreeMap<AgentSlot, Vec<OfferNumber>> = BTreeMap::new();
    let mut holders: BTreeSet<FrameworkSlot> = BTreeSet::new();
    let mut trial_ends: Option<Timestamp> = None;
    for (number, offer) in leading.offers.range(..=leading.hoarding.aged) {
        match offer.patient_until {
            // What is lent is called back by whose it is.
            _ if offer.loan.is_some() => {}
            Some(until) if until > step.now => {
                trial_ends = Some(trial_ends.map_or(until, |first| first.min(until)));
            }
            _ => {
                by_agent.entry(offer.agent).or_default().push(*number);
                holders.insert(offer.framework);
            }
        }
    }
    leading.hoarding.trial_ends = trial_ends;
    let claims = |slot: &FrameworkSlot| leading.frameworks[*slot].claims.values().copied();
    let except: Vec<ClaimSlot> = holders.iter().flat_map(claims).collect();
    for (agent, mut numbers) in by_agent {
        // A gang may have had some of them taken back.
        numbers.retain(|number| leading.offers.contains_key(number));
        let viewers = numbers.iter().flat_map(|number| optimistic::viewers(leading, *number));
        let except: Vec<ClaimSlot> = except.iter().copied().chain(viewers).collect();
        let held: Vec<(ClaimSlot, &Resources)> = numbers
            .iter()
            .map(|number| &leading.offers[number])
            .map(|offer| (offer.claim, &offer.resources))
            .collect();
        if !leading.allocator.is_wanted(agent, &held, &except) {
            continue;
        }
        for number in numbers {
            let slot = leading.offers[&number].framework;
            strike(leading, step, slot, number, patience);
            offers::rescind(leading, step, number);
        }
        gangs::review(leading, step);
        offers::decide(leading, step, made);
    }
}

//! How much is recalled at once for whom.
//!
//! A framework that declared its demand is given back as much as that asks for. One that did not might want one processor or all: it
//! is given back what is lent on one agent, then, as long as it uses what comes back, on two, on four, and so on. When it
//! declines what was taken from others for it, nothing is recalled for it for a while, and each time for twice as long.

use std::collections::BTreeSet;

use crate::frameworks;
use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, ClaimSlot};
use crate::time::Timestamp;

/// The most agents on which something is recalled at once for one role of a framework that declared no demand.
const AT_ONCE_MAX: u32 = 1024;
/// The pause after a refusal is doubled up to this many times.
const STRIKES_MAX: u32 = 6;

/// What one claim did with what it was given back.
#[derive(Debug)]
pub(super) struct Pace {
    at_once: u32,
    strikes: u32,
    not_before: Timestamp,
    /// Where something came back that it has not answered.
    given: BTreeSet<AgentSlot>,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            at_once: 1,
            strikes: 0,
            not_before: Timestamp::default(),
            given: BTreeSet::new(),
        }
    }
}

/// Whether more may be recalled for the claim now. Who has offers that it has not answered has not used up what there is.
pub(super) fn may_recall(leading: &Leading, now: Timestamp, claim: ClaimSlot) -> bool {
    let framework = &leading.frameworks[leading.claims[claim].framework];
    let firm = |offer: &crate::offers::Offer| {
        offer.claim == claim && offer.resources.iter().any(|entry| !entry.key().is_revocable())
    };
    if framework.offers.iter().any(|number| firm(&leading.offers[number])) {
        return false;
    }
    let recalls = leading.revocable.recalls.values();
    let under_way = recalls.filter(|recall| recall.is_for(claim)).count() as u64;
    if let Some(shapes) = frameworks::wanted(framework, &leading.claims[claim].role) {
        return under_way < shapes.iter().map(|shape| u64::from(shape.count)).sum();
    }
    match leading.revocable.paces.get(&claim) {
        None => under_way < 1,
        Some(pace) => under_way < u64::from(pace.at_once) && now >= pace.not_before,
    }
}

/// What was recalled on the agent for the claim is free.
pub(super) fn came_back(leading: &mut Leading, claim: ClaimSlot, agent: AgentSlot) {
    let pace = leading.revocable.paces.entry(claim).or_default();
    pace.given.insert(agent);
}

/// The claim's framework answered an offer of the agent.
pub(crate) fn answered(leading: &mut Leading, step: &Step<'_>, claim: ClaimSlot, agent: AgentSlot, used: bool) {
    let Some(pace) = leading.revocable.paces.get_mut(&claim) else {
        return;
    };
    if !pace.given.remove(&agent) {
        return;
    }
    if used {
        *pace = Pace {
            at_once: (pace.at_once * 2).min(AT_ONCE_MAX),
            given: std::mem::take(&mut pace.given),
            ..Pace::default()
        };
    } else {
        pace.at_once = 1;
        pace.not_before = step.now.plus(step.config.idle_after * (1 << pace.strikes));
        pace.strikes = (pace.strikes + 1).min(STRIKES_MAX);
    }
}

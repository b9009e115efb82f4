//! Takes offers back that nobody answers where a gang has no other place.

use std::collections::BTreeSet;
use std::time::Duration;

use proffer_proto::resources::Resources;

use super::{GangNumber, review};
use crate::master::{Leading, Step};
use crate::offers::{self, OfferNumber};
use crate::slots::AgentSlot;

/// Who has had an offer for so long has been asked for long enough.
const PATIENCE: Duration = Duration::from_secs(1);

/// Rescinds offers that would give a place to a member that has none.
pub(super) fn rescind(leading: &mut Leading, step: &mut Step<'_>) {
    let numbers: Vec<GangNumber> = leading.gangs.waiting.keys().copied().collect();
    for number in numbers {
        let gang = &leading.gangs.waiting[&number];
        let missing = gang.minimum.saturating_sub(gang.placed().0);
        if missing > 0 && !review::rests(leading, number, step.now) {
            rescind_for(leading, step, number, missing);
        }
    }
}

/// Does so for a gang that needs so many more places, on as many agents at most.
fn rescind_for(leading: &mut Leading, step: &mut Step<'_>, number: GangNumber, mut missing: usize) {
    for agent in leading.agents.keys() {
        if missing == 0 {
            return;
        }
        let old = unanswered(leading, step, agent);
        if !old.is_empty() && would_fit(leading, number, agent, &old) {
            missing -= 1;
            for number in old {
                offers::rescind(leading, step, number);
            }
        }
    }
}

/// The offers on an agent that were made a while ago; what is lent is called back in another way.
fn unanswered(leading: &Leading, step: &Step<'_>, agent: AgentSlot) -> Vec<OfferNumber> {
    let offers = leading.agents[agent].offers.iter();
    let is_old = |number: &&OfferNumber| {
        let offer = &leading.offers[number];
        offer.loan.is_none() && step.now.since(offer.made) >= PATIENCE
    };
    offers.filter(is_old).copied().collect()
}

/// Whether a member without a place would have one if these offers were free.
fn would_fit(leading: &Leading, number: GangNumber, agent: AgentSlot, offers: &[OfferNumber]) -> bool {
    let gang = &leading.gangs.waiting[&number];
    if !leading.allocator.is_open(gang.claim, agent) {
        return false;
    }
    let offered: Resources = offers.iter().map(|number| &leading.offers[number].resources).sum();
    let free =
        leading.allocator.free(agent).cloned().unwrap_or_default() + &offered + &gathered(leading, number, agent);
    let open = free.available_to(&leading.claims[gang.claim].role);
    let mut seen = BTreeSet::new();
    let mut without = gang.members.iter().filter(|member| member.place.is_none());
    without.any(|member| {
        member.shape.agent.is_none_or(|at| at == agent) && seen.insert(member.alike) && member.shape.of(&open).is_some()
    })
}

/// What a gang holds on an agent for members without a place.
fn gathered(leading: &Leading, number: GangNumber, agent: AgentSlot) -> Resources {
    let gang = &leading.gangs.waiting[&number];
    let parked = gang.parked.get(&agent).and_then(|parked| leading.parked.get(parked));
    let held = parked.map(|parked| parked.resources.clone()).unwrap_or_default();
    let places = gang.members.iter().filter_map(|member| member.place.as_ref());
    let placed: Resources = places
        .filter(|place| place.agent == agent && place.held)
        .map(|place| &place.resources)
        .sum();
    held.without(&placed)
}

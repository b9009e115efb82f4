//! Offers of what is idle.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::backing::{bare, pick};
use crate::frameworks::Phase;
use crate::master::{Leading, Step};
use crate::offers::{self, Made};
use crate::slots::{AgentSlot, ClaimSlot};
use crate::time::Timestamp;

/// So many agents are looked at in one step, beside those at which something changed.
const AGENTS_IN_LOOK: usize = 1000;

/// Offers what is idle on these agents, and on the next of all where that is due; says whether there was any.
pub(super) fn lend(
    leading: &mut Leading,
    step: &Step<'_>,
    agents: &BTreeSet<AgentSlot>,
    all: bool,
    made: &mut Made,
) -> bool {
    if !leading.allocator.has_borrowers() {
        return false;
    }
    let mut agents = agents.clone();
    if all {
        agents.extend(next_agents(leading));
    }
    if agents.is_empty() {
        return false;
    }
    let before = leading.revocable.totals.offers;
    let until = step.now.plus(step.config.idle_after);
    let returning = returning(leading, step);
    for agent in agents {
        if !leading.revocable.recalls.contains_key(&agent) {
            lend_on(leading, step, agent, until, &returning, made);
        }
    }
    leading.revocable.totals.offers > before
}

/// The agents that are looked at next; where some are left for later, that is remembered.
fn next_agents(leading: &mut Leading) -> Vec<AgentSlot> {
    let after = leading
        .revocable
        .cursor
        .take()
        .map_or(Bound::Unbounded, Bound::Excluded);
    let beyond = |slot: &AgentSlot| match after {
        Bound::Excluded(last) => *slot > last,
        _ => true,
    };
    let slots = leading.agents.iter().map(|(slot, _)| slot).filter(beyond);
    let next: Vec<AgentSlot> = slots.take(AGENTS_IN_LOOK).collect();
    if next.len() == AGENTS_IN_LOOK {
        leading.revocable.cursor = next.last().copied();
        leading.revocable.stirred = true;
    }
    next
}

/// The roles of frameworks whose schedulers have not been away for long: they may want what is theirs in a moment.
fn returning(leading: &Leading, step: &Step<'_>) -> Vec<ClaimSlot> {
    let frameworks = leading.frameworks.iter().map(|(_, framework)| framework);
    let away = frameworks.filter(|framework| {
        let left = match framework.phase {
            Phase::Connected(_) => return false,
            Phase::Away { recovered: true } => leading.elected,
            Phase::Away { recovered: false } => framework.left,
        };
        !framework.removing && step.now < left.plus(step.config.idle_after)
    });
    let claims = away.flat_map(|framework| framework.claims.values().copied());
    claims
        .filter(|claim| leading.claims[*claim].subscribed && !leading.claims[*claim].suppressed)
        .collect()
}

fn lend_on(
    leading: &mut Leading,
    step: &Step<'_>,
    agent: AgentSlot,
    until: Timestamp,
    returning: &[ClaimSlot],
    made: &mut Made,
) {
    loop {
        let idle = leading.allocator.lendable(agent, until, returning);
        if idle.is_empty() {
            return;
        }
        let revocable = bare(&idle).to_revocable();
        let Some((claim, part)) = leading.allocator.borrower(agent, &revocable) else {
            return;
        };
        leading.agents[agent].backing += &pick(&idle, &part);
        leading.allocator.charge(claim, &part);
        let number = offers::make(leading, step, claim, agent, part, false);
        leading.revocable.totals.offers += 1;
        let offer = &leading.offers[&number];
        made.entry(offer.framework)
            .or_default()
            .push(offers::wire(leading, number, offer));
    }
}

//! What the allocator is told of quotas and weights.
//!
//! A new leader does not know what runs on agents that have not come back. As long as that is so, a role could hold there whatever
//! they have; so from every limit that is taken away, and no limit is exceeded when they do come back. It is told anew
//! when it is less by a tenth, so that many agents coming back cost little.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::registry as wire;
use proffer_proto::resources::Scalar;

use super::{and_above, is_plain, is_within, usage};
use crate::agents::Phase;
use crate::allocator::Quota;
use crate::gangs;
use crate::master::{Leading, Step};
use crate::offers::{self, Offer, OfferNumber};
use crate::slots::AgentSlot;

/// What the agents have that were not heard of since the election.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    agents: BTreeMap<AgentSlot, usage::Amounts>,
    sum: usage::Amounts,
    /// What the allocator was told.
    told: usage::Amounts,
}

impl Unheard {
    /// Whether the allocator takes so much more away than it has to that it matters.
    fn is_stale(&self) -> bool {
        let mut all = self.told.iter();
        all.any(|(name, told)| match self.sum.get(name) {
            Some(sum) if *sum > 0 => *sum < told - told / 10,
            _ => *told > 0,
        })
    }
}

/// Tells the allocator at an election what the registry has.
pub(crate) fn recover(leading: &mut Leading, step: &mut Step<'_>) {
    let mut unheard = Unheard::default();
    for (slot, agent) in leading.agents.iter() {
        if agent.phase == Phase::Recovered {
            let amounts = usage::plain(&agent.total);
            for (name, amount) in &amounts {
                let sum = unheard.sum.entry(name.clone()).or_default();
                *sum = sum.saturating_add(*amount);
            }
            unheard.agents.insert(slot, amounts);
        }
    }
    unheard.told = unheard.sum.clone();
    leading.roles.unheard = unheard;
    for weight in step.registry.roles.weights() {
        leading.allocator.set_weight(&weight.role, Some(weight.thousandths));
    }
    for quota in step.registry.roles.quotas() {
        set_quota(leading, quota);
    }
}

/// It is known what runs on the agent, or it is given up.
pub(crate) fn heard(leading: &mut Leading, slot: AgentSlot) {
    let unheard = &mut leading.roles.unheard;
    for (name, amount) in unheard.agents.remove(&slot).into_iter().flatten() {
        if let Some(sum) = unheard.sum.get_mut(&name) {
            *sum = sum.saturating_sub(amount);
        }
    }
    if unheard.agents.is_empty() {
        unheard.sum.clear();
    }
}

/// After each step: limits may leave more.
pub(crate) fn review(leading: &mut Leading, step: &mut Step<'_>) {
    if leading.roles.unheard.told.is_empty() || !leading.roles.unheard.is_stale() {
        return;
    }
    leading.roles.unheard.told = leading.roles.unheard.sum.clone();
    for quota in step.registry.roles.quotas().filter(|quota| !quota.limits.is_empty()) {
        set_quota(leading, quota);
    }
}

/// Tells the allocator what the registry has of a role.
pub(super) fn tell(leading: &mut Leading, step: &Step<'_>, role: &str) {
    let known = &step.registry.roles;
    leading.allocator.set_weight(role, Some(known.weight(role)));
    match known.quota(role) {
        Some(quota) => set_quota(leading, quota),
        None => leading.allocator.set_quota(role, None),
    }
}

fn set_quota(leading: &mut Leading, quota: &wire::Quota) {
    let unheard = &leading.roles.unheard.told;
    let limit = |(name, limit): (&String, &u64)| {
        let away = unheard.get(name).copied().unwrap_or_default();
        (name.clone(), Scalar::from_thousandths(limit.saturating_sub(away)))
    };
    let guarantees = quota.guarantees.iter();
    let guarantees = guarantees.map(|(name, amount)| (name.clone(), Scalar::from_thousandths(*amount)));
    let told = Quota {
        guarantees: guarantees.collect(),
        limits: quota.limits.iter().map(limit).collect(),
    };
    leading.allocator.set_quota(&quota.role, Some(told));
    gangs::look_everywhere(leading);
}

/// It is known what runs on an agent, or something else is reserved there: a role may have more than its limit without having been
/// offered it. Then what it was offered is taken back.
pub(crate) fn weigh(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    if step.registry.roles.quotas().next().is_none() {
        return;
    }
    let agent = &leading.agents[slot];
    let tasks = agent.tasks.iter();
    let tasks = tasks.map(|task| leading.claims[leading.tasks[*task].claim].role.as_str());
    let executors = agent.executors.values().map(|executor| executor.role.as_str());
    let reserved = agent.total.iter().filter_map(|entry| entry.key().reservation_role());
    let mut roles: BTreeSet<String> = BTreeSet::new();
    for role in tasks.chain(executors).chain(reserved) {
        roles.extend(and_above(role).map(str::to_owned));
    }
    for role in roles {
        take_back(leading, step, &role);
    }
}

/// Takes offers back as long as a role has more than its limit: the latest first.
pub(super) fn take_back(leading: &mut Leading, step: &mut Step<'_>, role: &str) {
    let Some(quota) = step.registry.roles.quota(role) else {
        return;
    };
    let over = |leading: &Leading, resource: &str, limit: u64| {
        let consumed = leading.allocator.consumed(role);
        consumed.get(resource).thousandths() > limit
    };
    for (resource, limit) in &quota.limits {
        if !over(leading, resource, *limit) {
            continue;
        }
        for number in offers_with(leading, role, resource) {
            offers::rescind(leading, step, number);
            if !over(leading, resource, *limit) {
                break;
            }
        }
    }
}

/// The offers that count for a role and have some unreserved part of a resource, the latest first.
fn offers_with(leading: &Leading, role: &str, resource: &str) -> Vec<OfferNumber> {
    let counts = |offer: &Offer| {
        let mut entries = offer.resources.iter();
        is_within(&leading.claims[offer.claim].role, role)
            && entries.any(|entry| entry.name() == resource && is_plain(entry))
    };
    let offers = leading.offers.iter().rev();
    offers
        .filter(|(_, offer)| counts(offer))
        .map(|(number, _)| *number)
        .collect()
}

//! Backfill: what gangs hold while they wait is lent to tasks that end in time.
//!
//! What a gang holds on an agent is offered, as an offer that says until when it is lent, to frameworks with the capability
//! BACKFILL. Only tasks with a `max_completion_time` that ends before may be launched on it, so that all is back before the
//! gang's deadline. Where a gang has places for enough members but for what is lent, that is called back: the offers are
//! rescinded, the tasks killed. So backfill keeps no gang waiting for longer than it takes to kill a task.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proffer_proto::Rejection;
use proffer_proto::resources::Resources;
use proffer_proto::v1::framework_info::capability::Type as Capability;
use proffer_proto::v1::{self, KillPolicy};

use super::{GangNumber, place, review};
use crate::allocator::Decision;
use crate::master::{Leading, Step};
use crate::offers::{self, OfferNumber};
use crate::slots::{AgentSlot, ClaimSlot, TaskSlot};
use crate::tasks::Lent;
use crate::time::Timestamp;
use crate::{events, frameworks, kill};

/// So long before the deadline of the gang everything is back.
const MARGIN: Duration = Duration::from_secs(5);
/// Nothing is lent for less.
const LENT_MIN: Duration = Duration::from_secs(5);
/// A task that is called back is killed after this, or sooner by its own kill policy.
const GRACE_MAX: Duration = Duration::from_secs(3);

/// What makes an offer one of what is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loan {
    gang: GangNumber,
    pub(crate) until: Timestamp,
}

/// What is lent on an agent: it is in offers, or in use.
pub(super) fn loans(leading: &Leading, agent: AgentSlot) -> Resources {
    let Some(state) = leading.agents.get(agent) else {
        return Resources::new();
    };
    let offers = state.offers.iter().map(|number| &leading.offers[number]);
    let offered: Resources = offers
        .filter(|offer| offer.loan.is_some())
        .map(|offer| &offer.resources)
        .sum();
    let tasks = state.tasks.iter().map(|task| &leading.tasks[*task]);
    let used: Resources = tasks
        .filter(|task| task.lent.is_some() && task.held)
        .map(|task| &task.resources)
        .sum();
    offered + &used
}

/// Whether a task may be launched on what is lent.
pub(crate) fn check_loan(loan: Loan, now: Timestamp, info: &v1::TaskInfo) -> Result<(), Rejection> {
    let left = loan.until.since(now);
    let accepted = || {
        format!(
            "at most {} nanoseconds, which is how long the offer is still lent",
            left.as_nanos()
        )
    };
    if info.executor.is_some() {
        let problem = "is set, but the offer is lent, and nobody knows when an executor ends";
        return Err(Rejection::new("executor", problem, "a task with a `command`"));
    }
    match info.max_completion_time {
        None => {
            let problem = "is missing, but the offer is lent";
            Err(Rejection::new("max_completion_time", problem, accepted()))
        }
        Some(time) if u128::try_from(time.nanoseconds).unwrap_or(0) > left.as_nanos() => {
            let problem = format!("is {}", time.nanoseconds);
            Err(Rejection::new("max_completion_time.nanoseconds", problem, accepted()))
        }
        Some(_) => Ok(()),
    }
}

/// Lends what gangs hold on these agents.
pub(super) fn lend(leading: &mut Leading, step: &mut Step<'_>, agents: &BTreeSet<AgentSlot>) {
    if leading.gangs.waiting.values().all(|gang| gang.parked.is_empty()) {
        return;
    }
    let borrowers = borrowers(leading);
    if borrowers.is_empty() {
        return;
    }
    let numbers: Vec<GangNumber> = leading.gangs.waiting.keys().copied().collect();
    for number in numbers {
        let gang = &leading.gangs.waiting[&number];
        let until = Timestamp(gang.deadline.0.saturating_sub(MARGIN.as_millis() as u64));
        if gang.placed().0 >= gang.minimum || until < step.now.plus(LENT_MIN) {
            continue;
        }
        let held: Vec<AgentSlot> = gang
            .parked
            .keys()
            .filter(|agent| agents.contains(agent))
            .copied()
            .collect();
        for agent in held {
            lend_on(leading, step, agent, Loan { gang: number, until }, &borrowers);
        }
    }
}

/// The roles that may be lent something.
fn borrowers(leading: &Leading) -> Vec<ClaimSlot> {
    let frameworks = leading.frameworks.iter().map(|(_, framework)| framework);
    let willing = frameworks
        .filter(|framework| framework.stream().is_some() && !framework.removing && framework.has(Capability::Backfill));
    let claims = willing.flat_map(|framework| framework.claims.values().copied());
    claims
        .filter(|claim| leading.claims[*claim].subscribed && !leading.claims[*claim].suppressed)
        .collect()
}

fn lend_on(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot, loan: Loan, borrowers: &[ClaimSlot]) {
    let parked = leading.gangs.waiting[&loan.gang].parked.get(&agent);
    let Some(held) = parked
        .and_then(|parked| leading.parked.get(parked))
        .map(|parked| parked.resources.clone())
    else {
        return;
    };
    leading.gangs.looking = true;
    place::let_go(leading, loan.gang, agent);
    let chosen = leading.allocator.in_order(borrowers).into_iter().find_map(|claim| {
        let part = leading.allocator.room(claim, agent, &held);
        let wanted = leading.allocator.suffices(claim, &part) && !leading.allocator.refuses(claim, agent, &part);
        wanted.then_some((claim, part))
    });
    if let Some((claim, resources)) = chosen {
        leading.allocator.charge(claim, &resources);
        let decision = Decision {
            agent,
            claim,
            resources,
            used_up: false,
        };
        let (framework, offer) = offers::lend(leading, step, decision, loan);
        frameworks::send(leading, step, framework, events::offers(vec![offer]));
    }
    let now = step.now;
    place::settle(leading, agent, true, |leading, number| {
        review::rests(leading, number, now)
    });
    leading.gangs.looking = false;
}

/// Takes back what is lent where a gang needs it and nothing else is missing.
pub(super) fn call_back(leading: &mut Leading, step: &mut Step<'_>, number: GangNumber) {
    let gang = &leading.gangs.waiting[&number];
    let (placed, held) = gang.placed();
    if placed < gang.minimum {
        return;
    }
    let mut missing = gang.minimum - held;
    let mut needed: BTreeMap<AgentSlot, Resources> = BTreeMap::new();
    for place in gang.members.iter().filter_map(|member| member.place.as_ref()) {
        if place.held {
            *needed.entry(place.agent).or_default() += &place.resources;
        } else if missing > 0 {
            missing -= 1;
            *needed.entry(place.agent).or_default() += &place.resources;
        }
    }
    for (agent, needed) in needed {
        let parked = leading.gangs.waiting[&number].parked.get(&agent);
        let here = parked.and_then(|parked| leading.parked.get(parked));
        let here = here.map(|parked| parked.resources.clone()).unwrap_or_default();
        let missing = without(needed, &here);
        if !missing.is_empty() {
            call_back_on(leading, step, agent, missing);
        }
    }
}

fn call_back_on(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot, mut missing: Resources) {
    let lent = |number: &&OfferNumber| leading.offers[number].loan.is_some();
    let offers: Vec<OfferNumber> = leading.agents[agent].offers.iter().filter(lent).copied().collect();
    let tasks = leading.agents[agent].tasks.iter().copied();
    let mut tasks: Vec<(Lent, TaskSlot)> = tasks
        .filter_map(|slot| Some((leading.tasks[slot].lent.filter(|_| leading.tasks[slot].held)?, slot)))
        .collect();
    for number in offers {
        if !missing.common(&leading.offers[&number].resources).is_empty() {
            missing = without(missing, &leading.offers[&number].resources);
            offers::rescind(leading, step, number);
        }
    }
    // Those that were called back before are counted before others are.
    tasks.sort_unstable();
    for (lent, slot) in tasks {
        let task = &leading.tasks[slot];
        if missing.common(&task.resources).is_empty() {
            continue;
        }
        missing = without(missing, &task.resources);
        if lent == Lent::Out {
            let own = task.record.task().kill_policy.and_then(|policy| policy.grace_period);
            let most = GRACE_MAX.as_nanos() as i64;
            let grace = own.map_or(most, |own| own.nanoseconds.clamp(0, most));
            leading.tasks[slot].lent = Some(Lent::CalledBack);
            let policy = KillPolicy {
                grace_period: Some(v1::DurationInfo { nanoseconds: grace }),
            };
            kill::deliver(leading, step, slot, Some(policy));
        }
    }
}

/// What is left of the first when as much as possible of the second is taken away.
fn without(resources: Resources, part: &Resources) -> Resources {
    resources.checked_sub(&resources.common(part)).unwrap_or_default()
}

/// Takes back what a gang lent that is in offers still.
pub(super) fn rescind_of(leading: &mut Leading, step: &mut Step<'_>, gang: GangNumber) {
    let of = |loan: Option<Loan>| loan.is_some_and(|loan| loan.gang == gang);
    let open = leading.offers.iter().filter(|(_, offer)| of(offer.loan));
    let open: Vec<OfferNumber> = open.map(|(number, _)| *number).collect();
    for number in open {
        offers::rescind(leading, step, number);
    }
}

//! Recalls: what is lent on an agent is wanted by somebody whose turn it is.
//!
//! Offers that are not answered are rescinded at once. Where that is not enough, the tasks that were launched last are chosen, as
//! few as give back what is wanted; their frameworks are asked by inverse offers to end them, and when the grace is over they
//! are killed. What is wanted counts as held by who wants it from then on, so that it does not want the same from another
//! agent, too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proffer_proto::resources::Resources;
use proffer_proto::v1::{self, DurationInfo, KillPolicy, TimeInfo, Unavailability};

use super::backing::bare;
use super::pace;
use crate::allocator::Quantities;
use crate::inverse::{self, About};
use crate::master::{Leading, Step};
use crate::offers::{self, OfferNumber};
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot, TaskSlot};
use crate::tasks::Task;
use crate::time::Timestamp;
use crate::timers::Timer;
use crate::{events, frameworks, kill};

/// A task that is taken back is killed after this, or sooner by its own kill policy: the grace was before.
const KILL_GRACE_MAX: Duration = Duration::from_secs(3);
/// A kill that has not ended a task is told again after this: the message may be lost with a connection.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// What is taken back on an agent.
#[derive(Debug)]
pub(super) struct Recall {
    /// The tasks that have not ended then are killed.
    pub(super) deadline: Timestamp,
    pub(super) killed: bool,
    /// Who wants what; it is charged for it.
    pub(super) promised: Vec<(ClaimSlot, Resources)>,
    /// The tasks that are to end; a slot may have another task by now.
    tasks: BTreeMap<TaskSlot, (v1::FrameworkId, v1::TaskId)>,
}

impl Recall {
    /// Whether it is for the claim.
    pub(super) fn is_for(&self, claim: ClaimSlot) -> bool {
        self.promised.iter().any(|(wants, _)| *wants == claim)
    }

    /// Its tasks that have not ended.
    fn left(&self, leading: &Leading) -> Vec<TaskSlot> {
        let tasks = self.tasks.iter();
        let holds = |slot: TaskSlot, (framework, id): &(v1::FrameworkId, v1::TaskId)| {
            let task = leading.tasks.get(slot);
            task.is_some_and(|task| {
                task.held && task.record.id() == *id && leading.frameworks[task.framework].id == *framework
            })
        };
        tasks
            .filter(|(slot, key)| holds(**slot, key))
            .map(|(slot, _)| *slot)
            .collect()
    }
}

/// What a claim is charged for because it is on its way back to it.
pub(crate) fn promised(leading: &Leading, claim: ClaimSlot) -> Resources {
    let recalls = leading.revocable.recalls.values();
    let of = recalls.flat_map(|recall| &recall.promised);
    of.filter(|(wants, _)| *wants == claim)
        .map(|(_, resources)| resources)
        .sum()
}

/// A claim is about to be removed.
pub(crate) fn forget_claim(leading: &mut Leading, claim: ClaimSlot) {
    leading.revocable.paces.remove(&claim);
    for (agent, recall) in &mut leading.revocable.recalls {
        recall.promised.retain(|(wants, resources)| {
            if *wants == claim {
                leading.allocator.credit(claim, resources);
                leading.revocable.dirty.insert(*agent);
            }
            *wants != claim
        });
    }
}

/// Ends the recalls that are done, or that nobody wants any more, and asks who has not been asked.
pub(super) fn progress(leading: &mut Leading, step: &mut Step<'_>, agents: &BTreeSet<AgentSlot>) {
    for agent in agents {
        let Some(recall) = leading.revocable.recalls.get(agent) else {
            continue;
        };
        if recall.left(leading).is_empty() {
            end(leading, step, *agent, true);
        } else if !recall.killed && !is_wanted(leading, *agent, recall) {
            end(leading, step, *agent, false);
        } else if !recall.killed {
            ask(leading, step, *agent);
        }
    }
}

fn is_wanted(leading: &Leading, agent: AgentSlot, recall: &Recall) -> bool {
    let wants = |claim: ClaimSlot| {
        let state = &leading.claims[claim];
        let framework = &leading.frameworks[state.framework];
        let there = state.subscribed && !state.suppressed && !framework.removing && framework.stream().is_some();
        there && !leading.allocator.is_content(claim)
    };
    let there = leading.agents.get(agent).is_some_and(|agent| agent.is_offered());
    there && recall.promised.iter().any(|(claim, _)| wants(*claim))
}

fn end(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot, done: bool) {
    leading.timers.cancel(Timer::Recall(agent));
    let Some(recall) = leading.revocable.recalls.remove(&agent) else {
        return;
    };
    if leading.agents.get(agent).is_some() {
        inverse::rescind_agent(leading, step, agent, About::Recall);
    }
    if done && !recall.killed {
        leading.revocable.totals.returned += recall.tasks.len() as u64;
    }
    for (claim, resources) in recall.promised {
        leading.allocator.credit(claim, &resources);
        if done {
            pace::came_back(leading, claim, agent);
        }
    }
}

/// Recalls what is wanted on these agents; says whether something is free now.
pub(super) fn recall(leading: &mut Leading, step: &mut Step<'_>, agents: &BTreeSet<AgentSlot>) -> bool {
    let mut freed = false;
    for agent in agents {
        let lends = leading.revocable.lending.contains(agent) && !leading.revocable.recalls.contains_key(agent);
        if !lends || leading.agents.get(*agent).is_none() {
            continue;
        }
        let promised = wanted_on(leading, step.now, *agent);
        if promised.is_empty() {
            continue;
        }
        if rescind_offers(leading, step, *agent, &promised) {
            freed = true;
        } else {
            begin(leading, step, *agent, promised);
        }
    }
    freed
}

/// Who wants what of what is lent on an agent.
fn wanted_on(leading: &mut Leading, now: Timestamp, agent: AgentSlot) -> Vec<(ClaimSlot, Resources)> {
    let backing = leading.agents[agent].backing.clone();
    if backing.is_empty() {
        return Vec::new();
    }
    let grants = leading.allocator.reclaim(agent, &backing);
    let mut free = leading.allocator.free(agent).cloned().unwrap_or_default();
    let mut promised = Vec::new();
    for (claim, resources) in grants {
        let there = resources.common(&free);
        free = free.without(&there);
        let back = resources.without(&there).common(&backing);
        let back = needed(leading, claim, agent, &there, back);
        if !back.is_empty() && pace::may_recall(leading, now, claim) {
            promised.push((claim, back));
        }
    }
    promised
}

/// What of it is of use to the claim beside what is there: of a declared demand as many shapes as fit, and all where none was declared.
fn needed(leading: &Leading, claim: ClaimSlot, agent: AgentSlot, there: &Resources, back: Resources) -> Resources {
    let state = &leading.claims[claim];
    let Some(shapes) = frameworks::wanted(&leading.frameworks[state.framework], &state.role) else {
        return back;
    };
    let all = Quantities::of(&(there.clone() + &back));
    let mut needed = Quantities::default();
    for shape in shapes.iter().filter(|shape| shape.agent.is_none_or(|at| at == agent)) {
        for _ in 0..shape.count {
            let more = needed.plus(&shape.resources);
            if !all.contains(&more) {
                break;
            }
            needed = more;
        }
    }
    let there = Quantities::of(there);
    let mut taken: BTreeMap<String, u64> = BTreeMap::new();
    back.bounded(|entry| {
        let wanted = needed.get(entry.name()).thousandths();
        let taken = taken.entry(entry.name().to_owned()).or_default();
        let left = wanted.saturating_sub(there.get(entry.name()).thousandths() + *taken);
        *taken += left.min(entry.thousandths());
        Some(left)
    })
}

/// Takes back offers of what is wanted, the latest first.
fn rescind_offers(
    leading: &mut Leading,
    step: &mut Step<'_>,
    agent: AgentSlot,
    promised: &[(ClaimSlot, Resources)],
) -> bool {
    let mut missing = bare(&promised.iter().map(|(_, resources)| resources).sum());
    let numbers: Vec<OfferNumber> = leading.agents[agent].offers.iter().rev().copied().collect();
    let mut rescinded = false;
    for number in numbers {
        let lent = bare(&leading.offers[&number].resources.revocable());
        if !missing.common(&lent).is_empty() {
            missing = missing.without(&lent);
            offers::rescind(leading, step, number);
            rescinded = true;
        }
    }
    rescinded
}

/// When a task was first heard of, in seconds; one that was not is the latest.
fn started(task: &Task) -> f64 {
    let statuses = task.record.task().statuses;
    let first = statuses.first().and_then(|status| status.timestamp);
    first.unwrap_or(f64::INFINITY)
}

fn begin(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot, promised: Vec<(ClaimSlot, Resources)>) {
    let mut missing = bare(&promised.iter().map(|(_, resources)| resources).sum());
    let tasks = leading.agents[agent]
        .tasks
        .iter()
        .map(|slot| (*slot, &leading.tasks[*slot]));
    let tasks = tasks.filter(|(_, task)| task.held);
    let mut tasks: Vec<(f64, TaskSlot, &Task)> = tasks.map(|(slot, task)| (started(task), slot, task)).collect();
    tasks.sort_by(|(one, ..), (other, ..)| other.total_cmp(one));
    let mut chosen = BTreeMap::new();
    for (_, slot, task) in tasks {
        let lent = bare(&task.resources.revocable());
        if !missing.common(&lent).is_empty() {
            missing = missing.without(&lent);
            chosen.insert(slot, (leading.frameworks[task.framework].id.clone(), task.record.id()));
        }
    }
    if chosen.is_empty() {
        // What is left of tasks of removed frameworks: it is being killed already.
        return;
    }
    for (claim, resources) in &promised {
        leading.allocator.charge(*claim, resources);
    }
    leading.revocable.totals.recalled += chosen.len() as u64;
    let deadline = step.now.plus(step.config.revocable_grace);
    let recall = Recall {
        deadline,
        killed: false,
        promised,
        tasks: chosen,
    };
    leading.revocable.recalls.insert(agent, recall);
    leading.timers.set(Timer::Recall(agent), deadline);
    ask(leading, step, agent);
}

/// Asks the frameworks of the tasks to give back what they hold.
fn ask(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot) {
    let recall = &leading.revocable.recalls[&agent];
    let window = Unavailability {
        start: TimeInfo {
            nanoseconds: recall.deadline.as_nanos_i64(),
        },
        duration: None,
    };
    let mut asked: BTreeMap<FrameworkSlot, Vec<v1::Resource>> = BTreeMap::new();
    for slot in recall.left(leading) {
        let task = &leading.tasks[slot];
        let role = &leading.claims[task.claim].role;
        let lent = task.resources.revocable().allocate(role).to_wire();
        asked.entry(task.framework).or_default().extend(lent);
    }
    for (framework, resources) in asked {
        let key = (agent, framework, About::Recall);
        if leading.frameworks[framework].stream().is_some() && !inverse::is_asked(leading, key) {
            let offer = inverse::ask(leading, step.now, key, window, resources);
            frameworks::send(leading, step, framework, events::inverse_offers(vec![offer]));
        }
    }
}

/// The grace of a recall is over, or a kill is to be told again.
pub(crate) fn due(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot) {
    let Some(recall) = leading.revocable.recalls.get(&agent) else {
        return;
    };
    let (first, left, all) = (!recall.killed, recall.left(leading), recall.tasks.len());
    if let Some(recall) = leading.revocable.recalls.get_mut(&agent) {
        recall.killed = true;
    }
    if first {
        let totals = &mut leading.revocable.totals;
        totals.killed += left.len() as u64;
        totals.returned += (all - left.len()) as u64;
    }
    for slot in left {
        let task = &mut leading.tasks[slot];
        task.preempted = true;
        let own = task.record.task().kill_policy.and_then(|policy| policy.grace_period);
        let most = KILL_GRACE_MAX.as_nanos() as i64;
        let grace = own.map_or(most, |own| own.nanoseconds.clamp(0, most));
        let policy = KillPolicy {
            grace_period: Some(DurationInfo { nanoseconds: grace }),
        };
        kill::deliver(leading, step, slot, Some(policy));
    }
    leading.timers.set(Timer::Recall(agent), step.now.plus(KILL_AGAIN));
    leading.revocable.dirty.insert(agent);
}

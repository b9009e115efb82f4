//! Lending: what is kept for somebody who does not want it now is lent as revocable, and taken back when it is wanted.
//!
//! What is *idle* is lent: reserved resources that no framework of their role wants, and what is kept free for guarantees whose
//! roles do not want it. Frameworks with the capability REVOCABLE_RESOURCES are offered it, as `cpus{revocable}` and so on, and
//! may launch tasks on it. What they hold so is *backed* by the resources themselves, see [`backing`].
//!
//! ```text
//! idle --offer accepted--> in use --wanted--> recalled: inverse offer --grace is over--> tasks killed --> free again
//!                             ^                 |
//!                             +-- not wanted ---+
//! ```
//!
//! It is wanted when the allocator would give it to somebody whose turn it is if it were free. An offer of it that is not
//! answered is rescinded then; of tasks the framework is asked to end them, and they are killed after the grace.
//!
//! All of this is known to the leader only: a new one finds what is held in what agents tell, and asks anew.

pub(crate) mod backing;
mod lend;
mod pace;
mod recall;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::books;
use crate::master::{Leading, Step};
use crate::offers::{self, Made};
use crate::slots::{AgentSlot, ClaimSlot};
use crate::time::Timestamp;
use crate::timers::Timer;

pub(crate) use pace::answered;
pub(crate) use recall::{due, forget_claim, promised};
pub(crate) use told::{Totals, loans_on, status};

/// Everything is looked at so often, because what is idle, and who is away, changes with time...
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// ...and not more often than this, whatever happens.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// What is lent, and what of it is wanted back.
#[derive(Debug, Default)]
pub(crate) struct Revocable {
    /// There is something lent, or somebody who would borrow.
    watching: bool,
    /// Agents on which something is lent.
    pub(crate) lending: BTreeSet<AgentSlot>,
    /// Agents at which something changed.
    dirty: BTreeSet<AgentSlot>,
    /// Something changed that may be about any agent.
    stirred: bool,
    /// All agents were last looked at then.
    looked: Timestamp,
    /// Where the last look at agents that may lend has ended.
    cursor: Option<AgentSlot>,
    recalls: BTreeMap<AgentSlot, recall::Recall>,
    paces: BTreeMap<ClaimSlot, pace::Pace>,
    pub(crate) totals: Totals,
}

/// What is free or used on an agent changed.
pub(crate) fn touch(leading: &mut Leading, agent: AgentSlot) {
    if leading.revocable.watching {
        leading.revocable.dirty.insert(agent);
    }
}

/// The time for another look.
pub(crate) fn look(leading: &mut Leading) {
    leading.revocable.stirred = true;
}

/// Ends recalls that are done and frees what stands behind nothing any more, before anything is offered.
pub(crate) fn prepare(leading: &mut Leading, step: &mut Step<'_>) {
    if !leading.revocable.dirty.is_empty() {
        let agents = leading.revocable.dirty.clone();
        recall::progress(leading, step, &agents);
        settle(leading, &agents);
    }
}

/// Lends what is idle, recalls what is wanted, and offers what came back.
pub(crate) fn review(leading: &mut Leading, step: &mut Step<'_>, stirred: bool, made: &mut Made) {
    let lends = !leading.revocable.lending.is_empty();
    let watching = lends || leading.allocator.has_borrowers();
    let state = &mut leading.revocable;
    state.stirred |= stirred || (watching && !state.watching);
    state.watching = watching;
    if !watching {
        leading.timers.cancel(Timer::Revocable);
        return;
    }
    let all = state.stirred && step.now >= state.looked.plus(LOOK_PAUSE);
    let mut agents = std::mem::take(&mut state.dirty);
    if all {
        state.stirred = false;
        state.looked = step.now;
        agents.extend(&state.lending);
    }
    if !agents.is_empty() {
        recall::progress(leading, step, &agents);
        if settle(leading, &agents) {
            offers::decide(leading, step, made);
        }
        if recall::recall(leading, step, &agents) && settle(leading, &agents) {
            offers::decide(leading, step, made);
        }
    }
    if lend::lend(leading, step, &agents, all, made) {
        // What others are cut to may be other numbers and strings now, which they did not refuse.
        offers::decide(leading, step, made);
    }
    let state = &leading.revocable;
    let next = state.looked.plus(if state.stirred { LOOK_PAUSE } else { LOOK_EVERY });
    leading.timers.set(Timer::Revocable, next.max(step.now));
}

/// What holds after every step: behind what is held that is revocable stands as much, where the agent has it.
pub(crate) fn check(leading: &Leading) -> Result<(), String> {
    for (slot, agent) in leading.agents.iter() {
        let held = backing::bare(&agent.used.revocable());
        let behind = backing::bare(&agent.backing);
        if !held.contains(&behind) && !leading.revocable.recalls.contains_key(&slot) {
            return Err(format!("agent {}: {behind} stands behind {held}", agent.id));
        }
        let missing = held.without(&behind);
        if !backing::pick(&agent.free(), &missing).is_empty() {
            return Err(format!("agent {}: nothing stands behind {missing}", agent.id));
        }
        if agent.lends() && !leading.revocable.lending.contains(&slot) {
            return Err(format!("agent {} lends something unnoticed", agent.id));
        }
    }
    let unknown = |agent: &&AgentSlot| leading.agents.get(**agent).is_none();
    if leading.revocable.recalls.keys().find(unknown).is_some() {
        return Err("something is recalled of an agent that is gone".to_owned());
    }
    Ok(())
}

/// Frees what stands behind nothing any more; says whether there was any.
fn settle(leading: &mut Leading, agents: &BTreeSet<AgentSlot>) -> bool {
    let mut freed = false;
    for slot in agents {
        let Some(agent) = leading.agents.get(*slot) else {
            leading.revocable.lending.remove(slot);
            continue;
        };
        if !agent.lends() {
            leading.revocable.lending.remove(slot);
            continue;
        }
        // What was recalled is given to who wants it in one piece.
        if leading.revocable.recalls.contains_key(slot) {
            continue;
        }
        let agent = &mut leading.agents[*slot];
        let before = agent.backing.clone();
        agent.unback();
        if agent.backing != before {
            freed = true;
            leading.allocator.set_lent(*slot, &agent.backing);
            books::refresh(leading, *slot);
        }
    }
    freed
}

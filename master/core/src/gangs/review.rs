//! What gangs do at the end of each step, before anything is offered: take what became free, and be launched.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{GangNumber, hoarded, launch, lend, place};
use crate::master::{Leading, Step};
use crate::slots::AgentSlot;
use crate::time::Timestamp;
use crate::timers::Timer;

/// How often all agents are looked at while a gang waits: limits, constraints and refusals change without anything becoming free.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A gang that lost a place looks for another so often in one step.
const ROUNDS_MAX: usize = 4;

/// Takes what became free for the gangs, launches those that have enough, and lends what the others hold.
pub(crate) fn review(leading: &mut Leading, step: &mut Step<'_>) {
    if leading.gangs.waiting.is_empty() {
        leading.gangs.changed.clear();
        leading.gangs.everywhere = false;
        leading.timers.cancel(Timer::GangLook);
        return;
    }
    let mut seen = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let everywhere = std::mem::take(&mut leading.gangs.everywhere);
        let changed = std::mem::take(&mut leading.gangs.changed);
        let agents: Vec<AgentSlot> = if everywhere {
            leading.agents.keys()
        } else {
            changed.into_iter().collect()
        };
        if agents.is_empty() {
            break;
        }
        seen.extend(agents.iter().copied());
        look(leading, step, &agents, everywhere);
        launch_ready(leading, step);
        if everywhere {
            hoarded::rescind(leading, step);
        }
    }
    lend::lend(leading, step, &seen);
    if leading.timers.at(Timer::GangLook).is_none() && !leading.gangs.waiting.is_empty() {
        leading.timers.set(Timer::GangLook, step.now.plus(LOOK_INTERVAL));
    }
}

/// All agents are to be looked at in this step.
pub(crate) fn look_everywhere(leading: &mut Leading) {
    leading.gangs.everywhere = true;
}

fn look(leading: &mut Leading, step: &Step<'_>, agents: &[AgentSlot], everywhere: bool) {
    let now = step.now;
    leading.gangs.looking = true;
    let mut lost = false;
    let taken = place::taken(leading);
    for agent in agents {
        if leading.agents.get(*agent).is_some() {
            lost |= place::settle(leading, *agent, taken.contains(agent), |leading, number| {
                rests(leading, number, now)
            });
        }
    }
    if everywhere {
        let numbers: Vec<GangNumber> = leading.gangs.waiting.keys().copied().collect();
        for number in numbers {
            if rests(leading, number, now) {
                try_whole(leading, number, agents);
            }
        }
    }
    leading.gangs.looking = false;
    leading.gangs.everywhere |= lost;
}

/// Whether a gang holds nothing for the time being.
pub(super) fn rests(leading: &Leading, number: GangNumber, now: Timestamp) -> bool {
    let gang = leading.gangs.waiting.get(&number);
    let until = gang.and_then(|gang| leading.gangs.rests.get(&gang.framework));
    until.is_some_and(|until| *until > now)
}

/// Places a gang on what nobody holds; only if that is enough it keeps it.
pub(super) fn try_whole(leading: &mut Leading, number: GangNumber, agents: &[AgentSlot]) -> bool {
    let looked = std::mem::replace(&mut leading.gangs.looking, true);
    let has_held = leading.gangs.waiting.get(&number).is_some_and(|gang| gang.has_held);
    for agent in agents {
        place::settle_gang(leading, number, *agent, &mut Default::default(), true);
    }
    let enough = is_ready(leading, number);
    if !enough {
        place::clear(leading, number);
        if let Some(gang) = leading.gangs.waiting.get_mut(&number) {
            gang.has_held = has_held;
        }
    }
    leading.gangs.looking = looked;
    enough
}

fn is_ready(leading: &Leading, number: GangNumber) -> bool {
    let gang = leading.gangs.waiting.get(&number);
    gang.is_some_and(|gang| gang.placed().1 >= gang.minimum)
}

/// Launches every gang that holds enough. One that would have enough with what is lent takes that back.
fn launch_ready(leading: &mut Leading, step: &mut Step<'_>) {
    let numbers: Vec<GangNumber> = leading.gangs.waiting.keys().copied().collect();
    for number in numbers {
        if is_ready(leading, number) {
            launch::launch(leading, step, number);
        } else {
            lend::call_back(leading, step, number);
        }
    }
}

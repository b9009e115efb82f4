//! Gangs that are to run together: until all members that were launched are running, the end of one ends the others.

use std::collections::BTreeSet;

use proffer_proto::v1::{self, TaskState};

use super::GangNumber;
use crate::master::{Leading, Step};
use crate::slots::{FrameworkSlot, TaskSlot};
use crate::{kill, tasks};

/// A gang that was launched, and does not run as a whole yet.
#[derive(Debug)]
pub(super) struct Starting {
    framework: FrameworkSlot,
    members: Vec<v1::TaskId>,
    /// Those that are not running yet.
    missing: BTreeSet<v1::TaskId>,
}

/// From now on the gang is looked after.
pub(super) fn watch(leading: &mut Leading, number: GangNumber, framework: FrameworkSlot, members: Vec<v1::TaskId>) {
    for id in &members {
        if let Some(task) = leading.frameworks[framework].tasks.get(id) {
            leading.tasks[*task].gang = Some(number);
        }
    }
    let starting = Starting {
        framework,
        missing: members.iter().cloned().collect(),
        members,
    };
    leading.gangs.starting.insert(number, starting);
}

/// A task has come to another state, which the framework hears before this.
pub(crate) fn advanced(leading: &mut Leading, step: &mut Step<'_>, slot: TaskSlot) {
    let task = &leading.tasks[slot];
    let Some(number) = task.gang else { return };
    let Some(starting) = leading.gangs.starting.get_mut(&number) else {
        return;
    };
    let state = task.state();
    if state == TaskState::TaskRunning {
        starting.missing.remove(&task.record.id());
        if starting.missing.is_empty() {
            leading.gangs.starting.remove(&number);
        }
        return;
    }
    if !tasks::is_terminal(state) && state != TaskState::TaskUnreachable {
        return;
    }
    let Some(starting) = leading.gangs.starting.remove(&number) else {
        return;
    };
    for id in &starting.members {
        let other = leading.frameworks[starting.framework].tasks.get(id).copied();
        if let Some(other) = other.filter(|other| *other != slot && is_left(leading, *other)) {
            kill::deliver(leading, step, other, None);
        }
    }
}

/// Whether a task has not ended, and does not end now with its agent, whose stream is closed already.
fn is_left(leading: &Leading, slot: TaskSlot) -> bool {
    let task = &leading.tasks[slot];
    let connection = leading.agents[task.agent].connection();
    let is_going = connection.is_some_and(|connection| !leading.connections.contains_key(&connection));
    !tasks::is_terminal(task.state()) && !is_going
}

/// A framework is removed, and all its tasks are ended anyway.
pub(crate) fn forget_framework(leading: &mut Leading, framework: FrameworkSlot) {
    leading
        .gangs
        .starting
        .retain(|_, starting| starting.framework != framework);
    leading.gangs.rests.remove(&framework);
}

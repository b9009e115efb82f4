//! What a framework is told of many of its tasks: by RECONCILE, and of updates that wait for their acknowledgement when it
//! subscribes.
//!
//! It is told in portions, so that a step stays short however many tasks there are, and the next portion waits until its
//! scheduler has read most of the last: a framework cannot flood itself, and it holds up nobody else. What is told is what
//! is known when it is told. A framework that asks for all its tasks while it is told of them is told once more from the
//! beginning, however often it asks.

use std::collections::VecDeque;
use std::ops::Bound;

use proffer_proto::v1::TaskId;
use proffer_proto::v1::scheduler::call::reconcile::Task;

use crate::effect::Effect;
use crate::input::StreamId;
use crate::master::{Leading, Step};
use crate::slots::{FrameworkSlot, TaskSlot};
use crate::{reconcile, tasks};

/// So many tasks that were named wait to be told of, and those of one call.
const NAMED_MAX: usize = 100_000;

/// What is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Retelling {
    /// Updates that wait for their acknowledgement.
    pending: Option<Round>,
    /// Tasks that were asked after by name.
    named: VecDeque<Task>,
    /// All tasks that have not ended.
    open: Option<Round>,
    /// And then all of them again.
    again: bool,
    /// The driver will say when there is room.
    waits: bool,
}

/// A walk over the tasks of a framework.
#[derive(Debug, Default)]
struct Round {
    /// The last that it came to.
    after: Option<TaskId>,
}

impl Retelling {
    fn is_over(&self) -> bool {
        self.pending.is_none() && self.named.is_empty() && self.open.is_none()
    }
}

impl Round {
    /// The next tasks, at most as many as `left` says, which is told how many there were. Over where there are no more.
    fn next(&mut self, leading: &Leading, slot: FrameworkSlot, left: &mut usize) -> (Vec<TaskSlot>, bool) {
        let begin = self.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let all = leading.frameworks[slot]
            .tasks
            .range::<TaskId, _>((begin, Bound::Unbounded));
        let (mut found, mut last) = (Vec::new(), None);
        for (id, task) in all.take(*left) {
            found.push(*task);
            last = Some(id);
        }
        if let Some(last) = last.cloned() {
            self.after = Some(last);
        }
        let is_over = found.len() < *left;
        *left -= found.len();
        (found, is_over)
    }
}

/// A framework has subscribed: the scheduler is new, or may have missed updates.
pub(crate) fn begin(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    leading.frameworks[slot].retelling = Retelling {
        pending: Some(Round::default()),
        ..Retelling::default()
    };
    tell(leading, step, slot);
}

/// A framework wants to be told of all its tasks that have not ended.
pub(crate) fn all(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    let retelling = &mut leading.frameworks[slot].retelling;
    if retelling.open.is_some() {
        retelling.again = true;
    } else {
        retelling.open = Some(Round::default());
    }
    tell(leading, step, slot);
}

/// Whether there is room for so many more names.
pub(crate) fn has_room(leading: &Leading, slot: FrameworkSlot, names: usize) -> Result<(), String> {
    let waiting = leading.frameworks[slot].retelling.named.len();
    if waiting == 0 || waiting + names <= NAMED_MAX {
        return Ok(());
    }
    Err(format!(
        "{waiting} tasks of earlier RECONCILE calls wait until their updates are read, and at most {NAMED_MAX} may"
    ))
}

/// A framework wants to be told of these tasks.
pub(crate) fn named(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot, tasks: Vec<Task>) {
    leading.frameworks[slot].retelling.named.extend(tasks);
    tell(leading, step, slot);
}

/// The reader of a stream has taken most of what it was sent.
pub(crate) fn go_on(leading: &mut Leading, step: &mut Step<'_>, stream: StreamId) {
    let Some(crate::frameworks::StreamState::Open(slot)) = leading.streams.get(&stream).copied() else {
        return;
    };
    leading.frameworks[slot].retelling.waits = false;
    tell(leading, step, slot);
}

/// Tells the next portion, unless the one before is not read yet.
fn tell(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    let Some(stream) = leading.frameworks[slot].stream() else {
        return;
    };
    if leading.frameworks[slot].retelling.waits {
        return;
    }
    let mut retelling = std::mem::take(&mut leading.frameworks[slot].retelling);
    let mut left = step.config.told_at_once.max(1);
    if let Some(round) = &mut retelling.pending {
        let (found, is_over) = round.next(leading, slot, &mut left);
        for task in found {
            tasks::send_pending(leading, step, task);
        }
        if is_over {
            retelling.pending = None;
        }
    }
    let mut recovering = None;
    while left > 0
        && let Some(task) = retelling.named.pop_front()
    {
        left -= 1;
        let agent_id = task.agent_id.as_ref();
        reconcile::named(leading, step, slot, &task.task_id, agent_id, &mut recovering);
    }
    if left > 0
        && let Some(round) = &mut retelling.open
    {
        let (found, is_over) = round.next(leading, slot, &mut left);
        for task in found {
            reconcile::open(leading, step, slot, task);
        }
        if is_over {
            retelling.open = std::mem::take(&mut retelling.again).then(Round::default);
        }
    }
    if !retelling.is_over() {
        retelling.waits = true;
        step.effects.push(Effect::Continue { stream });
    } else {
        retelling.named = VecDeque::new();
    }
    leading.frameworks[slot].retelling = retelling;
}

//! When to ask the master for the state of which tasks.
//!
//! After every subscription each known task is asked for, again and again with back-off, until the master answered for it:
//! a new leader is silent about tasks of agents that did not come back yet. Beside that everything is asked for now and
//! then, which finds what fell through every crack.

use std::collections::HashSet;
use std::time::Duration;

use proffer_proto::v1::TaskStatus;
use proffer_proto::v1::scheduler::Call;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::calls::build;
use crate::tasks::TaskTable;

/// So many tasks are asked for in one call.
const TASKS_PER_CALL_MAX: usize = 1000;

#[derive(Debug)]
pub(crate) struct Reconciler {
    unanswered: HashSet<String>,
    backoff: Backoff,
    next: Instant,
    implicit_interval: Duration,
    implicit_next: Instant,
}

impl Reconciler {
    pub(crate) fn new(now: Instant, backoff: Backoff, implicit_interval: Duration) -> Self {
        Reconciler {
            unanswered: HashSet::new(),
            backoff,
            next: now,
            implicit_interval,
            implicit_next: now + implicit_interval,
        }
    }

    /// A subscription began: everything known is to be asked for, at once; `all` asks also for what is not known.
    pub(crate) fn subscribed(&mut self, now: Instant, tasks: &TaskTable, all: bool) {
        self.unanswered = tasks.iter().map(|known| known.task_id.value.clone()).collect();
        self.backoff.reset();
        self.next = now;
        if all {
            self.implicit_next = now;
        }
    }

    /// Anything said about a task answers for it.
    pub(crate) fn answered(&mut self, status: &TaskStatus) {
        self.unanswered.remove(&status.task_id.value);
    }

    /// When `due` has something to say next.
    pub(crate) fn wake_at(&self) -> Instant {
        if self.unanswered.is_empty() {
            self.implicit_next
        } else {
            self.next.min(self.implicit_next)
        }
    }

    /// The calls to make now.
    pub(crate) fn due(&mut self, now: Instant, tasks: &TaskTable) -> Vec<Call> {
        let mut calls = Vec::new();
        if now >= self.implicit_next {
            self.implicit_next = now + self.implicit_interval;
            calls.push(build::reconcile(Vec::new()));
        }
        if now >= self.next && !self.unanswered.is_empty() {
            self.next = now + self.backoff.next_delay();
            let known = tasks
                .iter()
                .filter(|known| self.unanswered.contains(&known.task_id.value));
            let asked: Vec<_> = known
                .map(|known| (known.task_id.clone(), known.agent_id.clone()))
                .collect();
            // What ended meanwhile, or was forgotten, is answered.
            self.unanswered = asked.iter().map(|(task_id, _)| task_id.value.clone()).collect();
            calls.extend(
                asked
                    .chunks(TASKS_PER_CALL_MAX)
                    .map(|chunk| build::reconcile(chunk.to_vec())),
            );
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use proffer_proto::v1::TaskId;

    use super::*;
    use crate::tasks::KnownTask;

    fn ids(call: &Call) -> Vec<String> {
        let mut ids: Vec<_> = call
            .reconcile
            .as_ref()
            .unwrap()
            .tasks
            .iter()
            .map(|task| task.task_id.value.clone())
            .collect();
        ids.sort();
        ids
    }

    #[test]
    fn asks_until_every_task_is_answered() {
        let mut tasks = TaskTable::default();
        for task in ["a", "b"] {
            tasks.insert(KnownTask::new(TaskId { value: task.into() }, None));
        }
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        let start = Instant::now();
        let mut reconciler = Reconciler::new(start, backoff, Duration::from_secs(900));
        reconciler.subscribed(start, &tasks, false);
        assert_eq!(reconciler.wake_at(), start);
        assert_eq!(
            reconciler.due(start, &tasks).iter().map(ids).collect::<Vec<_>>(),
            [["a", "b"]]
        );
        assert!(reconciler.due(start, &tasks).is_empty(), "backs off");
        reconciler.answered(&TaskStatus {
            task_id: TaskId { value: "a".into() },
            ..Default::default()
        });
        let later = reconciler.wake_at();
        assert!(later > start && later <= start + Duration::from_secs(1));
        assert_eq!(
            reconciler.due(later, &tasks).iter().map(ids).collect::<Vec<_>>(),
            [["b"]]
        );
        tasks.remove(&TaskId { value: "b".into() });
        let latest = reconciler.wake_at();
        assert!(
            reconciler.due(latest, &tasks).is_empty(),
            "what is gone needs no answer"
        );
        assert_eq!(reconciler.wake_at(), start + Duration::from_secs(900));
        let all = reconciler.due(reconciler.wake_at(), &tasks);
        assert_eq!(all.iter().map(ids).collect::<Vec<_>>(), [Vec::<String>::new()]);
    }
}

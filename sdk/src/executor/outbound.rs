//! What the agent has to hear: tasks and updates that it has not acknowledged.

use std::collections::{BTreeMap, VecDeque};

use proffer_proto::v1::executor::call;
use proffer_proto::v1::{TaskId, TaskInfo, TaskStatus};

use crate::tasks::is_terminal;

/// The tasks of an executor and what is to be said of them.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    tasks: BTreeMap<TaskId, Held>,
    /// Oldest first.
    updates: VecDeque<Waiting>,
    messages: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Held {
    info: TaskInfo,
    ended: bool,
    /// Whether the agent acknowledged any of its updates.
    heard_of: bool,
}

/// An update that is not acknowledged.
#[derive(Debug)]
struct Waiting {
    status: TaskStatus,
    /// Whether it was sent in the present subscription.
    sent: bool,
}

impl Outbound {
    /// Adds a task; false where it is here.
    pub(super) fn add(&mut self, info: &TaskInfo) -> bool {
        let is_new = !self.tasks.contains_key(&info.task_id);
        if is_new {
            let held = Held {
                info: info.clone(),
                ended: false,
                heard_of: false,
            };
            self.tasks.insert(info.task_id.clone(), held);
        }
        is_new
    }

    /// The tasks that have not ended.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &TaskInfo> {
        self.tasks.values().filter(|held| !held.ended).map(|held| &held.info)
    }

    /// One that has not ended.
    pub(super) fn task(&self, task_id: &TaskId) -> Option<&TaskInfo> {
        let held = self.tasks.get(task_id).filter(|held| !held.ended)?;
        Some(&held.info)
    }

    /// Queues an update; false where the task is not here, or has ended.
    pub(super) fn update(&mut self, status: TaskStatus) -> bool {
        let Some(held) = self.tasks.get_mut(&status.task_id).filter(|held| !held.ended) else {
            return false;
        };
        held.ended = is_terminal(status.state());
        self.updates.push_back(Waiting { status, sent: false });
        true
    }

    /// Queues data for the framework.
    pub(super) fn message(&mut self, data: Vec<u8>) {
        self.messages.push(data);
    }

    /// What a SUBSCRIBE says; it counts as sent.
    pub(super) fn subscribe(&mut self) -> call::Subscribe {
        let tasks = self.tasks.values().filter(|held| !held.heard_of);
        let updates = self.updates.iter_mut().map(|waiting| {
            waiting.sent = true;
            call::Update {
                status: waiting.status.clone(),
            }
        });
        call::Subscribe {
            unacknowledged_updates: updates.collect(),
            unacknowledged_tasks: tasks.map(|held| held.info.clone()).collect(),
        }
    }

    /// The updates that were not sent yet, in order.
    pub(super) fn unsent_updates(&mut self) -> Vec<TaskStatus> {
        let unsent = self.updates.iter_mut().filter(|waiting| !waiting.sent);
        unsent
            .map(|waiting| {
                waiting.sent = true;
                waiting.status.clone()
            })
            .collect()
    }

    /// The messages that were not sent yet, in order.
    pub(super) fn unsent_messages(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.messages)
    }

    /// The agent has an update, or will never take it.
    pub(super) fn acknowledged(&mut self, task_id: &TaskId, uuid: &[u8]) {
        self.updates
            .retain(|waiting| waiting.status.task_id != *task_id || waiting.status.uuid.as_deref() != Some(uuid));
        let waits = self.updates.iter().any(|waiting| waiting.status.task_id == *task_id);
        if let Some(held) = self.tasks.get_mut(task_id) {
            held.heard_of = true;
            if held.ended && !waits {
                self.tasks.remove(task_id);
            }
        }
    }

    /// Whether everything was acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.updates.is_empty() && self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proffer_proto::v1::TaskState;

    use super::*;

    fn status(id: &str, state: TaskState, uuid: u8) -> TaskStatus {
        TaskStatus {
            task_id: id.into(),
            state: state.into(),
            uuid: Some(vec![uuid]),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_not_acknowledged_is_said_again_and_nothing_else() {
        let task = |id: &str| TaskInfo {
            task_id: id.into(),
            ..Default::default()
        };
        let mut outbound = Outbound::default();
        assert!(outbound.add(&task("a")) && outbound.add(&task("b")) && !outbound.add(&task("a")));
        assert!(outbound.update(status("a", TaskState::TaskRunning, 1)));
        assert_eq!(outbound.unsent_updates().len(), 1);
        assert!(outbound.update(status("a", TaskState::TaskFinished, 2)));
        assert!(!outbound.update(status("a", TaskState::TaskRunning, 3)), "it has ended");
        assert!(
            !outbound.update(status("c", TaskState::TaskRunning, 3)),
            "it is not here"
        );
        let said = outbound.subscribe();
        assert_eq!(
            (said.unacknowledged_tasks.len(), said.unacknowledged_updates.len()),
            (2, 2)
        );
        assert!(outbound.unsent_updates().is_empty());

        outbound.acknowledged(&"a".into(), &[1]);
        let said = outbound.subscribe();
        assert_eq!(said.unacknowledged_tasks, [task("b")]);
        assert_eq!(said.unacknowledged_updates.len(), 1);
        assert!(!outbound.add(&task("a")), "its end is not acknowledged");
        outbound.acknowledged(&"a".into(), &[2]);
        assert!(outbound.is_settled());
        assert_eq!(outbound.tasks().collect::<Vec<_>>(), [&task("b")]);
    }
}

//! What is known of a task for people and its scheduler, kept small.
//!
//! Of a task the master needs little to decide: where it is, what it holds, its state. The rest is read when somebody asks, and
//! there are many tasks; so it is kept in its encoded form, a fifth of what the message takes as values. A status is appended
//! to it: of a message's encoded parts the later add to the former.

use proffer_proto::v1::{Task, TaskId, TaskState, TaskStatus};
use prost::Message as _;

/// How many of the latest statuses of a task are kept.
const STATUSES_MAX: u8 = 16;

/// The 16 bytes by which an update is known; others are cut or filled up.
type Uuid = [u8; 16];

/// All that a task's message says.
#[derive(Debug)]
pub(crate) struct Record {
    state: TaskState,
    /// The state of the update that was sent last.
    told: Option<i32>,
    /// By what that update is known, until it is acknowledged.
    unacknowledged: Option<Vec<u8>>,
    /// The uuid and state of the latest status.
    latest: Option<(Option<Uuid>, i32)>,
    statuses: u8,
    /// The message without what is above, but for the statuses.
    encoded: Vec<u8>,
}

impl Record {
    pub(crate) fn new(mut task: Task) -> Self {
        while task.statuses.len() > usize::from(STATUSES_MAX) {
            task.statuses.remove(0);
        }
        let state = task.state();
        let told = task.status_update_state.take();
        let unacknowledged = task.status_update_uuid.take();
        let latest = task.statuses.last().map(known_by);
        Self {
            state,
            told,
            unacknowledged,
            latest,
            statuses: task.statuses.len() as u8,
            encoded: task.encode_to_vec(),
        }
    }

    /// The message.
    pub(crate) fn task(&self) -> Task {
        // What was encoded here can be decoded.
        let task = Task::decode(self.encoded.as_slice()).unwrap_or_default();
        Task {
            state: self.state as i32,
            status_update_state: self.told,
            status_update_uuid: self.unacknowledged.clone(),
            ..task
        }
    }

    /// The id of the task.
    pub(crate) fn id(&self) -> TaskId {
        Named::decode(self.encoded.as_slice()).unwrap_or_default().task_id
    }

    pub(crate) fn state(&self) -> TaskState {
        self.state
    }

    pub(crate) fn set_state(&mut self, state: TaskState) {
        self.state = state;
    }

    /// The state of the update that was sent last, where one was.
    pub(crate) fn told(&self) -> Option<TaskState> {
        self.told.map(|state| TaskState::try_from(state).unwrap_or_default())
    }

    /// By what the update is known that waits for its acknowledgement.
    pub(crate) fn unacknowledged(&self) -> Option<&Vec<u8>> {
        self.unacknowledged.as_ref()
    }

    /// An update of such a state is sent, or was by an earlier master, and waits for its acknowledgement under this uuid.
    pub(crate) fn tell(&mut self, state: Option<i32>, uuid: Option<Vec<u8>>) {
        (self.told, self.unacknowledged) = (state, uuid);
    }

    /// The update that was sent last is acknowledged.
    pub(crate) fn acknowledge(&mut self) {
        self.unacknowledged = None;
    }

    /// Remembers a status for people, once.
    pub(crate) fn add(&mut self, status: &TaskStatus) {
        let latest = Some(known_by(status));
        if self.latest == latest {
            return;
        }
        self.latest = latest;
        if self.statuses == STATUSES_MAX {
            let mut task = self.task();
            task.statuses.remove(0);
            *self = Self {
                latest,
                ..Self::new(task)
            };
        }
        self.statuses += 1;
        let length = status.encoded_len();
        let tag = prost::encoding::key_len(STATUSES_TAG);
        // Most tasks have two statuses in all.
        self.encoded
            .reserve_exact(tag + prost::length_delimiter_len(length) + length);
        prost::encoding::message::encode(STATUSES_TAG, status, &mut self.encoded);
    }
}

/// The number of `statuses` in `Task` (mesos/v1/mesos.proto).
const STATUSES_TAG: u32 = 8;

/// A `Task` of which only the name is read.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(message, required, tag = "2")]
    task_id: TaskId,
}

fn known_by(status: &TaskStatus) -> (Option<Uuid>, i32) {
    let uuid = status.uuid.as_ref().map(|uuid| {
        let mut key = Uuid::default();
        let length = uuid.len().min(key.len());
        key[..length].copy_from_slice(&uuid[..length]);
        key
    });
    (uuid, status.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(number: u8, state: TaskState) -> TaskStatus {
        TaskStatus {
            task_id: "t".into(),
            state: state as i32,
            uuid: Some(vec![number; 16]),
            message: Some(format!("status {number}")),
            ..TaskStatus::default()
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let task = Task {
            name: "web".to_owned(),
            task_id: "t".into(),
            framework_id: "f".into(),
            agent_id: "a".into(),
            state: TaskState::TaskRunning as i32,
            statuses: vec![status(1, TaskState::TaskStarting), status(2, TaskState::TaskRunning)],
            status_update_state: Some(TaskState::TaskStarting as i32),
            status_update_uuid: Some(vec![1; 16]),
            user: Some("nobody".to_owned()),
            ..Task::default()
        };
        let mut record = Record::new(task.clone());
        assert_eq!(record.task(), task);
        assert_eq!(record.id(), task.task_id);
        record.add(&status(3, TaskState::TaskRunning));
        record.set_state(TaskState::TaskKilling);
        record.acknowledge();
        let mut expected = task;
        expected.statuses.push(status(3, TaskState::TaskRunning));
        expected.state = TaskState::TaskKilling as i32;
        expected.status_update_uuid = None;
        assert_eq!(record.task(), expected);
    }

    #[test]
    fn the_latest_statuses_are_kept_each_once() {
        let mut record = Record::new(Task::default());
        for number in 0..20 {
            record.add(&status(number, TaskState::TaskRunning));
            record.add(&status(number, TaskState::TaskRunning));
        }
        let kept: Vec<String> = record
            .task()
            .statuses
            .into_iter()
            .filter_map(|status| status.message)
            .collect();
        let expected: Vec<String> = (4..20).map(|number| format!("status {number}")).collect();
        assert_eq!(kept, expected);
        assert_eq!(record.state(), TaskState::default());
    }
}

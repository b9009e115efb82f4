//! The tasks that a driver keeps an eye on: those that it launched, was told of, or heard of, until they end.

use std::collections::{HashMap, HashSet, VecDeque};

use proffer_proto::v1::scheduler::{Call, call};
use proffer_proto::v1::{AgentId, TaskId, TaskState, TaskStatus, task_status};

use crate::calls::build;

/// So many uuids of updates, and ids of ended tasks, are remembered against repetitions.
const REMEMBERED_MAX: usize = 16_384;

/// Whether a task in this state will never run again.
///
/// `TASK_LOST` counts as an end, although a partition that heals may bring such a task back.
///
/// ```
/// use proffer_proto::v1::TaskState;
///
/// assert!(proffer_sdk::is_terminal(TaskState::TaskFinished));
/// assert!(!proffer_sdk::is_terminal(TaskState::TaskUnreachable));
/// ```
pub fn is_terminal(state: TaskState) -> bool {
    state.is_terminal()
}

/// What is known of a task that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownTask {
    /// Its id.
    pub task_id: TaskId,
    /// Where it is; reconciliation is quicker where this is known.
    pub agent_id: Option<AgentId>,
    /// The last state that the scheduler was told.
    pub state: TaskState,
}

impl KnownTask {
    /// A task that an earlier process of the framework launched.
    pub fn new(task_id: TaskId, agent_id: Option<AgentId>) -> Self {
        KnownTask {
            task_id,
            agent_id,
            state: TaskState::TaskStaging,
        }
    }
}

/// The tasks of a framework that have not ended.
#[derive(Debug, Default)]
pub struct TaskTable {
    tasks: HashMap<String, Entry>,
    uuids: Remembered<Vec<u8>>,
    ended: Remembered<String>,
    /// The tasks that were launched as members of gangs.
    members: Remembered<String>,
}

#[derive(Debug)]
struct Entry {
    known: KnownTask,
    /// The last state and health that the scheduler was told by this process.
    told: Option<(TaskState, Option<bool>)>,
    /// A KILL that was asked for, sent again until the task ends.
    kill: Option<call::Kill>,
}

impl TaskTable {
    /// What is known of a task.
    pub fn get(&self, task_id: &TaskId) -> Option<&KnownTask> {
        self.tasks.get(&task_id.value).map(|entry| &entry.known)
    }

    /// All tasks that have not ended, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &KnownTask> {
        self.tasks.values().map(|entry| &entry.known)
    }

    /// How many tasks have not ended.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether every task has ended.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(crate) fn insert(&mut self, known: KnownTask) {
        let entry = Entry {
            told: None,
            kill: None,
            known,
        };
        self.tasks.entry(entry.known.task_id.value.clone()).or_insert(entry);
    }

    pub(crate) fn remove(&mut self, task_id: &TaskId) {
        self.tasks.remove(&task_id.value);
    }

    /// Remembers the tasks that an ACCEPT launches, and the task that a KILL ends.
    pub(crate) fn observe_call(&mut self, call: &Call) {
        let gang = call.accept.iter().flat_map(|accept| &accept.gang);
        for member in gang.flat_map(|gang| &gang.members) {
            self.members.insert(member.task_id.value.clone());
        }
        for (task_id, agent_id) in launched(call) {
            // A member of a gang may name no agent.
            let agent_id = Some(agent_id.clone()).filter(|id| !id.value.is_empty());
            self.insert(KnownTask::new(task_id.clone(), agent_id));
        }
        if let Some(kill) = &call.kill
            && let Some(entry) = self.tasks.get_mut(&kill.task_id.value)
        {
            entry.kill = Some(kill.clone());
        }
    }

    /// The calls that kill what was asked to be killed and has not ended.
    pub(crate) fn kills(&self) -> impl Iterator<Item = Call> {
        let kills = self.tasks.values().filter_map(|entry| entry.kill.clone());
        kills.map(|kill| build::kill(kill.task_id, kill.agent_id, kill.kill_policy))
    }

    /// Whether the scheduler is to be told of an update.
    ///
    /// It is not where it was told the same before: an update that is repeated because its acknowledgement was lost, an
    /// answer to reconciliation that brings nothing new, or anything after the true end of a task.
    pub(crate) fn is_news(&self, status: &TaskStatus) -> bool {
        if status.uuid.as_ref().is_some_and(|uuid| self.uuids.contains(uuid)) {
            return false;
        }
        if self.ended.contains(&status.task_id.value) {
            return false;
        }
        let reconciled = status.reason() == task_status::Reason::Reconciliation;
        let told = self.tasks.get(&status.task_id.value).and_then(|entry| entry.told);
        !(reconciled && told == Some((status.state(), status.healthy)))
    }

    /// Whether an update says that a task is nowhere of which no agent was ever heard: it waited in a gang that has ended with a
    /// subscription.
    pub(crate) fn is_lost_member(&self, status: &TaskStatus) -> bool {
        let reconciled = status.reason() == task_status::Reason::Reconciliation;
        let known = self.get(&status.task_id);
        reconciled
            && status.state() == TaskState::TaskUnknown
            && known.is_some_and(|known| known.agent_id.is_none() && known.state == TaskState::TaskStaging)
            && self.members.contains(&status.task_id.value)
    }

    /// Takes note of a task before the scheduler is told of its update, so that what it does about the task is remembered.
    pub(crate) fn heard_of(&mut self, status: &TaskStatus) {
        if is_terminal(status.state()) || self.ended.contains(&status.task_id.value) {
            return;
        }
        self.insert(KnownTask::new(status.task_id.clone(), None));
        if let Some(entry) = self.tasks.get_mut(&status.task_id.value)
            && status.agent_id.is_some()
        {
            entry.known.agent_id = status.agent_id.clone();
        }
    }

    /// Takes note of an update that the scheduler was told, or needed not be told.
    pub(crate) fn told(&mut self, status: &TaskStatus) {
        let state = status.state();
        if let Some(uuid) = &status.uuid {
            self.uuids.insert(uuid.clone());
        }
        if is_terminal(state) {
            self.tasks.remove(&status.task_id.value);
            // A lost task may come back when a partition heals.
            if state != TaskState::TaskLost {
                self.ended.insert(status.task_id.value.clone());
            }
            return;
        }
        if self.ended.contains(&status.task_id.value) {
            return;
        }
        self.heard_of(status);
        if let Some(entry) = self.tasks.get_mut(&status.task_id.value) {
            entry.known.state = state;
            entry.told = Some((state, status.healthy));
        }
    }
}

/// The tasks that a call launches.
pub(crate) fn launched(call: &Call) -> impl Iterator<Item = (&TaskId, &AgentId)> {
    let gangs = call.accept.iter().flat_map(|accept| &accept.gang);
    let members = gangs.flat_map(|gang| &gang.members);
    let operations = call.accept.iter().flat_map(|accept| &accept.operations);
    let tasks = operations.flat_map(|operation| {
        let single = operation.launch.iter().flat_map(|launch| &launch.task_infos);
        let groups = operation.launch_group.iter().flat_map(|group| &group.task_group.tasks);
        single.chain(groups)
    });
    tasks.chain(members).map(|task| (&task.task_id, &task.agent_id))
}

/// A set that forgets its oldest members.
#[derive(Debug)]
struct Remembered<T> {
    members: HashSet<T>,
    order: VecDeque<T>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Remembered {
            members: HashSet::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Remembered<T> {
    fn contains(&self, member: &T) -> bool {
        self.members.contains(member)
    }

    fn insert(&mut self, member: T) {
        if self.members.insert(member.clone()) {
            self.order.push_back(member);
        }
        while self.order.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.members.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(task: &str, state: TaskState, uuid: Option<u8>) -> TaskStatus {
        TaskStatus {
            task_id: TaskId { value: task.into() },
            state: state.into(),
            uuid: uuid.map(|byte| vec![byte; 16]),
            reason: uuid.is_none().then(|| task_status::Reason::Reconciliation.into()),
            ..Default::default()
        }
    }

    fn hear(table: &mut TaskTable, status: TaskStatus) -> bool {
        let news = table.is_news(&status);
        table.told(&status);
        news
    }

    #[test]
    fn a_repeated_update_is_no_news() {
        let mut table = TaskTable::default();
        assert!(hear(&mut table, status("a", TaskState::TaskRunning, Some(1))));
        assert!(!hear(&mut table, status("a", TaskState::TaskRunning, Some(1))));
        assert!(
            hear(&mut table, status("a", TaskState::TaskRunning, Some(2))),
            "perhaps its health changed"
        );
    }

    #[test]
    fn reconciliation_is_news_only_where_it_brings_a_change() {
        let mut table = TaskTable::default();
        table.insert(KnownTask::new(TaskId { value: "a".into() }, None));
        assert!(
            hear(&mut table, status("a", TaskState::TaskStaging, None)),
            "never told by this process"
        );
        assert!(!hear(&mut table, status("a", TaskState::TaskStaging, None)));
        assert!(hear(&mut table, status("a", TaskState::TaskRunning, None)));
    }

    #[test]
    fn nothing_follows_the_end_of_a_task_unless_it_was_lost() {
        let mut table = TaskTable::default();
        assert!(hear(&mut table, status("a", TaskState::TaskFinished, None)));
        assert!(!hear(&mut table, status("a", TaskState::TaskFinished, Some(1))));
        assert!(!hear(&mut table, status("a", TaskState::TaskRunning, Some(2))));
        assert!(table.is_empty());
        assert!(hear(&mut table, status("b", TaskState::TaskLost, None)));
        assert!(hear(&mut table, status("b", TaskState::TaskRunning, Some(3))));
        assert_eq!(table.len(), 1);
    }
}

//! A task ends because it ends, because its framework kills it, because its agent is drained, or because its framework is gone; never because a master was lost.

use std::collections::BTreeSet;

use proffer_proto::v1::{AgentId, TaskState, TaskStatus};

use super::Violation;
use crate::sim::wire::TaskKey;

const NAME: &str = "no_task_lost";

#[derive(Debug, Default)]
pub(crate) struct NoTaskLost {
    kills: BTreeSet<TaskKey>,
    drains: BTreeSet<AgentId>,
    /// Said to have ended by a master that had it from no agent.
    written_off: BTreeSet<TaskKey>,
}

impl NoTaskLost {
    /// A framework asks for the end of a task.
    pub(crate) fn kill_asked(&mut self, key: TaskKey) {
        self.kills.insert(key);
    }

    /// An operator orders that an agent be drained.
    pub(crate) fn drain_ordered(&mut self, agent: AgentId) {
        self.drains.insert(agent);
    }

    /// An agent is told to kill a task because it is drained.
    pub(crate) fn drain_told(&self, agent: Option<&AgentId>, key: &TaskKey) -> Result<(), Violation> {
        if agent.is_some_and(|agent| self.drains.contains(agent)) {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!("task {} of {} is drained, and no operator asked for it", key.1, key.0),
        ))
    }

    /// What a task uses is lent: masters may have it killed to take that back.
    pub(crate) fn lent(&mut self, key: TaskKey) {
        self.kills.insert(key);
    }

    /// An agent is told to kill a task.
    pub(crate) fn kill_told(&self, key: &TaskKey) -> Result<(), Violation> {
        if self.kills.contains(key) {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!("task {} of {} is killed, and its framework did not ask", key.1, key.0),
        ))
    }

    /// A framework is told a task's state; `runs` says whether an agent runs it now.
    pub(crate) fn told(&mut self, key: &TaskKey, status: &TaskStatus, runs: bool) -> Result<(), Violation> {
        let state = status.state();
        let over = state.is_terminal() || state == TaskState::TaskUnknown;
        if !over {
            return Ok(());
        }
        if runs {
            let what = format!(
                "task {} of {} runs and is said to be {state:?}: {}",
                key.1,
                key.0,
                status.message()
            );
            return Err(Violation::new(NAME, what));
        }
        if status.uuid.is_none() {
            self.written_off.insert(key.clone());
        }
        Ok(())
    }

    /// An agent starts a task.
    pub(crate) fn started(&self, key: &TaskKey) -> Result<(), Violation> {
        if !self.written_off.contains(key) {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!(
                "task {} of {} starts after its framework was told of its end",
                key.1, key.0
            ),
        ))
    }
}

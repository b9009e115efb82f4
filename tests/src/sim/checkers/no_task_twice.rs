//! A task is started at most once in the whole cluster, whatever fails.

use std::collections::BTreeSet;

use super::Violation;
use crate::sim::wire::TaskKey;

#[derive(Debug, Default)]
pub(crate) struct NoTaskTwice {
    started: BTreeSet<TaskKey>,
}

impl NoTaskTwice {
    pub(crate) fn started(&mut self, key: &TaskKey) -> Result<(), Violation> {
        if self.started.insert(key.clone()) {
            return Ok(());
        }
        Err(Violation::new(
            "no_task_twice",
            format!("task {} of {} was started again", key.1, key.0),
        ))
    }

    pub(crate) fn count(&self) -> usize {
        self.started.len()
    }
}

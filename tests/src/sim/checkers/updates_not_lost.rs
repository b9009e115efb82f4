//! Every status update of an agent reaches its framework, in order for each task.

use std::collections::BTreeMap;

use proffer_proto::v1::TaskStatus;

use super::Violation;
use crate::sim::wire::TaskKey;

const NAME: &str = "updates_not_lost";

#[derive(Debug, Default)]
struct History {
    generated: Vec<Vec<u8>>,
    seen: usize,
    forgotten: bool,
}

#[derive(Debug, Default)]
pub(crate) struct UpdatesNotLost {
    tasks: BTreeMap<TaskKey, History>,
}

impl UpdatesNotLost {
    pub(crate) fn generated(&mut self, key: &TaskKey, status: &TaskStatus) {
        self.tasks
            .entry(key.clone())
            .or_default()
            .generated
            .push(status.uuid().to_vec());
    }

    /// The framework was removed, and its updates with it.
    pub(crate) fn forgot(&mut self, key: &TaskKey) {
        self.tasks.entry(key.clone()).or_default().forgotten = true;
    }

    pub(crate) fn saw(&mut self, key: &TaskKey, status: &TaskStatus) -> Result<(), Violation> {
        let Some(uuid) = &status.uuid else { return Ok(()) };
        let history = self.tasks.entry(key.clone()).or_default();
        let place = history.generated.iter().position(|known| known == uuid);
        match place {
            None => Err(Violation::new(
                NAME,
                format!("task {} of {}: an update that no agent sent", key.1, key.0),
            )),
            Some(place) if place > history.seen => Err(Violation::new(
                NAME,
                format!(
                    "task {} of {}: update {place} was seen before update {}",
                    key.1, key.0, history.seen
                ),
            )),
            Some(place) => {
                history.seen = history.seen.max(place + 1);
                Ok(())
            }
        }
    }

    /// How many updates reached their frameworks.
    pub(crate) fn count(&self) -> u64 {
        self.tasks.values().map(|history| history.seen as u64).sum()
    }

    /// At the end, after everything healed; `alive` says whether a framework still exists.
    pub(crate) fn finish(&self, alive: impl Fn(&TaskKey) -> bool) -> Result<(), Violation> {
        for (key, history) in &self.tasks {
            if alive(key) && !history.forgotten && history.seen < history.generated.len() {
                let what = format!(
                    "task {} of {}: {} of {} updates arrived",
                    key.1,
                    key.0,
                    history.seen,
                    history.generated.len()
                );
                return Err(Violation::new(NAME, what));
            }
        }
        Ok(())
    }
}

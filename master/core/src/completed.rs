//! The ended tasks of a framework that are remembered, with their ids for those who ask whether a task was there.

use std::collections::{BTreeMap, VecDeque};

use proffer_proto::v1::{Task, TaskId};

use crate::record::Record;

/// Ended tasks whose last update is acknowledged, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Completed {
    tasks: VecDeque<(TaskId, Record)>,
    /// How many were forgotten before the first of them.
    forgotten: u64,
    /// The place of each in the sequence of all that ended; of those with one id, the last.
    places: BTreeMap<TaskId, u64>,
}

impl Completed {
    /// Remembers a task, and forgets the oldest of more than `max`.
    pub(crate) fn push(&mut self, id: TaskId, record: Record, max: usize) {
        let place = self.forgotten + self.tasks.len() as u64;
        self.places.insert(id.clone(), place);
        self.tasks.push_back((id, record));
        while self.tasks.len() > max {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((first, _)) = self.tasks.pop_front() else {
            return;
        };
        if self.places.get(&first) == Some(&self.forgotten) {
            self.places.remove(&first);
        }
        self.forgotten += 1;
    }

    /// The task of an id: the last, where an agent brought one back that had ended.
    pub(crate) fn get(&self, id: &TaskId) -> Option<&Record> {
        let place = self.places.get(id)?;
        let index = usize::try_from(place - self.forgotten).ok()?;
        self.tasks.get(index).map(|(_, record)| record)
    }

    pub(crate) fn contains(&self, id: &TaskId) -> bool {
        self.places.contains_key(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Task> {
        self.tasks.iter().map(|(_, record)| record.task())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, name: &str) -> Task {
        Task {
            name: name.to_owned(),
            task_id: id.into(),
            ..Task::default()
        }
    }

    #[test]
    fn a_task_is_found_by_its_id_until_it_is_forgotten() {
        let mut completed = Completed::default();
        for (id, name) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")] {
            completed.push(id.into(), Record::new(task(id, name)), 3);
        }
        let name = |id: &str| completed.get(&id.into()).map(|record| record.task().name);
        assert_eq!(name("a").as_deref(), Some("3"), "the last of one id");
        assert_eq!(name("b").as_deref(), Some("2"));
        assert_eq!(name("c").as_deref(), Some("4"));
        for name in ["5", "6"] {
            completed.push(name.into(), Record::new(task(name, name)), 3);
        }
        assert!(!completed.contains(&"a".into()) && !completed.contains(&"b".into()));
        assert_eq!(completed.iter().count(), 3);
        assert_eq!(completed.places.len(), 3);
    }
}

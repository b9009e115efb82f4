//! The frameworks' state as it was after every entry of the log: a model with nothing of the core in it.

use std::collections::BTreeMap;

use proffer_proto::registry::{Change, WriteState, change};
use proffer_proto::state::Entry;

type Key = (String, String);

/// What an entry counts for, besides its names and its value.
const ENTRY_BYTES: u64 = 64;

fn cost((namespace, key): &Key, entry: &Entry) -> u64 {
    let value = entry.value.as_ref().map_or(0, |value| value.len());
    ENTRY_BYTES + (namespace.len() + key.len() + value) as u64
}

#[derive(Debug, Default)]
pub(super) struct Model {
    /// The writes of each key that took effect: where, and what was there from then on.
    keys: BTreeMap<Key, Vec<(u64, Option<Entry>)>>,
    writes: BTreeMap<u64, WriteState>,
    effective: Vec<u64>,
}

impl Model {
    pub(super) fn replay(log: &[(u64, Change)]) -> Self {
        let mut model = Model::default();
        for (index, change) in log {
            match &change.body {
                Some(change::Body::WriteState(write)) => model.apply(*index, write),
                Some(change::Body::RemoveFramework(remove)) => {
                    model.drop_namespace(*index, &format!("framework/{}", remove.framework_id));
                }
                _ => {}
            }
        }
        model
    }

    fn apply(&mut self, index: u64, write: &WriteState) {
        self.writes.insert(index, write.clone());
        let key = (write.namespace.clone(), write.key.clone());
        let history = self.keys.entry(key).or_default();
        let present = history.last().and_then(|(_, entry)| entry.as_ref());
        let version = present.map_or(0, |entry| entry.version);
        if write.expected_version.is_some_and(|expected| expected != version) {
            return;
        }
        let entry = write.value.as_ref().map(|value| Entry {
            key: write.key.clone(),
            value: Some(value.clone()),
            version: index,
        });
        history.push((index, entry));
        self.effective.push(index);
    }

    fn drop_namespace(&mut self, index: u64, namespace: &str) {
        for ((its, _), history) in &mut self.keys {
            if its == namespace {
                history.push((index, None));
            }
        }
        self.effective.push(index);
    }

    /// The first entry after which there is more than so much, and how much.
    pub(super) fn beyond(&self, bytes_max: u64) -> Option<(u64, u64)> {
        let mut changes: Vec<(u64, &Key, u64)> = Vec::new();
        for (key, history) in &self.keys {
            let bytes = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| cost(key, entry));
            changes.extend(history.iter().map(|(index, entry)| (*index, key, bytes(entry))));
        }
        changes.sort();
        let mut held: BTreeMap<&Key, u64> = BTreeMap::new();
        changes.into_iter().find_map(|(index, key, bytes)| {
            held.insert(key, bytes);
            let total: u64 = held.values().sum();
            (total > bytes_max).then_some((index, total))
        })
    }

    pub(super) fn write(&self, index: u64) -> Option<&WriteState> {
        self.writes.get(&index)
    }

    pub(super) fn takes_effect(&self, index: u64) -> bool {
        self.effective.binary_search(&index).is_ok()
    }

    /// The first place, in the gap after entry `gap` or in a later one, where the key holds this.
    pub(super) fn read(&self, namespace: &str, key: &str, seen: Option<&Entry>, gap: u64) -> Option<u64> {
        self.first(namespace, key, gap, |entry| entry == seen)
    }

    /// The first place where the key holds this, and so has not the expected version.
    pub(super) fn conflict(
        &self,
        namespace: &str,
        key: &str,
        expected: Option<u64>,
        seen: Option<&Entry>,
        gap: u64,
    ) -> Option<u64> {
        let version = seen.map_or(0, |entry| entry.version);
        if expected.is_none_or(|expected| expected == version) {
            return None;
        }
        self.first(namespace, key, gap, |entry| entry == seen)
    }

    /// The first place where the namespace holds exactly these.
    pub(super) fn list(&self, namespace: &str, prefix: &str, seen: &[Entry], gap: u64) -> Option<u64> {
        let later = self.effective.iter().copied().filter(|index| *index > gap);
        let found = std::iter::once(gap).chain(later).find(|gap| {
            let held = self
                .keys
                .iter()
                .filter(|((its, key), _)| its == namespace && key.starts_with(prefix));
            let held = held.filter_map(|(_, history)| at(history, *gap));
            held.eq(seen)
        });
        found.map(|gap| 2 * gap + 1)
    }

    fn first(&self, namespace: &str, key: &str, gap: u64, fits: impl Fn(Option<&Entry>) -> bool) -> Option<u64> {
        let key = (namespace.to_owned(), key.to_owned());
        let history = self.keys.get(&key).map_or(&[][..], Vec::as_slice);
        if fits(at(history, gap)) {
            return Some(2 * gap + 1);
        }
        let later = history.iter().filter(|(index, _)| *index > gap);
        let mut later = later.filter(|(_, entry)| fits(entry.as_ref()));
        later.next().map(|(index, _)| 2 * index + 1)
    }
}

fn at(history: &[(u64, Option<Entry>)], gap: u64) -> Option<&Entry> {
    let past = history.partition_point(|(index, _)| *index <= gap);
    history[..past].last().and_then(|(_, entry)| entry.as_ref())
}

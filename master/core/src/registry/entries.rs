//! The frameworks' replicated state: keys with their values and versions, by namespace.
//!
//! A version is the index of the log entry that wrote the key, so it grows over deletions too. Values are shared, not copied,
//! by whoever reads them; so is everything by a copy of the whole.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use proffer_proto::registry as wire;

use super::SharedMap;

/// What an entry costs beside its namespace, key and value, in the count of bytes that is limited.
const OVERHEAD_BYTES: u64 = 64;

/// What is under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) version: u64,
}

/// The keys of one namespace.
type Keys = SharedMap<Arc<str>, Entry>;

/// All keys of all namespaces. No namespace is empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    namespaces: BTreeMap<String, Keys>,
    bytes: u64,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    Put,
    Deleted,
    /// There was nothing to delete.
    Unchanged,
    /// The key did not have the expected version; this is what it has.
    Conflict(Option<Entry>),
}

/// What an entry counts for in the limit of the whole state.
pub(crate) fn cost(namespace: &str, key: &str, value: &Bytes) -> u64 {
    (namespace.len() + key.len() + value.len()) as u64 + OVERHEAD_BYTES
}

impl Entries {
    pub(crate) fn from_wire(state: Vec<wire::StateEntry>) -> Self {
        let mut entries = Entries::default();
        for entry in state {
            entries.put(&entry.namespace, &entry.key, &entry.value, entry.version);
        }
        entries
    }

    pub(crate) fn to_wire(&self) -> impl Iterator<Item = wire::StateEntry> {
        self.namespaces.iter().flat_map(|(namespace, keys)| {
            keys.iter().map(move |(key, entry)| wire::StateEntry {
                namespace: namespace.clone(),
                key: key.to_string(),
                value: entry.value.clone(),
                version: entry.version,
            })
        })
    }

    /// What all entries together count for in the limit.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, namespace: &str, key: &str) -> Option<&Entry> {
        self.namespaces.get(namespace)?.get(key)
    }

    /// The keys that begin with `prefix` and come after `after`, in order.
    pub(crate) fn range<'a>(
        &'a self,
        namespace: &str,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let keys = self.namespaces.get(namespace).into_iter();
        keys.flat_map(move |keys| keys.range::<str>(first))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (&**key, entry))
    }

    /// Applies a write of the log entry `index`.
    pub(crate) fn write(&mut self, index: u64, write: &wire::WriteState) -> Written {
        let present = self.get(&write.namespace, &write.key);
        if let Some(expected) = write.expected_version
            && present.map_or(0, |entry| entry.version) != expected
        {
            return Written::Conflict(present.cloned());
        }
        match &write.value {
            Some(value) => {
                self.put(&write.namespace, &write.key, value, index);
                Written::Put
            }
            None if present.is_some() => {
                self.delete(&write.namespace, &write.key);
                Written::Deleted
            }
            None => Written::Unchanged,
        }
    }

    /// The value is copied: a decoded one may be a small part of a large buffer, which it would keep.
    fn put(&mut self, namespace: &str, key: &str, value: &Bytes, version: u64) {
        let entry = Entry {
            value: Bytes::copy_from_slice(value),
            version,
        };
        self.bytes += cost(namespace, key, value);
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.to_owned(), Keys::default());
        }
        let Some(keys) = self.namespaces.get_mut(namespace) else {
            return;
        };
        if let Some(present) = keys.get_mut(key) {
            self.bytes -= cost(namespace, key, &present.value);
            *present = entry;
        } else {
            keys.insert(key.into(), entry);
        }
    }

    fn delete(&mut self, namespace: &str, key: &str) {
        let Some(keys) = self.namespaces.get_mut(namespace) else {
            return;
        };
        if let Some(entry) = keys.remove(key) {
            self.bytes -= cost(namespace, key, &entry.value);
        }
        if keys.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// Deletes a whole namespace, and says which keys it had.
    pub(crate) fn clear(&mut self, namespace: &str) -> Vec<String> {
        let keys = self.namespaces.remove(namespace).unwrap_or_default();
        let costs = keys.iter().map(|(key, entry)| cost(namespace, key, &entry.value));
        self.bytes -= costs.sum::<u64>();
        keys.iter().map(|(key, _)| key.to_string()).collect()
    }

    /// Says what is inconsistent inside.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut bytes = 0;
        for (namespace, keys) in &self.namespaces {
            if keys.is_empty() {
                return Err(format!("namespace {namespace} is empty"));
            }
            bytes += keys
                .iter()
                .map(|(key, entry)| cost(namespace, key, &entry.value))
                .sum::<u64>();
        }
        if bytes != self.bytes {
            return Err(format!("the state has {bytes} bytes, not {}", self.bytes));
        }
        Ok(())
    }

    /// The namespaces, for the invariants.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(String::as_str)
    }
}

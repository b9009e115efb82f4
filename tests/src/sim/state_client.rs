//! A model client of the frameworks' state: one call after the other, over few keys, so that clients meet.

use std::collections::BTreeMap;

use proffer_proto::state::{Answer, Call, Delete, Get, List, Put, answer, call};

use super::rng::Rng;

/// Whose keys all of them use.
pub(crate) const NAMESPACE: &str = "services/shared";
const KEYS: u64 = 4;
/// By how much the longest value is longer than the shortest.
const PADDING_MAX: u64 = 150;

/// A client that makes calls until it has made enough.
#[derive(Debug)]
pub(crate) struct StateClient {
    pub(crate) index: usize,
    /// The machine that it believes to lead.
    pub(crate) target: usize,
    /// The call that waits for its answer, and its number in the history.
    pub(crate) open: Option<Open>,
    /// Calls that were answered.
    pub(crate) answered: u64,
    pub(crate) wanted: u64,
    written: u64,
    /// The versions that it saw last.
    versions: BTreeMap<String, u64>,
}

/// A call on its way.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    /// Its place in the history.
    pub(crate) operation: usize,
    /// Grows with every attempt, so that a late answer or alarm of an earlier one is known.
    pub(crate) attempt: u64,
}

impl StateClient {
    pub(crate) fn new(index: usize, wanted: u64) -> Self {
        StateClient {
            index,
            target: index,
            open: None,
            answered: 0,
            wanted,
            written: 0,
            versions: BTreeMap::new(),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.answered >= self.wanted && self.open.is_none()
    }

    /// The next call. No two write the same value, so that a write in the log is known to be this one.
    pub(crate) fn next_call(&mut self, rng: &mut Rng) -> Call {
        let key = format!("k{}", rng.range(1, KEYS));
        // Sometimes of a version that it made up.
        let expected_version = Some(match rng.one_in(8) {
            true => rng.range(0, 40),
            false => self.versions.get(&key).copied().unwrap_or_default(),
        });
        let body = match rng.range(0, 19) {
            0..7 => call::Body::Get(Get { key }),
            7..11 => self.put(rng, key, None),
            11..16 => self.put(rng, key, expected_version),
            16 => call::Body::Delete(Delete {
                key,
                expected_version: None,
            }),
            17 => call::Body::Delete(Delete { key, expected_version }),
            _ => call::Body::List(List::default()),
        };
        Call {
            namespace: NAMESPACE.to_owned(),
            body: Some(body),
        }
    }

    fn put(&mut self, rng: &mut Rng, key: String, expected_version: Option<u64>) -> call::Body {
        self.written += 1;
        let padding = "x".repeat(rng.range(0, PADDING_MAX) as usize);
        let value = format!("c{}-{}{padding}", self.index, self.written);
        call::Body::Put(Put {
            key,
            value: value.into_bytes().into(),
            expected_version,
        })
    }

    /// Learns from an answer.
    pub(crate) fn learn(&mut self, call: &Call, answer: &Answer) {
        self.answered += 1;
        match (&call.body, &answer.body) {
            (Some(call::Body::Put(put)), Some(answer::Body::Done(done))) => {
                self.versions.insert(put.key.clone(), done.version);
            }
            (Some(call::Body::Delete(delete)), Some(answer::Body::Done(_))) => {
                self.versions.remove(&delete.key);
            }
            (_, Some(answer::Body::Conflict(conflict))) => self
                .versions
                .extend(conflict.entry.iter().map(|entry| (entry.key.clone(), entry.version))),
            (_, Some(answer::Body::Got(got))) => {
                self.versions
                    .extend(got.entry.iter().map(|entry| (entry.key.clone(), entry.version)));
            }
            (_, Some(answer::Body::Listed(listed))) => {
                self.versions = listed
                    .entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.version))
                    .collect();
            }
            _ => {}
        }
    }
}

/// Whether the call changes nothing: its loss is of no consequence.
pub(crate) fn only_reads(call: &Call) -> bool {
    matches!(call.body, Some(call::Body::Get(_) | call::Body::List(_)))
}

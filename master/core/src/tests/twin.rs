//! A naive twin of the frameworks' state: it applies the log by the words of the protocol, and judges what the core answers and
//! tells.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::registry::change::Body;
use proffer_proto::registry::{Change, WriteState};
use proffer_proto::state::{self, answer, call, event};

use super::World;
use crate::{Answer, Effect, StreamId};

/// Namespace, key; value, version.
type Kept = BTreeMap<(String, String), (Vec<u8>, u64)>;
/// Of one namespace: key; value, version.
type Keys = BTreeMap<String, (Vec<u8>, u64)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Conflict,
    Refused,
}

/// What the log says, and what watchers were told.
#[derive(Default)]
pub(super) struct Twin {
    kept: Kept,
    frameworks: BTreeSet<String>,
    /// Of each write, by its index.
    outcomes: BTreeMap<u64, Outcome>,
    applied: usize,
    /// By stream: whether `current` came, and what is there by what was told.
    told: BTreeMap<StreamId, (bool, Keys)>,
}

impl Twin {
    /// Follows a step of the world.
    pub(super) fn follow(&mut self, world: &World, effects: &[Effect]) {
        let before = self.applied;
        while let Some(change) = world.committed.get(self.applied) {
            self.applied += 1;
            self.apply(self.applied as u64, change);
        }
        for effect in effects {
            self.judge(world, effect);
        }
        if before == self.applied && effects.is_empty() {
            return;
        }
        let state = world.master.registry.state.to_wire();
        let state: Kept = state
            .map(|entry| ((entry.namespace, entry.key), (entry.value.to_vec(), entry.version)))
            .collect();
        assert_eq!(state, self.kept);
        for (stream, (current, told)) in &self.told {
            if *current {
                let watch = &world.watches[stream];
                assert_eq!(*told, self.under(&watch.namespace, watch.prefix()), "{stream}");
            }
        }
    }

    /// The stream of a watch ended.
    pub(super) fn ended(&mut self, stream: StreamId) {
        self.told.remove(&stream);
    }

    fn under(&self, namespace: &str, prefix: &str) -> Keys {
        let kept = self.kept.iter();
        kept.filter(|((of, key), _)| of == namespace && key.starts_with(prefix))
            .map(|((_, key), entry)| (key.clone(), entry.clone()))
            .collect()
    }

    fn apply(&mut self, index: u64, change: &Change) {
        match change.body.as_ref().expect("a body") {
            Body::PutFramework(put) => {
                let id = put.framework.id.as_ref().expect("an id");
                self.frameworks.insert(id.value.clone());
            }
            Body::RemoveFramework(remove) => {
                self.frameworks.remove(&remove.framework_id.value);
                let namespace = format!("framework/{}", remove.framework_id);
                self.kept.retain(|(of, _), _| *of != namespace);
            }
            Body::WriteState(write) => {
                let outcome = self.write(index, write);
                self.outcomes.insert(index, outcome);
            }
            _ => {}
        }
    }

    fn write(&mut self, index: u64, write: &WriteState) -> Outcome {
        let owner = write.namespace.strip_prefix("framework/");
        if owner.is_some_and(|id| !self.frameworks.contains(id)) {
            return Outcome::Refused;
        }
        let name = (write.namespace.clone(), write.key.clone());
        let present = self.kept.get(&name).map_or(0, |(_, version)| *version);
        if write.expected_version.is_some_and(|expected| expected != present) {
            return Outcome::Conflict;
        }
        match &write.value {
            Some(value) => self.kept.insert(name, (value.to_vec(), index)),
            None => self.kept.remove(&name),
        };
        Outcome::Done
    }

    fn judge(&mut self, world: &World, effect: &Effect) {
        match effect {
            Effect::Answer { request, answer } => {
                if let Some(call) = world.calls.get(request) {
                    self.judge_answer(world, call, answer);
                }
            }
            Effect::SendState { stream, event } => {
                let (current, told) = self.told.entry(*stream).or_default();
                match event.body.clone().expect("a body") {
                    event::Body::Put(entry) => {
                        let value = entry.value.expect("a value").to_vec();
                        let before = told.insert(entry.key, (value, entry.version));
                        assert!(before.is_none_or(|(_, version)| version < entry.version));
                    }
                    event::Body::Deleted(deleted) => {
                        let (_, version) = told.remove(&deleted.key).expect("what is deleted was there");
                        assert!(version < deleted.version);
                    }
                    event::Body::Current(_) => assert!(!std::mem::replace(current, true)),
                }
            }
            Effect::CloseStream { stream } => self.ended(*stream),
            _ => {}
        }
    }

    fn judge_answer(&self, world: &World, call: &state::Call, answer: &Answer) {
        let Answer::State(answer) = answer else {
            let last = self.outcomes.get(&(self.applied as u64));
            match answer {
                Answer::NotLeader | Answer::Exhausted(_) => {}
                Answer::Rejected(rejection) if rejection.field == "namespace" => {
                    let owner = call.namespace.strip_prefix("framework/").expect("an owner");
                    assert!(!self.frameworks.contains(owner), "{last:?}");
                }
                other => panic!("{other:?} of {call:?}"),
            }
            return;
        };
        let body = call.body.as_ref().expect("a body");
        let entry = |key: &str| {
            let kept = self.kept.get(&(call.namespace.clone(), key.to_owned()));
            kept.map(|(value, version)| state::Entry {
                key: key.to_owned(),
                value: Some(value.clone().into()),
                version: *version,
            })
        };
        match (answer.body.as_ref().expect("a body"), body) {
            (answer::Body::Got(got), call::Body::Get(get)) => assert_eq!(got.entry, entry(&get.key)),
            (answer::Body::Listed(listed), call::Body::List(list)) => {
                let after = list.after.as_deref().unwrap_or_default();
                let mut all = self.under(&call.namespace, list.prefix());
                all.retain(|key, _| key.as_str() > after);
                let limit = list.limit.expect("a limit") as usize;
                assert_eq!(listed.more, all.len() > limit);
                let expected: Vec<_> = all.keys().take(limit).filter_map(|key| entry(key)).collect();
                assert_eq!(listed.entries, expected);
            }
            (answer::Body::Done(done), call) => {
                assert_eq!(self.outcomes[&done.version], Outcome::Done);
                assert_eq!(done.version, self.applied as u64);
                assert_eq!(written(world, self.applied), asked(call));
            }
            (answer::Body::Conflict(conflict), call) => {
                assert_eq!(self.outcomes[&(self.applied as u64)], Outcome::Conflict);
                assert_eq!(written(world, self.applied), asked(call));
                assert_eq!(conflict.entry, entry(&asked(call).0));
            }
            (answer, call) => panic!("{answer:?} to {call:?}"),
        }
    }
}

/// The key, value and condition of the write at an index.
fn written(world: &World, index: usize) -> (String, Option<Vec<u8>>, Option<u64>) {
    match &world.committed[index - 1].body {
        Some(Body::WriteState(write)) => {
            let value = write.value.as_ref().map(|value| value.to_vec());
            (write.key.clone(), value, write.expected_version)
        }
        other => panic!("{other:?} is no write"),
    }
}

fn asked(call: &call::Body) -> (String, Option<Vec<u8>>, Option<u64>) {
    match call {
        call::Body::Put(put) => (put.key.clone(), Some(put.value.to_vec()), put.expected_version),
        call::Body::Delete(delete) => (delete.key.clone(), None, delete.expected_version),
        other => panic!("{other:?} is no write"),
    }
}

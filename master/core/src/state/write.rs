//! Writes: what is on its way to be applied, and the limit of the whole state.
//!
//! What proposed writes may add counts as used until they are settled, so that the limit holds whatever comes of them.
//! A write that replaces an entry adds only what it has more. But where another write of the key is on its way, it is
//! not known what will be replaced, and the whole of it counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proffer_proto::registry::WriteState;
use proffer_proto::registry::change::Body;
use proffer_proto::state as wire;
use proffer_proto::state::answer;

use super::{limits, to_wire};
use crate::effect::Answer;
use crate::input::RequestId;
use crate::level;
use crate::master::{Leading, Step};
use crate::proposals::{Proposal, propose};
use crate::registry::{Applied, Written, cost};

/// A namespace and a key.
type Name = Arc<(String, String)>;

/// A proposed write.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) request: RequestId,
    name: Name,
    /// How many bytes it may add.
    pub(crate) growth: u64,
}

/// The writes that are not settled.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    by_name: BTreeMap<Name, u32>,
    /// How many bytes they may add together.
    pub(crate) growth: u64,
}

impl UnderWay {
    fn begin(&mut self, write: &Write) {
        *self.by_name.entry(write.name.clone()).or_default() += 1;
        self.growth += write.growth;
    }

    fn end(&mut self, write: &Write) {
        self.growth -= write.growth;
        if let Some(count) = self.by_name.get_mut(&write.name) {
            *count -= 1;
            if *count == 0 {
                self.by_name.remove(&write.name);
            }
        }
    }

    /// How many writes there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.values().map(|count| *count as usize).sum()
    }
}

pub(super) fn put(leading: &mut Leading, step: &mut Step<'_>, request: RequestId, namespace: String, put: wire::Put) {
    let write = WriteState {
        namespace,
        key: put.key,
        value: Some(put.value),
        expected_version: put.expected_version,
    };
    begin(leading, step, request, write);
}

pub(super) fn delete(
    leading: &mut Leading,
    step: &mut Step<'_>,
    request: RequestId,
    namespace: String,
    delete: wire::Delete,
) {
    let write = WriteState {
        namespace,
        key: delete.key,
        value: None,
        expected_version: delete.expected_version,
    };
    begin(leading, step, request, write);
}

fn begin(leading: &mut Leading, step: &mut Step<'_>, request: RequestId, change: WriteState) {
    if let Err(why) = level::check(step, "state is written") {
        return step.effects.answer(request, Answer::Refused(why));
    }
    let name = Name::new((change.namespace.clone(), change.key.clone()));
    let growth = growth(leading, step, &name, change.value.as_ref());
    let (used, coming) = (step.registry.state.bytes(), leading.state.under_way.growth);
    let max = step.config.state_bytes_max;
    if growth > 0 && used.saturating_add(coming).saturating_add(growth) > max {
        let why = format!(
            "the state of all frameworks may have {max} bytes; it has {used}, {coming} more are on their way, and this write \
             needs {growth}"
        );
        return step.effects.answer(request, Answer::Exhausted(why));
    }
    let write = Write { request, name, growth };
    leading.state.under_way.begin(&write);
    propose(
        leading,
        step,
        Body::WriteState(change),
        Proposal::Write(Box::new(write)),
    );
}

/// How many bytes a write may add.
fn growth(leading: &Leading, step: &Step<'_>, name: &Name, value: Option<&Bytes>) -> u64 {
    let (namespace, key) = &**name;
    let Some(value) = value else { return 0 };
    let present = match leading.state.under_way.by_name.contains_key(name) {
        true => None,
        false => step.registry.state.get(namespace, key),
    };
    let replaced = present.map_or(0, |entry| cost(namespace, key, &entry.value));
    cost(namespace, key, value).saturating_sub(replaced)
}

/// A write is applied, by the log entry `index`.
pub(crate) fn written(leading: &mut Leading, step: &mut Step<'_>, write: &Write, index: u64, applied: &Applied) {
    leading.state.under_way.end(write);
    let (namespace, key) = &*write.name;
    match applied {
        Applied::Written(Written::Conflict(present)) => {
            let entry = present.as_ref().map(|entry| to_wire(key, entry));
            let conflict = answer::Body::Conflict(wire::Conflict { entry });
            super::answer(step, write.request, conflict);
        }
        Applied::Written(_) => {
            let done = answer::Body::Done(wire::Done { version: index });
            super::answer(step, write.request, done);
        }
        // The namespace went with its framework while the write was on its way.
        Applied::Refused | Applied::Other | Applied::Cleared { .. } => {
            let refused = limits::namespace(step.registry, namespace);
            let answer = refused.map_or_else(Answer::Rejected, |()| Answer::NotLeader);
            step.effects.answer(write.request, answer);
        }
    }
}

/// A write will not be applied, as far as is known.
pub(crate) fn dropped(leading: &mut Leading, write: &Write) {
    leading.state.under_way.end(write);
}

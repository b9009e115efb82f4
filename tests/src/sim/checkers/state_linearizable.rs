//! The frameworks' state is linearizable: there is one order of all calls that explains every answer, and in which a call
//! that was answered before another was made comes first.
//!
//! The check is complete, and needs no search, because a version *is* the place of its write in the replicated log, and
//! says so to the caller: versions come from one counter that only grows, so the order of the writes is told, and it is the
//! log's (which all masters agree on: `committed_never_lost`). What is left to choose is where the reads go, among the gaps between
//! writes, and that choice is greedy: every constraint has the form "not before", so taking each call in the order of its
//! beginning and giving it the first place that explains its answer, and is not before the place of any call that had ended by then, yields
//! the least solution. If that fails there is none. What each place holds is found by replaying the
//! writes on a model that is independent of the core.

mod model;

use std::collections::BTreeSet;

use proffer_proto::registry::{Change, WriteState, change};
use proffer_proto::state::{Answer, Call, answer, call};

use super::Violation;
use model::Model;

const NAME: &str = "state_linearizable";

/// One call of a client, as the client saw it.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    /// Moments are numbered; no two are the same.
    pub(crate) begun: u64,
    /// None while it has no answer: it may take effect at any time after its beginning, or never.
    pub(crate) ended: Option<u64>,
    pub(crate) call: Call,
    /// None where it was refused, too: it has no effect.
    pub(crate) answer: Option<Answer>,
}

/// Looks for an order that explains every answer. `log` is what was committed, in order.
pub(crate) fn check(log: &[(u64, Change)], operations: &[Operation]) -> Result<(), Violation> {
    let model = Model::replay(log);
    let mut order: Vec<&Operation> = operations.iter().collect();
    order.sort_by_key(|operation| operation.begun);
    let mut ended: Vec<(u64, u64)> = Vec::new();
    let mut claimed = BTreeSet::new();
    let mut unknown = Vec::new();
    for operation in order {
        let not_before = ended
            .iter()
            .filter(|(at, _)| *at < operation.begun)
            .map(|(_, place)| *place)
            .max()
            .unwrap_or_default();
        let (answer, at) = match (&operation.answer, operation.ended) {
            (Some(answer), Some(at)) => (answer, at),
            (None, Some(_refused)) => continue,
            (_, None) => {
                unknown.push((not_before, operation));
                continue;
            }
        };
        let place = place(&model, operation, answer, not_before, &mut claimed)?;
        ended.push((at, place));
    }
    unanswered(log, &unknown, &claimed)
}

/// Write `i` takes place at `2i`, a read between the writes `i` and `i + 1` at `2i + 1`.
fn place(
    model: &Model,
    operation: &Operation,
    answer: &Answer,
    not_before: u64,
    claimed: &mut BTreeSet<u64>,
) -> Result<u64, Violation> {
    let namespace = &operation.call.namespace;
    let gap = not_before / 2;
    let found = match (&operation.call.body, &answer.body) {
        (Some(call::Body::Put(_) | call::Body::Delete(_)), Some(answer::Body::Done(done))) => {
            let is_its_own = model
                .write(done.version)
                .is_some_and(|write| asks_for(operation, write));
            let takes_effect = model.takes_effect(done.version);
            (is_its_own && takes_effect && claimed.insert(done.version) && 2 * done.version >= not_before)
                .then_some(2 * done.version)
        }
        (Some(call::Body::Put(put)), Some(answer::Body::Conflict(conflict))) => {
            let expected = put.expected_version;
            model.conflict(namespace, &put.key, expected, conflict.entry.as_ref(), gap)
        }
        (Some(call::Body::Delete(delete)), Some(answer::Body::Conflict(conflict))) => {
            let expected = delete.expected_version;
            model.conflict(namespace, &delete.key, expected, conflict.entry.as_ref(), gap)
        }
        (Some(call::Body::Get(get)), Some(answer::Body::Got(got))) => {
            model.read(namespace, &get.key, got.entry.as_ref(), gap)
        }
        (Some(call::Body::List(list)), Some(answer::Body::Listed(listed))) => {
            model.list(namespace, list.prefix(), &listed.entries, gap)
        }
        _ => None,
    };
    found.ok_or_else(|| {
        let Operation {
            client, begun, call, ..
        } = operation;
        let what = format!(
            "no order of the calls explains what client {client} heard at its call of moment {begun}, which is not \
             before entry {gap}: {answer:?} of {call:?}"
        );
        Violation::new(NAME, what)
    })
}

/// Never does the state hold more than it may.
pub(crate) fn check_limit(log: &[(u64, Change)], bytes_max: u64) -> Result<(), Violation> {
    match Model::replay(log).beyond(bytes_max) {
        None => Ok(()),
        Some((index, bytes)) => {
            let what = format!("after entry {index} the state has {bytes} bytes, and may have {bytes_max}");
            Err(Violation::new("state_limited", what))
        }
    }
}

fn asks_for(operation: &Operation, write: &WriteState) -> bool {
    if operation.call.namespace != write.namespace {
        return false;
    }
    match &operation.call.body {
        Some(call::Body::Put(put)) => {
            put.key == write.key
                && write.value.as_ref().is_some_and(|value| *value == put.value)
                && put.expected_version == write.expected_version
        }
        Some(call::Body::Delete(delete)) => {
            delete.key == write.key && write.value.is_none() && delete.expected_version == write.expected_version
        }
        _ => false,
    }
}

/// Every committed write belongs to a call of its own: an answered one, or one whose answer is unknown and that had begun
/// by then. Writes that took no effect belong to calls that were told of the conflict, and may be any.
fn unanswered(log: &[(u64, Change)], unknown: &[(u64, &Operation)], claimed: &BTreeSet<u64>) -> Result<(), Violation> {
    let model = Model::replay(log);
    let mut used = vec![false; unknown.len()];
    for (index, change) in log {
        let Some(change::Body::WriteState(write)) = &change.body else {
            continue;
        };
        if claimed.contains(index) || !model.takes_effect(*index) {
            continue;
        }
        // The calls are in the order of their beginnings, so the first that fits leaves the most to the others.
        let fits = unknown.iter().enumerate().position(|(place, (not_before, operation))| {
            !used[place] && 2 * index >= *not_before && asks_for(operation, write)
        });
        match fits {
            Some(place) => used[place] = true,
            None => {
                let what = format!("entry {index} writes {write:?}, which no open call asked for");
                return Err(Violation::new(NAME, what));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! The frameworks' replicated state: a small linearizable key-value store, by namespace.
//!
//! A write is checked, then proposed; its condition is decided when it is applied, so every master decides alike, and
//! its caller hears of it then. A read waits until the group has said that this master led after the read came, and is
//! answered from the registry. A watch begins as a read and then hears of every write that is applied.

mod limits;
mod read;
mod watch;
mod write;

use proffer_proto::registry::change::Body;
use proffer_proto::state as wire;
use proffer_proto::state::call;
use proffer_proto::{Rejection, registry};

use crate::effect::{Answer, Effects};
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::registry::Entry;

pub(crate) use read::{readable, unreadable};
pub(crate) use watch::{applied, ended, watch};
pub(crate) use write::{Write, dropped, written};

/// What a leader knows of the state beside the registry.
#[derive(Debug, Default)]
pub(crate) struct State {
    reads: read::Reads,
    watches: watch::Watches,
    pub(crate) under_way: write::UnderWay,
}

impl State {
    /// Every request that waits for a read.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = RequestId> {
        self.reads.requests()
    }

    /// Closes all watches.
    pub(crate) fn close(self, effects: &mut Effects) {
        self.watches.close(effects);
    }

    /// Says what is inconsistent inside.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.watches.check()
    }
}

/// A call about the state.
pub(crate) fn call(leading: &mut Leading, step: &mut Step<'_>, request: RequestId, call: wire::Call) {
    let (namespace, body) = match check(step.registry, call) {
        Ok(checked) => checked,
        Err(rejection) => return step.effects.answer(request, Answer::Rejected(rejection)),
    };
    match body {
        call::Body::Get(get) => read::ask(leading, step, read::Read::Get(request, namespace, get)),
        call::Body::List(list) => read::ask(leading, step, read::Read::List(request, namespace, list)),
        call::Body::Put(put) => write::put(leading, step, request, namespace, put),
        call::Body::Delete(delete) => write::delete(leading, step, request, namespace, delete),
    }
}

fn check(registry: &crate::registry::Registry, call: wire::Call) -> Result<(String, call::Body), Rejection> {
    limits::namespace(registry, &call.namespace)?;
    let body = call.body.ok_or_else(|| Rejection::missing("body"))?;
    let checked = match &body {
        call::Body::Get(get) => limits::key(&get.key).map_err(|rejection| rejection.within("get")),
        call::Body::Put(put) => limits::key(&put.key)
            .and_then(|()| limits::value(&put.value))
            .map_err(|rejection| rejection.within("put")),
        call::Body::Delete(delete) => limits::key(&delete.key).map_err(|rejection| rejection.within("delete")),
        call::Body::List(list) => limits::list(list).map_err(|rejection| rejection.within("list")),
    };
    checked.map(|()| (call.namespace, body))
}

/// Whether the change may come without a proposal of the core: nothing that a leader knows beside the registry is made of it.
pub(crate) fn is_apart(change: &registry::Change) -> bool {
    matches!(
        change.body,
        Some(Body::PutMember(_) | Body::RemoveMember(_) | Body::RaiseLevel(_) | Body::WriteState(_))
    )
}

fn to_wire(key: &str, entry: &Entry) -> wire::Entry {
    wire::Entry {
        key: key.to_owned(),
        value: Some(entry.value.clone()),
        version: entry.version,
    }
}

fn answer(step: &mut Step<'_>, request: RequestId, body: wire::answer::Body) {
    let answer = Box::new(wire::Answer { body: Some(body) });
    step.effects.answer(request, Answer::State(answer));
}

//! Watches: every key under a prefix as it is when the watch begins, then every change, in the order in which they are applied.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::registry as log;
use proffer_proto::registry::change::Body as Change;
use proffer_proto::state as wire;
use proffer_proto::state::event::Body;

use super::read::{self, Read};
use super::{limits, to_wire};
use crate::effect::{Answer, Effect, Effects};
use crate::input::{RequestId, StreamId};
use crate::master::{Leading, Step};
use crate::registry::{Applied, Written};

#[derive(Debug)]
struct Watch {
    namespace: String,
    prefix: String,
    /// What is there has been sent, and changes follow.
    begun: bool,
    /// Its stream ended before it began.
    ended: bool,
}

/// The watches that are open or about to begin.
#[derive(Debug, Default)]
pub(super) struct Watches {
    streams: BTreeMap<StreamId, Watch>,
    /// Those that have begun.
    by_namespace: BTreeMap<String, BTreeSet<StreamId>>,
}

impl Watches {
    /// Forgets a watch.
    pub(super) fn remove(&mut self, stream: StreamId) {
        let Some(watch) = self.streams.remove(&stream) else {
            return;
        };
        if let Some(streams) = self.by_namespace.get_mut(&watch.namespace) {
            streams.remove(&stream);
            if streams.is_empty() {
                self.by_namespace.remove(&watch.namespace);
            }
        }
    }

    pub(super) fn close(self, effects: &mut Effects) {
        for (stream, watch) in self.streams {
            if watch.begun {
                effects.push(Effect::CloseStream { stream });
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (stream, watch) in &self.streams {
            let listed = self.by_namespace.get(&watch.namespace);
            if listed.is_some_and(|streams| streams.contains(stream)) != watch.begun {
                return Err(format!("the watch on {stream} is in the wrong place"));
            }
        }
        let listed: usize = self.by_namespace.values().map(BTreeSet::len).sum();
        if listed != self.streams.values().filter(|watch| watch.begun).count() {
            return Err("a watch that ended is still listed".to_owned());
        }
        Ok(())
    }
}

/// Someone wants to watch. What is there is read as everything is read.
pub(crate) fn watch(
    leading: &mut Leading,
    step: &mut Step<'_>,
    request: RequestId,
    stream: StreamId,
    watch: wire::Watch,
) {
    let checked = limits::namespace(step.registry, &watch.namespace);
    if let Err(rejection) = checked.and_then(|()| limits::prefix(watch.prefix.as_deref())) {
        return step.effects.answer(request, Answer::Rejected(rejection));
    }
    let watch = Watch {
        prefix: watch.prefix.unwrap_or_default(),
        namespace: watch.namespace,
        begun: false,
        ended: false,
    };
    leading.state.watches.streams.insert(stream, watch);
    read::ask(leading, step, Read::Watch(request, stream));
}

/// The registry has all that whoever watches may expect.
pub(super) fn begin(leading: &mut Leading, step: &mut Step<'_>, request: RequestId, stream: StreamId) {
    let watches = &mut leading.state.watches;
    let Some(watch) = watches.streams.get_mut(&stream) else {
        return;
    };
    if let Err(rejection) = limits::namespace(step.registry, &watch.namespace) {
        watches.remove(stream);
        return step.effects.answer(request, Answer::Rejected(rejection));
    }
    step.effects.answer(request, Answer::Accepted);
    if watch.ended {
        return watches.remove(stream);
    }
    watch.begun = true;
    for (key, entry) in step.registry.state.range(&watch.namespace, &watch.prefix, None) {
        step.effects.send_state(stream, Body::Put(to_wire(key, entry)));
    }
    step.effects.send_state(stream, Body::Current(wire::Current {}));
    let listed = watches.by_namespace.entry(watch.namespace.clone()).or_default();
    listed.insert(stream);
}

/// The stream of a watch ended.
pub(crate) fn ended(leading: &mut Leading, stream: StreamId) {
    let watches = &mut leading.state.watches;
    match watches.streams.get_mut(&stream) {
        Some(watch) if !watch.begun => watch.ended = true,
        _ => watches.remove(stream),
    }
}

/// Tells whoever watches what a change did.
pub(crate) fn applied(leading: &mut Leading, step: &mut Step<'_>, index: u64, change: &log::Change, applied: &Applied) {
    match (applied, &change.body) {
        (Applied::Written(written), Some(Change::WriteState(write))) => {
            if let Some(event) = event(step, index, write, written) {
                tell(&leading.state.watches, step, &write.namespace, &write.key, &event);
            }
        }
        (Applied::Cleared { namespace, keys }, _) => {
            for key in keys {
                tell(&leading.state.watches, step, namespace, key, &deleted(key, index));
            }
            close_namespace(&mut leading.state.watches, step, namespace);
        }
        _ => {}
    }
}

fn event(step: &Step<'_>, index: u64, write: &log::WriteState, written: &Written) -> Option<Body> {
    match written {
        Written::Put => {
            let entry = step.registry.state.get(&write.namespace, &write.key)?;
            Some(Body::Put(to_wire(&write.key, entry)))
        }
        Written::Deleted => Some(deleted(&write.key, index)),
        Written::Unchanged | Written::Conflict(_) => None,
    }
}

fn deleted(key: &str, version: u64) -> Body {
    Body::Deleted(wire::Deleted {
        key: key.to_owned(),
        version,
    })
}

fn tell(watches: &Watches, step: &mut Step<'_>, namespace: &str, key: &str, event: &Body) {
    for stream in watches.by_namespace.get(namespace).into_iter().flatten() {
        if watches
            .streams
            .get(stream)
            .is_some_and(|watch| key.starts_with(&watch.prefix))
        {
            step.effects.send_state(*stream, event.clone());
        }
    }
}

/// Nothing more will ever happen in the namespace.
fn close_namespace(watches: &mut Watches, step: &mut Step<'_>, namespace: &str) {
    for stream in watches.by_namespace.remove(namespace).unwrap_or_default() {
        watches.streams.remove(&stream);
        step.effects.push(Effect::CloseStream { stream });
    }
}

//! A model watcher of the frameworks' state, who watches again whenever its stream ends.

use proffer_master_core::StreamId;
use proffer_proto::state::{Event, Watch};

use super::state_client::NAMESPACE;

/// A watcher.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// The machine whose master it believes to lead.
    pub(crate) target: usize,
    pub(crate) stream: Option<StreamId>,
    /// What each stream brought, the newest last.
    pub(crate) seen: Vec<Vec<Event>>,
}

impl Watcher {
    pub(crate) fn new(target: usize) -> Self {
        Watcher {
            target,
            stream: None,
            seen: Vec::new(),
        }
    }

    pub(crate) fn watch(&mut self, stream: StreamId) -> Watch {
        self.stream = Some(stream);
        self.seen.push(Vec::new());
        Watch {
            namespace: NAMESPACE.to_owned(),
            prefix: None,
        }
    }

    pub(crate) fn hear(&mut self, event: Event) {
        if let Some(seen) = self.seen.last_mut() {
            seen.push(event);
        }
    }
}

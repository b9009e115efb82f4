//! Watches a part of the state over changes of the leader.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::Stream;
use proffer_proto::api::state_client::StateClient;
use proffer_proto::state as wire;
use proffer_proto::state::event;
use tonic::Streaming;

use super::submit::Failure;
use super::{Entry, StateError};
use crate::connection::MESSAGE_BYTES_MAX;
use crate::finder::Failed;
use crate::leader::{Connection, Leader};
use crate::masters::leader_of;

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key holds this now.
    Put(Entry),
    /// The key is not there any more.
    Deleted {
        /// Which one.
        key: String,
        /// The version that the deletion had; `None` where it happened while no master could tell.
        version: Option<u64>,
    },
    /// All that was there when the watch began, or began again after a break, has been told.
    Current,
}

/// Tells of the keys under a prefix: of each that is there, then [`Change::Current`], then of every change.
///
/// When the stream breaks, for example as its master lost the leadership, it is opened again at the new leader. What
/// happened meanwhile is found by comparing: a key that changed several times is told once, as it is in the end, and a key
/// that came and went is not told at all. For every key the versions grow from change to change; none is told twice.
///
/// It keeps the name and version of every key that is there. A watch that is read so slowly that a master disconnects it
/// goes on in the same way.
///
/// ```no_run
/// # async fn example(state: proffer_sdk::state::State) -> anyhow::Result<()> {
/// use proffer_sdk::state::Change;
///
/// let mut watch = state.watch("target/");
/// loop {
///     match watch.next().await? {
///         Change::Put(entry) => println!("{} is {:?}", entry.key, entry.value),
///         Change::Deleted { key, .. } => println!("{key} is gone"),
///         Change::Current => println!("that is all for now"),
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Watch {
    leader: Leader,
    request: wire::Watch,
    stream: Option<(Connection, Streaming<wire::Event>)>,
    view: View,
}

impl Watch {
    pub(super) fn new(leader: Leader, namespace: String, prefix: String) -> Self {
        let request = wire::Watch {
            namespace,
            prefix: Some(prefix),
        };
        Watch {
            leader,
            request,
            stream: None,
            view: View::default(),
        }
    }

    /// The next change, waiting for as long as it takes; safe to cancel.
    ///
    /// # Errors
    /// The masters do not accept the watch, for example as its framework was removed. Never
    /// [`StateError::Unavailable`]: it goes on looking for a leader.
    ///
    /// ```no_run
    /// # async fn example(mut watch: proffer_sdk::state::Watch) -> anyhow::Result<()> {
    /// let change = watch.next().await?;
    /// # Ok(()) }
    /// ```
    pub async fn next(&mut self) -> Result<Change, StateError> {
        loop {
            if let Some(change) = self.view.changes.pop_front() {
                return Ok(change);
            }
            let Some((connection, stream)) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            let (leader, why) = match stream.message().await {
                Ok(Some(event)) => {
                    let current = matches!(event.body, Some(event::Body::Current(_)));
                    self.view.tell(event);
                    if current {
                        self.leader.confirm(connection).await;
                    }
                    continue;
                }
                Ok(None) => (None, "the master ended the watch".to_owned()),
                Err(status) => (leader_of(&status), status.message().to_owned()),
            };
            let connection = connection.clone();
            self.stream = None;
            let failed = Failed::NotLeading(leader);
            self.leader.failed(&connection, failed, why).await;
        }
    }

    /// The changes as a stream, which ends after its first error.
    ///
    /// ```no_run
    /// # async fn example(state: proffer_sdk::state::State) {
    /// use futures_util::StreamExt as _;
    ///
    /// let mut changes = std::pin::pin!(state.watch("").into_stream());
    /// while let Some(Ok(change)) = changes.next().await {
    ///     println!("{change:?}");
    /// }
    /// # }
    /// ```
    pub fn into_stream(self) -> impl Stream<Item = Result<Change, StateError>> + Send {
        futures_util::stream::unfold(Some(self), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(change) => Some((Ok(change), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn open(&mut self) -> Result<(), StateError> {
        let connection = self.leader.connection().await;
        let mut client = StateClient::new(connection.line.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let opening = client.watch(self.request.clone());
        let (failed, why) = match tokio::time::timeout(connection.answer_timeout, opening).await {
            Ok(Ok(response)) => {
                self.view.begin();
                self.stream = Some((connection, response.into_inner()));
                return Ok(());
            }
            Ok(Err(status)) => match Failure::from_status(&status) {
                Failure::Final(error) => {
                    self.leader.confirm(&connection).await;
                    return Err(error);
                }
                Failure::Again(failed, why) | Failure::Unsent(failed, why) => (failed, why),
            },
            Err(_) => (Failed::Silent, format!("{} does not answer", connection.address)),
        };
        self.leader.failed(&connection, failed, why).await;
        Ok(())
    }
}

/// What was told, and what is to be told.
#[derive(Debug, Default)]
struct View {
    /// The version that was told of each key that is there.
    known: BTreeMap<String, u64>,
    /// The keys that the stream listed so far; `None` once it has listed all.
    listed: Option<BTreeSet<String>>,
    changes: VecDeque<Change>,
}

impl View {
    /// A stream begins.
    fn begin(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    fn tell(&mut self, event: wire::Event) {
        match event.body {
            Some(event::Body::Put(entry)) => self.put(entry),
            Some(event::Body::Deleted(deleted)) => self.deleted(deleted.key, deleted.version),
            Some(event::Body::Current(_)) => self.current(),
            None => {}
        }
    }

    fn put(&mut self, entry: wire::Entry) {
        if let Some(listed) = &mut self.listed {
            listed.insert(entry.key.clone());
        }
        let known = self.known.get(&entry.key);
        if known.is_some_and(|&known| known >= entry.version) {
            return;
        }
        self.known.insert(entry.key.clone(), entry.version);
        self.changes.push_back(Change::Put(Entry::from_wire(entry)));
    }

    fn deleted(&mut self, key: String, version: u64) {
        if self.known.get(&key).is_some_and(|&known| known < version) {
            self.known.remove(&key);
            let version = Some(version);
            self.changes.push_back(Change::Deleted { key, version });
        }
    }

    /// What is known and was not listed went while nobody told.
    fn current(&mut self) {
        let listed = self.listed.take().unwrap_or_default();
        let changes = &mut self.changes;
        self.known.retain(|key, _| {
            let is_there = listed.contains(key);
            if !is_there {
                let (key, version) = (key.clone(), None);
                changes.push_back(Change::Deleted { key, version });
            }
            is_there
        });
        self.changes.push_back(Change::Current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, version: u64) -> event::Body {
        event::Body::Put(wire::Entry {
            key: key.into(),
            value: Some("v".into()),
            version,
        })
    }

    fn deleted(key: &str, version: u64) -> event::Body {
        let key = key.into();
        event::Body::Deleted(wire::Deleted { key, version })
    }

    /// What is told of the events of one stream.
    fn told(view: &mut View, events: Vec<event::Body>) -> Vec<String> {
        view.begin();
        for body in events {
            view.tell(wire::Event { body: Some(body) });
        }
        let line = |change| match change {
            Change::Put(entry) => format!("{}@{}", entry.key, entry.version),
            Change::Deleted { key, version } => format!("-{key}@{}", version.unwrap_or_default()),
            Change::Current => ".".to_owned(),
        };
        view.changes.drain(..).map(line).collect()
    }

    fn current() -> event::Body {
        event::Body::Current(wire::Current {})
    }

    #[test]
    fn a_stream_that_begins_again_tells_only_what_changed() {
        let mut view = View::default();
        let first = vec![
            put("a", 1),
            put("b", 2),
            put("c", 3),
            current(),
            put("a", 4),
            deleted("b", 5),
        ];
        assert_eq!(told(&mut view, first), ["a@1", "b@2", "c@3", ".", "a@4", "-b@5"]);
        let second = vec![put("a", 4), put("b", 7), put("d", 8), current(), put("d", 9)];
        assert_eq!(told(&mut view, second), ["b@7", "d@8", "-c@0", ".", "d@9"]);
    }

    #[test]
    fn a_list_that_broke_off_deletes_nothing() {
        let mut view = View::default();
        assert_eq!(
            told(&mut view, vec![put("a", 1), put("b", 2), current()]),
            ["a@1", "b@2", "."]
        );
        assert_eq!(told(&mut view, vec![put("a", 3)]), ["a@3"]);
        assert_eq!(told(&mut view, vec![put("a", 3), put("b", 2), current()]), ["."]);
    }

    #[test]
    fn nothing_is_told_twice_and_nothing_goes_back() {
        let mut view = View::default();
        let events = vec![
            current(),
            put("a", 3),
            put("a", 3),
            put("a", 2),
            deleted("a", 2),
            deleted("z", 9),
        ];
        assert_eq!(told(&mut view, events), [".", "a@3"]);
    }
}

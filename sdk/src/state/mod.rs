//! Replicated state: a small key-value store that the masters keep, so that a framework needs no database of its own.
//!
//! Every operation is linearizable: it takes effect at one moment between its call and its answer, for everybody. What was
//! answered survives the loss of any minority of the masters, and of every scheduler.
//!
//! ```no_run
//! # async fn example(framework_id: proffer_sdk::proto::v1::FrameworkId) -> anyhow::Result<()> {
//! use proffer_sdk::state::{Outcome, State};
//!
//! let state = State::for_framework("10.0.0.1:5050,10.0.0.2:5050,10.0.0.3:5050".parse()?, &framework_id);
//! state.put("target", "3").await?;
//! let target = state.get("target").await?.expect("it was just written");
//! match state.compare_and_set("target", target.version, "4").await? {
//!     Outcome::Done { version } => println!("written as version {version}"),
//!     Outcome::Conflict { present } => println!("somebody else was faster: {present:?}"),
//!     Outcome::Unknown { present } => println!("perhaps written; there is now {present:?}"),
//! }
//! # Ok(()) }
//! ```
//!
//! # Names and limits
//! A *namespace* is 1 to 256 bytes of `A-Z a-z 0-9 . _ - /`. That of a framework, [`State::for_framework`], exists as long as the
//! framework is registered and goes with it; any other stays until its keys are deleted. A *key* is 1 to 1024 bytes of UTF-8 without
//! control characters, a *value* at most 1 MiB. All namespaces together may have as much as the masters' flag for it says; beyond
//! that writes fail with [`StateError::Full`]. The state is for the facts of a scheduler, not for data: every master holds all of it
//! in memory, and every write waits for the disks of most masters.
//!
//! # Versions
//! Every write gives its key a new *version*. Versions grow from write to write of a key, over deletions too, and the same version
//! is never given twice in a cluster; they are not dense. "Version 0" means that the key is not there.
//!
//! # When the leader is lost
//! A call looks for the new leader and is repeated there until [`State::timeout`]. That changes nothing for reads. For writes whose
//! answer was lost:
//!
//! | call | what the repetition means |
//! |---|---|
//! | [`put`](State::put), [`delete`](State::delete) | The same is done again: the end is the same. Whoever wrote the key between the two attempts is overwritten, as if this call had come later. |
//! | [`compare_and_set`](State::compare_and_set), [`create`](State::create), [`compare_and_delete`](State::compare_and_delete) | It is done at most once. If the repetition finds the expected version, it is done now. If it does not, an earlier attempt may have done it, or somebody else may have been there: that is [`Outcome::Unknown`], with what is there now. [`Outcome::Conflict`] is only told where no attempt can have done anything. |
//!
//! When the time is up, [`StateError::Unavailable`] says that nothing was written, and [`StateError::Unknown`] that it may have been
//! or may yet be. One thing is left to know: an attempt whose answer was lost may take effect *after* its repetition was answered, if
//! its request was held up on the way to a master that led, lost and regained the leadership meanwhile. An expected version of 1 or
//! more excludes that, as that version never comes back; `put`, `delete` and `create` (which wants the key absent) do not.

mod stream;
mod submit;
mod watch;

use std::time::Duration;

pub use bytes::Bytes;
use proffer_proto::state as wire;
use proffer_proto::state::{answer, call};
use proffer_proto::v1::FrameworkId;

use crate::leader::Leader;
use crate::masters::Masters;
pub(crate) use stream::StateCalls;
use submit::Answered;
pub use watch::{Change, Watch};

/// A namespace of the replicated state. Cheap to clone; the clones share a connection, and calls that are made at the same time
/// share messages on it: many writes at a time cost the masters little more than a few.
#[derive(Debug, Clone)]
pub struct State {
    leader: Leader,
    namespace: String,
    timeout: Duration,
}

/// A key with its value and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// The version that its last write gave it.
    pub version: u64,
}

/// A key without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// The version that its last write gave it.
    pub version: u64,
}

/// What became of a write with a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the write may not have been done"]
pub enum Outcome {
    /// It was done, once.
    Done {
        /// The version that it gave the key, or that the deletion had.
        version: u64,
    },
    /// The key did not have the expected version; nothing was written.
    Conflict {
        /// What is there instead.
        present: Option<Entry>,
    },
    /// The answer to an attempt was lost, and the key does not have the expected version any more: this write did that, or
    /// another one.
    Unknown {
        /// What is there now.
        present: Option<Entry>,
    },
}

impl Outcome {
    /// Whether it is certain that the write was done.
    ///
    /// ```
    /// use proffer_sdk::state::Outcome;
    ///
    /// assert!(Outcome::Done { version: 7 }.is_done());
    /// assert!(!Outcome::Conflict { present: None }.is_done());
    /// ```
    pub fn is_done(&self) -> bool {
        matches!(self, Outcome::Done { .. })
    }

    /// Settles an [`Outcome::Unknown`] by what is there now: done if that is the value that was to be written, a conflict
    /// otherwise.
    ///
    /// Right where a value names its writer, for example by a random id in it, so that no two writes write the same. The
    /// conflict then says that the write is not what is there: it was not done, or somebody has overwritten it.
    ///
    /// ```
    /// use proffer_sdk::state::{Entry, Outcome};
    ///
    /// let entry = Entry { key: "leader".into(), value: "scheduler-7f3a".into(), version: 12 };
    /// let unknown = Outcome::Unknown { present: Some(entry) };
    /// assert_eq!(unknown.clone().settle(b"scheduler-7f3a"), Outcome::Done { version: 12 });
    /// assert!(!unknown.settle(b"scheduler-9b21").is_done());
    /// ```
    pub fn settle(self, value: &[u8]) -> Self {
        match self {
            Outcome::Unknown { present: Some(entry) } if entry.value == value => {
                Outcome::Done { version: entry.version }
            }
            Outcome::Unknown { present } => Outcome::Conflict { present },
            known => known,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The call is not acceptable: the text names the field and what would be accepted. Repeating it does not help.
    #[error("rejected: {0}")]
    Rejected(String),
    /// The call is right, but not as things are, for example while a group of masters is half upgraded.
    #[error("refused: {0}")]
    Refused(String),
    /// The state of all frameworks together is as large as it may be. Nothing was written.
    #[error("the state is full: {0}")]
    Full(String),
    /// The masters are too old to keep state for frameworks.
    #[error("these masters keep no state for frameworks: {0}")]
    Unsupported(String),
    /// No leading master answered in time. Nothing was written.
    #[error("no leading master answered: {0}")]
    Unavailable(String),
    /// No answer came in time; the write may have been done, or may yet be.
    #[error("it is not known whether the write was done: {0}")]
    Unknown(String),
}

impl State {
    /// Gives up on a call after this time unless told otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// The state of a namespace. Connects at the first call.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use proffer_sdk::state::State;
    /// use proffer_sdk::testing::FakeMaster;
    ///
    /// let master = FakeMaster::start().await;
    /// let state = State::of(master.masters(), "inventory");
    /// let version = state.put("shelf/1", "apples").await.unwrap();
    /// let entry = state.get("shelf/1").await.unwrap().unwrap();
    /// assert_eq!((&entry.value[..], entry.version), (&b"apples"[..], version));
    /// # });
    /// ```
    pub fn of(masters: Masters, namespace: impl Into<String>) -> Self {
        State {
            leader: Leader::new(masters),
            namespace: namespace.into(),
            timeout: Self::TIMEOUT,
        }
    }

    /// The state of a registered framework, which is deleted when the framework is removed.
    ///
    /// ```
    /// use proffer_sdk::state::State;
    ///
    /// let masters = "127.0.0.1:5050".parse().unwrap();
    /// let state = State::for_framework(masters, &proffer_proto::v1::FrameworkId { value: "f-1".into() });
    /// assert_eq!(state.namespace(), "framework/f-1");
    /// ```
    pub fn for_framework(masters: Masters, framework_id: &FrameworkId) -> Self {
        Self::of(masters, format!("framework/{}", framework_id.value))
    }

    /// Gives up on a call after this time, in which it looks for the leader.
    ///
    /// ```
    /// use std::time::Duration;
    /// use proffer_sdk::state::State;
    ///
    /// let state = State::of("127.0.0.1:5050".parse().unwrap(), "inventory").timeout(Duration::from_secs(30));
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Its name.
    ///
    /// ```
    /// # let masters: proffer_sdk::Masters = "127.0.0.1:5050".parse().unwrap();
    /// assert_eq!(proffer_sdk::state::State::of(masters, "inventory").namespace(), "inventory");
    /// ```
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What a key holds; `None` where it is not there.
    ///
    /// ```no_run
    /// # async fn example(state: proffer_sdk::state::State) -> anyhow::Result<()> {
    /// let target = state.get("target").await?.map(|entry| entry.value);
    /// # Ok(()) }
    /// ```
    pub async fn get(&self, key: impl Into<String>) -> Result<Option<Entry>, StateError> {
        let get = call::Body::Get(wire::Get { key: key.into() });
        match self.read(get).await? {
            answer::Body::Got(got) => Ok(got.entry.map(Entry::from_wire)),
            other => Err(strange(&other)),
        }
    }

    /// Writes a key, whatever it holds; returns its new version.
    ///
    /// ```no_run
    /// # async fn example(state: proffer_sdk::state::State) -> anyhow::Result<()> {
    /// state.put("target", "3").await?;
    /// # Ok(()) }
    /// ```
    pub async fn put(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Result<u64, StateError> {
        let answered = self.write(put(key.into(), value.into(), None)).await?;
        match answered.body {
            answer::Body::Done(done) => Ok(done.version),
            other => Err(strange(&other)),
        }
    }

    /// Writes a key if it has this version; if it is not there, where that is 0.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let master = proffer_sdk::testing::FakeMaster::start().await;
    /// # let state = proffer_sdk::state::State::of(master.masters(), "doc");
    /// use proffer_sdk::state::Outcome;
    ///
    /// let first = state.put("n", "1").await.unwrap();
    /// assert!(state.compare_and_set("n", first, "2").await.unwrap().is_done());
    /// let late = state.compare_and_set("n", first, "3").await.unwrap();
    /// assert!(matches!(late, Outcome::Conflict { present: Some(entry) } if entry.value == "2"));
    /// # });
    /// ```
    pub async fn compare_and_set(
        &self,
        key: impl Into<String>,
        version: u64,
        value: impl Into<Bytes>,
    ) -> Result<Outcome, StateError> {
        let answered = self.write(put(key.into(), value.into(), Some(version))).await?;
        answered.outcome()
    }

    /// Writes a key if it is not there.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let master = proffer_sdk::testing::FakeMaster::start().await;
    /// # let state = proffer_sdk::state::State::of(master.masters(), "doc");
    /// assert!(state.create("n", "1").await.unwrap().is_done());
    /// assert!(!state.create("n", "2").await.unwrap().is_done());
    /// # });
    /// ```
    pub async fn create(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Result<Outcome, StateError> {
        self.compare_and_set(key, 0, value).await
    }

    /// Deletes a key, whatever it holds; no error where it is not there.
    ///
    /// ```no_run
    /// # async fn example(state: proffer_sdk::state::State) -> anyhow::Result<()> {
    /// state.delete("target").await?;
    /// # Ok(()) }
    /// ```
    pub async fn delete(&self, key: impl Into<String>) -> Result<(), StateError> {
        self.write(delete(key.into(), None)).await.map(drop)
    }

    /// Deletes a key if it has this version.
    ///
    /// ```no_run
    /// # async fn example(state: proffer_sdk::state::State) -> anyhow::Result<()> {
    /// if let Some(entry) = state.get("target").await? {
    ///     let outcome = state.compare_and_delete("target", entry.version).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn compare_and_delete(&self, key: impl Into<String>, version: u64) -> Result<Outcome, StateError> {
        let answered = self.write(delete(key.into(), Some(version))).await?;
        answered.outcome()
    }

    /// The entries whose keys begin with this, sorted by key; all of them where it is empty.
    ///
    /// They are read in pages of at most 4 MiB. Each page is as things are at one moment, and pages of a long list are of
    /// different moments.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let master = proffer_sdk::testing::FakeMaster::start().await;
    /// # let state = proffer_sdk::state::State::of(master.masters(), "doc");
    /// for key in ["task/2", "task/1", "target"] {
    ///     state.put(key, "").await.unwrap();
    /// }
    /// let tasks = state.list("task/").await.unwrap();
    /// assert_eq!(tasks.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["task/1", "task/2"]);
    /// # });
    /// ```
    pub async fn list(&self, prefix: impl Into<String>) -> Result<Vec<Entry>, StateError> {
        let entries = self.pages(prefix.into(), false).await?;
        Ok(entries.into_iter().map(Entry::from_wire).collect())
    }

    /// As [`State::list`], without the values.
    ///
    /// ```no_run
    /// # async fn example(state: proffer_sdk::state::State) -> anyhow::Result<()> {
    /// for key in state.keys("task/").await? {
    ///     println!("{} has version {}", key.name, key.version);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn keys(&self, prefix: impl Into<String>) -> Result<Vec<Key>, StateError> {
        let entries = self.pages(prefix.into(), true).await?;
        let key = |entry: wire::Entry| Key {
            name: entry.key,
            version: entry.version,
        };
        Ok(entries.into_iter().map(key).collect())
    }

    /// Tells of every key that begins with this, as it is and as it changes.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let master = proffer_sdk::testing::FakeMaster::start().await;
    /// # let state = proffer_sdk::state::State::of(master.masters(), "doc");
    /// use proffer_sdk::state::Change;
    ///
    /// state.put("target", "3").await.unwrap();
    /// let mut watch = state.watch("");
    /// assert!(matches!(watch.next().await.unwrap(), Change::Put(entry) if entry.value == "3"));
    /// assert_eq!(watch.next().await.unwrap(), Change::Current);
    /// state.delete("target").await.unwrap();
    /// assert!(matches!(watch.next().await.unwrap(), Change::Deleted { key, .. } if key == "target"));
    /// # });
    /// ```
    pub fn watch(&self, prefix: impl Into<String>) -> Watch {
        Watch::new(self.leader.clone(), self.namespace.clone(), prefix.into())
    }

    async fn pages(&self, prefix: String, keys_only: bool) -> Result<Vec<wire::Entry>, StateError> {
        let mut entries: Vec<wire::Entry> = Vec::new();
        loop {
            let list = wire::List {
                prefix: Some(prefix.clone()),
                after: entries.last().map(|entry| entry.key.clone()),
                limit: None,
                keys_only: Some(keys_only),
            };
            let page = match self.read(call::Body::List(list)).await? {
                answer::Body::Listed(page) => page,
                other => return Err(strange(&other)),
            };
            let more = page.more && !page.entries.is_empty();
            entries.extend(page.entries);
            if !more {
                return Ok(entries);
            }
        }
    }
}

impl Answered {
    fn outcome(self) -> Result<Outcome, StateError> {
        match self.body {
            answer::Body::Done(done) => Ok(Outcome::Done { version: done.version }),
            answer::Body::Conflict(conflict) => {
                let present = conflict.entry.map(Entry::from_wire);
                Ok(match self.in_doubt {
                    true => Outcome::Unknown { present },
                    false => Outcome::Conflict { present },
                })
            }
            other => Err(strange(&other)),
        }
    }
}

impl Entry {
    fn from_wire(entry: wire::Entry) -> Self {
        Entry {
            key: entry.key,
            value: entry.value.unwrap_or_default(),
            version: entry.version,
        }
    }
}

fn put(key: String, value: Bytes, expected_version: Option<u64>) -> call::Body {
    call::Body::Put(wire::Put {
        key,
        value,
        expected_version,
    })
}

fn delete(key: String, expected_version: Option<u64>) -> call::Body {
    call::Body::Delete(wire::Delete { key, expected_version })
}

fn strange(answer: &answer::Body) -> StateError {
    StateError::Refused(format!("the master answered something else: {answer:?}"))
}

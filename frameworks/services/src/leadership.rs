//! Which of several schedulers of one name is the active one.
//!
//! The active one is named in the masters' state, under `leader`, and says there once a second that it lives. Another one
//! stands by: it takes the name over when
//!
//! - it is free, as after an orderly end,
//! - the control port of the active one refuses connections, or is now its own: then that process is certainly dead, or
//! - the active one has said nothing for [`LEASE`], by the clock of the one that stands by. Clocks are never compared.
//!
//! An active one that was only slow does no harm, as every write is followed by a look at who is named, and only then acted
//! on: whoever took the name before that look reads what was written, and whoever takes it later finds nobody who acts. What
//! it sends to the masters afterwards is refused, since the subscription is its successor's. The life of a scheduler:
//!
//! ```text
//!   stands by ---- takes the name ----> reads what is kept ----> subscribes, is active
//!       ^                                                              |
//!       +--------------------- finds another one named ----------------+
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use proffer_sdk::Masters;
use proffer_sdk::state::{Outcome, State, StateError};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::store::StoreError;

/// The key under which the active one is named.
pub(crate) const LEADER: &str = "leader";

/// How often the active one says that it lives.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// After so long without a word another one takes over.
const LEASE: Duration = Duration::from_secs(5);

/// How often one that stands by looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What is not heard of the masters for so long says nothing about the active scheduler: the waiting begins anew.
const LOOK_GAP_MAX: Duration = Duration::from_secs(1);

/// How long a control port may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The active scheduler, as it is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leader {
    /// Tells this run of it from all others.
    id: String,
    /// Where its control port is reached.
    pub(crate) control: String,
    /// The network in which that address means something, where it is of one host alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    /// How often it said that it lives.
    beat: u64,
}

impl Leader {
    pub(crate) fn new(control: SocketAddr, reachable: String) -> Self {
        Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            control: reachable,
            network: control.ip().is_loopback().then(own_network),
            beat: 0,
        }
    }

    fn read(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }

    fn written(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it has only text and numbers in it")
    }

    /// Whether its address means the same here as there.
    fn is_near(&self) -> bool {
        self.network.as_ref().is_none_or(|network| *network == own_network())
    }
}

/// One that wants to be the active scheduler.
#[derive(Debug)]
pub(crate) struct Candidate {
    state: State,
    me: Leader,
}

/// What one that stands by has seen of the active one.
struct Watched {
    version: u64,
    since: Instant,
    looked: Instant,
}

impl Candidate {
    pub(crate) fn new(masters: Masters, namespace: &str, me: Leader) -> Self {
        Self {
            state: State::of(masters, namespace),
            me,
        }
    }

    /// Waits until this one is the active scheduler. Who is so meanwhile is told to `seen`.
    pub(crate) async fn lead(self, mut seen: impl FnMut(Option<&Leader>)) -> Result<Lease, StoreError> {
        let mut watched: Option<Watched> = None;
        loop {
            let entry = match self.state.get(LEADER).await {
                Ok(entry) => entry,
                Err(StateError::Unavailable(why)) => {
                    tracing::warn!(why, "no master leads yet");
                    continue;
                }
                Err(source) => return Err(failed("get")(source)),
            };
            let version = entry.as_ref().map_or(0, |entry| entry.version);
            // What cannot be read was written by nobody who lives by these rules.
            let leader = entry.as_ref().and_then(|entry| Leader::read(&entry.value));
            let gone = match &leader {
                None => true,
                Some(leader) => watch(&mut watched, version) || self.is_dead(leader).await,
            };
            seen(leader.as_ref().filter(|_| !gone));
            if gone && let Some(lease) = self.take(version).await? {
                return Ok(lease);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn take(&self, version: u64) -> Result<Option<Lease>, StoreError> {
        let value = self.me.written();
        let outcome = self.state.compare_and_set(LEADER, version, value.clone()).await;
        match outcome.map_err(failed("set"))?.settle(&value) {
            Outcome::Done { version } => Ok(Some(Lease {
                state: self.state.clone(),
                me: self.me.clone(),
                version,
            })),
            Outcome::Conflict { .. } | Outcome::Unknown { .. } => Ok(None),
        }
    }

    /// Whether a process that was named is certainly no more.
    async fn is_dead(&self, leader: &Leader) -> bool {
        if !leader.is_near() {
            return false;
        }
        if leader.control == self.me.control {
            return true;
        }
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&leader.control)).await;
        matches!(connected, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
    }
}

/// Whether the same was seen for the whole of a lease, without a gap in which nothing was seen at all.
fn watch(watched: &mut Option<Watched>, version: u64) -> bool {
    let now = Instant::now();
    let known = watched.take().filter(|known| {
        let unbroken = now.duration_since(known.looked) < LOOK_GAP_MAX + LOOK_INTERVAL + CONNECT_TIMEOUT;
        known.version == version && unbroken
    });
    let since = known.map_or(now, |known| known.since);
    *watched = Some(Watched {
        version,
        since,
        looked: now,
    });
    now.duration_since(since) >= LEASE
}

/// That this is the active scheduler, until another one is named.
#[derive(Debug)]
pub(crate) struct Lease {
    state: State,
    me: Leader,
    version: u64,
}

impl Lease {
    /// What looks whether it still holds.
    pub(crate) fn fence(&self) -> Fence {
        Fence {
            state: self.state.clone(),
            id: self.me.id.clone(),
        }
    }

    /// Says again and again that this one lives; returns when another one is named.
    pub(crate) async fn keep(&mut self) {
        loop {
            tokio::time::sleep(RENEW_INTERVAL).await;
            self.me.beat += 1;
            let value = self.me.written();
            let outcome = self.state.compare_and_set(LEADER, self.version, value.clone()).await;
            match outcome.map(|outcome| outcome.settle(&value)) {
                Ok(Outcome::Done { version }) => self.version = version,
                Ok(_) => match self.state.get(LEADER).await {
                    // An answer was lost, and the next attempt found what this one wrote.
                    Ok(Some(entry)) if Leader::read(&entry.value).is_some_and(|leader| leader.id == self.me.id) => {
                        self.version = entry.version;
                    }
                    Ok(_) => return,
                    Err(error) => tracing::warn!(%error, "it is not known which scheduler is active"),
                },
                Err(error) => tracing::warn!(%error, "the masters were not told that this scheduler lives"),
            }
        }
    }

    /// Gives the name back, so that another one need not wait.
    pub(crate) async fn release(self) -> Result<(), StoreError> {
        let Some(entry) = self.state.get(LEADER).await.map_err(failed("get"))? else {
            return Ok(());
        };
        if Leader::read(&entry.value).is_some_and(|leader| leader.id == self.me.id) {
            let deleted = self.state.compare_and_delete(LEADER, entry.version).await;
            let _ = deleted.map_err(failed("delete"))?;
        }
        Ok(())
    }
}

/// Looks whether a scheduler is still the active one.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    state: State,
    id: String,
}

impl Fence {
    /// Fails where another one is named. To be asked after a write, and before it is acted on.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let entry = self.state.get(LEADER).await.map_err(failed("get"))?;
        let leader = entry.as_ref().and_then(|entry| Leader::read(&entry.value));
        if leader.is_some_and(|leader| leader.id == self.id) {
            return Ok(());
        }
        Err(StoreError::Overtaken(LEADER.to_owned()))
    }
}

/// Tells networks of one host from each other: what is at 127.0.0.1 in one is not so in another.
fn own_network() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

fn failed(action: &'static str) -> impl FnOnce(StateError) -> StoreError {
    move |source| StoreError::State {
        action,
        key: LEADER.to_owned(),
        source,
    }
}

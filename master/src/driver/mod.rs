//! The loop around the core and the raft member: receive, step, carry out.
//!
//! One thread owns both. Whatever waits is taken together, so that the proposals of many callers share one sync of the
//! log. Nothing here waits: not for a peer (what is said to agents, schedulers, callers and the other masters goes into bounded
//! queues), and not for the disk (the log and the applied registry are written by threads of their own).

mod effects;
mod entry;
mod group;
mod handle;
mod keeper;
mod outcomes;
mod requests;
mod room;
mod run;
mod slow;
mod snapshots;
mod start;
#[cfg(test)]
mod tests;
mod ticks;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use proffer_master_core::{ConnectionId, Effects, Input, Master, RequestId, StreamId, Timestamp};
use proffer_proto::{link, state, v1};
use proffer_replication::{Member, Outcome};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use group::Group;
pub use handle::{Ended, Handle, MastersCall, MastersError, Request, WAITING_OF_ONE_AGENT};
use handle::{QUEUE_LENGTH, Reply};
use keeper::Keeper;
use room::Room;
use snapshots::SnapshotPolicy;
pub use start::{Running, start};
use ticks::Ticks;
use turns::Turns;

use crate::answers::{Bell, Ticket};
use crate::clock::Clock;
use crate::log::{ADVICE, Failure, Writer};
use crate::outbox::Outbox;
use crate::peers::{Me, Peers};

/// The driver must stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Replication failed.
    #[error("the replication of the registry failed")]
    Replication(#[source] proffer_replication::Error),
    /// Nothing more can be made durable.
    #[error(transparent)]
    Write(#[from] Failure),
    /// What the log or a snapshot holds was not written by this version.
    #[error("{what} cannot be decoded; it may have been written by a newer version")]
    Undecodable {
        /// What is not understood.
        what: &'static str,
        /// Why not.
        source: prost::DecodeError,
    },
    /// An entry is of an unknown kind.
    #[error("entry {index} of the raft log is of kind {kind}, which this version does not know")]
    UnknownEntry {
        /// Its index.
        index: u64,
        /// Its kind.
        kind: u8,
    },
    /// A change is of an unknown kind.
    #[error(
        "entry {index} of the raft log is a change that this version does not know: a newer version wrote it. \
         Start that version with this work directory"
    )]
    UnknownChange {
        /// The entry's index.
        index: u64,
    },
    /// The registry's level is beyond this master's.
    #[error(
        "the registry is at level {level}, and this master understands levels up to {understood}: start a newer \
         version, or this one with a higher --compatibility"
    )]
    Level {
        /// The registry's level.
        level: u32,
        /// This master's.
        understood: u32,
    },
    /// What was acknowledged is not in the log.
    #[error("the raft log ends with entry {last}, but entry {known} was there before: its end is lost. {ADVICE}")]
    LogTooShort {
        /// The last entry.
        last: u64,
        /// What was applied or acknowledged.
        known: u64,
    },
    /// This master is not in the group any more.
    #[error(
        "this master (member {member}) was removed from the group. Remove its work directory to let it join anew as \
         another member"
    )]
    Removed {
        /// Its id.
        member: u64,
    },
    /// No thread could be started.
    #[error("cannot start the driver's threads")]
    Thread(#[source] std::io::Error),
}

impl From<proffer_replication::Error> for Error {
    fn from(error: proffer_replication::Error) -> Self {
        match error {
            proffer_replication::Error::LogTooShort { last, known } => Self::LogTooShort { last, known },
            error => Self::Replication(error),
        }
    }
}

/// What the driver needs to know beside the core's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A snapshot is taken after so many entries, if not before.
    pub snapshot_entries: u64,
    /// Where this master is reached, `host:port`; told to the other masters and to those who look for the leader.
    pub advertise: String,
    /// The newest level of the registry that this master takes part in.
    pub level: u32,
}

/// A caller who waits.
enum Waiting {
    /// For an answer.
    Alone(Reply),
    /// For the answer that opens a stream: SUBSCRIBE, or a watch.
    ForStream(Reply, StreamId),
    /// On a stream of calls.
    AmongMany(Ticket),
}

/// A stream of events.
enum Stream {
    /// A scheduler's, with its text.
    Scheduler(Outbox<v1::scheduler::Event>, String),
    /// A watch of the frameworks' state.
    Watch(Outbox<state::Event>),
}

/// A stop that is under way.
struct Stopping {
    /// Another master is to lead first.
    hands_over: bool,
    /// When it stops in any case.
    at: Instant,
}

struct Driver {
    master: Master,
    member: Member,
    writer: Writer,
    /// The highest write that the member was told to be durable.
    written: u64,
    keeper: Keeper,
    peers: Peers,
    me: Me,
    group: Group,
    /// Who leads, as far as the member knows.
    leader: Option<u64>,
    leader_address: watch::Sender<Option<String>>,
    snapshots: SnapshotPolicy,
    ticks: Ticks,
    turns: Turns,
    /// Changes up to here were restored and are not told to the core again.
    restored: u64,
    clock: Clock,
    inputs: VecDeque<Input>,
    effects: Effects,
    outcomes: Vec<Outcome>,
    /// What the core wants to be in the log, encoded; proposed before the member is driven.
    proposals: Vec<(u64, Vec<u8>)>,
    wake: Option<Timestamp>,
    next_request: u64,
    waiting: HashMap<RequestId, Waiting>,
    /// Of the streams of calls that have answers.
    bells: Vec<Bell>,
    /// Of streams that have messages; woken all together, so that what is sent in one turn leaves together.
    readers: Vec<Waker>,
    agents: HashMap<ConnectionId, Outbox<link::MasterMessage>>,
    streams: HashMap<StreamId, Stream>,
    stream_ids: HashMap<String, StreamId>,
    /// Rung by the threads that write.
    bell: Arc<Notify>,
    room: Room,
    /// While it stops.
    stopping: Option<Stopping>,
    /// Held as long as the work directory is used; the last to be dropped.
    _lock: std::fs::File,
}

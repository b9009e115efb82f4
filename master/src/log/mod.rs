//! The raft log and the hard state on disk: what a master may never forget once it has acknowledged it.
//!
//! [`LogStore`] is what must be durable; [`Wal`] is the write-ahead log behind it, and [`Writer`] the thread that writes for the
//! driver. Why there is one of our own is
//! in `docs/decisions/0001-raft-log.md`; the format is described in `frame.rs` and `segment.rs`.

mod disk;
mod frame;
mod recover;
mod segment;
mod wal;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod writer_tests;

use std::io;

use proffer_replication::eraftpb::{Entry, HardState};

pub use disk::{Directory, Disk};
pub use proffer_replication::Position;
pub use wal::{Options, Wal};
pub use writer::{Failure, Totals, Writer, Written};

/// What one step of a member must make durable.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch<'a> {
    /// The log begins anew after this snapshot, which is already durable: every entry is forgotten.
    pub snapshot: Option<Position>,
    /// Appended; an entry whose index is already there replaces it and everything after it.
    pub entries: &'a [Entry],
    /// Replaces the hard state.
    pub hard_state: Option<&'a HardState>,
}

/// What was found at start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// The last hard state.
    pub hard_state: HardState,
    /// The last snapshot marker.
    pub snapshot: Position,
    /// Every entry after the snapshot.
    pub entries: Vec<Entry>,
}

/// Durable storage of the raft log and hard state.
pub trait LogStore: Send {
    /// Makes batches durable, in this order, with one write and one sync: all of them or (where it fails or the machine
    /// stops) none. After an error nothing more is accepted: what is on disk is unknown.
    ///
    /// # Errors
    /// The disk failed.
    fn append(&mut self, batches: &[Batch<'_>]) -> Result<(), Error>;

    /// Frees the space of entries that a durable snapshot at `snapshot`, so large, covers. One that is older than the log's own
    /// is ignored.
    ///
    /// # Errors
    /// The disk failed.
    fn compact(&mut self, snapshot: Position, snapshot_bytes: u64) -> Result<(), Error>;
}

/// The log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation of the disk failed.
    #[error("cannot {action} {name} of the raft log")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The log holds something that no crash can leave behind.
    #[error("the raft log is damaged: {name} at byte {offset}: {problem}. {ADVICE}")]
    Damaged {
        /// The file.
        name: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// Entries are missing.
    #[error("the raft log is incomplete: {problem}. {ADVICE}")]
    Incomplete {
        /// What is missing.
        problem: String,
    },
    /// An earlier write failed.
    #[error("the raft log accepts nothing more, because an earlier write failed")]
    Failed,
}

/// What a person can do about a damaged log.
pub const ADVICE: &str = "This master does not start, because changes that it acknowledged may be lost. Restore its work directory from a backup; \
     or, in a group of several masters, remove the work directory and let the master join again as a new one; \
     or start over with an empty work directory: agents and frameworks must then register anew";

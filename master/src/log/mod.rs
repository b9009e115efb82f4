//! The raft log and the hard state on disk: what a master may never forget once it has acknowledged it.
//!
//! [`LogStore`] is what the raft driver needs; [`Wal`] is the write-ahead log behind it. Why there is one of our own is
//! in `docs/decisions/0001-raft-log.md`; the format is described in `frame.rs` and `segment.rs`.

mod disk;
mod frame;
mod recover;
mod segment;
mod wal;

#[cfg(test)]
mod crash_tests;

use std::io;

use raft::eraftpb::{Entry, HardState};

pub use disk::{Directory, Disk};
pub use wal::{Options, Wal};

/// A place in the log: the entry's index and the term in which it was proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
}

/// What one `Ready` must make durable.
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
    /// Makes a batch durable, whole or (where it fails or the machine stops) not at all. After an error nothing more is
    /// accepted: what is on disk is unknown.
    ///
    /// # Errors
    /// The disk failed.
    fn append(&mut self, batch: Batch<'_>) -> Result<(), Error>;

    /// Frees the space of entries that a durable snapshot at `snapshot` covers.
    ///
    /// # Errors
    /// The disk failed.
    fn compact(&mut self, snapshot: Position) -> Result<(), Error>;
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

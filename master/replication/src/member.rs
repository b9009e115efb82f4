//! One member of the group.

use raft::eraftpb::{Entry, HardState, Message, Snapshot};

use crate::config::Settings;
use crate::group::{GroupChange, GroupRefusal};
use crate::outcome::Outcome;
use crate::status::Status;
use crate::wire::Refusal;

/// Replication failed in a way after which this member must stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// raft-rs refused what was asked of it.
    #[error("raft cannot {action}")]
    Raft {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        source: raft::Error,
    },
    /// The log on the disk is shorter than what the group knows it to hold: its end is lost.
    #[error("the raft log ends with entry {last}, but entry {known} was acknowledged: its end is lost")]
    LogTooShort {
        /// The last entry.
        last: u64,
        /// What was acknowledged.
        known: u64,
    },
}

/// What a member starts from.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The newest durable hard state.
    pub hard_state: HardState,
    /// The snapshot that the log continues.
    pub snapshot: Snapshot,
    /// Every entry after the snapshot.
    pub entries: Vec<Entry>,
    /// An index that is known to be committed, from outside the log; 0 if there is none.
    pub committed: u64,
}

/// One member of the raft group.
#[derive(Debug)]
pub struct Member {}

#[allow(unused_variables, clippy::todo, clippy::unused_self)]
impl Member {
    /// Continues where the member stopped; everything after the snapshot that is committed is told again. Nothing is told
    /// before the first [`Member::drive`]. A member that is alone in its group stands for election at once.
    ///
    /// # Errors
    /// What it starts from does not fit together.
    pub fn start(start: Start, settings: Settings) -> Result<Self, Error> {
        todo!()
    }

    /// One tick of time has passed.
    pub fn tick(&mut self) {
        todo!()
    }

    /// Takes a message of another member.
    ///
    /// # Errors
    /// It could not have been sent by a sound member of this group. Nothing is changed.
    pub fn receive(&mut self, message: Message) -> Result<(), Refusal> {
        todo!()
    }

    /// Puts data, which must not be empty, into the log under a number. True: it comes back as `Committed` or `Dropped`. False: it is not
    /// in the log, because this member does not lead, hands its leadership over, or too much waits.
    #[must_use]
    pub fn propose(&mut self, proposal: u64, data: Vec<u8>) -> bool {
        todo!()
    }

    /// Asks for a linearizable read under a number never used before. Comes back as `Readable` or `Unreadable`, always.
    pub fn read(&mut self, read: u64) {
        todo!()
    }

    /// Changes the group, under a number. Comes back as `ChangeDone` (when the configuration is not joint any more) or
    /// `ChangeDropped`.
    ///
    /// # Errors
    /// The change is not begun.
    pub fn change_group(&mut self, change: u64, what: GroupChange) -> Result<(), GroupRefusal> {
        todo!()
    }

    /// Hands the leadership to another voter, who must have caught up; to the one with the longest log where none is named. False:
    /// this member does not lead, or there is nobody to lead instead.
    pub fn transfer_leadership(&mut self, to: Option<u64>) -> bool {
        todo!()
    }

    /// A write, and every write before it, is durable.
    pub fn written(&mut self, number: u64) {
        todo!()
    }

    /// A member cannot be reached: messages to it were lost.
    pub fn unreachable(&mut self, id: u64) {
        todo!()
    }

    /// How sending a snapshot ended. Must be told for every `MsgSnapshot`, else the receiver gets nothing any more.
    pub fn snapshot_sent(&mut self, id: u64, whole: bool) {
        todo!()
    }

    /// Gives the state of the application as of [`Member::applied`]. The entries that it covers are forgotten, but for a tail that
    /// followers who lag a little still need.
    pub fn compact(&mut self, data: Vec<u8>) {
        todo!()
    }

    /// The index of the newest entry that was told.
    pub fn applied(&self) -> u64 {
        todo!()
    }

    /// How many entries, and bytes of them, were told since the last snapshot.
    pub fn since_snapshot(&self) -> (u64, u64) {
        todo!()
    }

    /// True in a group of one.
    pub fn is_alone(&self) -> bool {
        todo!()
    }

    /// This member's view of the group.
    pub fn status(&self) -> Status {
        todo!()
    }

    /// Appends what happened and what is to be done. To be called after every call of another method that changes something.
    ///
    /// # Errors
    /// The member must stop.
    pub fn drive(&mut self, outcomes: &mut Vec<Outcome>) -> Result<(), Error> {
        todo!()
    }
}

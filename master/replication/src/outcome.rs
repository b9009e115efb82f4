//! What a member tells, and what it asks for.

use bytes::Bytes;
use raft::eraftpb::{Entry, HardState, Message, Snapshot};

use crate::snapshot::Position;

/// What happened in the group, or is to be done, in order.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// To be sent to the member `to` of the message. May be lost, repeated or overtaken. A `MsgSnapshot` must be answered by
    /// [`crate::Member::snapshot_sent`].
    Send(Box<Message>),
    /// To be made durable, after every earlier write; then [`crate::Member::written`].
    Write(Write),
    /// A snapshot of this member's own state, to be made durable after every earlier write; then the entries up to its place
    /// may be removed from the disk. Nothing waits for it.
    Compact(Snapshot),
    /// A newcomer waits for a snapshot of this leader whose configuration has it: [`crate::Member::compact`] is to be called now,
    /// else it waits until it is called. Asked again after a while.
    SnapshotWanted,
    /// An entry is committed. `proposal` is set where this member proposed it in its present term.
    Committed {
        /// Its place in the log.
        index: u64,
        /// The number that it was proposed under.
        proposal: Option<u64>,
        /// What was proposed.
        data: Bytes,
    },
    /// A proposal will not be told as committed: it may or may not be in the log.
    Dropped {
        /// The number that it was proposed under.
        proposal: u64,
    },
    /// This member leads, and everything committed before its term has been told.
    Led {
        /// The term.
        term: u64,
    },
    /// This member leads no more.
    LostLeadership,
    /// Who leads, as far as this member knows, has changed.
    Leader {
        /// Its id.
        id: Option<u64>,
    },
    /// A snapshot of the leader replaces everything that was told so far. It is durable.
    Restored {
        /// Its place in the log.
        index: u64,
        /// The state of the application.
        data: Bytes,
    },
    /// Everything that was committed when the read was asked for has been told.
    Readable {
        /// The read's number.
        read: u64,
    },
    /// The read cannot be done here: this member does not lead.
    Unreadable {
        /// The read's number.
        read: u64,
    },
    /// The group is another: its new configuration is committed and applied here.
    GroupChanged {
        /// The place of the entry that changed it.
        index: u64,
        /// Whether a joint configuration is in force, which the leader ends by itself.
        joint: bool,
    },
    /// A change of the group, asked for here, is complete.
    ChangeDone {
        /// The number that it was asked for under.
        change: u64,
    },
    /// A change of the group, asked for here, will not be told as complete: it may or may not take place.
    ChangeDropped {
        /// The number that it was asked for under.
        change: u64,
    },
    /// This member is not of the group any more. It does nothing from now on; its last write came before.
    Removed,
}

/// What must be made durable: in this order, whole or (where the machine stops) not at all.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// Grows by one from write to write.
    pub number: u64,
    /// The log begins anew after this snapshot.
    pub snapshot: Option<Snapshot>,
    /// Appended; an entry whose index is already there replaces it and everything after it.
    pub entries: Vec<Entry>,
    /// Replaces the hard state.
    pub hard_state: Option<HardState>,
    /// Whether anything waits for it. Where not (only the commit index moved) it may be joined with the next write.
    pub must_sync: bool,
}

impl Write {
    /// The place of its snapshot.
    pub fn snapshot_position(&self) -> Option<Position> {
        self.snapshot.as_ref().map(crate::snapshot::position)
    }
}

//! Changes of the group: learners first, joint where a voter is replaced, never the leader's own removal.

/// A change of who is in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupChange {
    /// A newcomer gets the log and does not vote. Its id must be new: a member that was removed finds that in the log, and
    /// does nothing any more.
    AddLearner(u64),
    /// A learner that has caught up votes. Where it replaces a voter, that one leaves in the same step.
    Promote {
        /// The learner.
        id: u64,
        /// The voter that leaves.
        replaces: Option<u64>,
    },
    /// A member leaves.
    Remove(u64),
}

/// Why the group is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupRefusal {
    /// Only the leader changes the group.
    #[error("this member does not lead")]
    NotLeader,
    /// One change at a time.
    #[error("another change of the group is under way; try again when it is done")]
    Busy,
    /// The leader would remove itself.
    #[error("member {0} leads: transfer the leadership first")]
    IsLeader(u64),
    /// There is no such member.
    #[error("member {0} is not in the group")]
    Unknown(u64),
    /// It is a member already.
    #[error("member {0} is in the group already")]
    Present(u64),
    /// It is not a learner.
    #[error("member {0} votes already")]
    Votes(u64),
    /// The learner lacks too much of the log to vote.
    #[error("member {id} still lacks {behind} entries; try again when it has caught up")]
    Behind {
        /// The learner.
        id: u64,
        /// How many entries it lacks.
        behind: u64,
    },
    /// Nobody would be left to vote.
    #[error("member {0} is the last that votes")]
    Last(u64),
}

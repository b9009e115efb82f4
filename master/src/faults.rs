//! The places at which tests make a master fail; see `proffer_faults`.

proffer_faults::places! {
    /// A frame of the log is about to be written.
    LOG_BEFORE_WRITE = "log-before-write";
    /// A frame is written and not synced.
    LOG_WRITTEN = "log-written";
    /// A frame is durable, and nobody was told.
    LOG_SYNCED = "log-synced";
    /// A vote, or a new term, is about to be written.
    VOTE_BEFORE_WRITE = "vote-before-write";
    /// The log has given up what a snapshot covers, and older snapshots are still there.
    LOG_COMPACTED = "log-compacted";
    /// A snapshot is written under its temporary name.
    SNAPSHOT_BEFORE_RENAME = "snapshot-before-rename";
    /// A snapshot has its name, and the log does not name it.
    SNAPSHOT_RENAMED = "snapshot-renamed";
    /// A change is committed and the core has not heard of it.
    COMMITTED = "committed";
    /// The core has applied a change, and its answer is not given.
    BEFORE_ANSWER = "before-answer";
    /// Changes are about to be written to the applied registry.
    KEEPER_BEFORE_BATCH = "keeper-before-batch";
    /// Changes are written to the applied registry and not flushed.
    KEEPER_BEFORE_FLUSH = "keeper-before-flush";
    /// The applied registry is flushed.
    KEEPER_FLUSHED = "keeper-flushed";
    /// A master has an id, and nobody has heard of it.
    MEMBER_NAMED = "member-named";
    /// The first snapshot of a new group is durable, and its log is not made.
    BEGIN_BEFORE_LOG = "begin-before-log";
    /// The log of a new group is made, and the master is not said to be of the group.
    BEGIN_BEFORE_IDENTITY = "begin-before-identity";
    /// A master is of a group for good, and has told nobody.
    BEGUN = "begun";
    /// A newcomer is in the registry, and not in raft's group.
    JOIN_RECORDED = "join-recorded";
    /// A newcomer is in raft's group, and does not know it.
    JOIN_BEFORE_ANSWER = "join-before-answer";
    /// A voter is to be added, and raft's change is about to be proposed.
    ADD_BEFORE_CHANGE = "add-before-change";
    /// Raft's group is of two configurations.
    GROUP_JOINT = "group-joint";
    /// A voter was replaced in raft's group, and its record is there.
    REPLACED_BEFORE_FORGOTTEN = "replaced-before-forgotten";
    /// A member has left raft's group, and its record is there.
    REMOVED_BEFORE_FORGOTTEN = "removed-before-forgotten";
}

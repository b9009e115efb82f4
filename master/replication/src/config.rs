//! The settings of a member.

/// So many bytes of committed entries are told at once.
const COMMITTED_BYTES_MAX: u64 = 16 << 20;

/// What a member needs to know beside what it starts from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its id in the group; never 0, never used before by another member.
    pub id: u64,
    /// Election timeouts are drawn from it.
    pub seed: u64,
    /// An election begins after between one and two times so many ticks without a leader.
    pub election_ticks: usize,
    /// A leader is heard of every so many ticks.
    pub heartbeat_ticks: usize,
    /// The largest message of entries, in bytes.
    pub message_bytes_max: u64,
    /// How many messages of entries may be on their way to one member.
    pub messages_in_flight_max: usize,
    /// Proposals are dropped while so many bytes wait to be committed.
    pub uncommitted_bytes_max: u64,
    /// A compaction keeps so many entries for followers who lag a little.
    pub tail_entries_max: usize,
    /// And at most so many bytes of them.
    pub tail_bytes_max: u64,
    /// A learner that lacks more entries is not promoted.
    pub behind_entries_max: u64,
    /// A known bug, for tests that show that it is found.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<PlantedBug>,
}

/// A bug that was made once, here or elsewhere.
#[cfg(feature = "planted-bugs")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A removed leader goes on leading.
    RemovedLeaderStays,
    /// Votes and acknowledgements are sent before what they promise is durable.
    VoteBeforeDurable,
    /// A snapshot is handed out although its configuration lacks the receiver, who ignores it.
    SnapshotIgnored,
    /// Reads are answered without asking the group who leads.
    StaleRead,
}

impl Settings {
    /// The documented defaults, for a tick of 50 ms.
    pub fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            seed,
            election_ticks: 10,
            heartbeat_ticks: 2,
            message_bytes_max: 1 << 20,
            messages_in_flight_max: 256,
            uncommitted_bytes_max: 64 << 20,
            tail_entries_max: 4096,
            tail_bytes_max: 8 << 20,
            behind_entries_max: 1000,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }

    /// What raft-rs is told: its own defaults have no pre-vote, no quorum check, one entry a message and no bounds.
    pub(crate) fn raft(&self, applied: u64) -> raft::Config {
        raft::Config {
            id: self.id,
            applied,
            election_tick: self.election_ticks,
            heartbeat_tick: self.heartbeat_ticks,
            pre_vote: true,
            check_quorum: true,
            read_only_option: raft::ReadOnlyOption::Safe,
            batch_append: true,
            max_size_per_msg: self.message_bytes_max,
            max_inflight_msgs: self.messages_in_flight_max,
            max_uncommitted_size: self.uncommitted_bytes_max,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            ..raft::Config::default()
        }
    }

    /// Whether a known bug is switched on.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn plants(&self, bug: PlantedBug) -> bool {
        self.planted == Some(bug)
    }
}

//! The settings of a member.

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
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

//! What is simulated.

use proffer_replication::PlantedBug;

/// What is simulated, beside what the seed decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many masters a group begins with; the seed decides between 3 and 5 if unset.
    pub masters: Option<usize>,
    /// How many agents.
    pub agents: usize,
    /// How many frameworks.
    pub frameworks: usize,
    /// How many tasks each framework wants finished.
    pub tasks: u64,
    /// How many clients of the frameworks' state.
    pub state_clients: usize,
    /// How many answered calls each of them wants.
    pub state_calls: u64,
    /// For how long there are faults, in virtual milliseconds.
    pub faults_ms: u64,
    /// How long after that everything must be done, in virtual milliseconds.
    pub settle_ms: u64,
    /// A known bug, to show that it is found.
    pub planted: Option<Planted>,
    /// Prints every line of the history to standard error.
    pub print: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            masters: None,
            agents: 3,
            frameworks: 2,
            tasks: 6,
            state_clients: 3,
            state_calls: 16,
            faults_ms: 8_000,
            settle_ms: 60_000,
            planted: None,
            print: false,
        }
    }
}

/// A bug that was made once, here or elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// One of the raft member.
    Member(PlantedBug),
    /// Disks acknowledge a sync before anything is on them.
    LyingDisk,
    /// An agent forgets a status update as soon as it is sent, as if it had been acknowledged.
    LostAcknowledgement,
}

impl Planted {
    /// All of them, by name.
    pub const ALL: [(&str, Planted); 6] = [
        ("removed-leader-stays", Planted::Member(PlantedBug::RemovedLeaderStays)),
        ("vote-before-durable", Planted::Member(PlantedBug::VoteBeforeDurable)),
        ("snapshot-ignored", Planted::Member(PlantedBug::SnapshotIgnored)),
        ("stale-read", Planted::Member(PlantedBug::StaleRead)),
        ("lying-disk", Planted::LyingDisk),
        ("lost-acknowledgement", Planted::LostAcknowledgement),
    ];
}

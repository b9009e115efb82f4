//! What a run did, and how it failed.

use std::fmt;

use super::checkers::Violation;

/// What a run, or many, did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Runs.
    pub seeds: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Events handled.
    pub events: u64,
    /// Faults injected.
    pub faults: u64,
    /// Leading masters that were killed or lost their power.
    pub leader_kills: u64,
    /// Other masters that were killed or lost their power.
    pub other_kills: u64,
    /// Of all these, losses of power.
    pub power_losses: u64,
    /// Masters that lost their disk.
    pub wiped: u64,
    /// Cuts of the network between masters.
    pub partitions: u64,
    /// Terms that had a leader.
    pub terms: u64,
    /// Changes of the group that took effect.
    pub group_changes: u64,
    /// Snapshots that one master sent to another, and that replaced its state.
    pub snapshots: u64,
    /// Committed changes.
    pub committed: u64,
    /// Tasks started.
    pub tasks: u64,
    /// Times that a task was said to be killed because what it used was lent.
    pub preempted: u64,
    /// Status updates that reached their frameworks.
    pub updates: u64,
    /// Volumes that were made or destroyed, as their frameworks heard.
    pub operations: u64,
    /// Calls about the frameworks' state that were answered.
    pub state_calls: u64,
    /// Writes of frameworks' state for which there was no room.
    pub state_refused: u64,
    /// Calls about the frameworks' state whose answer was lost.
    pub state_unknown: u64,
    /// Equal for every run of one seed.
    pub trace_hash: u64,
}

impl Report {
    /// Adds another run.
    pub fn add(&mut self, other: &Report) {
        let pairs = [
            (&mut self.seeds, other.seeds),
            (&mut self.virtual_ms, other.virtual_ms),
            (&mut self.events, other.events),
            (&mut self.faults, other.faults),
            (&mut self.leader_kills, other.leader_kills),
            (&mut self.other_kills, other.other_kills),
            (&mut self.power_losses, other.power_losses),
            (&mut self.wiped, other.wiped),
            (&mut self.partitions, other.partitions),
            (&mut self.terms, other.terms),
            (&mut self.group_changes, other.group_changes),
            (&mut self.snapshots, other.snapshots),
            (&mut self.committed, other.committed),
            (&mut self.tasks, other.tasks),
            (&mut self.preempted, other.preempted),
            (&mut self.updates, other.updates),
            (&mut self.operations, other.operations),
            (&mut self.state_calls, other.state_calls),
            (&mut self.state_refused, other.state_refused),
            (&mut self.state_unknown, other.state_unknown),
        ];
        for (sum, part) in pairs {
            *sum += part;
        }
        self.trace_hash ^= other.trace_hash;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds, {} virtual seconds, {} events, {} faults",
            self.seeds,
            self.virtual_ms / 1000,
            self.events,
            self.faults
        )?;
        writeln!(
            f,
            "masters: {} leaders killed, {} others killed ({} by loss of power, {} lost their disk), {} partitions",
            self.leader_kills, self.other_kills, self.power_losses, self.wiped, self.partitions
        )?;
        writeln!(
            f,
            "groups: {} terms with a leader, {} changes of the group, {} snapshots sent, {} committed changes",
            self.terms, self.group_changes, self.snapshots, self.committed
        )?;
        writeln!(
            f,
            "frameworks: {} tasks, {} preempted, {} status updates, {} operations; {} state calls answered, {} for lack of room refused, \
             {} with unknown outcome",
            self.tasks,
            self.preempted,
            self.updates,
            self.operations,
            self.state_calls,
            self.state_refused,
            self.state_unknown
        )
    }
}

/// A run in which something did not hold.
#[derive(Debug, Clone)]
pub struct SimFailure {
    /// The seed that shows it again.
    pub seed: u64,
    /// What did not hold.
    pub violation: Violation,
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// The end of the history.
    pub history: String,
}

impl fmt::Display for SimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.history)?;
        writeln!(
            f,
            "seed {} at {} ms: {}: {}",
            self.seed, self.at_ms, self.violation.checker, self.violation.what
        )?;
        write!(
            f,
            "replay it: cargo run -p proffer-tests --bin proffer-sim -- --seed {} --trace",
            self.seed
        )
    }
}

impl std::error::Error for SimFailure {}

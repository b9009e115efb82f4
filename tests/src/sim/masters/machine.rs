//! A machine that a master runs on: its disk, its clock, and the process while there is one.

use super::Process;
use super::disk::Disk;
use crate::sim::world::Event;

/// A machine. It may stand idle, wait for its power, or run a master.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Who the master is: made with its work directory. None on an empty disk.
    pub(crate) member: Option<u64>,
    pub(crate) disk: Disk,
    pub(crate) process: Option<Process>,
    /// Grows whenever a process ends; what belongs to an older one is void.
    pub(crate) incarnation: u64,
    /// What its clock shows beside the true time, in milliseconds.
    pub(crate) clock_ahead: i64,
    /// What waits for a process that stands still.
    pub(crate) paused: Option<Vec<Event>>,
    /// Agents, frameworks and other clients cannot reach it until then.
    pub(crate) cut_from_clients_until: u64,
    /// It is started again when it stops.
    pub(crate) in_service: bool,
    /// What the driver's one timer is set to, in true time.
    pub(crate) wake: Option<u64>,
}

impl Machine {
    pub(crate) fn new(disk: Disk) -> Self {
        Machine {
            member: None,
            disk,
            process: None,
            incarnation: 0,
            clock_ahead: 0,
            paused: None,
            cut_from_clients_until: 0,
            in_service: false,
            wake: None,
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.process.as_ref().is_some_and(Process::leads)
    }

    /// What its clock shows.
    pub(crate) fn clock(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.clock_ahead)
    }

    /// The true time at which its clock shows this.
    pub(crate) fn true_time(&self, shown: u64) -> u64 {
        shown.saturating_add_signed(-self.clock_ahead)
    }
}

//! A disk that writes when told to, whole writes in order, and loses the rest in a crash.

use std::collections::VecDeque;

use raft::eraftpb::Snapshot;

use crate::{Start, Write};

/// The disk of a member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) start: Start,
    /// Handed out and not written.
    pub(crate) pending: VecDeque<Pending>,
    /// Writes are done as they come.
    pub(crate) is_fast: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Pending {
    Write(Write),
    Compact(Snapshot),
}

impl Disk {
    /// Makes it durable; gives the number of a write.
    pub(crate) fn done(&mut self, pending: Pending) -> Option<u64> {
        match pending {
            Pending::Write(write) => {
                let number = write.number;
                self.write(write);
                Some(number)
            }
            Pending::Compact(snapshot) => {
                // The entries are left: how many of them go is the disk's business.
                self.start.snapshot = snapshot;
                None
            }
        }
    }

    fn write(&mut self, write: Write) {
        if let Some(snapshot) = write.snapshot {
            self.start.snapshot = snapshot;
            self.start.entries.clear();
        }
        if let Some(first) = write.entries.first() {
            let from = first.index;
            self.start.entries.retain(|entry| entry.index < from);
        }
        self.start.entries.extend(write.entries);
        if let Some(state) = write.hard_state {
            self.start.hard_state = state;
        }
    }
}

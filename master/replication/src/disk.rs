//! What the disk was asked for and has not done yet, and what waits for it.
//!
//! A write in which only the commit index moved is worth nothing on its own: it is kept and joined to the next one, or handed
//! out alone at the second tick after it came up, so that an idle group loses it for two ticks at most. Nothing ever waits
//! for such a write.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::Ready;
use raft::eraftpb::{HardState, Message};

use crate::outcome::Write;

/// The writes under way, in order.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The number of the newest write.
    handed: u64,
    /// Writes that must be synced and are not durable yet.
    waiting: VecDeque<Waiting>,
    /// Messages, each lot with the write that it waits for.
    held: VecDeque<(u64, Vec<Message>)>,
    /// Snapshots of the leader that are told when they are durable.
    restoring: VecDeque<(u64, Restored)>,
    /// The newest write with another term or vote.
    election: u64,
    hard_state: HardState,
    /// For how many ticks a commit index that no write has was kept.
    kept: Option<u32>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// The number of raft's `Ready`.
    ready: u64,
    /// Whether it changes the log.
    log: bool,
}

/// A snapshot of the leader.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) index: u64,
    pub(crate) data: Bytes,
}

/// What a durable write sets free.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    /// The newest `Ready` that is durable, where there is a new one.
    pub(crate) ready: Option<u64>,
    pub(crate) messages: Vec<Message>,
    pub(crate) restored: Vec<Restored>,
}

impl Disk {
    pub(crate) fn new(hard_state: HardState) -> Self {
        Self {
            hard_state,
            ..Self::default()
        }
    }

    /// The write that a `Ready` asks for, with its entries.
    pub(crate) fn write(&mut self, ready: &mut Ready) -> Option<Write> {
        if let Some(state) = ready.hs() {
            if (state.term, state.vote) != (self.hard_state.term, self.hard_state.vote) {
                self.election = self.handed + 1;
            }
            self.hard_state = state.clone();
            self.kept.get_or_insert(0);
        }
        if !ready.must_sync() {
            return None;
        }
        let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());
        self.handed += 1;
        self.waiting.push_back(Waiting {
            number: self.handed,
            ready: ready.number(),
            log: snapshot.is_some() || !ready.entries().is_empty(),
        });
        if let Some(snapshot) = &snapshot {
            let index = snapshot.get_metadata().index;
            let data = snapshot.data.clone();
            self.restoring.push_back((self.handed, Restored { index, data }));
        }
        Some(Write {
            number: self.handed,
            snapshot,
            entries: ready.take_entries(),
            hard_state: self.kept.take().map(|_| self.hard_state.clone()),
            must_sync: true,
        })
    }

    /// A tick has passed: gives the write of a commit index that waited long enough.
    pub(crate) fn tick(&mut self) -> Option<Write> {
        let kept = self.kept.as_mut()?;
        *kept += 1;
        if *kept < 2 {
            return None;
        }
        self.kept = None;
        self.handed += 1;
        Some(Write {
            number: self.handed,
            hard_state: Some(self.hard_state.clone()),
            ..Write::default()
        })
    }

    /// Everything up to a write is durable.
    pub(crate) fn written(&mut self, number: u64) -> Durable {
        let mut durable = Durable::default();
        let writes = self.waiting.partition_point(|write| write.number <= number);
        durable.ready = self.waiting.drain(..writes).next_back().map(|write| write.ready);
        let held = self.held.partition_point(|(write, _)| *write <= number);
        durable.messages = self.held.drain(..held).flat_map(|(_, messages)| messages).collect();
        let restored = self.restoring.partition_point(|(write, _)| *write <= number);
        let restored = self.restoring.drain(..restored);
        durable.restored = restored.map(|(_, restored)| restored).collect();
        durable
    }

    /// The messages that may leave now; the others leave when the disk has caught up. A leader's messages promise nothing
    /// that its own disk must hold but its term: whoever votes alone leads before its own vote is durable, and after a crash it
    /// could lead a second time in the same term.
    pub(crate) fn hold(&mut self, messages: Vec<Message>, leads: bool) -> Vec<Message> {
        let newest = self.waiting.back().map(|write| write.number);
        let oldest = self.waiting.front().map(|write| write.number);
        let wait_for = match (oldest, newest) {
            (Some(oldest), _) if leads && oldest <= self.election => Some(self.election),
            (_, newest) if !leads => newest,
            _ => None,
        };
        let Some(write) = wait_for else { return messages };
        if !messages.is_empty() {
            self.held.push_back((write, messages));
        }
        Vec::new()
    }

    /// Forgets everything that waits, and gives a last write.
    pub(crate) fn last_write(&mut self, hard_state: HardState) -> Write {
        *self = Self {
            handed: self.handed + 1,
            ..Self::default()
        };
        Write {
            number: self.handed,
            hard_state: Some(hard_state),
            must_sync: true,
            ..Write::default()
        }
    }

    /// Whether something is to be made durable.
    pub(crate) fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether entries or a snapshot are to be made durable.
    pub(crate) fn log_waits(&self) -> bool {
        self.waiting.iter().any(|write| write.log)
    }

    /// Whether a snapshot of the leader is to be made durable.
    pub(crate) fn is_restoring(&self) -> bool {
        !self.restoring.is_empty()
    }
}

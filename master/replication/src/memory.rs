//! What raft reads back: every entry since the last snapshot, in memory. The disk is read at start only.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

/// The entries after `snapshot`, which is the newest one.
#[derive(Debug, Default)]
pub(super) struct Memory {
    snapshot: Snapshot,
    entries: VecDeque<Entry>,
    /// As at start; raft asks for it once.
    hard_state: HardState,
    conf_state: ConfState,
}

impl Memory {
    pub(super) fn new(snapshot: Snapshot, entries: Vec<Entry>, hard_state: HardState) -> Self {
        Self {
            conf_state: snapshot.get_metadata().get_conf_state().clone(),
            snapshot,
            entries: entries.into(),
            hard_state,
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.snapshot_index() + self.entries.len() as u64
    }

    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot.get_metadata().index
    }

    pub(super) fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    pub(super) fn set_conf_state(&mut self, state: ConfState) {
        self.conf_state = state;
    }

    /// Appends; what overlaps is replaced.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let keep = first.index.saturating_sub(self.snapshot_index() + 1);
        self.entries.truncate(keep as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// A snapshot of this log's own state was taken: entries up to it are dropped.
    pub(super) fn compact(&mut self, snapshot: Snapshot) {
        let count = snapshot.get_metadata().index.saturating_sub(self.snapshot_index());
        self.entries.drain(..(count as usize).min(self.entries.len()));
        self.entries.shrink_to(1024);
        self.snapshot = snapshot;
    }

    /// A snapshot came from the leader: it replaces everything.
    pub(super) fn install(&mut self, snapshot: Snapshot) {
        self.entries.clear();
        self.conf_state = snapshot.get_metadata().get_conf_state().clone();
        self.snapshot = snapshot;
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.snapshot_index() + 1)?;
        self.entries.get(offset as usize)
    }
}

impl Storage for Memory {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.snapshot_index() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0u64;
        let mut found = Vec::new();
        for index in low..high {
            let Some(entry) = self.entry(index) else { break };
            size = size.saturating_add((entry.data.len() + entry.context.len() + 32) as u64);
            if !found.is_empty() && size > max_size {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.snapshot_index() {
            return Ok(self.snapshot.get_metadata().term);
        }
        if index < self.snapshot_index() {
            return Err(Error::Store(StorageError::Compacted));
        }
        let entry = self.entry(index);
        entry
            .map(|entry| entry.term)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.snapshot_index() + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Raft ignores a snapshot whose configuration lacks its receiver without a word, and the receiver would wait for ever;
    /// so there is none for it until one was taken after it joined.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let metadata = self.snapshot.get_metadata();
        let state = metadata.get_conf_state();
        let knows = [&state.voters, &state.learners, &state.voters_outgoing]
            .iter()
            .any(|ids| ids.contains(&to));
        if metadata.index < request_index || !knows {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.clone())
    }
}

//! What raft reads back: the newest snapshot, the entries after it and a tail of those before, in memory. The disk is read at
//! start only.

use std::cell::RefCell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::snapshot::{Position, position};

/// The entries after `before`, which is the place of the snapshot or an earlier one.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    snapshot: Snapshot,
    before: Position,
    entries: VecDeque<Entry>,
    /// As at start; raft asks for it once.
    hard_state: HardState,
    conf_state: ConfState,
    /// Members who need a snapshot and are not in the configuration of the one that is here.
    wanting: RefCell<Vec<u64>>,
    /// A planted bug.
    #[cfg(feature = "planted-bugs")]
    pub(crate) hands_out_any: bool,
}

impl Memory {
    /// `entries` continue `before`, which is not after the snapshot.
    pub(crate) fn new(snapshot: Snapshot, before: Position, entries: Vec<Entry>, hard_state: HardState) -> Self {
        Self {
            conf_state: snapshot.get_metadata().get_conf_state().clone(),
            snapshot,
            before,
            entries: entries.into(),
            hard_state,
            ..Self::default()
        }
    }

    pub(crate) fn last(&self) -> u64 {
        self.before.index + self.entries.len() as u64
    }

    pub(crate) fn snapshot_index(&self) -> u64 {
        self.snapshot.get_metadata().index
    }

    pub(crate) fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    pub(crate) fn set_conf_state(&mut self, state: ConfState) {
        self.conf_state = state;
    }

    /// Whether two configurations are in force.
    pub(crate) fn is_joint(&self) -> bool {
        !self.conf_state.voters_outgoing.is_empty()
    }

    /// Whether the configuration in force has a member.
    pub(crate) fn knows(&self, id: u64) -> bool {
        has(&self.conf_state, id)
    }

    /// Appends; what overlaps is replaced.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let keep = first.index.saturating_sub(self.before.index + 1);
        self.entries.truncate(keep as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// A snapshot of this log's own state was taken: entries up to it are dropped, but for a tail.
    pub(crate) fn compact(&mut self, snapshot: Snapshot, tail_entries_max: usize, tail_bytes_max: u64) {
        self.snapshot = snapshot;
        let covered = self.snapshot_index().saturating_sub(self.before.index) as usize;
        let mut bytes = 0;
        let tail = self.entries.range(..covered.min(self.entries.len())).rev();
        let tail = tail.take(tail_entries_max).take_while(|entry| {
            bytes += size(entry);
            bytes <= tail_bytes_max
        });
        let dropped = covered.min(self.entries.len()) - tail.count();
        if let Some(last) = self.entries.drain(..dropped).next_back() {
            self.before = Position {
                index: last.index,
                term: last.term,
            };
        }
        self.entries.shrink_to((2 * self.entries.len()).max(1024));
    }

    /// A snapshot came from the leader: it replaces everything.
    pub(crate) fn install(&mut self, snapshot: Snapshot) {
        self.entries.clear();
        self.conf_state = snapshot.get_metadata().get_conf_state().clone();
        self.before = position(&snapshot);
        self.snapshot = snapshot;
    }

    /// Who needs a newer snapshot than the one that is here, since this was last asked.
    pub(crate) fn take_wanting(&self) -> Vec<u64> {
        self.wanting.take()
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.before.index + 1)?;
        self.entries.get(offset as usize)
    }

    #[cfg(feature = "planted-bugs")]
    fn may_have(&self, to: u64) -> bool {
        self.hands_out_any || has(self.snapshot.get_metadata().get_conf_state(), to)
    }

    #[cfg(not(feature = "planted-bugs"))]
    fn may_have(&self, to: u64) -> bool {
        has(self.snapshot.get_metadata().get_conf_state(), to)
    }
}

fn has(state: &ConfState, id: u64) -> bool {
    [&state.voters, &state.learners, &state.voters_outgoing]
        .iter()
        .any(|ids| ids.contains(&id))
}

/// About as much as an entry takes in a message.
pub(crate) fn size(entry: &Entry) -> u64 {
    (entry.data.len() + entry.context.len() + 16) as u64
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
        if low <= self.before.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let first = (low - self.before.index - 1) as usize;
        let mut bytes = 0u64;
        let mut found = Vec::new();
        for entry in self.entries.range(first..first + high.saturating_sub(low) as usize) {
            bytes = bytes.saturating_add(size(entry));
            if !found.is_empty() && bytes > max_size {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.index {
            return Ok(self.before.term);
        }
        if index < self.before.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let entry = self.entry(index);
        entry
            .map(|entry| entry.term)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Raft ignores a snapshot whose configuration lacks its receiver without a word, and the receiver would wait for ever;
    /// so there is none for it until one was taken after it joined.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let index = self.snapshot_index();
        if index == 0 || index < request_index || !self.may_have(to) {
            let mut wanting = self.wanting.borrow_mut();
            if !wanting.contains(&to) {
                wanting.push(to);
            }
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap;
    use crate::tests::cluster::entry;

    /// Entries 2 to `last`, each with ten bytes, after the first snapshot.
    fn filled(last: u64) -> Memory {
        let snapshot = bootstrap(&[1], Vec::new());
        let before = position(&snapshot);
        let entries = (2..=last).map(|index| entry(index, index / 3 + 1, "0123456789"));
        Memory::new(snapshot, before, entries.collect(), HardState::default())
    }

    fn snapshot_at(memory: &Memory, index: u64) -> Snapshot {
        let mut snapshot = bootstrap(&[1], Vec::new());
        snapshot.mut_metadata().index = index;
        snapshot.mut_metadata().term = memory.term(index).unwrap();
        snapshot
    }

    fn read(memory: &Memory, low: u64, high: u64) -> raft::Result<Vec<u64>> {
        let entries = memory.entries(low, high, None, GetEntriesContext::empty(false))?;
        Ok(entries.iter().map(|entry| entry.index).collect())
    }

    #[test]
    fn a_compaction_keeps_a_tail_of_so_many_entries_and_bytes() {
        let mut memory = filled(100);
        let snapshot = snapshot_at(&memory, 90);
        memory.compact(snapshot, 10, u64::MAX);
        assert_eq!((memory.first_index().unwrap(), memory.last()), (81, 100));
        assert_eq!(
            memory.term(80).unwrap(),
            27,
            "the place before the first entry is remembered"
        );
        assert_eq!(read(&memory, 81, 84).unwrap(), [81, 82, 83]);
        assert_eq!(read(&memory, 80, 84), Err(Error::Store(StorageError::Compacted)));
        assert_eq!(memory.term(79), Err(Error::Store(StorageError::Compacted)));
        assert_eq!(memory.snapshot_index(), 90);
        // 26 bytes each.
        let snapshot = snapshot_at(&memory, 95);
        memory.compact(snapshot, 10, 3 * 26);
        assert_eq!(memory.first_index().unwrap(), 93);
        let snapshot = snapshot_at(&memory, 100);
        memory.compact(snapshot, 0, u64::MAX);
        assert_eq!((memory.first_index().unwrap(), memory.last()), (101, 100));
        assert_eq!(memory.term(100).unwrap(), 34);
        memory.append(&[entry(101, 40, "a"), entry(102, 40, "b")]);
        assert_eq!(read(&memory, 101, 103).unwrap(), [101, 102]);
    }

    #[test]
    fn what_overlaps_is_replaced_also_in_the_tail() {
        let mut memory = filled(20);
        let snapshot = snapshot_at(&memory, 10);
        memory.compact(snapshot, 5, u64::MAX);
        memory.append(&[entry(15, 30, "x"), entry(16, 30, "y")]);
        assert_eq!(
            (memory.last(), memory.term(15).unwrap(), memory.term(14).unwrap()),
            (16, 30, 5)
        );
        assert_eq!(read(&memory, 6, 17).unwrap().len(), 11);
        let message = memory.entries(6, 17, 60, GetEntriesContext::empty(false));
        assert_eq!(message.unwrap().len(), 2, "a message is bounded in bytes");
    }

    #[test]
    fn a_snapshot_of_the_leader_replaces_everything() {
        let mut memory = filled(20);
        let mut snapshot = bootstrap(&[1, 2], Vec::new());
        (snapshot.mut_metadata().index, snapshot.mut_metadata().term) = (50, 9);
        memory.install(snapshot);
        assert_eq!((memory.first_index().unwrap(), memory.last()), (51, 50));
        assert_eq!((memory.term(50).unwrap(), memory.knows(2)), (9, true));
    }
}

//! A master's disk: what of the log, the hard state and the snapshots is on it, and what would be after a crash.
//!
//! ```text
//! handed over ──▶ waiting ──▶ syncing (one batch at a time) ──▶ durable
//!                                   └── nothing in it has to be synced ──▶ cached
//! ```
//!
//! A process that is killed leaves behind what is durable, what the kernel has cached, and a beginning of the batch
//! that was being written. A machine that loses its power leaves behind what is durable and a beginning of the rest, in
//! the order of the writes: the log's frames have checksums, so a torn write is cut off as if it had never been.

use std::collections::VecDeque;

use proffer_replication::eraftpb::{Entry, HardState, Snapshot};
use proffer_replication::{Start, Write};

use crate::sim::rng::Rng;

/// How long a disk that lies keeps what it has acknowledged in its volatile cache, in milliseconds.
const LIE_MS: u64 = 500;

/// Something that is to be on the disk.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Write(Write),
    /// A snapshot of the master's own state: the log goes on from there.
    Compact(Snapshot),
}

/// What a log holds.
#[derive(Debug, Clone, Default)]
struct Image {
    hard_state: HardState,
    snapshot: Snapshot,
    entries: Vec<Entry>,
}

/// A disk, with the page cache before it.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    durable: Image,
    /// In the page cache, or in the volatile cache of a disk that lies, and since when.
    cached: VecDeque<(u64, Change)>,
    syncing: Vec<Change>,
    waiting: Vec<Change>,
    /// The applied registry: its index and content. Not synced, so it may lag.
    applied: Option<(u64, Vec<u8>)>,
    lies: bool,
    pub(crate) slow: bool,
    pub(crate) full: bool,
}

/// What a master finds when it starts.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) start: Start,
    pub(crate) applied: Option<(u64, Vec<u8>)>,
}

impl Disk {
    /// A disk that acknowledges a sync before anything is on it.
    pub(crate) fn liar() -> Self {
        Disk {
            lies: true,
            ..Disk::default()
        }
    }

    /// The first snapshot of a group, written with the work directory.
    pub(crate) fn found(&mut self, snapshot: Snapshot) {
        self.durable.hard_state.term = snapshot.get_metadata().term;
        self.durable.hard_state.commit = snapshot.get_metadata().index;
        self.durable.snapshot = snapshot;
    }

    pub(crate) fn hand_over(&mut self, change: Change) {
        self.waiting.push(change);
    }

    /// Begins to write everything that waits. How long it takes, or nothing if there is nothing to do now.
    pub(crate) fn begin(&mut self, rng: &mut Rng) -> Option<u64> {
        if !self.syncing.is_empty() || self.waiting.is_empty() {
            return None;
        }
        self.syncing = std::mem::take(&mut self.waiting);
        Some(match (self.slow, rng.one_in(50)) {
            (true, _) => rng.range(100, 800),
            (false, true) => rng.range(10, 200),
            (false, false) => rng.range(0, 4),
        })
    }

    /// The batch is written: the number of the last write in it. An error if the disk is full.
    pub(crate) fn finish(&mut self, now: u64, rng: &mut Rng) -> Result<Option<u64>, DiskFull> {
        if self.full {
            self.tear(now, rng);
            return Err(DiskFull);
        }
        let must_sync = self.syncing.iter().any(|change| match change {
            Change::Write(write) => write.must_sync,
            Change::Compact(_) => true,
        });
        let batch = std::mem::take(&mut self.syncing);
        let numbers = batch.iter().filter_map(|change| match change {
            Change::Write(write) => Some(write.number),
            Change::Compact(_) => None,
        });
        let last = numbers.last();
        self.cached.extend(batch.into_iter().map(|change| (now, change)));
        if self.lies {
            while self.cached.front().is_some_and(|(since, _)| since + LIE_MS <= now) {
                self.sync_one();
            }
        } else if must_sync {
            self.sync();
        }
        Ok(last)
    }

    /// The process was killed.
    pub(crate) fn killed(&mut self, now: u64, rng: &mut Rng) {
        self.tear(now, rng);
    }

    /// The machine lost its power.
    pub(crate) fn power_lost(&mut self, now: u64, rng: &mut Rng) {
        if self.lies {
            while self.cached.front().is_some_and(|(since, _)| since + LIE_MS <= now) {
                self.sync_one();
            }
        }
        self.tear(now, rng);
        let survive = rng.range(0, self.cached.len() as u64) as usize;
        self.cached.truncate(survive);
        self.sync();
    }

    /// What a master finds when it starts. It syncs what it finds before it says anything of it.
    pub(crate) fn open(&mut self) -> Found {
        if !self.lies {
            self.sync();
        }
        let mut image = self.durable.clone();
        for (_, change) in &self.cached {
            image.apply(change.clone());
        }
        Found {
            start: Start {
                hard_state: image.hard_state,
                snapshot: image.snapshot,
                entries: image.entries,
                committed: 0,
            },
            applied: self.applied.clone(),
        }
    }

    /// The applied registry reached the disk.
    pub(crate) fn keep_applied(&mut self, index: u64, registry: Vec<u8>) {
        self.applied = Some((index, registry));
    }

    /// The applied registry is gone or unreadable.
    pub(crate) fn lose_applied(&mut self) {
        self.applied = None;
    }

    /// Of what is being written, a beginning reaches the page cache.
    fn tear(&mut self, now: u64, rng: &mut Rng) {
        let reached = rng.range(0, self.syncing.len() as u64) as usize;
        let syncing = std::mem::take(&mut self.syncing);
        self.cached
            .extend(syncing.into_iter().take(reached).map(|change| (now, change)));
        self.waiting.clear();
    }

    fn sync(&mut self) {
        while !self.cached.is_empty() {
            self.sync_one();
        }
    }

    fn sync_one(&mut self) {
        if let Some((_, change)) = self.cached.pop_front() {
            self.durable.apply(change);
        }
    }
}

/// Nothing more can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskFull;

impl Image {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Write(write) => self.write(write),
            Change::Compact(snapshot) => self.compact(snapshot),
        }
    }

    fn write(&mut self, write: Write) {
        if let Some(snapshot) = write.snapshot {
            self.snapshot = snapshot;
            self.entries.clear();
        }
        if let Some(first) = write.entries.first() {
            let place = first.index.checked_sub(self.first()).map(|place| place as usize);
            let place = place.filter(|place| *place <= self.entries.len());
            let place = place.unwrap_or_else(|| {
                panic!(
                    "entry {} is written to a log of {} entries from {}",
                    first.index,
                    self.entries.len(),
                    self.first()
                )
            });
            self.entries.truncate(place);
            self.entries.extend(write.entries);
        }
        if let Some(state) = write.hard_state {
            self.hard_state = state;
        }
    }

    fn compact(&mut self, snapshot: Snapshot) {
        let covered = (snapshot.get_metadata().index + 1).saturating_sub(self.first()) as usize;
        assert!(
            covered <= self.entries.len(),
            "a snapshot covers entries that the log does not have"
        );
        self.entries.drain(..covered);
        self.snapshot = snapshot;
    }

    fn first(&self) -> u64 {
        self.snapshot.get_metadata().index + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(number: u64, indexes: &[u64], must_sync: bool) -> Change {
        let entries = indexes.iter().map(|index| {
            let mut entry = Entry::default();
            (entry.index, entry.term) = (*index, 1);
            entry
        });
        Change::Write(Write {
            number,
            entries: entries.collect(),
            must_sync,
            ..Write::default()
        })
    }

    fn last(disk: &mut Disk) -> u64 {
        disk.open().start.entries.last().map_or(0, |entry| entry.index)
    }

    #[test]
    fn what_was_acknowledged_survives_a_power_loss_and_what_was_not_may_be_lost() {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut disk = Disk::default();
            disk.hand_over(write(1, &[1, 2], true));
            assert!(disk.begin(&mut rng).is_some());
            assert_eq!(disk.finish(0, &mut rng), Ok(Some(1)));
            disk.hand_over(write(2, &[3], true));
            assert!(disk.begin(&mut rng).is_some());
            disk.power_lost(1, &mut rng);
            match last(&mut disk) {
                2 => lost += 1,
                3 => kept += 1,
                other => panic!("the log ends with {other}"),
            }
        }
        assert!(lost > 5 && kept > 5, "{lost} lost, {kept} kept");
    }

    #[test]
    fn what_need_not_be_synced_survives_the_process_and_not_always_the_machine() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut disk = Disk::default();
            disk.hand_over(write(1, &[1], false));
            disk.begin(&mut rng);
            assert_eq!(disk.finish(0, &mut rng), Ok(Some(1)));
            if seed % 2 == 0 {
                disk.killed(1, &mut rng);
                assert_eq!(last(&mut disk), 1);
            } else {
                disk.power_lost(1, &mut rng);
                lost += u64::from(last(&mut disk) == 0);
            }
        }
        assert!(lost > 0);
    }

    #[test]
    fn a_disk_that_lies_loses_what_it_acknowledged_lately() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut disk = Disk::liar();
            disk.hand_over(write(1, &[1], true));
            disk.begin(&mut rng);
            assert_eq!(disk.finish(0, &mut rng), Ok(Some(1)));
            disk.hand_over(write(2, &[2], true));
            disk.begin(&mut rng);
            assert_eq!(disk.finish(LIE_MS, &mut rng), Ok(Some(2)));
            disk.power_lost(LIE_MS, &mut rng);
            assert!(last(&mut disk) >= 1);
            lost += u64::from(last(&mut disk) == 1);
        }
        assert!(lost > 0);
    }

    #[test]
    fn a_full_disk_refuses_and_keeps_a_beginning() {
        let mut rng = Rng::new(1);
        let mut disk = Disk {
            full: true,
            ..Disk::default()
        };
        disk.hand_over(write(1, &[1], true));
        disk.begin(&mut rng);
        assert_eq!(disk.finish(0, &mut rng), Err(DiskFull));
        assert!(
            disk.begin(&mut rng).is_none(),
            "what waited is forgotten with its process"
        );
    }

    #[test]
    fn entries_are_replaced_and_covered_by_snapshots() {
        let mut rng = Rng::new(1);
        let mut disk = Disk::default();
        let mut snapshot = Snapshot::default();
        snapshot.mut_metadata().index = 2;
        for change in [
            write(1, &[1, 2, 3, 4], true),
            Change::Compact(snapshot),
            write(2, &[4], true),
        ] {
            disk.hand_over(change);
        }
        disk.begin(&mut rng);
        assert_eq!(disk.finish(0, &mut rng), Ok(Some(2)));
        let start = disk.open().start;
        let indexes: Vec<u64> = start.entries.iter().map(|entry| entry.index).collect();
        assert_eq!((start.snapshot.get_metadata().index, indexes), (2, vec![3, 4]));
    }
}

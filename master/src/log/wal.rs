//! The write-ahead log: one frame, one write and one sync for batches that are written together.

use std::collections::VecDeque;
use std::io;

use proffer_replication::eraftpb::HardState;

use super::disk::Disk;
use super::frame::{Builder, LENGTH_MAX, SegmentId};
use super::{Batch, Directory, Error, LogStore, Position, Recovered, recover, segment};
use crate::faults;

/// Sizes of the log.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The least and the most to which a segment grows before it is closed. In between it is a small part of the registry: space
    /// is reserved and freed by whole segments, and should be in proportion to what is kept.
    pub segment_bytes_min: u64,
    /// See there.
    pub segment_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes_min: 1 << 20,
            segment_bytes_max: 8 << 20,
        }
    }
}

/// A segment is as large as this part of the newest snapshot.
const SEGMENT_PART: u64 = 8;

/// A closed segment.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) name: String,
    /// Where the log ended when the next segment began.
    pub(super) last: u64,
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Active<F> {
    pub(super) name: String,
    pub(super) id: SegmentId,
    pub(super) sequence: u64,
    pub(super) file: F,
    /// Where the next frame begins.
    pub(super) offset: u64,
}

/// The raft log in segments of checksummed frames.
#[derive(Debug)]
pub struct Wal<D: Disk = Directory> {
    pub(super) disk: D,
    pub(super) options: Options,
    /// To which segments grow at present.
    pub(super) segment_bytes: u64,
    pub(super) closed: VecDeque<Closed>,
    pub(super) active: Active<D::File>,
    pub(super) hard_state: HardState,
    pub(super) snapshot: Position,
    /// The index of the last entry, or of the snapshot where there is none.
    pub(super) last: u64,
    pub(super) builder: Builder,
    pub(super) failed: bool,
}

impl<D: Disk> Wal<D> {
    /// Makes an empty log that continues a durable snapshot.
    ///
    /// # Errors
    /// The disk failed, or there is a log already.
    pub fn create(disk: D, options: Options, snapshot: Position, hard_state: HardState) -> Result<Self, Error> {
        let segment_bytes = options.segment_bytes_min;
        let active = create_segment(&disk, segment_bytes, 1, snapshot.index, snapshot, &hard_state)?;
        Ok(Self {
            disk,
            options,
            segment_bytes,
            closed: VecDeque::new(),
            active,
            hard_state,
            snapshot,
            last: snapshot.index,
            builder: Builder::default(),
            failed: false,
        })
    }

    /// Opens a log and returns what it holds. A write that a crash interrupted is cut off; it was never acknowledged.
    ///
    /// # Errors
    /// The disk failed, or the log is damaged or incomplete: then nothing is changed on disk.
    pub fn open(disk: D, options: Options) -> Result<(Self, Recovered), Error> {
        recover::open(disk, options)
    }

    /// True where the disk holds a log, damaged or not.
    ///
    /// # Errors
    /// The disk failed.
    pub fn exists(disk: &D) -> Result<bool, Error> {
        let names = disk.list().map_err(|source| fault("list", "the directory", source))?;
        Ok(names.iter().any(|name| segment::sequence_of(name).is_some()))
    }

    /// Segments from the next one on are in proportion to a snapshot of this size.
    pub fn size_segments(&mut self, snapshot_bytes: u64) {
        let (min, max) = (self.options.segment_bytes_min, self.options.segment_bytes_max);
        self.segment_bytes = (snapshot_bytes / SEGMENT_PART).clamp(min, max);
    }

    fn rotate(&mut self) -> Result<(), Error> {
        let sequence = self.active.sequence + 1;
        let next = create_segment(
            &self.disk,
            self.segment_bytes,
            sequence,
            self.last,
            self.snapshot,
            &self.hard_state,
        )?;
        let old = std::mem::replace(&mut self.active, next);
        self.closed.push_back(Closed {
            name: old.name,
            last: self.last,
        });
        Ok(())
    }

    fn write(&mut self, batches: &[Batch<'_>], keep_entries: bool) -> Result<(), Error> {
        let (mut last, mut snapshot) = (self.last, self.snapshot);
        self.builder.clear();
        for batch in batches {
            if let Some(position) = batch.snapshot {
                if position.index < last && !keep_entries {
                    self.builder.truncate(position.index + 1);
                    last = position.index;
                }
                self.builder.snapshot(position);
                last = last.max(position.index);
                snapshot = position;
            }
            if let (Some(first), Some(newest)) = (batch.entries.first(), batch.entries.last()) {
                if first.index <= last {
                    self.builder.truncate(first.index);
                }
                last = newest.index;
            }
            for entry in batch.entries {
                self.builder.entry(entry);
            }
        }
        // Of several the last one counts.
        let hard_state = batches.iter().rev().find_map(|batch| batch.hard_state);
        if let Some(state) = hard_state {
            self.builder.hard_state(state);
            if (state.term, state.vote) != (self.hard_state.term, self.hard_state.vote) {
                reach(faults::VOTE_BEFORE_WRITE, &self.active.name)?;
            }
        }
        self.write_frame()?;
        (self.last, self.snapshot) = (last, snapshot);
        if let Some(state) = hard_state {
            self.hard_state = state.clone();
        }
        Ok(())
    }

    /// Makes what was built durable, in a new segment if there is no room in this one.
    fn write_frame(&mut self) -> Result<(), Error> {
        let length = self.builder.frame_length();
        if length > LENGTH_MAX {
            let source = io::Error::new(io::ErrorKind::FileTooLarge, format!("a batch of {length} bytes"));
            return Err(fault("write", &self.active.name, source));
        }
        if self.active.offset + length as u64 > self.segment_bytes {
            self.rotate()?;
        }
        let active = &mut self.active;
        let frame = self.builder.seal(&active.id, active.offset);
        reach(faults::LOG_BEFORE_WRITE, &active.name)?;
        self.disk
            .write_at(&active.file, active.offset, frame)
            .map_err(|source| fault("write", &active.name, source))?;
        reach(faults::LOG_WRITTEN, &active.name)?;
        self.disk
            .sync(&active.file)
            .map_err(|source| fault("sync", &active.name, source))?;
        reach(faults::LOG_SYNCED, &active.name)?;
        active.offset += length as u64;
        Ok(())
    }

    fn remove_covered(&mut self) -> Result<(), Error> {
        let mut removed = false;
        while let Some(oldest) = self.closed.front()
            && oldest.last <= self.snapshot.index
        {
            self.disk
                .remove(&oldest.name)
                .map_err(|source| fault("remove", &oldest.name, source))?;
            self.closed.pop_front();
            removed = true;
        }
        if removed {
            self.disk
                .sync_directory()
                .map_err(|source| fault("sync", "the directory", source))?;
        }
        Ok(())
    }

    /// Runs a change of the disk; after one has failed there are no more.
    fn guarded(&mut self, change: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        let result = change(self);
        self.failed = result.is_err();
        result
    }
}

impl<D: Disk> LogStore for Wal<D> {
    fn append(&mut self, batches: &[Batch<'_>]) -> Result<(), Error> {
        self.guarded(|wal| wal.write(batches, false))
    }

    fn compact(&mut self, snapshot: Position, snapshot_bytes: u64) -> Result<(), Error> {
        self.size_segments(snapshot_bytes);
        if snapshot.index <= self.snapshot.index {
            return Ok(());
        }
        self.guarded(|wal| {
            let marker = Batch {
                snapshot: Some(snapshot),
                ..Batch::default()
            };
            wal.write(&[marker], true)?;
            if wal.active.offset > wal.segment_bytes / 2 {
                wal.rotate()?;
            }
            wal.remove_covered()
        })
    }
}

fn create_segment<D: Disk>(
    disk: &D,
    segment_bytes: u64,
    sequence: u64,
    last: u64,
    snapshot: Position,
    hard_state: &HardState,
) -> Result<Active<D::File>, Error> {
    let id = *uuid::Uuid::new_v4().as_bytes();
    let name = segment::name(sequence, last + 1);
    let opening = segment::opening(&id, sequence, last + 1, snapshot, hard_state);
    let file = disk
        .create(&name, segment_bytes)
        .map_err(|source| fault("create", &name, source))?;
    disk.write_at(&file, 0, &opening)
        .map_err(|source| fault("write", &name, source))?;
    disk.sync(&file).map_err(|source| fault("sync", &name, source))?;
    disk.sync_directory()
        .map_err(|source| fault("sync", "the directory", source))?;
    Ok(Active {
        name,
        id,
        sequence,
        file,
        offset: opening.len() as u64,
    })
}

fn reach(place: proffer_faults::Place, name: &str) -> Result<(), Error> {
    place.reach().map_err(|source| fault("write", name, source))
}

pub(super) fn fault(action: &'static str, name: &str, source: io::Error) -> Error {
    Error::Io {
        action,
        name: name.to_owned(),
        source,
    }
}

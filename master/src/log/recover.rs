//! Opening a log after a stop of any kind.
//!
//! 1. The segments with the highest consecutive sequences are the log; older ones outlived an interrupted compaction.
//! 2. Every frame is replayed. A frame that was torn by a crash may stand only at the end of the last segment, with no valid
//!    frame after it; a segment that was never written only in the last place. Anything else is damage, and refused.
//! 3. The entries must reach back to the snapshot without a gap.
//! 4. Only then is the disk changed: the torn tail is cut, leftovers are removed.

use std::collections::VecDeque;

use proffer_replication::eraftpb::{Entry, HardState};

use super::disk::Disk;
use super::frame::{self, Builder, Read, Record};
use super::wal::{Active, Closed, Options, Wal, fault};
use super::{Error, Position, Recovered, segment};

struct Found {
    name: String,
    sequence: u64,
    bytes: Vec<u8>,
}

pub(super) fn open<D: Disk>(disk: D, options: Options) -> Result<(Wal<D>, Recovered), Error> {
    let mut names: Vec<(u64, String)> = disk
        .list()
        .map_err(|source| fault("list", "the directory", source))?
        .into_iter()
        .filter_map(|name| Some((segment::sequence_of(&name)?, name)))
        .collect();
    names.sort();
    let mut leftovers = Vec::new();
    if let Some((_, name)) = names.last() {
        let bytes = read(&disk, name)?;
        if segment::is_blank(&bytes) && names.len() > 1 {
            leftovers.extend(names.pop().map(|(_, name)| name));
        }
    }
    let chain_start = (1..names.len())
        .rev()
        .find(|at| names[*at].0 != names[*at - 1].0 + 1)
        .unwrap_or(0);
    leftovers.extend(names.drain(..chain_start).map(|(_, name)| name));

    let mut replay: Option<Replay> = None;
    let mut closed: VecDeque<Closed> = VecDeque::new();
    let mut tail = None;
    let count = names.len();
    for (at, (sequence, name)) in names.into_iter().enumerate() {
        let bytes = read(&disk, &name)?;
        let found = Found { name, sequence, bytes };
        let offset = segment(&found, at + 1 == count, &mut replay)?;
        if at + 1 == count {
            tail = Some((found, offset));
        } else {
            let last = replay.as_ref().map_or(0, Replay::last);
            closed.push_back(Closed { name: found.name, last });
        }
    }
    let (Some(mut replay), Some((found, offset))) = (replay, tail) else {
        return Err(Error::Incomplete {
            problem: "it has no segment".to_owned(),
        });
    };
    replay.finish()?;

    let active = reopen(&disk, &found, offset)?;
    for name in &leftovers {
        disk.remove(name).map_err(|source| fault("remove", name, source))?;
    }
    if !leftovers.is_empty() {
        disk.sync_directory()
            .map_err(|source| fault("sync", "the directory", source))?;
    }
    let wal = Wal {
        disk,
        options,
        segment_bytes: options.segment_bytes_min,
        closed,
        active,
        hard_state: replay.hard_state.clone(),
        snapshot: replay.snapshot,
        last: replay.last(),
        builder: Builder::default(),
        failed: false,
    };
    let recovered = Recovered {
        hard_state: replay.hard_state,
        snapshot: replay.snapshot,
        entries: replay.entries.into(),
    };
    Ok((wal, recovered))
}

fn read<D: Disk>(disk: &D, name: &str) -> Result<Vec<u8>, Error> {
    disk.read(name).map_err(|source| fault("read", name, source))
}

/// Replays one segment and returns where its last valid frame ends.
fn segment(found: &Found, is_last: bool, replay: &mut Option<Replay>) -> Result<usize, Error> {
    let Some(id) = segment::id_of(&found.bytes) else {
        return Err(damaged(found, 0, "the head of the segment is wrong"));
    };
    let mut offset = segment::HEAD_LENGTH;
    loop {
        match frame::read(&id, &found.bytes, offset) {
            Read::Frame { records, next } => {
                let is_start = offset == segment::HEAD_LENGTH;
                replay_frame(found, is_start, records, replay)
                    .map_err(|problem| damaged(found, offset as u64, problem))?;
                offset = next;
            }
            Read::Damaged(problem) => return Err(damaged(found, offset as u64, problem)),
            Read::Torn if !is_last => return Err(damaged(found, offset as u64, "a frame is not whole")),
            Read::Empty | Read::Torn => break,
        }
    }
    if offset == segment::HEAD_LENGTH {
        return Err(damaged(found, offset as u64, "the first frame is missing"));
    }
    if let Some(later) = frame::find_valid(&id, &found.bytes, offset) {
        let problem = format!("a frame is missing, but one that was written later is there at byte {later}");
        return Err(damaged(found, offset as u64, problem));
    }
    Ok(offset)
}

fn replay_frame(
    found: &Found,
    is_start: bool,
    records: Vec<Record>,
    replay: &mut Option<Replay>,
) -> Result<(), String> {
    if is_start {
        return start(found.sequence, &records, replay);
    }
    let Some(replay) = replay else {
        return Err("the first frame is missing".to_owned());
    };
    records.into_iter().try_for_each(|record| replay.record(record))
}

/// The first frame of a segment begins the replay, or must say where the replay stands.
fn start(name_sequence: u64, records: &[Record], replay: &mut Option<Replay>) -> Result<(), String> {
    let [
        Record::Start { sequence, first },
        Record::Snapshot(snapshot),
        Record::HardState(state),
    ] = records
    else {
        return Err("the segment does not begin with its state".to_owned());
    };
    if *sequence != name_sequence {
        return Err(format!("the segment is number {sequence}, not what its name says"));
    }
    let begins = Replay {
        first: *first,
        entries: VecDeque::new(),
        snapshot: *snapshot,
        hard_state: state.clone(),
    };
    match replay {
        None => *replay = Some(begins),
        Some(replay) => {
            let same = replay.last() + 1 == *first && replay.snapshot == *snapshot && replay.hard_state == *state;
            if !same {
                return Err("the segment does not continue the one before it".to_owned());
            }
        }
    }
    Ok(())
}

/// Cuts what a crash left unfinished, and opens the segment for more.
fn reopen<D: Disk>(disk: &D, found: &Found, offset: usize) -> Result<Active<D::File>, Error> {
    let file = disk
        .open(&found.name)
        .map_err(|source| fault("open", &found.name, source))?;
    if !segment::is_blank(found.bytes.get(offset..).unwrap_or_default()) {
        tracing::info!(
            segment = found.name,
            offset,
            "a write that a crash interrupted is cut off the raft log"
        );
        disk.set_length(&file, offset as u64)
            .map_err(|source| fault("cut", &found.name, source))?;
        disk.sync(&file).map_err(|source| fault("sync", &found.name, source))?;
    }
    Ok(Active {
        name: found.name.clone(),
        id: segment::id_of(&found.bytes).unwrap_or_default(),
        sequence: found.sequence,
        file,
        offset: offset as u64,
    })
}

fn damaged(found: &Found, offset: u64, problem: impl Into<String>) -> Error {
    Error::Damaged {
        name: found.name.clone(),
        offset,
        problem: problem.into(),
    }
}

/// The log as its records say.
struct Replay {
    /// The index of the first of `entries`, or of the next one where there is none.
    first: u64,
    entries: VecDeque<Entry>,
    snapshot: Position,
    hard_state: HardState,
}

impl Replay {
    fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    fn record(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Entry(entry) if entry.index == self.last() + 1 => self.entries.push_back(entry),
            Record::Entry(entry) => {
                return Err(format!("entry {} follows entry {}", entry.index, self.last()));
            }
            Record::HardState(state) => self.hard_state = state,
            Record::Truncate(0) => return Err("entry 0 is cut off, which no log has".to_owned()),
            Record::Truncate(index) if index <= self.first => {
                self.entries.clear();
                self.first = index;
            }
            Record::Truncate(index) => self.entries.truncate((index - self.first) as usize),
            Record::Snapshot(position) => {
                self.snapshot = position;
                if position.index > self.last() {
                    self.entries.clear();
                    self.first = position.index + 1;
                }
            }
            Record::Start { .. } => return Err("a segment begins inside another".to_owned()),
        }
        Ok(())
    }

    /// Drops what the snapshot covers.
    fn finish(&mut self) -> Result<(), Error> {
        let wanted = self.snapshot.index + 1;
        if self.first > wanted {
            return Err(Error::Incomplete {
                problem: format!("entries {wanted} to {} are missing", self.first - 1),
            });
        }
        while self.first < wanted && self.entries.pop_front().is_some() {
            self.first += 1;
        }
        if self.last() < self.snapshot.index || self.last() < self.hard_state.commit {
            return Err(Error::Incomplete {
                problem: format!(
                    "it ends with entry {}, but the snapshot reaches to {} and what is committed to {}",
                    self.last(),
                    self.snapshot.index,
                    self.hard_state.commit
                ),
            });
        }
        Ok(())
    }
}

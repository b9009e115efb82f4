//! Segments: the files of the log.
//!
//! A segment is called `<sequence>-<first>.wal` (hexadecimal; `first` is the index that its first entry will have where
//! nothing is replaced). It begins with a head of 32 bytes, `magic 8 | random id 16 | crc u32 | zeros`, and one frame
//! with the state of the log at that moment: sequence, first index, snapshot marker and hard state. So the segments before
//! it can go as soon as a snapshot covers their entries. Head and first frame lie in one sector: they are there whole or
//! not at all.

use proffer_replication::eraftpb::HardState;

use super::Position;
use super::frame::{Builder, SECTOR, SegmentId};

pub(super) const HEAD_LENGTH: usize = 32;
const MAGIC: &[u8; 8] = b"PROFWAL\x01";
const SUFFIX: &str = ".wal";

pub(super) fn name(sequence: u64, first: u64) -> String {
    format!("{sequence:016x}-{first:016x}{SUFFIX}")
}

/// The sequence in a segment's name; `None` for other files.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    let (sequence, first) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    u64::from_str_radix(first, 16).ok()?;
    (sequence.len() == 16).then_some(())?;
    u64::from_str_radix(sequence, 16).ok()
}

/// The first sector of a new segment: its head and its first frame.
pub(super) fn opening(id: &SegmentId, sequence: u64, first: u64, snapshot: Position, state: &HardState) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SECTOR);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(id);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.resize(HEAD_LENGTH, 0);
    let mut builder = Builder::default();
    builder.clear();
    builder.start(sequence, first);
    builder.snapshot(snapshot);
    builder.hard_state(state);
    bytes.extend_from_slice(builder.seal(id, HEAD_LENGTH as u64));
    debug_assert!(bytes.len() <= SECTOR);
    bytes
}

/// The id in a segment's head, if the head is valid.
pub(super) fn id_of(bytes: &[u8]) -> Option<SegmentId> {
    let head = bytes.get(..HEAD_LENGTH)?;
    let crc = u32::from_le_bytes(head[24..28].try_into().ok()?);
    let valid = &head[..8] == MAGIC && crc == crc32c::crc32c(&head[..24]) && head[28..] == [0; 4];
    valid.then(|| head[8..24].try_into().ok())?
}

/// True where nothing of the segment was ever written: it was being created when the machine stopped.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

//! Frames: one durable write each, and the records inside.
//!
//! ```text
//! frame:   magic u32 | length u32 | payload crc u32 | header crc u32 | payload, padded to 16 bytes
//! payload: records, each kind u8 and then
//!            1 entry      index u64 | term u64 | type u8 | data length u32 | context length u32 | data | context
//!            2 hard state term u64 | vote u64 | commit u64
//!            3 truncate   index u64             entries from here on are void
//!            4 snapshot   index u64 | term u64  the log is complete up to here by a snapshot
//!            5 start      sequence u64 | first u64, only at the start of a segment
//! ```
//! Little-endian. Both checksums (CRC-32C) cover the segment's random id and the frame's offset too, so that a frame is
//! valid at its own place only.
//!
//! A frame is on disk before the next one is written, so a crash can tear only the last frame. What a torn frame looks
//! like: sectors of 512 bytes are written whole or not at all, and what was not written reads as zeros. The payload is
//! stored xor-ed with a constant so that a written sector is not all zeros; that is how [`read`] tells a torn frame,
//! which was never acknowledged, from a damaged one.

use proffer_replication::eraftpb::{Entry, EntryType, HardState};

use super::Position;

pub(super) const ALIGNMENT: usize = 16;
pub(super) const HEADER_LENGTH: usize = 16;
pub(super) const SECTOR: usize = 512;
/// Longer frames are refused when written, and so are damage when read.
pub(super) const LENGTH_MAX: usize = 256 << 20;
const MAGIC: u32 = 0x57a1_f7a3;
const WHITENING: u8 = 0xa5;

/// The random id of a segment.
pub(super) type SegmentId = [u8; 16];

/// One record of a frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    Entry(Entry),
    HardState(HardState),
    Truncate(u64),
    Snapshot(Position),
    Start { sequence: u64, first: u64 },
}

/// Collects records and seals them into a frame.
#[derive(Debug, Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEADER_LENGTH, 0);
        // A large snapshot of entries should not hold its memory for ever.
        self.bytes.shrink_to(1 << 20);
    }

    pub(super) fn entry(&mut self, entry: &Entry) {
        self.bytes.push(1);
        self.u64(entry.index);
        self.u64(entry.term);
        self.bytes.push(match entry.get_entry_type() {
            EntryType::EntryNormal => 0,
            EntryType::EntryConfChange => 1,
            EntryType::EntryConfChangeV2 => 2,
        });
        self.u32(entry.data.len() as u32);
        self.u32(entry.context.len() as u32);
        self.bytes.extend_from_slice(&entry.data);
        self.bytes.extend_from_slice(&entry.context);
    }

    pub(super) fn hard_state(&mut self, state: &HardState) {
        self.bytes.push(2);
        self.u64(state.term);
        self.u64(state.vote);
        self.u64(state.commit);
    }

    pub(super) fn truncate(&mut self, index: u64) {
        self.bytes.push(3);
        self.u64(index);
    }

    pub(super) fn snapshot(&mut self, position: Position) {
        self.bytes.push(4);
        self.u64(position.index);
        self.u64(position.term);
    }

    pub(super) fn start(&mut self, sequence: u64, first: u64) {
        self.bytes.push(5);
        self.u64(sequence);
        self.u64(first);
    }

    /// How long the frame will be.
    pub(super) fn frame_length(&self) -> usize {
        self.bytes.len().next_multiple_of(ALIGNMENT)
    }

    /// The finished frame for its place.
    pub(super) fn seal(&mut self, segment: &SegmentId, offset: u64) -> &[u8] {
        let length = self.bytes.len() - HEADER_LENGTH;
        self.bytes.resize(self.frame_length(), 0);
        for byte in &mut self.bytes[HEADER_LENGTH..] {
            *byte ^= WHITENING;
        }
        let payload_crc = checksum(segment, offset, &self.bytes[HEADER_LENGTH..]);
        self.bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        self.bytes[8..12].copy_from_slice(&payload_crc.to_le_bytes());
        let header_crc = checksum(segment, offset, &self.bytes[..12]);
        self.bytes[12..16].copy_from_slice(&header_crc.to_le_bytes());
        &self.bytes
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
}

/// What stands at an offset of a segment.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    /// A valid frame with its records, and where the next one begins.
    Frame { records: Vec<Record>, next: usize },
    /// Nothing was written here.
    Empty,
    /// A write that did not finish.
    Torn,
    /// Something that no crash leaves behind.
    Damaged(&'static str),
}

/// Reads the frame at `offset` of a segment's bytes.
pub(super) fn read(segment: &SegmentId, bytes: &[u8], offset: usize) -> Read {
    let header = &bytes[offset.min(bytes.len())..(offset + HEADER_LENGTH).min(bytes.len())];
    if header.iter().all(|byte| *byte == 0) {
        return Read::Empty;
    }
    let Some((length, payload_crc)) = header_at(segment, bytes, offset) else {
        return Read::Damaged("the header of a frame is wrong");
    };
    let end = (offset + HEADER_LENGTH + length).next_multiple_of(ALIGNMENT);
    let stored = bytes.get(offset + HEADER_LENGTH..end);
    if let Some(stored) = stored
        && checksum(segment, offset as u64, stored) == payload_crc
    {
        let payload: Vec<u8> = stored[..length].iter().map(|byte| byte ^ WHITENING).collect();
        return match records(&payload) {
            Some(records) => Read::Frame { records, next: end },
            None => Read::Damaged("a frame holds a record of an unknown kind"),
        };
    }
    if has_unwritten_sector(bytes, offset, end) {
        Read::Torn
    } else {
        Read::Damaged("the checksum of a frame is wrong")
    }
}

/// The first whole frame that begins at or after `from`.
pub(super) fn find_valid(segment: &SegmentId, bytes: &[u8], from: usize) -> Option<usize> {
    (from.next_multiple_of(ALIGNMENT)..bytes.len())
        .step_by(ALIGNMENT)
        .find(|offset| {
            bytes[*offset..].starts_with(&MAGIC.to_le_bytes())
                && matches!(read(segment, bytes, *offset), Read::Frame { .. })
        })
}

/// The payload's length and checksum, if the header is valid.
fn header_at(segment: &SegmentId, bytes: &[u8], offset: usize) -> Option<(usize, u32)> {
    let header = bytes.get(offset..offset + HEADER_LENGTH)?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let length = word(4) as usize;
    let valid = word(0) == MAGIC && word(12) == checksum(segment, offset as u64, &header[..12]) && length <= LENGTH_MAX;
    valid.then(|| (length, word(8)))
}

/// True where some sector's part of the range is all zeros (beyond the end of the file counts as that).
fn has_unwritten_sector(bytes: &[u8], start: usize, end: usize) -> bool {
    let mut at = start;
    while at < end {
        let stop = (at / SECTOR * SECTOR + SECTOR).min(end);
        let part = &bytes[at.min(bytes.len())..stop.min(bytes.len())];
        if part.iter().all(|byte| *byte == 0) {
            return true;
        }
        at = stop;
    }
    false
}

fn checksum(segment: &SegmentId, offset: u64, bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(segment), &offset.to_le_bytes());
    crc32c::crc32c_append(crc, bytes)
}

fn records(payload: &[u8]) -> Option<Vec<Record>> {
    let mut input = Reader(payload);
    let mut records = Vec::new();
    while let Some(kind) = input.u8() {
        records.push(match kind {
            1 => Record::Entry(input.entry()?),
            2 => {
                let state = HardState {
                    term: input.u64()?,
                    vote: input.u64()?,
                    commit: input.u64()?,
                    ..HardState::default()
                };
                Record::HardState(state)
            }
            3 => Record::Truncate(input.u64()?),
            4 => Record::Snapshot(Position {
                index: input.u64()?,
                term: input.u64()?,
            }),
            5 => Record::Start {
                sequence: input.u64()?,
                first: input.u64()?,
            },
            _ => return None,
        });
    }
    Some(records)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn entry(&mut self) -> Option<Entry> {
        let mut entry = Entry {
            index: self.u64()?,
            term: self.u64()?,
            ..Entry::default()
        };
        entry.set_entry_type(match self.u8()? {
            0 => EntryType::EntryNormal,
            1 => EntryType::EntryConfChange,
            2 => EntryType::EntryConfChangeV2,
            _ => return None,
        });
        let data = self.u32()? as usize;
        let context = self.u32()? as usize;
        entry.data = self.take(data)?.to_vec().into();
        entry.context = self.take(context)?.to_vec().into();
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentId = [7; 16];

    fn sealed(offset: u64, data: &[u8]) -> Vec<u8> {
        let entry = Entry {
            index: 3,
            term: 2,
            data: data.to_vec().into(),
            ..Entry::default()
        };
        let mut builder = Builder::default();
        builder.clear();
        builder.entry(&entry);
        builder.seal(&SEGMENT, offset).to_vec()
    }

    #[test]
    fn a_frame_reads_back() {
        let bytes = sealed(0, b"hello");
        let Read::Frame { records, next } = read(&SEGMENT, &bytes, 0) else {
            panic!("not a frame");
        };
        assert_eq!(next, bytes.len());
        let [Record::Entry(entry)] = records.as_slice() else {
            panic!("not one entry: {records:?}");
        };
        assert_eq!((entry.index, entry.term, &entry.data[..]), (3, 2, &b"hello"[..]));
    }

    #[test]
    fn a_frame_is_valid_at_its_own_place_and_in_its_own_segment_only() {
        let bytes = sealed(16, b"hello");
        assert!(matches!(read(&SEGMENT, &bytes, 0), Read::Damaged(_)));
        let bytes = sealed(0, b"hello");
        assert!(matches!(read(&[8; 16], &bytes, 0), Read::Damaged(_)));
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_damage() {
        // The data is zeros: a sector of zeros must not pass for one that was never written.
        let bytes = sealed(0, &[0; 1500]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&SEGMENT, &damaged, 0), Read::Damaged(_)), "bit {bit}");
        }
    }

    #[test]
    fn any_missing_sector_makes_a_frame_torn() {
        let bytes = sealed(0, &[1; 1500]);
        for sector in 1..bytes.len().div_ceil(SECTOR) {
            let mut torn = bytes.clone();
            let end = ((sector + 1) * SECTOR).min(torn.len());
            torn[sector * SECTOR..end].fill(0);
            assert_eq!(read(&SEGMENT, &torn, 0), Read::Torn, "sector {sector}");
            assert_eq!(read(&SEGMENT, &bytes[..sector * SECTOR], 0), Read::Torn);
        }
    }
}

//! The journal: one append-only file of checksummed records, made durable in groups.
//!
//! ```text
//! file    = magic (8 bytes), whole u64, crc32c u32, frame*, zeros to the end of the preallocated space
//! frame   = length u32, crc32c u32, durable u64, record (length bytes)      little endian
//! ```
//! The checksum of a frame covers `durable` and the record. `durable` is the length of the journal that was known to be on
//! disk when the frame was written, and `whole` the length at which the file was put in its place. This is what tells a torn
//! tail from corruption: a write that was cut short by a crash can only damage what nothing calls durable. A damaged frame
//! is therefore cut, with all that follows, unless it lies in front of `whole` or a sound frame behind it vouches for it:
//! then something destroyed data that was safely on disk, and the journal is refused.
//!
//! A full disk is no failure of the journal: what could not be written can be written again when there is room, and then counts.
//! A journal that cannot be compacted for want of room is used as it is.
//!
//! The space is allocated ahead of the writes, so that making them durable touches no metadata of the file: measured on
//! ext4, 0.2 ms a group instead of 3.5 ms.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;
use rustix::fs::FallocateFlags;

use super::image::Image;
use super::layout::Layout;
use super::record::Record;
use crate::faults;

const MAGIC: &[u8; 8] = b"PROFFERk";
/// The magic, `whole` and its checksum.
const HEAD_BYTES: usize = 20;
const HEADER_BYTES: usize = 16;
/// No record is larger: gRPC bounds the messages that records are made of to 4 MiB.
const RECORD_BYTES_MAX: usize = 8 << 20;
/// How much space is allocated at a time.
const CHUNK_BYTES: u64 = 1 << 20;
/// Compaction is not worth while below this length.
const COMPACT_BYTES_MIN: u64 = 4 << 20;

/// A failure of the journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is not a journal.
    #[error("{} is not a journal of this version: it does not begin with {:?}; restore it, or move it away to begin anew under another agent id: the tasks that run here are then killed", path.display(), String::from_utf8_lossy(MAGIC))]
    Magic {
        /// The file.
        path: PathBuf,
    },
    /// Data that was durable is damaged.
    #[error("{} is corrupt: what begins at byte {offset} is damaged, and it was safely written; restore the file, or move it away to begin anew under another agent id: the tasks that run here are then killed", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damage begins, or the damaged record.
        offset: u64,
    },
}

impl Error {
    /// Whether there is only no room, for which one can wait.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Error::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// A journal that is open for appending.
#[derive(Debug)]
pub struct Journal {
    file: Arc<File>,
    path: PathBuf,
    path_new: PathBuf,
    /// The length of the sound frames.
    len: u64,
    /// How much of it is known to be on disk.
    durable: u64,
    /// How much space the file has.
    allocated: u64,
    /// The length at which the journal is compacted.
    compact_at: u64,
    image: Image,
}

impl Journal {
    /// Opens the journal, or begins one, and cuts a torn tail.
    ///
    /// # Errors
    /// A file operation failed, or the journal is corrupt.
    pub fn open(layout: &Layout) -> Result<Self, Error> {
        let (path, path_new) = (layout.journal(), layout.journal_new());
        match std::fs::remove_file(&path_new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path_new)(error));
            }
            _ => {}
        }
        let mut image = Image::default();
        let mut present = None;
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(io_error("read", &path))?;
                let ends = read(&bytes, &path, |record| image.apply(record))?;
                present = Some((file, ends, bytes.len() as u64));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("open", &path)(error)),
        }
        // Starting from a compact copy cuts the tail, and bounds the time of the next start.
        let (file, len, allocated) = match (write_image(&image, &path, &path_new), present) {
            (Err(error), Some(present)) if error.is_full() => {
                tracing::error!(%error, "the disk is full: the journal is used as it is");
                go_on(present).map_err(io_error("cut the tail of", &path))?
            }
            (written, _) => written?,
        };
        Ok(Self {
            file: Arc::new(file),
            path,
            path_new,
            len,
            durable: len,
            allocated,
            compact_at: compact_at(len),
            image,
        })
    }

    /// What the journal amounts to.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Appends records, which are taken out; they are not durable before `sync`.
    ///
    /// # Errors
    /// A file operation failed: none of the records counts, and all are left where they are. Where the disk is full they may be
    /// appended later; otherwise the journal must not be used any more.
    pub fn append(&mut self, records: &mut Vec<Record>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for record in records.iter() {
            frame(record, self.durable, &mut bytes);
        }
        let end = self.len + bytes.len() as u64;
        if end > self.allocated {
            self.allocated = allocate(&self.file, end).map_err(io_error("extend", &self.path))?;
        }
        let reached = faults::JOURNAL_BEFORE_WRITE.reach();
        reached
            .and_then(|()| self.file.write_all_at(&bytes, self.len))
            .map_err(io_error("write", &self.path))?;
        self.len = end;
        for record in records.drain(..) {
            self.image.apply(record);
        }
        Ok(())
    }

    /// Whether these can be appended without more space being allocated, which waits for the disk.
    pub fn has_room(&self, records: &[Record]) -> bool {
        let length = |record: &Record| (HEADER_BYTES + record.encoded_len()) as u64;
        self.len + records.iter().map(length).sum::<u64>() <= self.allocated
    }

    /// What must be synced for all that was appended to be durable.
    pub fn unsynced(&self) -> Option<Unsynced> {
        (self.durable < self.len).then(|| Unsynced {
            file: Arc::clone(&self.file),
            path: self.path.clone(),
            len: self.len,
        })
    }

    /// Takes note of what is durable now, and compacts the journal when it has grown far beyond what it amounts to.
    ///
    /// # Errors
    /// A file operation failed; the journal must not be used any more.
    pub fn synced(&mut self, synced: &Unsynced) -> Result<(), Error> {
        self.durable = synced.len;
        faults::JOURNAL_SYNCED.pass();
        if self.len <= self.compact_at {
            return Ok(());
        }
        match write_image(&self.image, &self.path, &self.path_new) {
            Ok((file, len, allocated)) => {
                (self.file, self.len, self.durable, self.allocated) = (Arc::new(file), len, len, allocated);
                self.compact_at = compact_at(len);
            }
            Err(error) if error.is_full() => {
                tracing::error!(%error, "the disk is full: the journal is not compacted");
                self.compact_at = self.len + CHUNK_BYTES;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// What was appended to a journal and is not known to be on disk.
#[derive(Debug)]
pub struct Unsynced {
    file: Arc<File>,
    path: PathBuf,
    len: u64,
}

impl Unsynced {
    /// Waits for the disk. More may be appended meanwhile.
    ///
    /// # Errors
    /// A file operation failed; the journal must not be used any more.
    pub fn sync(&self) -> Result<(), Error> {
        let reached = faults::JOURNAL_WRITTEN.reach();
        reached
            .and_then(|()| self.file.sync_data())
            .map_err(io_error("sync", &self.path))
    }
}

fn compact_at(len: u64) -> u64 {
    (len * 4).max(COMPACT_BYTES_MIN)
}

/// Makes a journal that was read ready for appending: nothing may be left of a torn tail. Takes no more space.
fn go_on((file, ends, allocated): (File, Ends, u64)) -> io::Result<(File, u64, u64)> {
    file.write_all_at(&vec![0; ends.damaged - ends.sound], ends.sound as u64)?;
    file.sync_all()?;
    Ok((file, ends.sound as u64, allocated))
}

/// Writes a journal of the image beside the present one and puts it in its place; leaves nothing where it cannot.
fn write_image(image: &Image, path: &Path, path_new: &Path) -> Result<(File, u64, u64), Error> {
    let written = write_beside(image, path, path_new);
    if written.is_err() {
        let _ = std::fs::remove_file(path_new);
    }
    written
}

fn write_beside(image: &Image, path: &Path, path_new: &Path) -> Result<(File, u64, u64), Error> {
    let bytes = compact(image.records());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        // It holds what tasks were given, secrets too, and the tokens of executors.
        .mode(0o600)
        .open(path_new)
        .map_err(io_error("create", path_new))?;
    let allocated = allocate(&file, bytes.len() as u64).map_err(io_error("extend", path_new))?;
    file.write_all_at(&bytes, 0).map_err(io_error("write", path_new))?;
    file.sync_all().map_err(io_error("sync", path_new))?;
    let reached = faults::JOURNAL_BEFORE_RENAME.reach();
    reached.map_err(io_error("put in place", path_new))?;
    std::fs::rename(path_new, path).map_err(io_error("put in place", path_new))?;
    faults::JOURNAL_RENAMED.pass();
    let parent = path.parent().unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.map_err(io_error("sync", parent))?;
    Ok((file, bytes.len() as u64, allocated))
}

/// A whole journal of these records.
fn compact(records: impl IntoIterator<Item = Record>) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    for record in records {
        frame(&record, 0, &mut bytes);
    }
    let whole = (bytes.len() as u64).to_le_bytes();
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&whole);
    bytes[16..HEAD_BYTES].copy_from_slice(&crc32c::crc32c(&whole).to_le_bytes());
    bytes
}

/// How long the journal was when it was put in its place.
fn whole(bytes: &[u8]) -> Option<usize> {
    let (whole, crc) = bytes.get(8..HEAD_BYTES)?.split_at(8);
    let sound = crc32c::crc32c(whole).to_le_bytes() == crc;
    usize::try_from(u64::from_le_bytes(whole.try_into().ok()?))
        .ok()
        .filter(|_| sound)
}

/// Gives the file space for `len` bytes and more; zeros where nothing was written.
fn allocate(file: &File, len: u64) -> io::Result<u64> {
    let allocated = (len / CHUNK_BYTES + 1) * CHUNK_BYTES;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, allocated) {
        Ok(()) => {}
        // A file system without preallocation is slower, not wrong.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(allocated)?,
        Err(error) => return Err(error.into()),
    }
    file.sync_all()?;
    Ok(allocated)
}

fn frame(record: &Record, durable: u64, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; HEADER_BYTES - 8]);
    bytes.extend_from_slice(&durable.to_le_bytes());
    record.encode(bytes).expect("a Vec grows");
    let length = (bytes.len() - start - HEADER_BYTES) as u32;
    let crc = crc32c::crc32c(&bytes[start + 8..]);
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// A sound frame: its `durable`, its record, and where it ends.
fn parse(bytes: &[u8], offset: usize) -> Option<(u64, Record, usize)> {
    let header = bytes.get(offset..offset + HEADER_BYTES)?;
    let length = u32::from_le_bytes(header[0..4].try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(header[4..8].try_into().ok()?);
    if length == 0 || length > RECORD_BYTES_MAX {
        return None;
    }
    let end = offset + HEADER_BYTES + length;
    let sealed = bytes.get(offset + 8..end)?;
    if crc32c::crc32c(sealed) != crc {
        return None;
    }
    let durable = u64::from_le_bytes(sealed[..8].try_into().ok()?);
    Some((durable, Record::decode(&sealed[8..]).ok()?, end))
}

/// Where the parts of a journal end.
struct Ends {
    /// The sound frames.
    sound: usize,
    /// The torn tail behind them; zeros follow.
    damaged: usize,
}

/// Hands over the sound records in order; the torn tail, if there is one, is passed over.
fn read(bytes: &[u8], path: &Path, mut each: impl FnMut(Record)) -> Result<Ends, Error> {
    if !bytes.starts_with(MAGIC) {
        return Err(Error::Magic { path: path.to_owned() });
    }
    let corrupt = |offset: usize| Error::Corrupt {
        path: path.to_owned(),
        offset: offset as u64,
    };
    let whole = whole(bytes).ok_or_else(|| corrupt(MAGIC.len()))?;
    let mut offset = HEAD_BYTES;
    while let Some((_, record, end)) = parse(bytes, offset) {
        each(record);
        offset = end;
    }
    if offset < whole {
        return Err(corrupt(offset));
    }
    let damage_end = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    for later in offset..damage_end {
        if parse(bytes, later).is_some_and(|(durable, _, _)| durable > offset as u64) {
            return Err(corrupt(offset));
        }
    }
    if offset < damage_end {
        tracing::warn!(offset, bytes = damage_end - offset, "the journal's torn tail is cut");
    }
    Ok(Ends {
        sound: offset,
        damaged: damage_end.max(offset),
    })
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::record::{Boot, Fact};

    fn boot(id: usize) -> Record {
        Fact::Boot(Boot {
            id: format!("boot-{id}-{}", "x".repeat(id)),
        })
        .into()
    }

    fn sync(journal: &mut Journal) {
        if let Some(unsynced) = journal.unsynced() {
            unsynced.sync().unwrap();
            journal.synced(&unsynced).unwrap();
        }
    }

    fn boots(bytes: &[u8]) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        read(bytes, Path::new("journal"), |record| records.push(record))?;
        Ok(records)
    }

    /// Groups of records, each made durable before the next; returns the bytes and the end of every group.
    fn grouped(groups: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = compact([]);
        let (mut ends, mut next) = (vec![bytes.len()], 0);
        for count in groups {
            let durable = bytes.len() as u64;
            for _ in 0..*count {
                frame(&boot(next), durable, &mut bytes);
                next += 1;
            }
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn a_journal_cut_at_any_byte_yields_the_records_before_the_cut() {
        let (bytes, _) = grouped(&[2, 3, 1]);
        let all = boots(&bytes).unwrap();
        assert_eq!(all.len(), 6);
        for cut in HEAD_BYTES..bytes.len() {
            for padding in [0, 64] {
                let mut torn = bytes[..cut].to_vec();
                torn.resize(cut + padding, 0);
                let records = boots(&torn).unwrap();
                assert_eq!(records, all[..records.len()], "cut at {cut}");
                assert!(records.len() < 6);
            }
        }
    }

    #[test]
    fn damage_in_the_last_group_is_a_torn_tail_and_before_it_corruption() {
        let (bytes, ends) = grouped(&[2, 3, 2]);
        let last = ends[2];
        for at in HEAD_BYTES..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x5a;
            match boots(&damaged) {
                Ok(records) => assert!(at >= last && records.len() >= 5, "byte {at}"),
                Err(Error::Corrupt { offset, .. }) => assert!(at < last && offset <= at as u64, "byte {at}"),
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
    }

    #[test]
    fn a_compacted_journal_is_refused_wherever_it_is_damaged_or_cut() {
        let bytes = compact((0..4).map(boot));
        assert_eq!(boots(&bytes).unwrap().len(), 4);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(boots(&damaged).is_err(), "bit {bit} of byte {at}");
            }
            for padding in [0, 64] {
                let mut cut = bytes[..at].to_vec();
                cut.resize(at + padding, 0);
                assert!(boots(&cut).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn damage_after_a_start_is_refused_before_anything_else_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let mut journal = Journal::open(&layout).unwrap();
        journal.append(&mut vec![boot(3)]).unwrap();
        sync(&mut journal);
        drop(journal);
        let len = Journal::open(&layout).unwrap().len as usize;
        let bytes = std::fs::read(layout.journal()).unwrap();
        for at in 0..len {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(layout.journal(), &damaged).unwrap();
            assert!(Journal::open(&layout).is_err(), "byte {at}");
            assert_eq!(std::fs::read(layout.journal()).unwrap(), damaged, "byte {at}");
        }
        std::fs::write(layout.journal(), "").unwrap();
        assert!(matches!(Journal::open(&layout), Err(Error::Magic { .. })));
    }

    #[test]
    fn what_was_synced_is_there_after_reopening_and_compaction() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let mut journal = Journal::open(&layout).unwrap();
        for _ in 0..200 {
            journal.append(&mut (0..20).map(|id| boot(id * 100)).collect()).unwrap();
            sync(&mut journal);
        }
        journal.append(&mut vec![boot(3)]).unwrap();
        sync(&mut journal);
        assert!(journal.len < COMPACT_BYTES_MIN);
        drop(journal);
        let journal = Journal::open(&layout).unwrap();
        assert_eq!(journal.image().boot.as_deref(), Some("boot-3-xxx"));
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        std::fs::write(layout.journal(), "something else").unwrap();
        assert!(matches!(Journal::open(&layout), Err(Error::Magic { .. })));
    }
}

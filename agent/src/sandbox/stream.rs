//! Reads a task's output as one file, though it is divided into several (`stdout.2`, `stdout.1`, `stdout`).
//!
//! Offsets count from the first byte that the task wrote. Each file says in an attribute at which offset it begins, so a reader
//! that follows never notices that a file was begun or an old one removed: what was at an offset stays there. What was removed
//! reads as zeros, like a hole of a file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proffer_shim::plan::LOG_START_ATTRIBUTE;

/// The files that are divided.
pub(super) const NAMES: [&str; 2] = ["stdout", "stderr"];
/// The most files that are looked at.
const FILES_MAX: u32 = 1000;

/// A part of the output.
struct Part {
    file: File,
    start: u64,
    bytes: u64,
}

impl Part {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes)
    }
}

/// Reads up to `length` bytes; returns the offset of the end, and the bytes. `open` opens a file of the sandbox.
pub(super) fn read<E>(
    name: &str,
    offset: u64,
    length: u64,
    open: impl Fn(&Path) -> Result<File, E>,
) -> Result<(u64, Vec<u8>), E> {
    let newest = part(open(Path::new(name))?);
    let mut parts = vec![newest];
    let size = parts[0].end();
    for number in 1..FILES_MAX {
        let reached = parts
            .last()
            .is_none_or(|oldest| oldest.start <= offset || oldest.start == 0);
        if reached || length == 0 {
            break;
        }
        let Ok(file) = open(Path::new(&format!("{name}.{number}"))) else {
            break;
        };
        let older = part(file);
        // A file was begun since we looked: this one we have already.
        if parts.last().is_some_and(|newer| older.start < newer.start) {
            parts.push(older);
        }
    }
    let oldest = parts.last().map_or(0, |oldest| oldest.start);
    let wanted = length.min(size.saturating_sub(offset));
    if offset < oldest {
        let hole = wanted.min(oldest - offset);
        return Ok((size, vec![0; usize::try_from(hole).unwrap_or(0)]));
    }
    let mut data = Vec::new();
    for part in parts.iter().rev() {
        let at = offset + data.len() as u64;
        if at >= part.start && at < part.end() {
            let take = (wanted - data.len() as u64).min(part.end() - at);
            read_at(&part.file, at - part.start, take, &mut data);
        }
    }
    Ok((size, data))
}

/// Where the oldest file that is kept begins.
pub(super) fn start<E>(name: &str, open: impl Fn(&Path) -> Result<File, E>) -> Result<u64, E> {
    let mut oldest = part(open(Path::new(name))?).start;
    for number in 1..FILES_MAX {
        if oldest == 0 {
            break;
        }
        let Ok(file) = open(Path::new(&format!("{name}.{number}"))) else {
            break;
        };
        oldest = oldest.min(part(file).start);
    }
    Ok(oldest)
}

fn part(file: File) -> Part {
    let mut text = [0; 20];
    let length = rustix::fs::fgetxattr(&file, LOG_START_ATTRIBUTE, &mut text).unwrap_or(0);
    let start = text
        .get(..length)
        .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    Part {
        start: start.unwrap_or(0),
        bytes: file.metadata().map_or(0, |metadata| metadata.len()),
        file,
    }
}

/// What cannot be read is not there.
fn read_at(file: &File, offset: u64, length: u64, data: &mut Vec<u8>) {
    let begin = data.len();
    data.resize(begin + usize::try_from(length).unwrap_or(0), 0);
    let mut filled = begin;
    while filled < data.len() {
        match file.read_at(&mut data[filled..], offset + (filled - begin) as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    data.truncate(filled);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three files: bytes 0 to 9 were removed.
    fn sandbox() -> Option<tempfile::TempDir> {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        for (name, start, text) in [
            ("stdout.2", "10", "abcde"),
            ("stdout.1", "15", "fghij"),
            ("stdout", "20", "klm"),
        ] {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            let file = File::open(&path).unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            if rustix::fs::fsetxattr(&file, LOG_START_ATTRIBUTE, start.as_bytes(), flags).is_err() {
                eprintln!("skipped: /var/tmp takes no extended attributes");
                return None;
            }
        }
        Some(directory)
    }

    #[test]
    fn what_is_divided_is_read_as_one() {
        let Some(directory) = sandbox() else { return };
        let read =
            |offset, length| read("stdout", offset, length, |name| File::open(directory.path().join(name))).unwrap();
        assert_eq!(read(0, 0), (23, vec![]));
        assert_eq!(read(0, 100), (23, vec![0; 10]), "what was removed");
        assert_eq!(read(10, 100), (23, b"abcdefghijklm".to_vec()));
        assert_eq!(read(13, 4), (23, b"defg".to_vec()));
        assert_eq!(read(21, 1), (23, b"l".to_vec()));
        assert_eq!(read(23, 9), (23, vec![]));
        assert_eq!(read(u64::MAX, u64::MAX), (23, vec![]));
        // Now the oldest goes, and the rest moves on.
        for (from, to) in [("stdout.1", "stdout.2"), ("stdout", "stdout.1")] {
            std::fs::rename(directory.path().join(from), directory.path().join(to)).unwrap();
        }
        std::fs::write(directory.path().join("stdout"), "").unwrap();
        let file = File::open(directory.path().join("stdout")).unwrap();
        rustix::fs::fsetxattr(&file, LOG_START_ATTRIBUTE, b"23", rustix::fs::XattrFlags::empty()).unwrap();
        let read = |offset, length| {
            super::read("stdout", offset, length, |name| File::open(directory.path().join(name))).unwrap()
        };
        assert_eq!(read(16, 100), (23, b"ghijklm".to_vec()));
    }
}

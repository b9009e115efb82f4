//! Reads a task's output as one file, though it is divided into several (`stdout.2`, `stdout.1`, `stdout`).
//!
//! Offsets count from the first byte that the task wrote. Each file says in an attribute at which offset it begins, so a reader
//! that follows never notices that a file was begun or an old one removed: what was at an offset stays there. What was removed
//! reads as zeros, like a hole of a file.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use proffer_shim::plan::LOG_START_ATTRIBUTE;

/// The files that are divided.
pub(super) const NAMES: [&str; 2] = ["stdout", "stderr"];
/// The most files that are looked at.
const FILES_MAX: u32 = 1000;

/// How often files are looked for again because one was begun meanwhile.
const SCANS_MAX: u32 = 32;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// The offset of the end.
    pub(super) size: u64,
    /// Where what is kept begins, if that is after what was asked for.
    pub(super) kept_from: Option<u64>,
    /// The bytes; zeros for what was removed.
    pub(super) data: Vec<u8>,
}

/// One of the files.
struct Part {
    file: File,
    /// Device and number of the file.
    identity: Option<(u64, u64)>,
    start: u64,
    bytes: u64,
}

impl Part {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes)
    }
}

/// Reads up to `length` bytes. `open` opens a file of the sandbox.
pub(super) fn read<E>(
    name: &str,
    offset: u64,
    length: u64,
    open: impl Fn(&Path) -> Result<File, E>,
) -> Result<Read, E> {
    let back_to = if length == 0 { u64::MAX } else { offset };
    let parts = parts(name, back_to, &open)?;
    let size = parts[0].end();
    let oldest = parts.last().map_or(0, |oldest| oldest.start);
    let wanted = length.min(size.saturating_sub(offset));
    if wanted > 0 && offset < oldest {
        let hole = wanted.min(oldest - offset);
        return Ok(Read {
            size,
            kept_from: Some(oldest),
            data: vec![0; usize::try_from(hole).unwrap_or(0)],
        });
    }
    let mut data = Vec::new();
    for part in parts.iter().rev() {
        let at = offset + data.len() as u64;
        if at >= part.start && at < part.end() {
            let take = (wanted - data.len() as u64).min(part.end() - at);
            read_at(&part.file, at - part.start, take, &mut data);
        }
    }
    Ok(Read {
        size,
        kept_from: None,
        data,
    })
}

/// Where the oldest file that is kept begins.
pub(super) fn start<E>(name: &str, open: impl Fn(&Path) -> Result<File, E>) -> Result<u64, E> {
    Ok(parts(name, 0, &open)?.last().map_or(0, |oldest| oldest.start))
}

/// The files, newest first, until one reaches back to an offset; never none.
///
/// A file may be begun at any time:
/// 1. `stdout.1` is renamed to `stdout.2`, and `stdout` to `stdout.1`: for a while one number is nobody's, the first one too.
/// 2. `stdout` is made. What was found before that may have been found twice, or lie behind a second gap: all is looked for again.
fn parts<E>(name: &str, back_to: u64, open: &impl Fn(&Path) -> Result<File, E>) -> Result<Vec<Part>, E> {
    let numbered = |number: u32| match number {
        0 => open(Path::new(name)),
        _ => open(Path::new(&format!("{name}.{number}"))),
    };
    let mut scans = 0;
    loop {
        let first = numbered(0).map(part);
        let identity = first.as_ref().ok().and_then(|part| part.identity);
        let mut missing = u32::from(first.is_err());
        let (mut parts, refusal) = match first {
            Ok(part) => (vec![part], None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let reached = |parts: &[Part]| {
            let oldest = parts.last();
            oldest.is_some_and(|oldest| oldest.start <= back_to || oldest.start == 0)
        };
        for number in 1..FILES_MAX {
            if reached(&parts) || missing > 1 {
                break;
            }
            let Ok(file) = numbered(number) else {
                missing += 1;
                continue;
            };
            missing = 0;
            let older = part(file);
            if parts.last().is_none_or(|newer| older.start < newer.start) {
                parts.push(older);
            }
        }
        scans += 1;
        let settled =
            parts.len() == 1 && reached(&parts) || numbered(0).ok().and_then(|file| part(file).identity) == identity;
        match refusal {
            _ if !settled && scans < SCANS_MAX => {}
            Some(error) if parts.is_empty() => return Err(error),
            _ => return Ok(parts),
        }
    }
}

fn part(file: File) -> Part {
    let mut text = [0; 20];
    let length = rustix::fs::fgetxattr(&file, LOG_START_ATTRIBUTE, &mut text).unwrap_or(0);
    let start = text
        .get(..length)
        .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let metadata = file.metadata().ok();
    Part {
        start: start.unwrap_or(0),
        bytes: metadata.as_ref().map_or(0, |metadata| metadata.len()),
        identity: metadata.map(|metadata| (metadata.dev(), metadata.ino())),
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
        let open = |name: &Path| File::open(directory.path().join(name));
        let read = |offset, length| {
            let read = read("stdout", offset, length, open).unwrap();
            assert_eq!(read.kept_from, (offset < 10 && length > 0).then_some(10));
            (read.size, read.data)
        };
        assert_eq!(read(0, 0), (23, vec![]));
        assert_eq!(read(0, 100), (23, vec![0; 10]), "what was removed");
        assert_eq!(read(10, 100), (23, b"abcdefghijklm".to_vec()));
        assert_eq!(read(13, 4), (23, b"defg".to_vec()));
        assert_eq!(read(21, 1), (23, b"l".to_vec()));
        assert_eq!(read(23, 9), (23, vec![]));
        assert_eq!(read(u64::MAX, u64::MAX), (23, vec![]));
        // Between two renamings, of which each leaves a number to nobody.
        for (from, to) in [
            ("stdout.2", "stdout.3"),
            ("stdout.1", "stdout.2"),
            ("stdout", "stdout.1"),
        ] {
            std::fs::rename(directory.path().join(from), directory.path().join(to)).unwrap();
            assert_eq!(read(10, 100), (23, b"abcdefghijklm".to_vec()), "without {from}");
            assert_eq!(start("stdout", open).unwrap(), 10);
        }
        for (from, to) in [
            ("stdout.1", "stdout"),
            ("stdout.2", "stdout.1"),
            ("stdout.3", "stdout.2"),
        ] {
            std::fs::rename(directory.path().join(from), directory.path().join(to)).unwrap();
        }
        // Now the oldest goes, and the rest moves on.
        for (from, to) in [("stdout.1", "stdout.2"), ("stdout", "stdout.1")] {
            std::fs::rename(directory.path().join(from), directory.path().join(to)).unwrap();
        }
        std::fs::write(directory.path().join("stdout"), "").unwrap();
        let file = File::open(directory.path().join("stdout")).unwrap();
        rustix::fs::fsetxattr(&file, LOG_START_ATTRIBUTE, b"23", rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(read(16, 100), (23, b"ghijklm".to_vec()));
    }

    #[test]
    fn no_reader_loses_a_byte_while_files_are_begun() {
        let Some(directory) = sandbox() else { return };
        let path = |number: usize| match number {
            0 => directory.path().join("stdout"),
            _ => directory.path().join(format!("stdout.{number}")),
        };
        const FILES: u64 = 400;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for start in (23..).take(FILES as usize) {
                    for number in (0..6).rev() {
                        let _ = std::fs::rename(path(number), path(number + 1));
                    }
                    let made = directory.path().join("made");
                    std::fs::write(&made, [u8::try_from(start % 251).unwrap()]).unwrap();
                    let file = File::open(&made).unwrap();
                    let (text, flags) = (start.to_string(), rustix::fs::XattrFlags::empty());
                    rustix::fs::fsetxattr(&file, LOG_START_ATTRIBUTE, text.as_bytes(), flags).unwrap();
                    std::fs::rename(&made, path(0)).unwrap();
                }
            });
            let open = |name: &Path| File::open(directory.path().join(name));
            let (mut size, mut done) = (0, false);
            while !done {
                done = writer.is_finished();
                let end = || read("stdout", 0, 0, open).unwrap().size;
                let now = end();
                assert!(now >= size, "the end moved back from {size} to {now}");
                size = now;
                for offset in (23..size).rev().take(3) {
                    let read = read("stdout", offset, 1, open).unwrap();
                    match read.kept_from {
                        None => assert_eq!(read.data, [u8::try_from(offset % 251).unwrap()], "{offset} of {size}"),
                        // Six are always kept.
                        Some(kept) => assert!(kept > offset && kept + 6 <= end(), "{kept} after {offset} of {size}"),
                    }
                }
            }
            assert_eq!(size, 23 + FILES);
        });
    }
}

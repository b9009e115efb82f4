//! One followed file: what was appended to it, line by line.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::access_log::LINE_BYTES_MAX;

/// What a file is, whatever its name: it stays the same when a log is rotated by renaming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileKey {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileKey {
    pub(crate) fn of(metadata: &Metadata) -> FileKey {
        FileKey {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// What reading gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A line without its newline, at most [`LINE_BYTES_MAX`] long.
    Line(&'a [u8]),
    /// A line that was longer; its beginning.
    TooLong(&'a [u8]),
    /// The file was cut back. If a line was half read, its beginning.
    Truncated(&'a [u8]),
}

/// Follows one file from its first byte on.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) path: PathBuf,
    file: File,
    offset: u64,
    /// The line that has no newline yet.
    partial: Vec<u8>,
    /// Within a line that is too long and was reported already.
    skipping: bool,
}

impl Follower {
    /// Opens a regular file. The open does not block, should the path have become a pipe meanwhile.
    pub(crate) fn open(path: &Path) -> io::Result<(FileKey, Follower)> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let follower = Follower {
            path: path.to_path_buf(),
            file,
            offset: 0,
            partial: Vec::new(),
            skipping: false,
        };
        Ok((FileKey::of(&metadata), follower))
    }

    /// How many bytes were read.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Its size now.
    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Reads at most `scratch.len()` bytes and hands on the lines that they end. Zero means: at the end.
    pub(crate) fn read(&mut self, scratch: &mut [u8], each: &mut dyn FnMut(Piece<'_>)) -> io::Result<usize> {
        let read = self.file.read(scratch)?;
        if read == 0 {
            if self.size()? < self.offset {
                self.restart(each)?;
            }
            return Ok(0);
        }
        self.offset += read as u64;
        let mut rest = &scratch[..read];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.line(&rest[..end], each);
            rest = &rest[end + 1..];
        }
        self.keep(rest, each);
        Ok(read)
    }

    /// Hands on the last line though it has no newline: nothing more is expected.
    pub(crate) fn finish(&mut self, each: &mut dyn FnMut(Piece<'_>)) {
        if !self.partial.is_empty() {
            self.line(&[], each);
        }
    }

    fn restart(&mut self, each: &mut dyn FnMut(Piece<'_>)) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.offset = 0;
        self.skipping = false;
        each(Piece::Truncated(&self.partial));
        self.partial.clear();
        Ok(())
    }

    fn line(&mut self, end: &[u8], each: &mut dyn FnMut(Piece<'_>)) {
        if std::mem::take(&mut self.skipping) {
            return;
        }
        if self.partial.is_empty() {
            hand_on(end, each);
        } else {
            self.partial.extend_from_slice(end);
            hand_on(&self.partial, each);
            self.partial.clear();
        }
    }

    fn keep(&mut self, rest: &[u8], each: &mut dyn FnMut(Piece<'_>)) {
        if self.skipping {
            return;
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() > LINE_BYTES_MAX + 1 {
            each(Piece::TooLong(&self.partial));
            self.partial = Vec::new();
            self.skipping = true;
        }
    }
}

fn hand_on(line: &[u8], each: &mut dyn FnMut(Piece<'_>)) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > LINE_BYTES_MAX {
        each(Piece::TooLong(line));
    } else if !line.is_empty() {
        each(Piece::Line(line));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Log {
        _dir: tempfile::TempDir,
        file: File,
        follower: Follower,
    }

    impl Log {
        fn new() -> Log {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let file = File::options().append(true).create(true).open(&path).unwrap();
            let (_, follower) = Follower::open(&path).unwrap();
            Log {
                _dir: dir,
                file,
                follower,
            }
        }

        fn read(&mut self, chunk: usize) -> Vec<String> {
            let mut got = Vec::new();
            let mut each = |piece: Piece<'_>| {
                got.push(match piece {
                    Piece::Line(line) => String::from_utf8_lossy(line).into_owned(),
                    Piece::TooLong(_) => "<long>".into(),
                    Piece::Truncated(half) => format!("<cut {}>", String::from_utf8_lossy(half)),
                });
            };
            let mut scratch = vec![0; chunk];
            while self.follower.read(&mut scratch, &mut each).unwrap() > 0 {}
            got
        }
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let mut log = Log::new();
        log.file.write_all(b"one\n\ntw").unwrap();
        assert_eq!(log.read(2), ["one"]);
        log.file.write_all(b"o\r\nthree\nfo").unwrap();
        assert_eq!(log.read(1000), ["two", "three"]);
        let mut last = Vec::new();
        log.follower.finish(&mut |piece| last.push(format!("{piece:?}")));
        assert_eq!(last, [format!("{:?}", Piece::Line(b"fo"))]);
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_once_and_costs_bounded_memory() {
        let mut log = Log::new();
        log.file.write_all(&vec![b'x'; 5 * LINE_BYTES_MAX]).unwrap();
        log.file.write_all(b"\nnext\n").unwrap();
        log.file.write_all(&vec![b'y'; LINE_BYTES_MAX + 1]).unwrap();
        log.file.write_all(b"\n").unwrap();
        log.file.write_all(&vec![b'z'; LINE_BYTES_MAX]).unwrap();
        log.file.write_all(b"\n").unwrap();
        let got = log.read(8192);
        assert_eq!(got[..3], ["<long>", "next", "<long>"]);
        assert_eq!(got[3].len(), LINE_BYTES_MAX);
        assert!(log.follower.partial.capacity() <= 2 * LINE_BYTES_MAX + 8192);
    }

    #[test]
    fn a_truncated_file_is_read_from_its_start_again() {
        let mut log = Log::new();
        log.file.write_all(b"before\nha").unwrap();
        assert_eq!(log.read(100), ["before"]);
        log.file.set_len(0).unwrap();
        log.file.write_all(b"after\n").unwrap();
        assert_eq!(log.read(100), ["<cut ha>"]);
        assert_eq!(log.read(100), ["after"]);
    }
}

//! Zip: stored and deflated entries, also beyond 4 GiB (PKWARE's APPNOTE 6.3, sections 4.3 and 4.5.3).
//!
//! The central directory is read entry by entry: its size in memory does not matter.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::{Budget, named, path_of};
use crate::sandbox::beneath::Destination;

const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
/// The end record and the longest comment after it.
const END_BYTES_MAX: u64 = 22 + 0xffff;
/// The longest target of a link.
const LINK_BYTES_MAX: u64 = 4096;

pub(super) fn unpack(file: &File, destination: &Destination, budget: &mut Budget<'_>) -> io::Result<()> {
    let length = file.metadata()?.len();
    let Directory { offset, count } = find_directory(file, length)?;
    let mut directory = BufReader::with_capacity(64 << 10, At { file, at: offset });
    for _ in 0..count {
        budget.entry()?;
        let entry = Entry::read(&mut directory)?;
        let unpacked = entry.unpack(file, destination, budget);
        unpacked.map_err(|error| named(&entry.name, &error))?;
    }
    Ok(())
}

struct Directory {
    offset: u64,
    count: u64,
}

fn find_directory(file: &File, length: u64) -> io::Result<Directory> {
    let not_zip = || io::Error::other("is not a whole zip archive");
    let start = length.saturating_sub(END_BYTES_MAX);
    let mut tail = vec![0; usize::try_from(length - start).unwrap_or(0)];
    file.read_exact_at(&mut tail, start)?;
    let found = tail.windows(4).rposition(|window| *window == END).ok_or_else(not_zip)?;
    let end = tail.get(found..found + 22).ok_or_else(not_zip)?;
    let (count, offset) = (u64::from(short(end, 10)), u64::from(long(end, 16)));
    let at = start + found as u64;
    if count != 0xffff && offset != 0xffff_ffff {
        return Ok(Directory { offset, count });
    }
    let mut locator = [0; 20];
    file.read_exact_at(&mut locator, at.checked_sub(20).ok_or_else(not_zip)?)?;
    if locator[..4] != LOCATOR_64 {
        return Ok(Directory { offset, count });
    }
    let mut end = [0; 56];
    file.read_exact_at(&mut end, quad(&locator, 8))?;
    if end[..4] != END_64 {
        return Err(not_zip());
    }
    Ok(Directory {
        offset: quad(&end, 48),
        count: quad(&end, 32),
    })
}

#[derive(Debug)]
struct Entry {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    crc: u32,
    packed_bytes: u64,
    bytes: u64,
    /// The Unix mode, where it was packed on Unix.
    mode: Option<u32>,
    offset: u64,
}

impl Entry {
    fn read(directory: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 46];
        directory.read_exact(&mut head)?;
        if head[..4] != CENTRAL {
            return Err(io::Error::other("has a torn directory"));
        }
        let mut read = |length: u16| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; usize::from(length)];
            directory.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let (name, extra) = (read(short(&head, 28))?, read(short(&head, 30))?);
        read(short(&head, 32))?;
        let is_unix = head[5] == 3;
        let mut entry = Entry {
            name,
            flags: short(&head, 8),
            method: short(&head, 10),
            crc: long(&head, 16),
            packed_bytes: long(&head, 20).into(),
            bytes: long(&head, 24).into(),
            mode: is_unix.then(|| long(&head, 38) >> 16),
            offset: long(&head, 42).into(),
        };
        entry.widen(&extra);
        Ok(entry)
    }

    /// The extra field 1 holds, in this order, those figures that do not fit 32 bits.
    fn widen(&mut self, mut extra: &[u8]) {
        while let (Some(head), Some(rest)) = (extra.get(..4), extra.get(4..)) {
            let length = usize::from(short(head, 2)).min(rest.len());
            if short(head, 0) == 1 {
                let mut figures = rest[..length].chunks_exact(8).map(|bytes| quad(bytes, 0));
                for figure in [&mut self.bytes, &mut self.packed_bytes, &mut self.offset] {
                    if *figure == 0xffff_ffff {
                        *figure = figures.next().unwrap_or(*figure);
                    }
                }
            }
            extra = &rest[length..];
        }
    }

    fn unpack(&self, file: &File, destination: &Destination, budget: &mut Budget<'_>) -> io::Result<()> {
        let path = path_of(&self.name)?;
        if self.name.ends_with(b"/") {
            return destination.directory(&path);
        }
        if path.as_os_str().is_empty() {
            return Err(io::Error::other("has no name"));
        }
        if self.flags & 1 != 0 {
            return Err(io::Error::other("is encrypted"));
        }
        let content = self.content(file)?;
        match self.method {
            0 => self.write(content, &path, destination, budget),
            8 => self.write(DeflateDecoder::new(content), &path, destination, budget),
            other => Err(io::Error::other(format!(
                "is packed by method {other}; stored and deflated entries are accepted"
            ))),
        }
    }

    fn content<'a>(&self, file: &'a File) -> io::Result<io::Take<At<'a>>> {
        let mut head = [0; 30];
        file.read_exact_at(&mut head, self.offset)?;
        if head[..4] != LOCAL {
            return Err(io::Error::other("is not where the directory says"));
        }
        let skip = 30 + u64::from(short(&head, 26)) + u64::from(short(&head, 28));
        let at = self.offset.saturating_add(skip);
        Ok(At { file, at }.take(self.packed_bytes))
    }

    fn write(
        &self,
        content: impl Read,
        path: &Path,
        destination: &Destination,
        budget: &mut Budget<'_>,
    ) -> io::Result<()> {
        const KIND: u32 = 0o170_000;
        let mode = self.mode.unwrap_or(0o644);
        let mut content = Checked {
            content: content.take(self.bytes.saturating_add(1)),
            crc: Crc::new(),
        };
        match mode & KIND {
            0 | 0o100_000 => {
                let mut to = destination.replace(path)?;
                budget.copy(&mut content, &mut to)?;
                self.check(&content.crc)?;
                destination.give(&to, mode | 0o600)
            }
            0o120_000 if self.bytes <= LINK_BYTES_MAX => {
                use std::os::unix::ffi::OsStrExt;
                let mut target = Vec::new();
                content.read_to_end(&mut target)?;
                self.check(&content.crc)?;
                destination.symlink(path, Path::new(std::ffi::OsStr::from_bytes(&target)))
            }
            0o040_000 => destination.directory(path),
            _ => Err(io::Error::other("is a device or a pipe, which are not unpacked")),
        }
    }

    fn check(&self, crc: &Crc) -> io::Result<()> {
        let whole = crc.sum() == self.crc && u64::from(crc.amount()) == self.bytes & 0xffff_ffff;
        whole.then_some(()).ok_or_else(|| io::Error::other("is damaged"))
    }
}

/// A content whose CRC is computed as it is read.
struct Checked<R> {
    content: R,
    crc: Crc,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.crc.update(&buffer[..count]);
        Ok(count)
    }
}

/// Reads a file from a place on, without moving its offset.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(short(bytes, at)) | u32::from(short(bytes, at + 2)) << 16
}

fn quad(bytes: &[u8], at: usize) -> u64 {
    u64::from(long(bytes, at)) | u64::from(long(bytes, at + 4)) << 32
}

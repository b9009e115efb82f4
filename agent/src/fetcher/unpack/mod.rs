//! Unpacks archives of strangers into a directory: nothing leaves it, nothing special is made, and there is an end to it.
//!
//! Owners in archives are passed over: everything belongs to the task's user. Devices, pipes, absolute paths, `..`, and links that
//! lead out of the directory are errors; setuid, setgid and sticky bits are dropped.

mod tar;
#[cfg(test)]
mod tests;
mod zip;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

use super::artifact::Format;
use crate::sandbox::beneath::Destination;

/// The most entries of an archive.
const ENTRIES_MAX: u64 = 1_000_000;
/// What a decompressor may take for its window.
const WINDOW_BYTES_MAX: u64 = 128 << 20;

/// Unpacks a file, whose owner keeps it from being changed, and counts what comes out of it against the budget.
///
/// # Errors
/// The entry and what is wrong with it.
pub(super) fn unpack(
    file: &mut File,
    format: Format,
    name: &Path,
    destination: &Destination,
    budget: &mut Budget<'_>,
) -> io::Result<()> {
    file.rewind()?;
    let input = BufReader::with_capacity(128 << 10, file);
    match format {
        Format::Zip => zip::unpack(input.into_inner(), destination, budget),
        Format::Tar => tar::unpack(input, destination, budget),
        Format::TarGz => tar::unpack(MultiGzDecoder::new(input), destination, budget),
        Format::TarXz => {
            let limit = u32::try_from(WINDOW_BYTES_MAX >> 10).unwrap_or(u32::MAX);
            tar::unpack(XzReader::new_mem_limit(input, true, limit), destination, budget)
        }
        Format::TarZst => tar::unpack(Frames::new(input), destination, budget),
        Format::Gz => {
            let name = name.with_extension("");
            let mut to = destination.create(&name)?;
            budget.copy(&mut MultiGzDecoder::new(input), &mut to)?;
            destination.give(&to, 0o644)
        }
    }
}

/// How much may still be written, and whether anybody still wants it.
pub(super) struct Budget<'a> {
    bytes_left: u64,
    entries_left: u64,
    wanted: &'a dyn Fn() -> bool,
}

impl<'a> Budget<'a> {
    pub(super) fn new(bytes: u64, wanted: &'a dyn Fn() -> bool) -> Self {
        Budget {
            bytes_left: bytes,
            entries_left: ENTRIES_MAX,
            wanted,
        }
    }

    /// How many bytes may still come.
    pub(super) fn left(&self) -> u64 {
        self.bytes_left
    }

    /// Counts an entry.
    fn entry(&mut self) -> io::Result<()> {
        self.entries_left = self
            .entries_left
            .checked_sub(1)
            .ok_or_else(|| io::Error::other(format!("has more than {ENTRIES_MAX} entries")))?;
        self.go_on()
    }

    /// Counts bytes.
    pub(super) fn take(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(|| {
            io::Error::other("is larger than what the task may fetch: its `disk`, and --fetch-bytes-max")
        })?;
        self.go_on()
    }

    fn go_on(&self) -> io::Result<()> {
        if (self.wanted)() {
            Ok(())
        } else {
            Err(io::Error::other("is not wanted any more"))
        }
    }

    /// Copies all that there is, and counts it.
    fn copy(&mut self, from: &mut impl Read, to: &mut impl io::Write) -> io::Result<u64> {
        let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.take(count as u64)?;
            to.write_all(&buffer[..count])?;
            total += count as u64;
        }
    }
}

/// The path of an entry; empty for the directory itself.
fn path_of(name: &[u8]) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut path = PathBuf::new();
    for part in Path::new(std::ffi::OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return Err(io::Error::other("is an absolute path or contains `..`")),
        }
    }
    if name.contains(&0) {
        return Err(io::Error::other("contains a NUL character"));
    }
    Ok(path)
}

/// Says which entry failed.
fn named(name: &[u8], error: &io::Error) -> io::Error {
    let shown: String = String::from_utf8_lossy(name).chars().take(200).collect();
    io::Error::new(error.kind(), format!("entry `{}`: {error}", shown.escape_debug()))
}

/// A zstd file of one or several frames.
struct Frames<R: Read> {
    decoder: Option<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>,
    input: Option<R>,
}

impl<R: io::BufRead> Frames<R> {
    fn new(input: R) -> Self {
        Frames {
            decoder: None,
            input: Some(input),
        }
    }
}

impl<R: io::BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(decoder) = &mut self.decoder {
                match decoder.read(buffer)? {
                    0 if !buffer.is_empty() => self.input = self.decoder.take().map(StreamingDecoder::into_inner),
                    count => return Ok(count),
                }
            }
            let Some(mut input) = self.input.take() else {
                return Ok(0);
            };
            if input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let decoder = StreamingDecoder::new_with_max_window_size(input, WINDOW_BYTES_MAX);
            self.decoder = Some(decoder.map_err(io::Error::other)?);
        }
    }
}

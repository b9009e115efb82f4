//! The values of the frameworks' state. sled's files grow without bound where values are rewritten that are not small
//! against its segments (measured: 60 times the live data with values of 1 MiB, 13 times with pieces of 16 KiB), so a large value has a
//! file of its own beside sled, named for the version, which is never used twice.
//!
//! ```text
//! registry/            sled
//! registry.values/17   the value that the log entry 17 wrote
//! ```
//!
//! A record of a value begins with the version. Then follows the value after a 0, or, after a 1, the length and checksum of its
//! file. A file is written before the record that names it, and removed after no record names it on disk either.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Error;

/// Larger values have files.
const IN_RECORD_MAX: usize = 2048;
const INLINE: u8 = 0;
const IN_FILE: u8 = 1;
/// So many bytes of files that no record names may wait to be removed.
const WASTE_BYTES_MAX: u64 = 64 << 20;

/// The files of large values.
#[derive(Debug)]
pub(super) struct Values {
    directory: PathBuf,
    /// Files that the next flush makes useless.
    waste: Vec<u64>,
    waste_bytes: u64,
}

/// What a record says.
enum Record<'a> {
    Inline(&'a [u8]),
    InFile { length: u64, checksum: u32 },
}

impl Values {
    pub(super) fn of(registry: &Path) -> Self {
        Self {
            directory: directory(registry),
            waste: Vec::new(),
            waste_bytes: 0,
        }
    }

    /// The record of a value, whose file is written if it is to have one.
    pub(super) fn record(&self, version: u64, value: &Bytes) -> Result<Vec<u8>, Error> {
        let mut record = Vec::with_capacity(9 + value.len().min(IN_RECORD_MAX));
        record.extend_from_slice(&version.to_be_bytes());
        if value.len() <= IN_RECORD_MAX {
            record.push(INLINE);
            record.extend_from_slice(value);
        } else {
            record.push(IN_FILE);
            record.extend_from_slice(&(value.len() as u64).to_be_bytes());
            record.extend_from_slice(&crc32c::crc32c(value).to_be_bytes());
            self.write(version, value)?;
        }
        Ok(record)
    }

    fn write(&self, version: u64, value: &Bytes) -> io::Result<()> {
        let path = self.path(version);
        match std::fs::write(&path, value) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                std::fs::create_dir_all(&self.directory)?;
                std::fs::write(&path, value)
            }
            written => written,
        }
    }

    /// The version and the value that a record is of.
    pub(super) fn read(&self, record: &[u8]) -> Result<(u64, Bytes), Error> {
        let (version, record) = decode(record)?;
        let value = match record {
            Record::Inline(value) => Bytes::copy_from_slice(value),
            Record::InFile { length, checksum } => {
                let value = std::fs::read(self.path(version))?;
                if value.len() as u64 != length || crc32c::crc32c(&value) != checksum {
                    return Err(Error::NotWhole("the file of a value is not what was written"));
                }
                value.into()
            }
        };
        Ok((version, value))
    }

    /// A record is no longer there: its file is useless after the next flush.
    pub(super) fn replaced(&mut self, record: &[u8]) {
        if let Ok((version, Record::InFile { length, .. })) = decode(record) {
            self.waste.push(version);
            self.waste_bytes += length;
        }
    }

    /// Whether so much is useless that it is time to flush.
    pub(super) fn is_wasteful(&self) -> bool {
        self.waste_bytes > WASTE_BYTES_MAX
    }

    /// sled has written everything back: removes what no record names.
    pub(super) fn flushed(&mut self) -> Result<(), Error> {
        self.waste_bytes = 0;
        for version in std::mem::take(&mut self.waste) {
            remove_file(&self.path(version))?;
        }
        Ok(())
    }

    /// Removes the files of all versions that no record names.
    pub(super) fn keep_only(&self, named: &BTreeSet<u64>) -> Result<(), Error> {
        if !self.directory.exists() {
            return Ok(());
        }
        for file in std::fs::read_dir(&self.directory)? {
            let file = file?;
            let version = file.file_name().to_str().and_then(|name| name.parse().ok());
            if version.is_none_or(|version| !named.contains(&version)) {
                remove_file(&file.path())?;
            }
        }
        Ok(())
    }

    fn path(&self, version: u64) -> PathBuf {
        self.directory.join(version.to_string())
    }
}

/// The version of a record.
pub(super) fn version(record: &[u8]) -> Result<u64, Error> {
    decode(record).map(|(version, _)| version)
}

/// Whether the value of a record has a file.
pub(super) fn is_in_file(record: &[u8]) -> bool {
    record.get(8) == Some(&IN_FILE)
}

/// Where the files of a registry are.
pub(super) fn directory(registry: &Path) -> PathBuf {
    registry.with_extension("values")
}

fn decode(record: &[u8]) -> Result<(u64, Record<'_>), Error> {
    let cut = Error::NotWhole("a record is cut short");
    let Some((version, rest)) = record.split_first_chunk::<8>() else {
        return Err(cut);
    };
    let decoded = match rest.split_first() {
        Some((&INLINE, value)) => Record::Inline(value),
        Some((&IN_FILE, rest)) => {
            let Some((length, checksum)) = rest.split_first_chunk::<8>() else {
                return Err(cut);
            };
            let Ok(checksum) = checksum.try_into() else {
                return Err(cut);
            };
            Record::InFile {
                length: u64::from_be_bytes(*length),
                checksum: u32::from_be_bytes(checksum),
            }
        }
        _ => return Err(cut),
    };
    Ok((u64::from_be_bytes(*version), decoded))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

//! Snapshot files: `<index>-<term>.snapshot`, each `magic 8 | crc u32 | eraftpb.Snapshot`.
//!
//! A file is written under another name, synced, and renamed; only then does the log's marker name it. At start the file that
//! the marker names must be there and whole, because the entries it stands for are gone; any other file is left over
//! from a crash between the two, and is removed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use proffer_replication::eraftpb::Snapshot;
use proffer_replication::{Position, position};
use protobuf::Message as _;

use crate::faults;

const MAGIC: &[u8; 8] = b"PROFSNP\x01";
const SUFFIX: &str = ".snapshot";

/// The directory of the snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    directory: PathBuf,
}

/// A snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed.
    #[error("cannot {action} snapshot {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is missing or wrong.
    #[error("snapshot {} is damaged: {problem}. {}", path.display(), crate::log::ADVICE)]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Snapshots {
    /// Uses a directory, and makes it where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// Makes a snapshot durable.
    ///
    /// # Errors
    /// The disk failed.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let path = self.path(position(snapshot));
        self.write(&path, snapshot).map_err(|source| Error::Io {
            action: "write",
            path,
            source,
        })
    }

    /// Reads the snapshot that the log's marker names.
    ///
    /// # Errors
    /// It is missing or damaged, or the disk failed.
    pub fn load(&self, position: Position) -> Result<Snapshot, Error> {
        let path = self.path(position);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                let problem = "it is missing";
                return Err(Error::Damaged { path, problem });
            }
            Err(source) => {
                let action = "read";
                return Err(Error::Io { action, path, source });
            }
        };
        let snapshot = decode(&bytes).map_err(|problem| Error::Damaged {
            path: path.clone(),
            problem,
        })?;
        if proffer_replication::position(&snapshot) != position {
            let problem = "it is not the one that its name says";
            return Err(Error::Damaged { path, problem });
        }
        Ok(snapshot)
    }

    /// Removes every file but the snapshot at `position`. What cannot be removed does no harm.
    pub fn remove_others(&self, position: Position) {
        let keep = self.path(position);
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| *path != keep) {
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, position: Position) -> PathBuf {
        let Position { index, term } = position;
        self.directory.join(format!("{index:016x}-{term:016x}{SUFFIX}"))
    }

    fn write(&self, path: &Path, snapshot: &Snapshot) -> io::Result<()> {
        let body = snapshot.write_to_bytes().map_err(io::Error::other)?;
        let unfinished = path.with_extension("unfinished");
        let mut file = File::create(&unfinished)?;
        file.write_all(MAGIC)?;
        file.write_all(&crc32c::crc32c(&body).to_le_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        faults::SNAPSHOT_BEFORE_RENAME.reach()?;
        fs::rename(&unfinished, path)?;
        faults::SNAPSHOT_RENAMED.reach()?;
        File::open(&self.directory)?.sync_all()
    }
}

fn decode(bytes: &[u8]) -> Result<Snapshot, &'static str> {
    let body = bytes
        .strip_prefix(MAGIC)
        .ok_or("it is not a snapshot of this version")?;
    let (crc, body) = body.split_at_checked(4).ok_or("it is cut short")?;
    if crc != crc32c::crc32c(body).to_le_bytes() {
        return Err("its checksum is wrong");
    }
    Snapshot::parse_from_bytes(body).map_err(|_| "it cannot be decoded")
}

#[cfg(test)]
mod tests {
    use proffer_replication::bootstrap;

    use super::*;

    #[test]
    fn a_snapshot_reads_back_and_leftovers_go() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let snapshots = Snapshots::create(directory.path().to_path_buf())?;
        let snapshot = bootstrap(&[1], b"registry".to_vec());
        snapshots.save(&snapshot)?;
        fs::write(directory.path().join("leftover.unfinished"), "x")?;
        snapshots.remove_others(position(&snapshot));
        assert_eq!(fs::read_dir(directory.path())?.count(), 1);
        assert_eq!(snapshots.load(position(&snapshot))?, snapshot);
        Ok(())
    }

    #[test]
    fn a_damaged_or_missing_snapshot_is_refused() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let snapshots = Snapshots::create(directory.path().to_path_buf())?;
        let snapshot = bootstrap(&[1], b"registry".to_vec());
        let missing = snapshots.load(position(&snapshot));
        assert!(matches!(missing, Err(Error::Damaged { .. })), "{missing:?}");
        snapshots.save(&snapshot)?;
        let path = snapshots.path(position(&snapshot));
        let whole = fs::read(&path)?;
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &damaged)?;
            let loaded = snapshots.load(position(&snapshot));
            assert!(matches!(loaded, Err(Error::Damaged { .. })), "bit {bit}: {loaded:?}");
        }
        Ok(())
    }
}

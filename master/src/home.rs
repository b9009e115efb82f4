//! The work directory and what is in it.
//!
//! ```text
//! <work_dir>/lock                 held while a master runs
//! <work_dir>/identity             JSON: who this master is; written last when the directory is made
//! <work_dir>/log/*.wal            the raft log
//! <work_dir>/snapshots/*.snapshot the registry that the log continues
//! <work_dir>/registry/            the applied registry; may be removed while no master runs
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use raft::eraftpb::{HardState, Snapshot};
use serde::{Deserialize, Serialize};

use crate::log::{self, Directory, Options, Position, Recovered, Wal};
use crate::raft::{self as replication, Snapshots, bootstrap};

/// The id of the only member of a group of one.
const FIRST_MEMBER: u64 = 1;

/// The work directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("another master runs with the work directory {}; give this one another --work-dir", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// An operation of the file system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It does not hold what a work directory holds.
    #[error("the work directory {} cannot be used: {problem}", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The log cannot be used.
    #[error("cannot open the raft log in {}", path.display())]
    Log {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: log::Error,
    },
    /// The snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] replication::Error),
}

/// Who a master is, for as long as its work directory exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    format: u32,
    /// The cluster's random id.
    pub cluster_id: String,
    /// The cluster's name, for people.
    pub cluster: String,
    /// The master's id in the raft group.
    pub member: u64,
}

/// An open work directory. The lock is held until this is dropped.
#[derive(Debug)]
pub struct Home {
    /// Who the master is.
    pub identity: Identity,
    /// The raft log.
    pub wal: Wal,
    /// What the log held.
    pub recovered: Recovered,
    /// The snapshot that the log continues.
    pub snapshot: Snapshot,
    /// The snapshots.
    pub snapshots: Snapshots,
    /// Where the applied registry is.
    pub registry: PathBuf,
    /// The held lock.
    pub lock: File,
}

impl Home {
    /// Opens a work directory; makes it where it is missing or empty.
    ///
    /// # Errors
    /// Another master has it, it is damaged, or the file system failed.
    pub fn open(path: &Path, cluster: &str) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        let lock = lock(path)?;
        let identity = match read_identity(path)? {
            Some(identity) => identity,
            None => initialise(path, cluster)?,
        };
        let log_path = path.join("log");
        let in_log = |source| Error::Log {
            path: log_path.clone(),
            source,
        };
        let disk = Directory::create(&log_path).map_err(io_error("create", &log_path))?;
        let (wal, recovered) = Wal::open(disk, Options::default()).map_err(in_log)?;
        let snapshots = snapshots(path)?;
        let snapshot = snapshots.load(recovered.snapshot)?;
        snapshots.remove_others(recovered.snapshot);
        Ok(Self {
            identity,
            wal,
            recovered,
            snapshot,
            snapshots,
            registry: path.join("registry"),
            lock,
        })
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let file_path = path.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file_path)
        .map_err(io_error("open", &file_path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: path.to_path_buf(),
        }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &file_path)(source)),
    }
}

fn read_identity(path: &Path) -> Result<Option<Identity>, Error> {
    let file_path = path.join("identity");
    let text = match fs::read(&file_path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &file_path)(error)),
    };
    match serde_json::from_slice::<Identity>(&text) {
        Ok(identity) if identity.format == 1 => Ok(Some(identity)),
        Ok(identity) => Err(Error::NotOurs {
            path: path.to_path_buf(),
            problem: format!("its format is {}, and this version knows 1", identity.format),
        }),
        Err(error) => Err(Error::NotOurs {
            path: path.to_path_buf(),
            problem: format!("its file `identity` is damaged ({error}). {}", log::ADVICE),
        }),
    }
}

/// Makes a new cluster of one master. The identity is written last: without it, what is there is an unfinished attempt.
fn initialise(path: &Path, cluster: &str) -> Result<Identity, Error> {
    let log_path = path.join("log");
    let disk = Directory::create(&log_path).map_err(io_error("create", &log_path))?;
    let in_log = |source| Error::Log {
        path: log_path.clone(),
        source,
    };
    if Wal::exists(&disk).map_err(in_log)? {
        remove_unfinished(path, &log_path)?;
    }
    let snapshot = bootstrap(&[FIRST_MEMBER], Vec::new());
    snapshots(path)?.save(&snapshot)?;
    let first = Position { index: 1, term: 1 };
    let mut state = HardState::default();
    (state.term, state.commit) = (1, 1);
    Wal::create(disk, Options::default(), first, state).map_err(in_log)?;
    let identity = Identity {
        format: 1,
        cluster_id: uuid::Uuid::new_v4().to_string(),
        cluster: cluster.to_owned(),
        member: FIRST_MEMBER,
    };
    let text = serde_json::to_vec_pretty(&identity).map_err(io::Error::other);
    let file_path = path.join("identity");
    text.and_then(|text| write_atomically(&file_path, &text))
        .map_err(io_error("write", &file_path))?;
    tracing::info!(cluster_id = identity.cluster_id, cluster, "a new cluster is made");
    Ok(identity)
}

/// A log without an identity is of an attempt that was interrupted, unless something was written to it.
fn remove_unfinished(path: &Path, log_path: &Path) -> Result<(), Error> {
    let disk = Directory::create(log_path).map_err(io_error("open", log_path))?;
    let used = match Wal::open(disk, Options::default()) {
        Ok((_, recovered)) => !recovered.entries.is_empty() || recovered.snapshot.index > 1,
        Err(log::Error::Io { .. } | log::Error::Failed) => true,
        // An interrupted creation leaves one segment, which was never written.
        Err(log::Error::Damaged { offset, .. }) => offset != 0,
        Err(log::Error::Incomplete { .. }) => true,
    };
    if used {
        return Err(Error::NotOurs {
            path: path.to_path_buf(),
            problem: format!("it has a raft log, but its file `identity` is missing. {}", log::ADVICE),
        });
    }
    fs::remove_dir_all(log_path)
        .and_then(|()| fs::create_dir(log_path))
        .map_err(io_error("clear", log_path))
}

fn snapshots(path: &Path) -> Result<Snapshots, Error> {
    let path = path.join("snapshots");
    Snapshots::create(path.clone()).map_err(io_error("create", &path))
}

/// Writes a small file whole or not at all.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let unfinished = path.with_file_name(name);
    let mut file = File::create(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io {
        action,
        path: path.clone(),
        source,
    }
}

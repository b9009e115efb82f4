//! The work directory and what is in it.
//!
//! ```text
//! <work_dir>/lock                 held while a master runs
//! <work_dir>/identity             JSON: who this master is, and of which cluster
//! <work_dir>/log/*.wal            the raft log
//! <work_dir>/snapshots/*.snapshot the registry that the log continues
//! <work_dir>/registry/            the applied registry; may be removed while no master runs
//! ```
//!
//! The identity is written twice: with the master's id before anybody hears of it, and with the cluster's id after the log
//! and the first snapshot are durable. What a crash left before the second is made anew.

mod identity;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use proffer_proto::registry::Member;
use proffer_replication::eraftpb::{HardState, Snapshot};
use proffer_replication::{bootstrap, position};
use prost::Message as _;

pub use identity::{Apart, Identity, Standing, Way};

use crate::log::{self, Directory, Options, Position, Recovered, Wal};
use crate::snapshots::{self, Snapshots};
use crate::{faults, formation};

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
    Snapshot(#[from] snapshots::Error),
}

/// A locked work directory. The lock is held until this, or what is made of it, is dropped.
#[derive(Debug)]
pub struct WorkDirectory {
    path: PathBuf,
    lock: File,
    standing: Option<Standing>,
}

/// The work directory of a master that is of a cluster, open. The lock is held until this is dropped.
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

impl WorkDirectory {
    /// Locks a work directory; makes it where it is missing.
    ///
    /// # Errors
    /// Another master has it, its identity cannot be read, or the file system failed.
    pub fn open(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        let lock = lock(path)?;
        Ok(Self {
            path: path.to_path_buf(),
            lock,
            standing: identity::read(path)?,
        })
    }

    /// Who the master is; none where the directory is new.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// Gives a master that is of no cluster an id, durable when this returns; the one that it has, unless it was to find its
    /// cluster another way: then those who know it under that id need not expect it any more.
    ///
    /// # Errors
    /// It is of a cluster, there is a log without an identity, or the file system failed.
    pub fn member(&mut self, way: Way) -> Result<u64, Error> {
        match &self.standing {
            Some(Standing::Formed(identity)) => {
                return Err(self.not_ours(format!("it is of cluster {} already", identity.cluster_id)));
            }
            Some(Standing::Apart(apart)) if apart.way == way => return Ok(apart.member),
            Some(Standing::Apart(_)) => {}
            None => self.clear()?,
        }
        let member = identity::new_member();
        self.write(Standing::Apart(Apart { member, way }))?;
        faults::MEMBER_NAMED.pass();
        Ok(member)
    }

    /// Makes durable that the master begins a cluster together with these members, itself among them.
    ///
    /// # Errors
    /// It has no id yet or is of a cluster, or the file system failed.
    pub fn found(&mut self, cluster_id: &str, cluster: &str, members: &[Member]) -> Result<(), Error> {
        let voters: Vec<u64> = formation::registry(members)
            .members
            .iter()
            .map(|member| member.id)
            .collect();
        let data = formation::registry(members).encode_to_vec();
        let mut state = HardState::default();
        (state.term, state.commit) = (1, 1);
        let founders = if members.len() > 1 { members } else { &[] };
        self.begin(&bootstrap(&voters, data), state, cluster_id, cluster, founders)
    }

    /// Makes durable that the master is of a cluster that is there already. Its log is empty and begins before that of
    /// every founder, so that the leader must send a snapshot.
    ///
    /// # Errors
    /// It has no id yet or is of a cluster, or the file system failed.
    pub fn join(&mut self, cluster_id: &str, cluster: &str) -> Result<(), Error> {
        self.begin(&Snapshot::default(), HardState::default(), cluster_id, cluster, &[])
    }

    /// Opens what a master that is of a cluster needs.
    ///
    /// # Errors
    /// It is of none, it is damaged, or the file system failed.
    pub fn into_home(self) -> Result<Home, Error> {
        let Some(Standing::Formed(identity)) = self.standing else {
            return Err(self.not_ours("its master is of no cluster yet".to_owned()));
        };
        let log_path = self.path.join("log");
        let in_log = |source| Error::Log {
            path: log_path.clone(),
            source,
        };
        let disk = Directory::create(&log_path).map_err(io_error("create", &log_path))?;
        let (mut wal, recovered) = Wal::open(disk, Options::default()).map_err(in_log)?;
        let snapshots = open_snapshots(&self.path)?;
        let snapshot = match recovered.snapshot {
            // A newcomer that has not heard of the leader yet.
            Position { index: 0, .. } => Snapshot::default(),
            position => snapshots.load(position)?,
        };
        snapshots.remove_others(recovered.snapshot);
        wal.size_segments(snapshot.data.len() as u64);
        Ok(Home {
            identity,
            wal,
            recovered,
            snapshot,
            snapshots,
            registry: self.path.join("registry"),
            lock: self.lock,
        })
    }

    /// Snapshot, log, identity, in this order.
    fn begin(
        &mut self,
        snapshot: &Snapshot,
        state: HardState,
        cluster_id: &str,
        cluster: &str,
        founders: &[Member],
    ) -> Result<(), Error> {
        let Some(Standing::Apart(Apart { member, .. })) = self.standing else {
            return Err(self.not_ours("it is of a cluster already, or was given no id".to_owned()));
        };
        self.clear()?;
        let place = position(snapshot);
        if place.index > 0 {
            open_snapshots(&self.path)?.save(snapshot)?;
        }
        faults::BEGIN_BEFORE_LOG.pass();
        let log_path = self.path.join("log");
        let disk = Directory::create(&log_path).map_err(io_error("create", &log_path))?;
        let created = Wal::create(disk, Options::default(), place, state);
        created.map_err(|source| Error::Log { path: log_path, source })?;
        faults::BEGIN_BEFORE_IDENTITY.pass();
        self.write(Standing::Formed(Identity {
            cluster_id: cluster_id.to_owned(),
            cluster: cluster.to_owned(),
            member,
            founders: founders.to_vec(),
        }))?;
        faults::BEGUN.pass();
        Ok(())
    }

    /// Removes the log of an attempt that was interrupted.
    fn clear(&self) -> Result<(), Error> {
        let log_path = self.path.join("log");
        let disk = Directory::create(&log_path).map_err(io_error("create", &log_path))?;
        let exists = Wal::exists(&disk).map_err(|source| Error::Log {
            path: log_path.clone(),
            source,
        });
        if exists? {
            remove_unfinished(&self.path, &log_path)?;
        }
        Ok(())
    }

    fn write(&mut self, standing: Standing) -> Result<(), Error> {
        identity::write(&self.path, &standing)?;
        self.standing = Some(standing);
        Ok(())
    }

    fn not_ours(&self, problem: String) -> Error {
        Error::NotOurs {
            path: self.path.clone(),
            problem,
        }
    }
}

impl Home {
    /// Opens the work directory of a master that is of a cluster, or makes a cluster of one, whose registry is empty.
    ///
    /// # Errors
    /// Another master has it, it is damaged, it waits for others, or the file system failed.
    pub fn open(path: &Path, cluster: &str) -> Result<Self, Error> {
        let mut directory = WorkDirectory::open(path)?;
        if directory.standing().is_none() {
            let member = directory.member(Way::Peers)?;
            let mut state = HardState::default();
            (state.term, state.commit) = (1, 1);
            let cluster_id = new_cluster_id();
            directory.begin(&bootstrap(&[member], Vec::new()), state, &cluster_id, cluster, &[])?;
        }
        directory.into_home()
    }
}

/// An id that no other cluster has.
pub fn new_cluster_id() -> String {
    uuid::Uuid::new_v4().to_string()
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

/// A log without an identity that names its cluster is of an attempt that was interrupted, unless something was written to it.
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
            problem: format!(
                "it has a raft log, but its file `identity` names no cluster. {}",
                log::ADVICE
            ),
        });
    }
    fs::remove_dir_all(log_path)
        .and_then(|()| fs::create_dir(log_path))
        .map_err(io_error("clear", log_path))
}

fn open_snapshots(path: &Path) -> Result<Snapshots, Error> {
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

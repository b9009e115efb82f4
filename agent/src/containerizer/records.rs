//! The directories of the containers' records.
//!
//! ```text
//! <runtime_dir>/               0700
//!   lock                       held by the agent that lives
//!   shim-<hash>                the launcher
//!   containers/<id>/
//!     state                    written by the launcher before the program is executed, or by an agent that gave the container up
//!     exit                     written by the launcher when all has ended
//!     state.tmp, exit.tmp      before they have their names
//!   containers/.spare-<number> a directory that was used, with its two files under their temporary names
//! ```
//! Directories and files are used again: to make and remove three inodes a container costs a disk's file system more than all
//! else of a launch (ext4 without a journal searches past every inode that was removed within the last seconds).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use proffer_shim::record::{EXIT_FILE, Exit, STATE_FILE, State};
use rustix::fs::{CWD, RenameFlags};

use super::spec::ContainerId;
use crate::faults;

/// Ids of containers do not begin with a dot.
const SPARE_PREFIX: &str = ".spare-";
/// How many used directories are kept.
const SPARES_MAX: usize = 64;
/// Both files, and their names until they are whole.
const FILES: [(&str, &str); 2] = [(EXIT_FILE, "exit.tmp"), (STATE_FILE, "state.tmp")];

/// The records of all containers.
#[derive(Debug)]
pub(super) struct Records {
    containers: PathBuf,
    spares: Mutex<Spares>,
    /// Locked for as long as it is open.
    _lock: File,
}

impl Records {
    /// Opens, and creates, the directories; none when another process has them.
    pub(super) fn open(runtime_dir: &Path) -> io::Result<Option<Self>> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(runtime_dir)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(runtime_dir.join("lock"))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            result => result?,
        }
        let containers = runtime_dir.join("containers");
        fs::create_dir_all(&containers)?;
        // It may not be ready for use: nobody knows when the process before us ended.
        for entry in fs::read_dir(&containers)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(SPARE_PREFIX) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Some(Records {
            containers,
            spares: Mutex::default(),
            _lock: lock,
        }))
    }

    /// The directory of one container.
    pub(super) fn directory(&self, id: &ContainerId) -> PathBuf {
        self.containers.join(id.as_str())
    }

    /// Every container that has a directory.
    pub(super) fn containers(&self) -> io::Result<Vec<ContainerId>> {
        let names = fs::read_dir(&self.containers)?.map(|entry| entry.map(|entry| entry.file_name().into_string()));
        names
            .filter_map(|name| name.map(Result::ok).transpose())
            .filter(|name| !name.as_ref().is_ok_and(|name| name.starts_with(SPARE_PREFIX)))
            .map(|name| name.map(ContainerId))
            .collect()
    }

    /// Creates the directory; one that exists is an error.
    pub(super) fn create(&self, id: &ContainerId) -> io::Result<()> {
        let spare = self.spares().ready.pop();
        if let Some(spare) = spare {
            let renamed = rustix::fs::renameat_with(CWD, &spare, CWD, self.directory(id), RenameFlags::NOREPLACE);
            match renamed {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::EXIST) => {
                    self.spares().ready.push(spare);
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                Err(error) => tracing::debug!(spare = %spare.display(), %error, "a used directory is passed over"),
            }
        }
        fs::create_dir(self.directory(id))
    }

    /// Removes the directory; one that is not there is no error. A launcher that still has it open can leave nothing in it.
    pub(super) fn remove(&self, id: &ContainerId) -> io::Result<()> {
        remove(&self.directory(id))
    }

    /// Keeps the directory for another container. Only of a container whose supervisor has ended: one that lives could write
    /// into what belongs to the other by then.
    pub(super) fn retire(&self, id: &ContainerId) -> io::Result<()> {
        let directory = self.directory(id);
        let spare = {
            let mut spares = self.spares();
            spares.made += 1;
            (spares.ready.len() < SPARES_MAX).then(|| self.containers.join(format!("{SPARE_PREFIX}{}", spares.made)))
        };
        let directory = match spare {
            Some(spare) if fs::rename(&directory, &spare).is_ok() => {
                faults::RECORDS_BEFORE_LAID_BY.pass();
                if lay_by(&spare).is_ok() {
                    self.spares().ready.push(spare);
                    return Ok(());
                }
                spare
            }
            _ => directory,
        };
        remove(&directory)
    }

    /// How it ended, if it is written.
    pub(super) fn exit(&self, id: &ContainerId) -> io::Result<Option<Exit>> {
        Ok(self.read(id, EXIT_FILE)?.and_then(|text| Exit::parse(&text)))
    }

    /// Who runs, if it is written and whole.
    pub(super) fn state(&self, id: &ContainerId) -> io::Result<Option<State>> {
        Ok(self.read(id, STATE_FILE)?.and_then(|text| State::parse(&text)))
    }

    /// Sees to it that a container that has no record of its start will never start: its launcher, should it still come, finds the
    /// name taken. False when it was there before us.
    pub(super) fn give_up(&self, id: &ContainerId) -> io::Result<bool> {
        let path = self.directory(id).join(STATE_FILE);
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn spares(&self) -> MutexGuard<'_, Spares> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, id: &ContainerId, name: &str) -> io::Result<Option<String>> {
        match fs::read(self.directory(id).join(name)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Directories that were used and can be used again.
#[derive(Debug, Default)]
struct Spares {
    ready: Vec<PathBuf>,
    made: u64,
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Takes the names from the files of a used directory: nobody may find in it what another container left.
fn lay_by(directory: &Path) -> io::Result<()> {
    for (name, temporary) in FILES {
        match fs::rename(directory.join(name), directory.join(temporary)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_directory_shows_nothing_of_its_former_container() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::open(directory.path()).unwrap().unwrap();
        let (first, second) = (ContainerId("first".into()), ContainerId("second".into()));
        records.create(&first).unwrap();
        assert_eq!(records.create(&first).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        for (name, _) in FILES {
            fs::write(records.directory(&first).join(name), "proffer-exit 1\ncode 0\nend\n").unwrap();
        }
        assert!(records.exit(&first).unwrap().is_some());
        records.retire(&first).unwrap();
        assert_eq!(records.containers().unwrap(), []);
        records.create(&second).unwrap();
        assert_eq!(records.containers().unwrap(), std::slice::from_ref(&second));
        assert!(records.directory(&second).join("exit.tmp").exists());
        assert!(records.exit(&second).unwrap().is_none() && records.state(&second).unwrap().is_none());
        assert!(records.give_up(&second).unwrap());
        records.retire(&second).unwrap();
        records.retire(&second).expect("it is gone");
        drop(records);
        let records = Records::open(directory.path()).unwrap().unwrap();
        assert_eq!(fs::read_dir(&records.containers).unwrap().count(), 0);
    }
}

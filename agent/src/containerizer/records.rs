//! The directories of the containers' records.
//!
//! ```text
//! <runtime_dir>/               0700
//!   lock                       held by the agent that lives
//!   shim-<hash>                the launcher
//!   containers/<id>/
//!     state                    written by the launcher before the program is executed, or by an agent that gave the container up
//!     exit                     written by the launcher when all has ended
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use proffer_shim::record::{EXIT_FILE, Exit, STATE_FILE, State};

use super::spec::ContainerId;

/// The records of all containers.
#[derive(Debug)]
pub(super) struct Records {
    containers: PathBuf,
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
        Ok(Some(Records {
            containers,
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
            .map(|name| name.map(ContainerId))
            .collect()
    }

    /// Creates the directory; one that exists is an error.
    pub(super) fn create(&self, id: &ContainerId) -> io::Result<()> {
        fs::create_dir(self.directory(id))
    }

    /// Removes the directory; one that is not there is no error.
    pub(super) fn remove(&self, id: &ContainerId) -> io::Result<()> {
        match fs::remove_dir_all(self.directory(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
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

    fn read(&self, id: &ContainerId, name: &str) -> io::Result<Option<String>> {
        match fs::read(self.directory(id).join(name)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

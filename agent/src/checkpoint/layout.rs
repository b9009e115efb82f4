//! The agent's directories; the only file that builds paths in them.
//!
//! ```text
//! <work dir>                                  root:root 0755
//! ├── executors.sock                          where executors reach the agent; their tokens say who they are
//! ├── lock                                    locked by the running agent
//! ├── journal                                 what must survive the agent: see `journal`
//! ├── journal.new                             a compaction under way; removed at start
//! ├── launcher                                the launcher, where <runtime dir> allows no execution
//! ├── images                                  0700, the file systems of sandboxes that are in files: see `disk::image`
//! ├── fetched                                 0700, downloads that are kept for other tasks: see `fetcher::cache`
//! ├── volumes                                 root:root 0755
//! │   └── <role, its slashes as %2F>
//! │       └── <id of a persistent volume>
//! │           └── <admission>-<version>       the data of one that was made then, owned by its task's user, 0750
//! ├── volume-images                           0700, the file systems of volumes that are in files, at the same paths
//! └── sandboxes                               root:root 0755
//!     └── <framework id>
//!         ├── <task id, or that of a custom executor>
//!         │   └── <container id>              the sandbox, owned by the task's user, 0750
//!         │       ├── stdout
//!         │       └── stderr
//!         └── <id of a default executor>
//!             └── <pod id>                    root:<group of a task's user> 0750
//!                 ├── shared                  what its tasks share, the same; within the executor's `disk`
//!                 └── tasks                   root:root 0755
//!                     └── <task id>           the sandbox of one of them, as above
//! <runtime dir>                               the containerizer's; does not survive a reboot
//! ```
//!
//! Ids come from outside: each becomes exactly one path component or is rejected.

use std::path::{Path, PathBuf};

/// The directory of a pod's sandbox in which those of its tasks are.
pub const TASKS: &str = "tasks";
/// The directory of a pod's sandbox in which the volumes are that its tasks share.
pub const SHARED: &str = "shared";
/// Longest name of a directory entry on Linux, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// An id that cannot name a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} `{}` cannot name a directory: 1 to {NAME_BYTES_MAX} bytes without `/` and control characters are accepted, and neither `.` nor `..`", value.escape_debug())]
pub struct BadId {
    field: &'static str,
    value: String,
}

/// The tree below the work directory.
#[derive(Debug, Clone)]
pub struct Layout {
    work: PathBuf,
}

impl Layout {
    /// The tree below `work`.
    pub fn new(work: impl Into<PathBuf>) -> Self {
        Self { work: work.into() }
    }

    /// The root of the tree.
    pub fn work_dir(&self) -> &Path {
        &self.work
    }

    /// The socket of the executor API.
    pub fn executors_socket(&self) -> PathBuf {
        self.work.join("executors.sock")
    }

    /// The file that the running agent keeps locked.
    pub fn lock(&self) -> PathBuf {
        self.work.join("lock")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.work.join("journal")
    }

    /// The journal that is to replace the present one.
    pub fn journal_new(&self) -> PathBuf {
        self.work.join("journal.new")
    }

    /// Where the launcher lies where the runtime directory allows no execution.
    pub fn launcher(&self) -> PathBuf {
        self.work.join("launcher")
    }

    /// The downloads that are kept.
    pub fn fetched(&self) -> PathBuf {
        self.work.join("fetched")
    }

    /// Where file systems in files lie.
    pub fn images(&self) -> PathBuf {
        self.work.join("images")
    }

    /// The parent of all persistent volumes.
    pub fn volumes(&self) -> PathBuf {
        self.work.join("volumes")
    }

    /// Where file systems of volumes in files lie.
    pub fn volume_images(&self) -> PathBuf {
        self.work.join("volume-images")
    }

    /// The data of a volume that was made in the layout `version` of the admission `lineage`.
    ///
    /// # Errors
    /// An id that cannot name a directory.
    pub fn volume(&self, role: &str, id: &str, lineage: i64, version: u64) -> Result<PathBuf, BadId> {
        let role = role.replace('%', "%25").replace('/', "%2F");
        let role = self.volumes().join(component("role", &role)?);
        let volume = role.join(component("disk.persistence.id", id)?);
        Ok(volume.join(format!("{lineage}-{version}")))
    }

    /// The parent of all sandboxes.
    pub fn sandboxes(&self) -> PathBuf {
        self.work.join("sandboxes")
    }

    /// The parent of all sandboxes of one task.
    ///
    /// # Errors
    /// An id that cannot name a directory.
    pub fn task(&self, framework: &str, task: &str) -> Result<PathBuf, BadId> {
        let framework = component("framework_id", framework)?;
        let task = component("task_id", task)?;
        Ok(self.sandboxes().join(framework).join(task))
    }

    /// The sandbox of one task in a pod, whose own sandbox is that of an executor.
    ///
    /// # Errors
    /// An id that cannot name a directory.
    pub fn task_in_pod(&self, framework: &str, executor: &str, pod: &str, task: &str) -> Result<PathBuf, BadId> {
        let tasks = self.sandbox(framework, executor, pod)?.join(TASKS);
        Ok(tasks.join(component("task_id", task)?))
    }

    /// The sandbox of one container.
    ///
    /// # Errors
    /// An id that cannot name a directory.
    pub fn sandbox(&self, framework: &str, task: &str, container: &str) -> Result<PathBuf, BadId> {
        Ok(self.task(framework, task)?.join(component("container_id", container)?))
    }
}

/// Checks that an id can name a directory.
///
/// # Errors
/// An id that cannot.
pub fn component<'a>(field: &'static str, id: &'a str) -> Result<&'a str, BadId> {
    let fits = (1..=NAME_BYTES_MAX).contains(&id.len());
    let plain = !id.chars().any(|c| c == '/' || c.is_control());
    if fits && plain && id != "." && id != ".." {
        Ok(id)
    } else {
        Err(BadId {
            field,
            value: id.chars().take(300).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_one_component() {
        let layout = Layout::new("/w");
        for bad in ["", ".", "..", "a/b", "../x", "a\nb", "a\0", &"x".repeat(256)] {
            assert!(layout.sandbox("f", bad, "c").is_err(), "{bad:?}");
            assert!(layout.sandbox(bad, "t", "c").is_err(), "{bad:?}");
        }
        assert_eq!(
            layout.sandbox("f", "web.1", "c").unwrap(),
            Path::new("/w/sandboxes/f/web.1/c")
        );
    }
}

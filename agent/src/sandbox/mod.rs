//! The sandbox of a task: made before its container, read while it runs, bounded, and removed when it is old.

pub(crate) mod beneath;
pub(crate) mod files;
pub(crate) mod keep;
pub(crate) mod remove;
mod stream;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use crate::checkpoint::layout::{SHARED, TASKS};
use crate::containerizer::User;
use crate::disk::{Disk, Limit};

/// A step of making a sandbox failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub(crate) struct Error {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Makes the sandbox, owned by the user, with a limit. A sandbox that is there already is an error: a container is launched once.
///
/// # Errors
/// The step that failed.
pub(crate) fn make(sandbox: &Path, user: &User, disk: &Disk, limit: Option<Limit>) -> Result<(), Error> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error { action, path, source }
    };
    if let Some(parent) = sandbox.parent() {
        std::fs::create_dir_all(parent).map_err(failed("make", parent))?;
    }
    disk.make(sandbox, limit).map_err(failed("make", sandbox))?;
    // Last, so that nobody but the agent can touch what is made in it.
    let directory = File::open(sandbox).map_err(failed("open", sandbox))?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o750))
        .map_err(|errno| failed("open up", sandbox)(errno.into()))?;
    own(&directory, user).map_err(failed("give away", sandbox))
}

/// Makes the sandbox of a pod, and in it what its tasks share, which alone the limit is for: its tasks' users may enter both by
/// their group, but what is in them is the agent's. What is there already is no error; two calls for one pod at a time are.
///
/// # Errors
/// The step that failed.
pub(crate) fn make_pod(sandbox: &Path, user: &User, disk: &Disk, limit: Option<Limit>) -> Result<(), Error> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error { action, path, source }
    };
    if let Some(parent) = sandbox.parent() {
        std::fs::create_dir_all(parent).map_err(failed("make the parent of", sandbox))?;
    }
    let shared = sandbox.join(SHARED);
    for (path, made) in [
        (sandbox, DirBuilder::new().mode(0o750).create(sandbox)),
        (&shared, disk.make(&shared, limit)),
    ] {
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            result => result.map_err(failed("make", path))?,
        }
        let directory = File::open(path).map_err(failed("open", path))?;
        let opened = rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o750));
        opened.map_err(|errno| failed("open up", path)(errno.into()))?;
        if rustix::process::geteuid().is_root() {
            let given = std::os::unix::fs::fchown(&directory, None, Some(user.gid));
            given.map_err(failed("give away", path))?;
        }
    }
    Ok(())
}

/// Whether it is the sandbox of a pod, in which those of its tasks are. What a task calls so in its own is its own affair.
fn is_pod(sandbox: &Path) -> bool {
    let agent = rustix::process::geteuid().as_raw();
    let is_agents = |path: &Path| {
        let metadata = std::fs::symlink_metadata(path);
        metadata.is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == agent)
    };
    is_agents(sandbox) && is_agents(&sandbox.join(TASKS))
}

fn own(file: &File, user: &User) -> io::Result<()> {
    if rustix::process::geteuid().as_raw() == user.uid && rustix::process::getegid().as_raw() == user.gid {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(user.uid), Some(user.gid))
}

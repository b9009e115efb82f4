//! What XFS and ext4 have in common: a project for each sandbox.
//!
//! A sandbox's project is a number made from its path, moved on while somebody else has it: other agents, and other programs,
//! may use projects of the same file system.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use proffer_shim::quota;

use super::{file_system, make_plain, open_directory};

/// Numbers of our projects: from here on, so many.
const FIRST: u32 = 0x5000_0000;
const COUNT: u32 = 0x1000_0000;
const TRIES_MAX: u32 = 1000;

/// Whether project quotas are enforced below a directory; an error without a text where it lies on another file system.
pub(super) fn probe(directory: &Path, magic: i64, advice: &str) -> Result<(), String> {
    if file_system(directory) != magic {
        return Err(String::new());
    }
    let enforced = open_directory(directory).and_then(|directory| quota::enforced(directory.as_fd()));
    match enforced {
        Ok(true) => Ok(()),
        Ok(false) => Err(advice.into()),
        Err(error) => Err(format!("{advice}: {error}")),
    }
}

pub(super) fn make(sandbox: &Path, bytes: u64) -> io::Result<()> {
    make_plain(sandbox)?;
    let limited = limit(sandbox, bytes);
    if limited.is_err() {
        let _ = std::fs::remove_dir(sandbox);
    }
    limited
}

fn limit(sandbox: &Path, bytes: u64) -> io::Result<()> {
    let directory = open_directory(sandbox)?;
    let first = crc32c::crc32c(sandbox.as_os_str().as_encoded_bytes());
    for step in 0..TRIES_MAX {
        let project = FIRST + first.wrapping_add(step) % COUNT;
        let taken = quota::get(directory.as_fd(), project)?;
        if taken.is_some_and(|quota| quota.limit_bytes > 0 || quota.used_bytes > 0) {
            continue;
        }
        // Zero is no limit.
        quota::set_limit(directory.as_fd(), project, bytes.max(512))?;
        return quota::set_project(directory.as_fd(), project);
    }
    Err(io::Error::other("no project is free on the file system"))
}

/// Gives the project of a sandbox another limit.
pub(super) fn resize(sandbox: &Path, bytes: u64, magic: i64) -> io::Result<()> {
    match of(sandbox, magic) {
        Some(project) => quota::set_limit(open_directory(sandbox)?.as_fd(), project, bytes.max(512)),
        None => Ok(()),
    }
}

/// The project of a sandbox, if it is one of ours on such a file system.
pub(super) fn of(sandbox: &Path, magic: i64) -> Option<u32> {
    if file_system(sandbox) != magic {
        return None;
    }
    let project = quota::project(open_directory(sandbox).ok()?.as_fd()).ok()?;
    (FIRST..FIRST + COUNT).contains(&project).then_some(project)
}

pub(super) fn used(sandbox: &Path, magic: i64) -> io::Result<Option<u64>> {
    let Some(project) = of(sandbox, magic) else {
        return Ok(None);
    };
    let quota = quota::get(open_directory(sandbox)?.as_fd(), project)?;
    Ok(quota.map(|quota| quota.used_bytes))
}

pub(super) fn remove(sandbox: &Path, magic: i64) -> io::Result<()> {
    let project = of(sandbox, magic);
    crate::sandbox::remove::remove(sandbox)?;
    match (project, sandbox.parent()) {
        (Some(project), Some(parent)) => quota::set_limit(open_directory(parent)?.as_fd(), project, 0),
        _ => Ok(()),
    }
}

//! Gives a host that has version 1 only the unified tree besides.
//!
//! The tree is there in every kernel, mounted or not, without the controllers that version 1 has; to mount it somewhere changes
//! nothing for anybody else. It stays mounted: supervisors that outlive the agent use its files.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

/// Shared by all agents of a host.
const PLACE: &str = "/run/proffer/cgroup2";

/// Mounts the unified tree; returns where.
pub(crate) fn mount_unified() -> io::Result<PathBuf> {
    std::fs::create_dir_all(PLACE)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("cgroup2", PLACE, "cgroup2", flags, None) {
        // Another agent was as quick.
        Err(Errno::BUSY) => {}
        result => result?,
    }
    tracing::info!(place = PLACE, "cgroup2 was mounted nowhere on this host and now is");
    Ok(Path::new(PLACE).to_owned())
}

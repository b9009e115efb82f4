//! A directory below which what the agent unmounts goes from all containers' views too.
//!
//! A container starts with a copy of all mounts, and as long as it has one, the device below is in use. Copies follow the original only
//! where it lies in a shared mount (mount_namespaces(7)), as with systemd everything does, and elsewhere nothing.

use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

const MOUNTS: &str = "/proc/self/mountinfo";

/// Sees to it that the directory lies in a shared mount: in one of its own where there is no other.
pub(super) fn ensure(directory: &Path) -> io::Result<()> {
    let directory = directory.canonicalize()?;
    if is_shared(&std::fs::read_to_string(MOUNTS)?, &directory) {
        return Ok(());
    }
    mount_bind(&directory, &directory)?;
    Ok(mount_change(&directory, MountPropagationFlags::SHARED)?)
}

/// Takes the directory's own mount away, if it has one and nothing is mounted in it.
pub(super) fn give_up(directory: &Path) {
    let Ok(directory) = directory.canonicalize() else {
        return;
    };
    let mounts = std::fs::read_to_string(MOUNTS).unwrap_or_default();
    if points(&mounts).any(|(point, _)| point == directory) {
        let _ = unmount(&directory, UnmountFlags::NOFOLLOW);
    }
}

/// Whether what is mounted in a directory is so for all who share the mount that it lies in.
fn is_shared(mounts: &str, directory: &Path) -> bool {
    let around = points(mounts).filter(|(point, _)| directory.starts_with(point));
    // Of several mounts at one place the last covers the others.
    around
        .max_by_key(|(point, _)| point.components().count())
        .is_some_and(|(_, shared)| shared)
}

/// Where something is mounted, and whether that is a shared mount (proc_pid_mountinfo(5)).
fn points(mounts: &str) -> impl Iterator<Item = (PathBuf, bool)> {
    mounts.lines().filter_map(|line| {
        let (before, _) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(4);
        let point = fields.next()?.replace("\\040", " ");
        Some((point.into(), fields.any(|field| field.starts_with("shared:"))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_and_last_mount_says_whether_it_is_shared() {
        let mounts = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
                      28 27 254:1 / /srv rw,noatime shared:7 - ext4 /dev/vdb rw\n\
                      29 28 254:1 /x /srv/a\\040b rw master:7 - ext4 /dev/vdb rw\n\
                      30 28 254:1 /y /srv/twice rw - ext4 /dev/vdb rw\n\
                      31 30 254:1 /y /srv/twice rw shared:9 master:7 - ext4 /dev/vdb rw\n";
        let is_shared = |path: &str| is_shared(mounts, Path::new(path));
        assert!(!is_shared("/var/lib"));
        assert!(is_shared("/srv/work") && is_shared("/srv"));
        assert!(!is_shared("/srv/a b/c"));
        assert!(is_shared("/srv/twice/c"));
        assert!(!is_shared("/srvr"));
    }
}

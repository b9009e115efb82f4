//! Removes a directory that strangers filled: without following links, without leaving its file system, and in bounded memory
//! however deep it is.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::beneath::resolve;

/// Deeper directories are moved up before they are emptied.
const DEPTH_MAX: usize = 32;

/// Removes the directory and all below it. What is mounted below stays, and with it the directories above it.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    let (parent, name) = (directory.parent().unwrap_or(Path::new("/")), directory.file_name());
    let name = CString::new(name.unwrap_or_default().as_encoded_bytes())?;
    let parent = rustix::fs::open(
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let root = enter(&parent, &name)?;
    let mut moved = 0;
    empty(&root, &root, 0, &mut moved)?;
    // What was moved up may have had more below it.
    while moved > 0 {
        moved = 0;
        empty(&root, &root, 0, &mut moved)?;
    }
    Ok(rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)?)
}

fn enter(parent: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    resolve(
        parent,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        Mode::empty(),
    )
}

fn empty(root: &OwnedFd, directory: &OwnedFd, depth: usize, moved: &mut u64) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(status.st_mode).is_dir()
            }
            _ => false,
        };
        if !is_directory {
            rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
        } else if depth >= DEPTH_MAX {
            *moved += 1;
            move_up(root, directory, name)?;
        } else {
            let inner = enter(directory, name)?;
            empty(root, &inner, depth + 1, moved)?;
            drop(inner);
            rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}

fn move_up(root: &OwnedFd, directory: &OwnedFd, name: &CStr) -> io::Result<()> {
    for number in 0_u64.. {
        let new = format!(".removed-{number}");
        match rustix::fs::renameat_with(directory, name, root, &new, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            result => return Ok(result?),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (inner, outer) = (directory.path().join("inner"), directory.path().join("outer"));
        std::fs::create_dir_all(inner.join("a/b")).unwrap();
        std::fs::create_dir(&outer).unwrap();
        std::fs::write(outer.join("kept"), "").unwrap();
        symlink(&outer, inner.join("a/link")).unwrap();
        symlink(outer.join("kept"), inner.join("file")).unwrap();
        symlink("..", inner.join("a/b/up")).unwrap();
        remove(&inner).unwrap();
        assert!(!inner.exists() && outer.join("kept").exists());
        symlink(&outer, &inner).unwrap();
        assert!(remove(&inner).is_err(), "a link in the place of the directory");
        assert!(outer.join("kept").exists());
    }

    #[test]
    fn a_tree_of_any_depth_is_removed() {
        // In memory: a disk takes its time for so many directories.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let inner = directory.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let mut at = rustix::fs::open(&inner, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::mknodat(&at, "f", FileType::RegularFile, Mode::RWXU, 0).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        drop(at);
        remove(&inner).unwrap();
        assert!(!inner.exists());
    }

    #[test]
    fn what_is_mounted_below_stays() {
        use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: not root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        std::fs::create_dir_all(inner.join("mounted")).unwrap();
        mount(
            "proffer-test",
            inner.join("mounted"),
            "tmpfs",
            MountFlags::empty(),
            None,
        )
        .unwrap();
        std::fs::write(inner.join("mounted/kept"), "").unwrap();
        let removed = remove(&inner);
        let kept = inner.join("mounted/kept").exists();
        unmount(inner.join("mounted"), UnmountFlags::empty()).unwrap();
        assert!(removed.is_err() && kept);
        remove(&inner).unwrap();
    }
}

//! Reaches files below a directory and never beside it: the kernel resolves every path (`openat2`, `RESOLVE_BENEATH`), whoever
//! else changes what lies there meanwhile.
//!
//! What is made belongs to the task's user. Links are followed as long as they stay below the directory.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::containerizer::User;

/// The deepest directory that is made.
const DEPTH_MAX: usize = 128;

/// A directory that holds what is made.
#[derive(Debug)]
pub(crate) struct Destination {
    root: OwnedFd,
    uid: Uid,
    gid: Gid,
}

impl Destination {
    /// Opens an existing directory, whose own path is trusted.
    pub(crate) fn open(root: &Path, user: &User) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Destination {
            root: rustix::fs::open(root, flags, Mode::empty())?,
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid),
        })
    }

    /// Makes a file that is not there yet, and the directories above it. It belongs to the agent until [`Self::give`].
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        self.parents(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = self.resolve(path, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(file))
    }

    /// The same, in the place of a file or link that is there.
    pub(crate) fn replace(&self, path: &Path) -> io::Result<File> {
        match self.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(path)?;
                self.create(path)
            }
            result => result,
        }
    }

    /// Gives a file to the user, with its permissions; neither setuid nor setgid nor sticky.
    pub(crate) fn give(&self, file: &File, mode: u32) -> io::Result<()> {
        fchown(file, Some(self.uid.as_raw()), Some(self.gid.as_raw()))?;
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o777))?)
    }

    /// Removes a file or link.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    /// Makes a directory and those above it; one that is there stays as it is.
    pub(crate) fn directory(&self, path: &Path) -> io::Result<()> {
        let mut made = PathBuf::new();
        for (depth, part) in path.components().enumerate() {
            let Component::Normal(name) = part else {
                return Err(leaves(path));
            };
            if depth >= DEPTH_MAX {
                return Err(io::Error::other(format!("lies more than {DEPTH_MAX} directories deep")));
            }
            let parent = self.enter(&made)?;
            made.push(name);
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                    let directory = self.resolve(&made, flags, Mode::empty())?;
                    rustix::fs::chownat(&directory, "", Some(self.uid), Some(self.gid), AtFlags::EMPTY_PATH)?;
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Makes a symbolic link that leads to something below the directory.
    pub(crate) fn symlink(&self, path: &Path, target: &Path) -> io::Result<()> {
        if !stays(path, target) {
            return Err(io::Error::other(format!(
                "its target `{}` leads out of the directory",
                target.display()
            )));
        }
        self.parents(path)?;
        let (parent, name) = self.parent(path)?;
        match rustix::fs::symlinkat(target, &parent, name) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
                rustix::fs::symlinkat(target, &parent, name)?;
            }
            result => result?,
        }
        Ok(rustix::fs::chownat(
            &parent,
            name,
            Some(self.uid),
            Some(self.gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Makes another name for a file that lies below the directory.
    pub(crate) fn hard_link(&self, path: &Path, target: &Path) -> io::Result<()> {
        let file = self.resolve(target, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        let status = rustix::fs::fstat(&file)?;
        let plain = rustix::fs::FileType::from_raw_mode(status.st_mode).is_file();
        if !plain || status.st_uid != self.uid.as_raw() {
            return Err(io::Error::other(format!(
                "its target `{}` is no file of the archive",
                target.display()
            )));
        }
        self.parents(path)?;
        let (parent, name) = self.parent(path)?;
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = || rustix::fs::linkat(CWD, &from, &parent, name, AtFlags::SYMLINK_FOLLOW);
        match link() {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
                Ok(link()?)
            }
            result => Ok(result?),
        }
    }

    fn parents(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.directory(parent),
            _ => Ok(()),
        }
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or_else(|| leaves(path))?;
        Ok((self.enter(path.parent().unwrap_or(Path::new("")))?, name))
    }

    fn enter(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        resolve(&self.root, path, flags, mode).map_err(|errno| match errno {
            Errno::XDEV => leaves(path),
            errno => errno.into(),
        })
    }
}

/// Opens a path below a directory; `EXDEV` where it leads out of it, or to another file system.
pub(crate) fn resolve(root: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    // With a path alone the kernel takes no flag that is about opening.
    let open = if flags.contains(OFlags::PATH) {
        OFlags::CLOEXEC
    } else {
        OFlags::CLOEXEC | OFlags::NOCTTY
    };
    // Something on the way was just renamed: the kernel wants to be asked again.
    for _ in 0..64 {
        match rustix::fs::openat2(&root, path, flags | open, mode, how) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Whether a link at `path` with this target, as far as the texts say, stays below the root of `path`.
fn stays(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

fn leaves(path: &Path) -> io::Error {
    io::Error::other(format!("`{}` leads out of the directory", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn destination() -> (tempfile::TempDir, PathBuf, Destination) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        let own = root.metadata().unwrap();
        let user = User {
            uid: own.uid(),
            gid: own.gid(),
            groups: vec![],
        };
        let destination = Destination::open(&root, &user).unwrap();
        (directory, root, destination)
    }

    #[test]
    fn nothing_is_made_outside() {
        let (directory, root, destination) = destination();
        symlink("..", root.join("up")).unwrap();
        symlink(directory.path(), root.join("absolute")).unwrap();
        symlink("inner", root.join("inside")).unwrap();
        for path in ["up/x", "absolute/x", "../x", "/x", "up/up/x", ".."] {
            let path = Path::new(path);
            assert!(destination.create(path).is_err(), "{path:?}");
            assert!(destination.directory(path).is_err(), "{path:?}");
            assert!(destination.symlink(path, Path::new("a")).is_err(), "{path:?}");
        }
        destination.create(Path::new("a")).unwrap();
        assert!(destination.hard_link(Path::new("b"), Path::new("up/secret")).is_err());
        assert!(destination.hard_link(Path::new("up/b"), Path::new("a")).is_err());
        assert!(
            destination.hard_link(Path::new("b"), Path::new("up")).is_err(),
            "no link to a link"
        );
        destination.hard_link(Path::new("b"), Path::new("a")).unwrap();
        destination.directory(Path::new("inner")).unwrap();
        destination.create(Path::new("inside/file")).unwrap();
        assert!(root.join("inner/file").exists(), "a link that stays inside is followed");
        assert!(
            destination.create(Path::new("a")).is_err(),
            "what is there is not written to"
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_link_must_lead_to_something_inside() {
        let (_directory, root, destination) = destination();
        for (path, target) in [
            ("a", "/etc/passwd"),
            ("a", "../secret"),
            ("b/c", "../../secret"),
            ("b/c", "x/../../../secret"),
        ] {
            let error = destination.symlink(Path::new(path), Path::new(target)).unwrap_err();
            assert!(error.to_string().contains("leads out"), "{path}: {error}");
        }
        destination.symlink(Path::new("b/c"), Path::new("../a")).unwrap();
        destination.symlink(Path::new("b/c"), Path::new("./d")).unwrap();
        assert_eq!(std::fs::read_link(root.join("b/c")).unwrap(), Path::new("./d"));
    }

    #[test]
    fn special_bits_are_not_given() {
        let (_directory, root, destination) = destination();
        let file = destination.create(Path::new("deep/er/program")).unwrap();
        destination.give(&file, 0o7755).unwrap();
        assert_eq!(root.join("deep/er/program").metadata().unwrap().mode() & 0o7777, 0o755);
        let deep: PathBuf = std::iter::repeat_n("d", 200).collect();
        assert!(destination.directory(&deep).unwrap_err().to_string().contains("deep"));
    }

    #[test]
    fn what_is_swapped_meanwhile_lets_nothing_out() {
        let (directory, root, destination) = destination();
        let outside = directory.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::create_dir(root.join("dir")).unwrap();
        symlink(&outside, root.join("link")).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let (here, there) = (root.join("dir"), root.join("link"));
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(CWD, &here, CWD, &there, flags).unwrap();
                }
            });
            for number in 0..2_000 {
                let path = |name: &str| PathBuf::from(format!("dir/{name}{number}"));
                let _ = destination.create(&path("file"));
                let _ = destination.directory(&path("directory/"));
                let _ = destination.symlink(&path("link"), Path::new("file"));
                let _ = destination.hard_link(&path("hard"), &path("file"));
                let _ = destination.remove(&path("file"));
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(
            std::fs::read_dir(&outside).unwrap().count(),
            0,
            "something was made outside"
        );
    }
}

//! Opens artifacts of the host.
//!
//! The agent reads as root what the task's user may not be allowed to read: a file is opened only when the mode bits of the
//! file and of every directory on its way let that user read it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::containerizer::User;

/// Opens a file that the user may read.
pub(super) fn open(source: &Path, user: &User) -> io::Result<File> {
    let denied = |text: String| io::Error::new(io::ErrorKind::PermissionDenied, text);
    let source = source.canonicalize()?;
    for directory in source.ancestors().skip(1) {
        if !permits(&directory.metadata()?, user, 1) {
            return Err(denied(format!(
                "the task's user may not pass through {}",
                directory.display()
            )));
        }
    }
    // Without blocking on a pipe, and not through a link that was put in the way meanwhile.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(CWD, &source, flags, Mode::empty(), how)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(denied("is not a regular file".into()));
    }
    if !permits(&metadata, user, 4) {
        return Err(denied("the task's user may not read it".into()));
    }
    Ok(file)
}

/// Whether the mode bits grant `bits` (4 read, 1 pass through) to the user.
fn permits(metadata: &Metadata, user: &User, bits: u32) -> bool {
    let shift = if user.uid == 0 {
        return true;
    } else if metadata.uid() == user.uid {
        6
    } else if metadata.gid() == user.gid || user.groups.contains(&metadata.gid()) {
        3
    } else {
        0
    };
    metadata.mode() >> shift & bits == bits
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_what_the_user_may_read_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().metadata().unwrap();
        let me = User {
            uid: own.uid(),
            gid: own.gid(),
            groups: vec![],
        };
        let stranger = User {
            uid: 54_321,
            gid: 54_321,
            groups: vec![],
        };
        let source = directory.path().join("artifact");
        std::fs::write(&source, "content").unwrap();
        set_mode(directory.path(), 0o755);
        set_mode(&source, 0o640);
        assert!(open(&source, &me).is_ok());
        let error = open(&source, &stranger).unwrap_err().to_string();
        assert!(error.contains("may not read"), "{error}");
        set_mode(&source, 0o644);
        assert!(open(&source, &stranger).is_ok());
        set_mode(directory.path(), 0o700);
        let error = open(&source, &stranger).unwrap_err().to_string();
        assert!(error.contains("may not pass"), "{error}");
        assert!(open(directory.path(), &me).is_err());
    }
}

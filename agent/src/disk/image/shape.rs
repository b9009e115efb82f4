//! How large a file system must be for a limit, and how it is kept to it.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::BLOCK_BYTES;

/// A file for so many bytes, as usual.
const BYTES_PER_FILE: u64 = 16 << 10;
const FILES_MIN: u64 = 1024;
const FILE_RECORD_BYTES: u64 = 256;

/// What a file system is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The limit.
    pub(super) bytes: u64,
}

impl Shape {
    fn files(self) -> u64 {
        (self.bytes / BYTES_PER_FILE).max(FILES_MIN)
    }

    /// The size of the file: larger by its tables of files, maps of blocks, and copies of its description.
    fn length(self) -> u64 {
        let own = self.files() * FILE_RECORD_BYTES + self.bytes / 1024 + (4 << 20);
        (self.bytes + own).next_multiple_of(BLOCK_BYTES)
    }

    /// Makes the file system in an empty file, which has this path. Without a journal: what a power cut leaves of a sandbox is of no use.
    pub(super) fn make(self, file: &File, path: &Path) -> io::Result<()> {
        file.set_len(self.length())?;
        let output = program()
            .args(["-q", "-F", "-b", "4096", "-m", "0"])
            .args(["-I", &FILE_RECORD_BYTES.to_string(), "-N", &self.files().to_string()])
            .args(["-O", "^has_journal,^resize_inode"])
            .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"])
            .arg(path)
            .output()?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let text = String::from_utf8_lossy(&output.stderr);
                Err(io::Error::other(format!("mkfs.ext4: {}", text.trim())))
            }
        }
    }
}

/// Empties a file system that was just made, and keeps back what is beyond the limit.
pub(super) fn limit(mount: BorrowedFd<'_>, device: u32, bytes: u64) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(mount, c".", flags, Mode::empty())?;
    let _ = rustix::fs::unlinkat(&root, c"lost+found", AtFlags::REMOVEDIR);
    rustix::fs::fchmod(&root, Mode::from_raw_mode(0o700))?;
    let status = rustix::fs::fstatvfs(&root)?;
    let free = status.f_bfree * status.f_frsize;
    let kept = free
        .checked_sub(bytes.next_multiple_of(BLOCK_BYTES))
        .ok_or_else(|| io::Error::other("the file system takes more for itself than was reckoned with"))?;
    let control = format!("/sys/fs/ext4/loop{device}/reserved_clusters");
    std::fs::write(control, (kept / BLOCK_BYTES).to_string())
}

/// `mkfs.ext4`, which is not always in the path of services.
pub(super) fn program() -> Command {
    let mut command = Command::new("mkfs.ext4");
    command
        .env("PATH", "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

//! How large a file system must be for a limit, and how it is kept to it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::super::Limit;
use super::BLOCK_BYTES;

/// A file for so many bytes, as usual.
const BYTES_PER_FILE: u64 = 16 << 10;
const FILES_MIN: u64 = 1024;
const FILES_MAX: u64 = 16 << 20;
const FILE_RECORD_BYTES: u64 = 256;

/// What the root directory of an empty file system takes.
const ROOT_BYTES: u64 = BLOCK_BYTES;

/// What a file system is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape(pub(super) Limit);

impl Shape {
    fn files(self) -> u64 {
        (self.0.bytes_max / BYTES_PER_FILE).clamp(FILES_MIN, FILES_MAX)
    }

    /// The size of the file: larger by its tables of files, maps of blocks, and copies of its description.
    fn length(self) -> u64 {
        let bytes = self.0.bytes_max;
        let own = self.files() * FILE_RECORD_BYTES + bytes / 1024 + (4 << 20);
        (bytes + own).next_multiple_of(BLOCK_BYTES)
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
    keep_back(root, Path::new(&format!("loop{device}")), bytes)
}

/// Keeps back what is beyond the limit, in the file system with this root on the device of this name.
pub(super) fn keep_back(root: impl AsFd, device: &Path, bytes: u64) -> io::Result<()> {
    let status = rustix::fs::fstatvfs(root)?;
    let room = (status.f_blocks * status.f_frsize).saturating_sub(ROOT_BYTES);
    let kept = room
        .checked_sub(bytes.next_multiple_of(BLOCK_BYTES))
        .ok_or_else(|| io::Error::other("the file system was not made to hold so much"))?;
    let control = Path::new("/sys/fs/ext4").join(device).join("reserved_clusters");
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

//! On any file system: an ext4 of its own, in a file, for each sandbox. Writes beyond its size fail with `ENOSPC`, root's too.
//!
//! The file is sparse: it takes what the task writes, and gives back what the task removes (`discard`). The file system is larger
//! than the limit by what it needs for itself; the rest is kept back by the kernel (`reserved_clusters`), so that the limit is exact.
//!
//! It is mounted while its container lives, and then read-only while somebody reads it: the last few stay mounted.

use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use proffer_shim::loopback;
use rustix::fs::Mode;
use rustix::mount::{MountFlags, UnmountFlags};

use super::{BackEnd, Unusable, make_plain, open_directory};
use crate::checkpoint::layout::TASKS;

const BLOCK_BYTES: u64 = 4096;
/// A file for so many bytes, as usual.
const BYTES_PER_FILE: u64 = 16 << 10;
const FILES_MIN: u64 = 1024;
const FILE_RECORD_BYTES: u64 = 256;
/// How many sandboxes of ended containers stay mounted.
const SHOWN_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Images {
    directory: PathBuf,
    /// Mounted to be read, the one that was wanted last at the end.
    shown: Mutex<VecDeque<PathBuf>>,
}

impl Images {
    pub(super) fn new(directory: PathBuf) -> Self {
        Images {
            directory,
            shown: Mutex::default(),
        }
    }

    /// The name of a container is unique, and that of its sandbox; those of the tasks of a pod are so within it.
    fn image(&self, sandbox: &Path) -> PathBuf {
        let own = sandbox.file_name().unwrap_or_default();
        let mut name = OsString::new();
        let above = sandbox.parent().filter(|above| above.ends_with(TASKS));
        if let Some(pod) = above.and_then(Path::parent).and_then(Path::file_name) {
            name.push(pod);
            name.push(".");
        }
        name.push(own);
        name.push(".ext4");
        self.directory.join(name)
    }

    fn make_mounted(&self, sandbox: &Path, image: &Path, bytes: u64) -> io::Result<()> {
        let files = (bytes / BYTES_PER_FILE).max(FILES_MIN);
        // Its tables of files, maps of blocks, and copies of its description.
        let own = files * FILE_RECORD_BYTES + bytes / 1024 + (4 << 20);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(image)?;
        file.set_len((bytes + own).next_multiple_of(BLOCK_BYTES))?;
        make_file_system(image, files)?;
        make_plain(sandbox)?;
        let number = mount(&file, sandbox, false)?;
        let _ = std::fs::remove_dir(sandbox.join("lost+found"));
        let directory = open_directory(sandbox)?;
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o700))?;
        let status = rustix::fs::fstatvfs(&directory)?;
        let free = status.f_bfree * status.f_frsize;
        let kept = free
            .checked_sub(bytes.next_multiple_of(BLOCK_BYTES))
            .ok_or_else(|| io::Error::other("the file system takes more for itself than was reckoned with"))?;
        let control = format!("/sys/fs/ext4/loop{number}/reserved_clusters");
        std::fs::write(control, (kept / BLOCK_BYTES).to_string())
    }

    /// Removes images whose sandboxes are not there: an agent ended between the two.
    fn sweep(&self, sandboxes: &Path) -> io::Result<()> {
        let mut left: Vec<PathBuf> = entries(&self.directory)?;
        for framework in entries(sandboxes)? {
            for task in entries(&framework)? {
                for run in entries(&task)? {
                    // What a task itself calls so matters only by its names.
                    let in_pod = entries(&run.join(TASKS)).unwrap_or_default();
                    for sandbox in in_pod.into_iter().chain([run]) {
                        let image = self.image(&sandbox);
                        left.retain(|path| *path != image);
                    }
                }
            }
        }
        left.iter().try_for_each(std::fs::remove_file)
    }

    fn forget_shown(&self, sandbox: &Path) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|path| path != sandbox);
    }
}

impl BackEnd for Images {
    fn name(&self) -> &'static str {
        "image"
    }

    fn probe(&self, sandboxes: &Path) -> Result<String, Unusable> {
        std::fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&self.directory)
            .map_err(|error| format!("make {}: {error}", self.directory.display()))?;
        let output = program()
            .arg("-V")
            .output()
            .map_err(|error| format!("file systems in files need mkfs.ext4 (package e2fsprogs): {error}"))?;
        if !output.status.success() {
            return Err(format!("mkfs.ext4 -V: {}", output.status));
        }
        let loops = OpenOptions::new().read(true).write(true).open("/dev/loop-control");
        loops.map_err(|error| format!("file systems in files need loop devices: /dev/loop-control: {error}"))?;
        self.sweep(sandboxes)
            .map_err(|error| format!("tidy up {}: {error}", self.directory.display()))?;
        Ok("an ext4 in a file for each sandbox with a limit, enforced by the kernel".into())
    }

    fn make(&self, sandbox: &Path, bytes: u64) -> io::Result<()> {
        let image = self.image(sandbox);
        let made = self.make_mounted(sandbox, &image, bytes);
        if made.is_err() {
            let _ = unmount(sandbox);
            let _ = std::fs::remove_dir(sandbox);
            let _ = std::fs::remove_file(&image);
        }
        made
    }

    fn has(&self, sandbox: &Path) -> bool {
        self.image(sandbox).is_file()
    }

    fn used(&self, sandbox: &Path) -> io::Result<Option<u64>> {
        if !is_mounted(sandbox)? {
            return Ok(None);
        }
        let status = rustix::fs::statvfs(sandbox)?;
        Ok(Some((status.f_blocks - status.f_bfree) * status.f_frsize))
    }

    fn ended(&self, sandbox: &Path) {
        if !is_mounted(sandbox).unwrap_or(false) {
            return;
        }
        let synced = open_directory(sandbox).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
        if let Err(error) = synced.and_then(|()| unmount(sandbox)) {
            tracing::warn!(sandbox = %sandbox.display(), %error, "the sandbox's file system cannot be unmounted");
        }
    }

    fn show(&self, sandbox: &Path) -> io::Result<()> {
        // One at a time: it must not be mounted twice.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = shown.iter().position(|path| path == sandbox) {
            shown.remove(place);
        }
        if !is_mounted(sandbox)? {
            mount(&File::open(self.image(sandbox))?, sandbox, true)?;
        } else if is_writable(sandbox)? {
            // Its container lives.
            return Ok(());
        }
        shown.push_back(sandbox.to_owned());
        while shown.len() > SHOWN_MAX {
            if let Some(oldest) = shown.pop_front() {
                unmount(&oldest)?;
            }
        }
        Ok(())
    }

    fn remove(&self, sandbox: &Path) -> io::Result<()> {
        self.forget_shown(sandbox);
        unmount(sandbox)?;
        std::fs::remove_dir(sandbox)?;
        let image = self.image(sandbox);
        // Other containers may have the mount still, and with it the file: the room that it takes is given back now.
        let emptied = OpenOptions::new().write(true).open(&image).and_then(|file| {
            let (length, flags) = (file.metadata()?.len(), rustix::fs::FallocateFlags::PUNCH_HOLE);
            let flags = flags | rustix::fs::FallocateFlags::KEEP_SIZE;
            Ok(rustix::fs::fallocate(&file, flags, 0, length)?)
        });
        if let Err(error) = emptied {
            tracing::debug!(image = %image.display(), %error, "the room of a removed sandbox is given back later");
        }
        std::fs::remove_file(&image)
    }
}

/// An agent that ends in order leaves only those mounted whose containers live.
impl Drop for Images {
    fn drop(&mut self) {
        let shown = self.shown.get_mut().unwrap_or_else(PoisonError::into_inner);
        for sandbox in shown.drain(..) {
            if let Err(error) = unmount(&sandbox) {
                tracing::debug!(sandbox = %sandbox.display(), %error, "a sandbox that was shown stays mounted");
            }
        }
    }
}

/// `mkfs.ext4`, which is not always in the path of services.
fn program() -> Command {
    let mut command = Command::new("mkfs.ext4");
    command
        .env("PATH", "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

/// Without a journal: what a power cut leaves of a sandbox is of no use.
fn make_file_system(image: &Path, files: u64) -> io::Result<()> {
    let output = program()
        .args(["-q", "-F", "-b", "4096", "-m", "0"])
        .args(["-I", &FILE_RECORD_BYTES.to_string(), "-N", &files.to_string()])
        .args(["-O", "^has_journal,^resize_inode"])
        .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"])
        .arg(image)
        .output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!("mkfs.ext4: {}", text.trim())))
        }
    }
}

/// Mounts an image at a directory; the number of its loop device.
fn mount(image: &File, directory: &Path, read_only: bool) -> io::Result<u32> {
    let device = loopback::attach(image.as_fd(), read_only)?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    let options = match read_only {
        true => {
            flags |= MountFlags::RDONLY;
            c"errors=continue"
        }
        false => c"discard,noinit_itable,errors=continue",
    };
    let source = CString::new(format!("/dev/loop{}", device.number))?;
    rustix::mount::mount(&source, directory, c"ext4", flags, Some(options))?;
    Ok(device.number)
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// What is not mounted is left alone.
fn unmount(directory: &Path) -> io::Result<()> {
    while is_mounted(directory)? {
        rustix::mount::unmount(directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

fn is_mounted(directory: &Path) -> io::Result<bool> {
    let parent = directory.parent().unwrap_or(Path::new("/"));
    Ok(std::fs::symlink_metadata(directory)?.dev() != std::fs::metadata(parent)?.dev())
}

fn is_writable(directory: &Path) -> io::Result<bool> {
    let flags = rustix::fs::statvfs(directory)?.f_flag;
    Ok(!flags.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

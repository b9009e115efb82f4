//! On any file system: an ext4 of its own, in a file, for each sandbox. Writes beyond its size fail with `ENOSPC`, root's too.
//!
//! The file is sparse: it takes what the task writes, and gives back what the task removes (`discard`). The file system is larger
//! than the limit by what it needs for itself; the rest is kept back by the kernel (`reserved_clusters`), so that the limit is exact.
//!
//! It is mounted while its container lives, and then read-only while somebody reads it: the last few stay mounted.
//!
//! A file gets its name, that of its sandbox, when the file system in it is whole; until then it is one of the [`stock`].

pub(super) mod file_system;
mod shape;
mod stock;
mod template;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use self::shape::Shape;
use self::stock::Stock;
use super::{BackEnd, Limit, Unusable, is_mounted, make_plain, open_directory, unmount};
use crate::checkpoint::layout::{NAME_BYTES_MAX, SHARED, TASKS};
use crate::fetcher::checksum;

const BLOCK_BYTES: u64 = 4096;
/// What the names of images end with.
const ENDING: &str = ".ext4";
/// The same for what the tasks of a pod share.
const SHARED_ENDING: &str = ".shared";
/// How many sandboxes of ended containers stay mounted.
const SHOWN_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Images {
    directory: PathBuf,
    stock: Stock,
    /// Mounted to be read, the one that was wanted last at the end.
    shown: Mutex<VecDeque<PathBuf>>,
}

impl Images {
    pub(super) fn new(directory: PathBuf) -> Self {
        Images {
            stock: Stock::new(directory.clone()),
            directory,
            shown: Mutex::default(),
        }
    }

    /// The name of a container is unique, and that of its sandbox; those of the tasks of a pod are so within it.
    fn image(&self, sandbox: &Path) -> PathBuf {
        let own = sandbox.file_name().unwrap_or_default();
        let mut name = OsString::new();
        let above = sandbox.parent();
        if let Some(pod) = above.and_then(Path::file_name).filter(|_| own == SHARED) {
            name.push(pod);
            name.push(SHARED_ENDING);
            return self.directory.join(name);
        }
        let above = above.filter(|above| above.ends_with(TASKS));
        if let Some(pod) = above.and_then(Path::parent).and_then(Path::file_name) {
            name.push(pod);
            name.push(".");
            // The id of a task may be as long as a name can be.
            if name.len() + own.len() + ENDING.len() > NAME_BYTES_MAX {
                name.push(".");
                name.push(checksum::of(own.as_encoded_bytes()).to_string());
                name.push(ENDING);
                return self.directory.join(name);
            }
        }
        name.push(own);
        name.push(ENDING);
        self.directory.join(name)
    }

    /// Removes images whose sandboxes are not there, those of the stock too: an agent ended between the two.
    fn sweep(&self, sandboxes: &Path) -> io::Result<()> {
        let mut left: Vec<PathBuf> = entries(&self.directory)?;
        for framework in entries(sandboxes)? {
            for task in entries(&framework)? {
                for run in entries(&task)? {
                    // What a task itself calls so matters only by its names.
                    let in_pod = entries(&run.join(TASKS)).unwrap_or_default();
                    for sandbox in in_pod.into_iter().chain([run.join(SHARED), run]) {
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
        let output = shape::program()
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

    fn make(&self, sandbox: &Path, limit: Limit) -> io::Result<()> {
        let prepared = self.stock.take(Shape(limit))?;
        let image = self.image(sandbox);
        prepared.name(&image)?;
        let made = make_plain(sandbox).and_then(|()| {
            let attached = prepared.attach(sandbox);
            if attached.is_err() {
                let _ = std::fs::remove_dir(sandbox);
            }
            attached
        });
        if made.is_err() {
            let _ = std::fs::remove_file(&image);
        }
        made
    }

    fn resize(&self, sandbox: &Path, bytes: u64) -> io::Result<()> {
        if !is_mounted(sandbox)? {
            // Its container has ended.
            return Ok(());
        }
        let root = open_directory(sandbox)?;
        let device = rustix::fs::fstat(&root)?.st_dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let device = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"))?;
        let device = device.file_name().unwrap_or_default();
        shape::keep_back(&root, Path::new(device), bytes)
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
            file_system::mount_to_read(&File::open(self.image(sandbox))?, sandbox)?;
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

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn is_writable(directory: &Path) -> io::Result<bool> {
    let flags = rustix::fs::statvfs(directory)?.f_flag;
    Ok(!flags.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

//! The last resort: sandboxes and volumes are looked through now and then, and a task beyond its limit is ended.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use proffer_proto::v1;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

use super::{BackEnd, Disk, Unusable, make_plain};
use crate::checkpoint::record::Volume;
use crate::containerizer::ContainerId;
use crate::core::{Core, Input};
use crate::driver::Event;
use crate::launcher::{Launcher, sandbox_path};
use crate::sandbox::beneath;

pub(super) const NAME: &str = "du";
/// A block of `st_blocks`.
const BLOCK_BYTES: u64 = 512;
/// How often sandboxes are looked through, where that takes no longer than the part that it may take.
const INTERVAL: Duration = Duration::from_secs(5);
const BUSY_SHARE: u32 = 10;
/// Nobody needs to go deeper: who does holds more than any limit.
const DEPTH_MAX: u32 = 256;

#[derive(Debug)]
pub(super) struct Du;

impl BackEnd for Du {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, _: &Path) -> Result<String, Unusable> {
        Ok(format!(
            "no limit is enforced by the kernel: sandboxes and volumes are looked through every {} seconds, and tasks beyond their limit ended",
            INTERVAL.as_secs()
        ))
    }

    fn make(&self, sandbox: &Path, _: u64) -> io::Result<()> {
        make_plain(sandbox)
    }

    fn resize(&self, _: &Path, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn has(&self, _: &Path) -> bool {
        false
    }

    fn used(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn remove(&self, sandbox: &Path) -> io::Result<()> {
        crate::sandbox::remove::remove(sandbox)
    }
}

/// Looks through the sandboxes and volumes that no kernel limits, for as long as the agent runs.
pub(crate) async fn watch(launcher: std::sync::Arc<Launcher>, events: mpsc::Sender<Event>) {
    if launcher.disk.name().is_none() {
        return;
    }
    let mut pause = INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let (answer, answered) = oneshot::channel();
        let look = Event::Inspect(Box::new(move |core: &Core| drop(answer.send(limited(core)))));
        if events.send(look).await.is_err() {
            return;
        }
        let Ok(limited) = answered.await else { return };
        let began = Instant::now();
        let owner = std::sync::Arc::clone(&launcher);
        let found = tokio::task::spawn_blocking(move || {
            let beyond = |task: &Limited| Some((task.container.clone(), beyond(&owner, task)?));
            limited.iter().filter_map(beyond).collect::<Vec<_>>()
        });
        for (container, used_bytes) in found.await.unwrap_or_default() {
            tracing::info!(container_id = %container, used_bytes, "a task holds more than its disk");
            let _ = events.send(Event::Input(Input::DiskExceeded(container))).await;
        }
        pause = INTERVAL.max(began.elapsed() * BUSY_SHARE);
    }
}

struct Limited {
    framework: String,
    task: v1::TaskInfo,
    container: ContainerId,
    /// Of its sandbox.
    bytes: Option<u64>,
    volumes: Vec<Volume>,
}

fn limited(core: &Core) -> Vec<Limited> {
    let running = core.tasks().filter(|(_, task)| task.pid().is_some());
    let limited = running.map(|(name, task)| Limited {
        framework: name.framework.clone(),
        task: task.info.clone(),
        container: task.container.clone(),
        bytes: crate::spec::disk_bytes(&task.info.resources).ok().flatten(),
        volumes: core.volumes_of(&task.info),
    });
    limited
        .filter(|task| task.bytes.is_some() || !task.volumes.is_empty())
        .collect()
}

/// How much a task holds in its sandbox or in a volume, if that is more than it may.
fn beyond(launcher: &Launcher, task: &Limited) -> Option<u64> {
    let layout = &launcher.layout;
    let sandbox = || {
        let path = sandbox_path(layout, &task.framework, &task.task, &task.container).ok()?;
        more_than(&launcher.disk, &path, task.bytes?)
    };
    let volume = |volume: &Volume| {
        let path = layout
            .volume(&volume.role, &volume.id, volume.lineage, volume.since)
            .ok()?;
        more_than(launcher.persistent.disk(), &path, volume.bytes)
    };
    sandbox().or_else(|| task.volumes.iter().find_map(volume))
}

/// What is in a directory that no kernel limits, if it is more than so much.
fn more_than(disk: &Disk, directory: &Path, bytes: u64) -> Option<u64> {
    if disk.of(directory).is_some() {
        return None;
    }
    measure(directory).ok().filter(|used| *used > bytes)
}

/// What a directory and all below it take, in bytes. Links are not followed, other file systems not entered, and a file with
/// several names is counted once.
pub(super) fn measure(directory: &Path) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty())?;
    let (mut total, mut seen) = (0, HashSet::new());
    add(&root, 0, &mut total, &mut seen)?;
    Ok(total)
}

fn add(directory: &OwnedFd, depth: u32, total: &mut u64, seen: &mut HashSet<u64>) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let status = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It was removed meanwhile.
            Err(Errno::NOENT) => continue,
            result => result?,
        };
        if status.st_nlink > 1 && !FileType::from_raw_mode(status.st_mode).is_dir() && !seen.insert(status.st_ino) {
            continue;
        }
        let bytes = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES);
        *total = total.saturating_add(bytes);
        if FileType::from_raw_mode(status.st_mode).is_dir() {
            if depth >= DEPTH_MAX {
                *total = u64::MAX;
                return Ok(());
            }
            let path = std::ffi::OsStr::from_bytes(name.to_bytes());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            // What cannot be entered is another file system, or gone.
            if let Ok(inner) = beneath::resolve(directory.as_fd(), Path::new(path), flags, Mode::empty()) {
                add(&inner, depth + 1, total, seen)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_directory_is_counted_once() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let inner = directory.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(inner.join("file"), inner.join("again")).unwrap();
        std::os::unix::fs::symlink("/", inner.join("link")).unwrap();
        let used = measure(directory.path()).unwrap();
        assert!((1 << 20..=(1 << 20) + (64 << 10)).contains(&used), "{used}");
    }
}

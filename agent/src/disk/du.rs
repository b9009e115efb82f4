//! The last resort: sandboxes and volumes are looked through now and then, and a task beyond its limit is ended.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

use super::{BackEnd, Limit, Unusable, make_plain};
use crate::checkpoint::layout::{Layout, SHARED};
use crate::containerizer::ContainerId;
use crate::core::{Core, Input};
use crate::driver::Event;
use crate::launcher::{Launcher, sandbox_path};
use crate::sandbox::beneath;
use crate::spec;

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

    fn make(&self, sandbox: &Path, _: Limit) -> io::Result<()> {
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
pub(crate) async fn watch(launcher: Arc<Launcher>, events: mpsc::Sender<Event>) {
    if launcher.disk.name().is_none() {
        return;
    }
    let mut pause = INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let (answer, answered) = oneshot::channel();
        let looking = Arc::clone(&launcher);
        let look = move |core: &Core| drop(answer.send(limited(core, &looking.layout)));
        let look = Event::Inspect(Box::new(look));
        if events.send(look).await.is_err() {
            return;
        }
        let Ok(limited) = answered.await else { return };
        let began = Instant::now();
        let owner = Arc::clone(&launcher);
        let found = tokio::task::spawn_blocking(move || {
            let beyond = |limited: Limited| {
                let used = beyond(&owner, &limited)?;
                Some((limited.container, used))
            };
            limited.into_iter().filter_map(beyond).collect::<Vec<_>>()
        });
        for (container, used_bytes) in found.await.unwrap_or_default() {
            tracing::info!(container_id = %container, used_bytes, "a task holds more than its disk");
            let _ = events.send(Event::Input(Input::DiskExceeded(container))).await;
        }
        pause = INTERVAL.max(began.elapsed() * BUSY_SHARE);
    }
}

/// A directory with a limit.
struct Limited {
    /// Of the task, the executor or the pod.
    container: ContainerId,
    directory: PathBuf,
    /// Whether that is a volume, and no sandbox.
    is_volume: bool,
    bytes: u64,
}

fn limited(core: &Core, layout: &Layout) -> Vec<Limited> {
    let running = core.tasks().filter(|(_, task)| task.pid().is_some());
    let tasks = running.flat_map(|(name, task)| {
        let limited = |is_volume, directory, bytes| Limited {
            container: task.container.clone(),
            directory,
            is_volume,
            bytes,
        };
        let sandbox = sandbox_path(layout, &name.framework, &task.info, &task.container).ok();
        let bytes = spec::disk_bytes(&task.info.resources).ok().flatten();
        let sandbox = sandbox.zip(bytes).map(|(path, bytes)| limited(false, path, bytes));
        let volumes = core.volumes_of(&task.info).into_iter().filter_map(move |volume| {
            let path = layout.volume(&volume.role, &volume.id, volume.lineage, volume.since);
            Some(limited(true, path.ok()?, volume.bytes))
        });
        sandbox.into_iter().chain(volumes).collect::<Vec<_>>()
    });
    let executors = core.executors().filter_map(|(name, executor)| {
        let container = executor.container.clone();
        let sandbox = layout.sandbox(&name.framework, &name.executor, container.as_str());
        let sandbox = sandbox.ok()?;
        let (directory, bytes) = match executor.is_pod() {
            true => (sandbox.join(SHARED), spec::disk_bytes(&executor.info.resources)),
            false => (sandbox, spec::disk_bytes_of(&core.size(name)?.parts)),
        };
        Some(Limited {
            container,
            directory,
            is_volume: false,
            bytes: bytes.ok()??,
        })
    });
    tasks.chain(executors).collect()
}

/// How much a directory holds that no kernel limits, if that is more than it may.
fn beyond(launcher: &Launcher, limited: &Limited) -> Option<u64> {
    let disk = match limited.is_volume {
        true => launcher.persistent.disk(),
        false => &launcher.disk,
    };
    if disk.of(&limited.directory).is_some() {
        return None;
    }
    let used = measure(&limited.directory).ok()?;
    (used > limited.bytes).then_some(used)
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

//! Keeps the disk free: removes sandboxes that are old, the sooner the fuller the disk is.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::is_pod;
use crate::checkpoint::layout::{Layout, SHARED, TASKS};
use crate::disk::Disk;
use crate::faults;

/// Marks the sandbox of a container that ended: its age counts from now.
pub(crate) fn ended(sandbox: &Path) {
    let touched = std::fs::File::open(sandbox).and_then(|directory| directory.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(sandbox = %sandbox.display(), %error, "the sandbox cannot be marked as ended");
    }
}

/// For so long the sandbox of a failed task can be looked at, however full the disk is.
const AGE_MIN: Duration = Duration::from_secs(300);

/// How old a sandbox may become: `delay` on an empty disk, and the least age when no more than the head room is free.
pub(crate) fn age_max(delay: Duration, headroom: f64, used: f64) -> Duration {
    delay
        .mul_f64((1.0 - headroom - used).clamp(0.0, 1.0))
        .max(delay.min(AGE_MIN))
}

/// How much of the disk is used, from 0 to 1; of its space or its inodes, whichever is scarcer.
pub(crate) fn used(directory: &Path) -> std::io::Result<f64> {
    let status = rustix::fs::statvfs(directory)?;
    let share = |total: u64, free: u64, available: u64| {
        let used = total.saturating_sub(free) as f64;
        used / (used + available as f64).max(1.0)
    };
    let space = share(status.f_blocks, status.f_bfree, status.f_bavail);
    let inodes = share(status.f_files, status.f_ffree, status.f_favail);
    Ok(space.max(inodes))
}

/// Removes the sandboxes that were not changed for `delay`, except those of `live` containers; returns how many.
pub(crate) fn remove_old(layout: &Layout, disk: &Disk, live: &HashSet<String>, delay: Duration) -> usize {
    let mut removed = 0;
    for framework in entries(&layout.sandboxes()) {
        for task in entries(&framework) {
            for run in entries(&task) {
                let is_live = run
                    .file_name()
                    .is_some_and(|name| live.contains(name.to_string_lossy().as_ref()));
                if is_live || !is_older(&run, delay) {
                    continue;
                }
                faults::SANDBOX_BEFORE_REMOVAL.pass();
                match remove(disk, &run) {
                    Ok(()) => removed += 1,
                    Err(error) => tracing::warn!(sandbox = %run.display(), %error, "an old sandbox cannot be removed"),
                }
                faults::SANDBOX_REMOVED.pass();
            }
            remove_empty(&task, delay);
        }
        remove_empty(&framework, delay);
    }
    removed
}

/// Removes a sandbox; of a pod, those of its tasks before, as each may have a limit of its own.
fn remove(disk: &Disk, run: &Path) -> std::io::Result<()> {
    if is_pod(run) {
        for task in entries(&run.join(TASKS)) {
            disk.remove(&task)?;
        }
        match disk.remove(&run.join(SHARED)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    disk.remove(run)
}

/// A directory that was changed lately may be about to get a sandbox.
fn remove_empty(directory: &Path, delay: Duration) {
    if is_older(directory, delay.max(Duration::from_secs(60))) {
        let _ = std::fs::remove_dir(directory);
    }
}

fn is_older(path: &Path, delay: Duration) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age >= delay))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Choice;

    #[test]
    fn the_fuller_the_disk_the_sooner_a_sandbox_goes() {
        let age = |used| age_max(Duration::from_secs(10_000), 0.1, used).as_secs_f64().round();
        assert_eq!(
            [age(0.0), age(0.5), age(0.85), age(0.9), age(1.0)],
            [9000.0, 4000.0, 500.0, 300.0, 300.0]
        );
        assert_eq!(
            age_max(Duration::from_secs(1), 0.1, 1.0),
            Duration::from_secs(1),
            "no longer than asked for"
        );
        let used = used(Path::new("/var/tmp")).unwrap();
        assert!((0.0..=1.0).contains(&used), "{used}");
    }

    #[test]
    fn only_old_sandboxes_of_ended_containers_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let disk = Disk::open(&layout.sandboxes(), layout.images(), Choice::None).unwrap();
        for (task, run) in [("a", "dead"), ("a", "live"), ("b", "dead-2")] {
            std::fs::create_dir_all(layout.sandbox("f", task, run).unwrap().join("deep/er")).unwrap();
        }
        let live = HashSet::from(["live".to_owned()]);
        assert_eq!(remove_old(&layout, &disk, &live, Duration::from_secs(3600)), 0);
        assert_eq!(remove_old(&layout, &disk, &live, Duration::ZERO), 2);
        assert!(layout.sandbox("f", "a", "live").unwrap().exists());
        assert!(!layout.sandbox("f", "b", "dead-2").unwrap().exists());
    }
}

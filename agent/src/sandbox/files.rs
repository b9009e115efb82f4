//! Reads and lists the files of sandboxes for the operator API.
//!
//! A virtual path is `/frameworks/<framework>/executors/<task>/runs/<container or latest>/<path in the sandbox>`; the sandbox of a
//! task in a pod is `tasks/<task>` in that of the pod, whose executor it has in the place of the task. What lies
//! below a sandbox belongs to the task's user, who may put links, pipes and devices there: everything is resolved by the
//! kernel, which follows no link out of the sandbox, and only regular files are read. `stdout` and `stderr` are read as one each,
//! though they are divided into several files.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use proffer_proto::v1;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{beneath, is_pod, stream};
use crate::checkpoint::layout::{BadId, Layout, SHARED, TASKS, component};
use crate::containerizer::ContainerId;
use crate::disk::Disk;

/// The most that one read returns.
pub(crate) const READ_BYTES_MAX: u64 = 1 << 20;
/// The most entries that one listing returns.
const LIST_MAX: usize = 10_000;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The path does not lie in a sandbox.
    #[error("path: `{}` is not /frameworks/<framework>/executors/<task>/runs/<container or latest>/<file>", .0.escape_debug())]
    Path(String),
    /// One of the ids in the path cannot be one.
    #[error("path: {0}")]
    Id(#[from] BadId),
    /// There is no such sandbox or file.
    #[error("path: `{}` does not exist on this agent", .0.escape_debug())]
    NotFound(String),
    /// It is a link, a pipe, a device, or leads out of the sandbox.
    #[error("path: `{}` cannot be read: {reason}; only regular files and directories inside the sandbox are served", path.escape_debug())]
    Refused {
        /// The virtual path.
        path: String,
        /// Why.
        reason: String,
    },
}

/// A part of a file.
#[derive(Debug)]
pub(crate) struct Part {
    /// The size of the file; of output, all that was ever written.
    pub(crate) size: u64,
    /// Where what is kept of output begins, if that is after what was asked for.
    pub(crate) kept_from: Option<u64>,
    /// The bytes; zeros for output that was removed.
    pub(crate) data: Vec<u8>,
}

/// Reads up to `length` bytes, and no more than [`READ_BYTES_MAX`].
///
/// # Errors
/// The path is not that of a regular file in a sandbox.
pub(crate) fn read(layout: &Layout, path: &str, offset: u64, length: Option<u64>) -> Result<Part, Error> {
    let (sandbox, inner) = resolve(layout, path)?;
    let length = length.unwrap_or(READ_BYTES_MAX).min(READ_BYTES_MAX);
    if stream::NAMES.contains(&inner) {
        return output(inner, offset, length, |name| open_in(&sandbox, name, path));
    }
    let file = open_in(&sandbox, Path::new(inner), path)?;
    let refused = |reason: io::Error| Error::Refused {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let metadata = file.metadata().map_err(refused)?;
    let size = metadata.len();
    let length = length.min(size.saturating_sub(offset));
    let mut data = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut filled = 0;
    while filled < data.len() {
        match file.read_at(&mut data[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(refused(error)),
        }
    }
    data.truncate(filled);
    Ok(Part {
        size,
        kept_from: None,
        data,
    })
}

fn output(name: &str, offset: u64, length: u64, open: impl Fn(&Path) -> Result<File, Error>) -> Result<Part, Error> {
    let stream::Read { size, kept_from, data } = stream::read(name, offset, length, open)?;
    Ok(Part { size, kept_from, data })
}

/// Lists a directory of a sandbox.
///
/// # Errors
/// The path is not that of a directory in a sandbox.
pub(crate) fn list(layout: &Layout, path: &str) -> Result<Vec<v1::FileInfo>, Error> {
    let (sandbox, inner) = resolve(layout, path)?;
    let directory = open_any(&sandbox, Path::new(inner), OFlags::RDONLY | OFlags::DIRECTORY, path)?;
    let refused = |errno: rustix::io::Errno| Error::Refused {
        path: path.to_owned(),
        reason: errno.to_string(),
    };
    let mut files = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory).map_err(refused)?.take(LIST_MAX) {
        let entry = entry.map_err(refused)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(status) = rustix::fs::statat(&directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        files.push(v1::FileInfo {
            path: format!("{}/{}", path.trim_end_matches('/'), name.to_string_lossy()),
            nlink: i32::try_from(status.st_nlink).ok(),
            size: u64::try_from(status.st_size).ok(),
            mtime: Some(v1::TimeInfo {
                nanoseconds: status
                    .st_mtime
                    .saturating_mul(1_000_000_000)
                    .saturating_add(status.st_mtime_nsec as i64),
            }),
            mode: Some(status.st_mode),
            uid: Some(status.st_uid.to_string()),
            gid: Some(status.st_gid.to_string()),
        });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Reads what a task wrote to `stdout` or `stderr`.
///
/// # Errors
/// There is no such file, or it is no regular one.
pub(crate) fn written(sandbox: &Path, name: &str, offset: u64, length: u64) -> Result<Part, Error> {
    output(name, offset, length.min(READ_BYTES_MAX), |inner| {
        open_in(sandbox, inner, name)
    })
}

/// The first byte of a task's output that is still kept; 0 of other files.
///
/// # Errors
/// The path is not that of a regular file in a sandbox.
pub(crate) fn start(layout: &Layout, path: &str) -> Result<u64, Error> {
    let (sandbox, inner) = resolve(layout, path)?;
    if stream::NAMES.contains(&inner) {
        return stream::start(inner, |name| open_in(&sandbox, name, path));
    }
    Ok(0)
}

/// The container, or the pod, whose sandbox a path lies in.
///
/// # Errors
/// The path does not lie in a sandbox.
pub(crate) fn container(layout: &Layout, path: &str) -> Result<ContainerId, Error> {
    let (run, _) = run(layout, path)?;
    let name = run.file_name().unwrap_or_default();
    Ok(ContainerId(name.to_string_lossy().into_owned()))
}

/// Sees to it that the files of a sandbox can be read.
///
/// # Errors
/// The path does not lie in a sandbox, or they cannot.
pub(crate) fn show(layout: &Layout, disk: &Disk, path: &str) -> Result<(), Error> {
    let (sandbox, _) = resolve(layout, path)?;
    disk.show(&sandbox).map_err(|error| Error::Refused {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Opens a regular file of a sandbox, whichever way leads to it without leaving the sandbox.
fn open_in(sandbox: &Path, inner: &Path, path: &str) -> Result<File, Error> {
    let refused = |reason: String| Error::Refused {
        path: path.to_owned(),
        reason,
    };
    let file = open_any(sandbox, inner, OFlags::RDONLY | OFlags::NONBLOCK, path)?;
    let metadata = file.metadata().map_err(|error| refused(error.to_string()))?;
    if metadata.is_dir() {
        return Err(refused("it is a directory".into()));
    }
    if !metadata.is_file() {
        return Err(refused("it is not a regular file".into()));
    }
    // Another name of a file that the task's user could give a name, but not read.
    let owner = std::fs::metadata(sandbox).map_or(0, |sandbox| sandbox.uid());
    if metadata.nlink() > 1 && metadata.uid() != owner && metadata.mode() & 0o004 == 0 {
        return Err(refused("it is a link to a file that is not the task's".into()));
    }
    Ok(file)
}

fn open_any(sandbox: &Path, inner: &Path, flags: OFlags, path: &str) -> Result<File, Error> {
    let root = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(sandbox, root, Mode::empty())
        .and_then(|root| beneath::resolve(&root, inner, flags, Mode::empty()));
    opened.map(File::from).map_err(|errno| match errno {
        Errno::NOENT => Error::NotFound(path.to_owned()),
        Errno::XDEV => Error::Refused {
            path: path.to_owned(),
            reason: "it leads out of the sandbox".into(),
        },
        errno => Error::Refused {
            path: path.to_owned(),
            reason: errno.to_string(),
        },
    })
}

/// The sandbox of a virtual path, which may be that of a task in a pod, and the path in it.
fn resolve<'a>(layout: &Layout, path: &'a str) -> Result<(PathBuf, &'a str), Error> {
    let (run, inner) = run(layout, path)?;
    let (place, below) = inner.split_once('/').unwrap_or((inner, ""));
    match place {
        TASKS if !below.is_empty() && is_pod(&run) => {
            let (task, inner) = below.split_once('/').unwrap_or((below, ""));
            Ok((run.join(TASKS).join(component("task_id", task)?), inner))
        }
        SHARED if is_pod(&run) => Ok((run.join(SHARED), below)),
        _ => Ok((run, inner)),
    }
}

/// The sandbox of a run, and the path in it.
fn run<'a>(layout: &Layout, path: &'a str) -> Result<(PathBuf, &'a str), Error> {
    let bad = || Error::Path(path.chars().take(300).collect());
    let mut parts = path.strip_prefix('/').ok_or_else(bad)?.splitn(7, '/');
    let mut next = || parts.next().ok_or_else(bad);
    let shape = (next()?, next()?, next()?, next()?, next()?, next()?);
    let ("frameworks", framework, "executors", task, "runs", run) = shape else {
        return Err(bad());
    };
    let inner = parts.next().unwrap_or_default();
    let sandbox = if run == "latest" {
        latest(&layout.task(framework, task)?).ok_or_else(|| Error::NotFound(path.to_owned()))?
    } else {
        layout.sandbox(framework, task, run)?
    };
    Ok((sandbox, inner))
}

/// The newest sandbox of a task: usually the only one, since a task id is used again only after its end.
fn latest(task: &Path) -> Option<PathBuf> {
    let runs = std::fs::read_dir(task).ok()?.filter_map(Result::ok);
    let newest = runs.max_by_key(|run| run.metadata().and_then(|metadata| metadata.modified()).ok());
    newest.map(|run| run.path())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn sandbox() -> (tempfile::TempDir, Layout, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().join("work"));
        let sandbox = layout.sandbox("f", "t", "c").unwrap();
        std::fs::create_dir_all(&sandbox).unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        (directory, layout, sandbox)
    }

    #[test]
    fn a_file_is_read_in_pieces() {
        let (_directory, layout, sandbox) = sandbox();
        std::fs::write(sandbox.join("stdout"), "hello world").unwrap();
        let path = "/frameworks/f/executors/t/runs/latest/stdout";
        let piece = |offset, length| {
            let part = read(&layout, path, offset, length).unwrap();
            (part.size, part.data)
        };
        assert_eq!(piece(6, Some(3)), (11, b"wor".to_vec()));
        assert_eq!(piece(6, None), (11, b"world".to_vec()));
        assert_eq!(piece(600, Some(u64::MAX)), (11, Vec::new()));
        std::fs::create_dir(sandbox.join("sub")).unwrap();
        std::fs::write(sandbox.join("sub/x"), "x").unwrap();
        let listed = list(&layout, "/frameworks/f/executors/t/runs/c/").unwrap();
        let names: Vec<_> = listed
            .iter()
            .map(|file| file.path.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(names, ["stdout", "sub"]);
        assert_eq!(
            read(&layout, "/frameworks/f/executors/t/runs/c/sub/x", 0, None)
                .unwrap()
                .size,
            1
        );
    }

    #[test]
    fn nothing_outside_the_sandbox_is_reached() {
        let (directory, layout, sandbox) = sandbox();
        let secret = directory.path().join("secret");
        symlink(&secret, sandbox.join("absolute")).unwrap();
        symlink("../../../../../secret", sandbox.join("relative")).unwrap();
        symlink("/", sandbox.join("root")).unwrap();
        symlink("/proc/self/root", sandbox.join("magic")).unwrap();
        symlink("/etc/shadow", sandbox.join("shadow")).unwrap();
        // Of another task.
        let other = layout.sandbox("f", "other", "c").unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("stdout"), "theirs").unwrap();
        symlink("../../other/c/stdout", sandbox.join("neighbour")).unwrap();
        symlink("../../other/c", sandbox.join("neighbours")).unwrap();
        // What is read as one file from several is no other way out.
        symlink(&secret, sandbox.join("stdout")).unwrap();
        symlink(other.join("stdout"), sandbox.join("stderr.1")).unwrap();
        std::fs::write(sandbox.join("file"), "own").unwrap();
        symlink("file", sandbox.join("inside")).unwrap();
        let inside = "/frameworks/f/executors/t/runs/latest/inside";
        assert_eq!(
            read(&layout, inside, 0, None).unwrap().data,
            b"own",
            "a link that stays inside is followed"
        );
        rustix::fs::mknodat(
            rustix::fs::CWD,
            sandbox.join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::from(0o600),
            0,
        )
        .unwrap();
        for inner in [
            "absolute",
            "relative",
            "root/etc/passwd",
            "magic/etc/passwd",
            "shadow",
            "neighbour",
            "neighbours/stdout",
            "stdout",
            "stderr.1",
            "pipe",
            "../../../../../secret",
            "sub/../../c/absolute",
            "/etc/passwd",
            "",
            ".",
        ] {
            let path = format!("/frameworks/f/executors/t/runs/latest/{inner}");
            assert!(read(&layout, &path, 0, None).is_err(), "{inner}");
        }
        for inner in ["root", "neighbours", "magic"] {
            let path = format!("/frameworks/f/executors/t/runs/latest/{inner}");
            assert!(list(&layout, &path).is_err(), "{inner}");
        }
        for path in [
            "/etc/passwd",
            "frameworks/f/executors/t/runs/latest/stdout",
            "/frameworks/../executors/t/runs/latest/secret",
            "/frameworks/f/executors/t/runs/..",
            "/frameworks/f/executors/t/runs",
            "",
            "/frameworks/f\0/executors/t/runs/latest/stdout",
        ] {
            assert!(read(&layout, path, 0, None).is_err(), "{path:?}");
            assert!(list(&layout, path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn what_is_swapped_while_it_is_read_leads_nowhere() {
        let (directory, layout, sandbox) = sandbox();
        let outside = directory.path().join("outside");
        for (place, text) in [(&outside, "secret"), (&sandbox.join("dir"), "own")] {
            std::fs::create_dir_all(place).unwrap();
            std::fs::write(place.join("file"), text).unwrap();
        }
        symlink(&outside, sandbox.join("link")).unwrap();
        let path = "/frameworks/f/executors/t/runs/c/dir/file";
        let directory_path = "/frameworks/f/executors/t/runs/c/dir";
        let done = std::sync::atomic::AtomicBool::new(false);
        let (own, refused) = std::thread::scope(|scope| {
            scope.spawn(|| {
                // The directory and the link change places, as fast as can be.
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let (here, there) = (sandbox.join("dir"), sandbox.join("link"));
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(rustix::fs::CWD, &here, rustix::fs::CWD, &there, flags).unwrap();
                }
            });
            let (mut own, mut refused) = (0, 0);
            for _ in 0..5_000 {
                match read(&layout, path, 0, None) {
                    Ok(part) => {
                        assert_eq!(part.data, b"own");
                        own += 1;
                    }
                    Err(_) => refused += 1,
                }
                for file in list(&layout, directory_path).unwrap_or_default() {
                    assert_eq!(file.size, Some(3), "{file:?} is the one outside");
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            (own, refused)
        });
        assert_eq!(own + refused, 5_000);
    }
}

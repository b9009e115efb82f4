//! Reads what a container's cgroups count, cheaply: the files stay open, each is read at once into the same buffer, and its text is
//! gone through once.
//!
//! To open a file costs several times as much as to read it. A host that allows too few open files to keep those of all containers
//! open opens them each time.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::{Error, Hierarchy};
use crate::containerizer::{ContainerId, Usage};

/// A file of a cgroup, and how its text goes into the figures.
pub type Gauge = (&'static str, fn(&[u8], &mut Usage));

/// Longer texts are cut; `memory.stat` of version 2 has about two thousand bytes.
pub(super) const TEXT_BYTES_MAX: usize = 8192;

/// The gauges of all containers.
#[derive(Debug)]
pub(super) struct Gauges {
    gauges: Vec<(Arc<Hierarchy>, Gauge)>,
    open: Mutex<HashMap<ContainerId, Arc<Vec<Open>>>>,
    /// How many more files may be kept open.
    room: AtomicUsize,
}

/// An open file, and how its text goes into the figures.
type Open = (OwnedFd, fn(&[u8], &mut Usage));

impl Gauges {
    pub(super) fn new(gauges: Vec<(Arc<Hierarchy>, Gauge)>) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Gauges {
            gauges,
            open: Mutex::default(),
            // The rest is for all else that the agent holds.
            room: AtomicUsize::new(usize::try_from(limit / 4 * 3).unwrap_or(usize::MAX)),
        }
    }

    /// Adds the figures of a container; what this kernel does not count is left out.
    pub(super) fn read(&self, container: &ContainerId, usage: &mut Usage) -> Result<(), Error> {
        let kept = self.open().get(container).cloned();
        let files = match kept {
            Some(files) => files,
            None => self.keep(container, self.open_files(container)?),
        };
        let mut buffer = [0; TEXT_BYTES_MAX];
        for (file, parse) in files.iter() {
            match rustix::io::pread(file, &mut buffer, 0) {
                Ok(length) => parse(&buffer[..length], usage),
                // Pressure that the kernel was told not to watch.
                Err(Errno::OPNOTSUPP) => {}
                // The cgroup was removed meanwhile.
                Err(Errno::NODEV) => {}
                Err(errno) => {
                    return Err(Error::File {
                        verb: "read".into(),
                        path: format!("a figure of {container}"),
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Closes the files of a container.
    pub(super) fn forget(&self, container: &ContainerId) {
        if let Some(files) = self.open().remove(container) {
            self.room.fetch_add(files.len(), Relaxed);
        }
    }

    fn open_files(&self, container: &ContainerId) -> Result<Vec<Open>, Error> {
        let mut files = Vec::with_capacity(self.gauges.len());
        for (hierarchy, (name, parse)) in &self.gauges {
            let path = format!("{container}/{name}");
            match rustix::fs::openat(
                hierarchy.directory(),
                path,
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            ) {
                Ok(file) => files.push((file, *parse)),
                Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
                Err(errno) => {
                    return Err(Error::File {
                        verb: "open".into(),
                        path: hierarchy.path(container, name),
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(files)
    }

    fn keep(&self, container: &ContainerId, files: Vec<Open>) -> Arc<Vec<Open>> {
        let (count, files) = (files.len(), Arc::new(files));
        let fits = self.room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(count));
        if fits.is_ok()
            && let Some(before) = self.open().insert(container.clone(), Arc::clone(&files))
        {
            // Somebody else was as quick.
            self.room.fetch_add(before.len(), Relaxed);
        }
        files
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, Arc<Vec<Open>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines of a text, each split at its first blank.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let blank = line.iter().position(|byte| *byte == b' ')?;
        Some((&line[..blank], &line[blank + 1..]))
    })
}

//! Persistent volumes on the disk: made, given their limits, mounted, and removed.
//!
//! Where a volume lies is named after the layout that it was made in, so that the data of one volume can never be taken for
//! that of another, whatever has been forgotten. What nobody knows any more is told at start and left alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as threads};

use rustix::fs::Mode;
use tokio::sync::mpsc;

use crate::causes::with_causes;
use crate::checkpoint::layout::Layout;
use crate::checkpoint::record::{Volume, VolumeFailure, Volumes};
use crate::containerizer::{self, ContainerSpec, VolumeSource};
use crate::core::{FailureKind, Input, LaidOut, LaunchFailure, VolumeMount};
use crate::disk::{Choice, Disk};
use crate::driver::Event;
use crate::launcher::Launcher;
use crate::volumes;

/// The access to a volume that a task has.
const MODE: u32 = 0o750;

/// The volumes of one agent.
#[derive(Debug)]
pub(crate) struct Persistent {
    disk: Disk,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Persistent {
    /// Chooses what keeps volumes within their sizes, and tells of what is there but not known.
    ///
    /// # Errors
    /// A back end that is named cannot be used, or a directory cannot be made.
    pub(crate) fn open(layout: &Layout, choice: Choice, known: Option<&Volumes>) -> io::Result<Self> {
        let disk = Disk::open_for_volumes(&layout.volumes(), layout.volume_images(), choice)?;
        let known = known.iter().flat_map(|known| known.volumes.iter().chain(&known.going));
        let known: BTreeSet<PathBuf> = known.filter_map(|volume| place(layout, volume).ok()).collect();
        for path in all(&layout.volumes())? {
            if !known.contains(&path) {
                tracing::warn!(
                    path = %path.display(),
                    "the data of a persistent volume that the agent does not know is left where it is"
                );
            }
        }
        Ok(Persistent {
            disk,
            changing: Mutex::default(),
        })
    }

    /// What keeps volumes within their sizes.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a volume that is not there yet, and gives it its limit.
    fn ensure(&self, layout: &Layout, volume: &Volume) -> Result<PathBuf, String> {
        let path = place(layout, volume)?;
        let _changing = self.changing();
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| self.disk.ensure(&path, volume.bytes))
            .map_err(|error| format!("make {}: {error}", path.display()))?;
        Ok(path)
    }

    /// Removes a volume with all that it holds.
    fn remove(&self, layout: &Layout, volume: &Volume) -> Result<(), String> {
        let path = place(layout, volume)?;
        match self.disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => {}
            result => result.map_err(|error| {
                let place = path.display();
                format!("the volume is no more, but its data cannot be removed from {place}: {error}")
            })?,
        }
        // Its parents go when nothing else is in them.
        let _changing = self.changing();
        for parent in path.ancestors().skip(1).take(2) {
            if std::fs::remove_dir(parent).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The agent has left, and none of its containers is there any more: the data of volumes stays, their mounts need not.
    pub(crate) fn let_go(&self, layout: &Layout) {
        let _changing = self.changing();
        for path in all(&layout.volumes()).unwrap_or_default() {
            if let Err(error) = self.disk.let_go(&path) {
                tracing::warn!(path = %path.display(), %error, "a volume stays mounted");
            }
        }
    }

    /// What a container mounts, which belongs to the task's user from now on.
    ///
    /// # Errors
    /// The volume cannot be made or given away, or its place makes no sense.
    pub(crate) fn mount(
        &self,
        layout: &Layout,
        mount: &VolumeMount,
        spec: &ContainerSpec,
    ) -> Result<containerizer::Volume, LaunchFailure> {
        let failed = |message: String| LaunchFailure {
            kind: FailureKind::Failed,
            message: format!("the persistent volume `{}`: {message}", mount.volume.id),
        };
        let target = volumes::target(&mount.container_path)?;
        if spec.volumes.iter().any(|other| other.target == target) {
            return Err(LaunchFailure {
                kind: FailureKind::Invalid,
                message: format!("container_path: another volume is mounted at `{}`", target.display()),
            });
        }
        let path = self.ensure(layout, &mount.volume).map_err(failed)?;
        give(&path, spec).map_err(|error| failed(format!("give {} away: {error}", path.display())))?;
        Ok(containerizer::Volume {
            source: VolumeSource::Persistent { path },
            target,
            read_only: mount.read_only,
        })
    }

    /// Makes and resizes what a layout wants.
    fn make_all(&self, layout: &Layout, wanted: &Volumes) -> Vec<VolumeFailure> {
        let made = wanted.volumes.iter().filter_map(|volume| {
            let message = self.ensure(layout, volume).err()?;
            tracing::error!(
                role = volume.role,
                volume_id = volume.id,
                message,
                "a volume cannot be made"
            );
            Some(failure(volume, message))
        });
        made.collect()
    }

    /// Removes what a layout does not want any more, and says which of it is gone.
    fn remove_all(&self, layout: &Layout, wanted: &Volumes, failures: &mut Vec<VolumeFailure>) -> Vec<Volume> {
        let mut gone = Vec::new();
        for volume in &wanted.going {
            match self.remove(layout, volume) {
                Ok(()) => gone.push(volume.clone()),
                Err(message) => {
                    tracing::error!(
                        role = volume.role,
                        volume_id = volume.id,
                        message,
                        "a volume cannot be removed"
                    );
                    failures.push(failure(volume, message));
                }
            }
        }
        gone
    }
}

fn failure(volume: &Volume, message: String) -> VolumeFailure {
    VolumeFailure {
        role: volume.role.clone(),
        id: volume.id.clone(),
        version: volume.wanted,
        message,
    }
}

fn place(layout: &Layout, volume: &Volume) -> Result<PathBuf, String> {
    let path = layout.volume(&volume.role, &volume.id, volume.lineage, volume.since);
    path.map_err(|error| with_causes(&error))
}

/// Where nothing is to be changed nothing is written: there may be no room for it.
fn give(path: &Path, spec: &ContainerSpec) -> io::Result<()> {
    let directory = File::open(path)?;
    let status = directory.metadata()?;
    if status.mode() & 0o7777 != MODE {
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(MODE))?;
    }
    let owner = (spec.user.uid, spec.user.gid);
    if !rustix::process::geteuid().is_root() || (status.uid(), status.gid()) == owner {
        return Ok(());
    }
    std::os::unix::fs::fchown(&directory, Some(owner.0), Some(owner.1))
}

/// The directories of all volumes below the one that holds them.
fn all(volumes: &Path) -> io::Result<Vec<PathBuf>> {
    let mut level = vec![volumes.to_owned()];
    for _ in 0..3 {
        let mut next = Vec::new();
        for directory in level {
            for entry in std::fs::read_dir(directory)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    next.push(entry.path());
                }
            }
        }
        level = next;
    }
    Ok(level)
}

/// Carries layouts out, one after the other. What is removed takes its time and holds nobody else up: it has a thread of its own.
#[derive(Debug)]
pub(crate) struct Layouts(threads::Sender<Volumes>);

impl Layouts {
    /// Starts the threads, which end with the sender.
    pub(crate) fn start(launcher: Arc<Launcher>, events: mpsc::Sender<Event>) -> Self {
        let (orders, incoming) = threads::channel::<Volumes>();
        let (made, to_remove) = threads::channel::<(Volumes, Vec<VolumeFailure>)>();
        let maker = Arc::clone(&launcher);
        tokio::task::spawn_blocking(move || {
            for wanted in incoming {
                let failures = maker.persistent.make_all(&maker.layout, &wanted);
                if made.send((wanted, failures)).is_err() {
                    return;
                }
            }
        });
        tokio::task::spawn_blocking(move || {
            for (wanted, mut failures) in to_remove {
                let gone = launcher.persistent.remove_all(&launcher.layout, &wanted, &mut failures);
                let done = LaidOut { wanted, failures, gone };
                if events.blocking_send(Event::Input(Input::LaidOut(done))).is_err() {
                    return;
                }
            }
        });
        Self(orders)
    }

    /// Adds one.
    pub(crate) fn push(&self, wanted: Volumes) {
        let _ = self.0.send(wanted);
    }
}

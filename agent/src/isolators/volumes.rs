//! Volumes: directories and files of the host, of the sandbox, and secrets, at a place that the task names.
//!
//! What a volume is taken from is held before anything is mounted, and attached when all else is. Secrets are files below the
//! runtime directory, which only root can enter; they go with the container.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use proffer_shim::plan::Step;

use super::{Error, Isolator, LaunchPlan, text};
use crate::containerizer::{self, Config, ContainerId, ContainerSpec, EnforcementNote, Volume, VolumeSource};
use crate::sandbox::beneath::Destination;

/// `RESOLVE_*` of openat2(2).
const NO_MAGIC_LINKS: u64 = 0x02;
const NO_LINKS: u64 = 0x04;
const BENEATH: u64 = 0x08;
const IN_ROOT: u64 = 0x10;

/// Mounts volumes.
#[derive(Debug)]
pub(super) struct VolumesIsolator {
    secrets: PathBuf,
}

impl VolumesIsolator {
    pub(super) fn new(config: &Config) -> Result<Self, containerizer::Error> {
        let secrets = config.runtime_dir.join("secrets");
        let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&secrets);
        made.map_err(|source| containerizer::Error::System {
            attempted: format!("make {}", secrets.display()),
            source,
        })?;
        Ok(VolumesIsolator { secrets })
    }

    /// Where a volume comes from: a trusted directory, the path below it, and how that is resolved. What is not there yet is made.
    fn source(&self, spec: &ContainerSpec, slot: usize, volume: &Volume) -> io::Result<(PathBuf, PathBuf, u64)> {
        Ok(match &volume.source {
            VolumeSource::Host { allowed, path } if allowed == Path::new("/") => {
                (allowed.clone(), path.clone(), IN_ROOT | NO_MAGIC_LINKS)
            }
            VolumeSource::Host { allowed, path } => (allowed.clone(), path.clone(), BENEATH | NO_MAGIC_LINKS),
            VolumeSource::Sandbox { path } => {
                let sandbox = Destination::open(&spec.sandbox, &spec.user)?;
                sandbox.directory(path)?;
                (spec.sandbox.clone(), path.clone(), BENEATH | NO_LINKS)
            }
            VolumeSource::Pod { path } => {
                let shared = spec.shared.as_ref().ok_or(io::ErrorKind::NotFound)?;
                Destination::open(shared, &spec.user)?.directory(path)?;
                (shared.clone(), path.clone(), BENEATH | NO_LINKS)
            }
            VolumeSource::Persistent { path } => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(io::ErrorKind::NotFound.into());
                };
                (parent.to_owned(), name.into(), BENEATH | NO_LINKS)
            }
            VolumeSource::Secret(secret) => {
                let directory = self.secrets.join(spec.id.as_str());
                std::fs::DirBuilder::new()
                    .mode(0o700)
                    .recursive(true)
                    .create(&directory)?;
                let name = PathBuf::from(slot.to_string());
                let mut file = std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o400)
                    .open(directory.join(&name))?;
                io::Write::write_all(&mut file, secret.bytes())?;
                fchown(&file, Some(spec.user.uid), Some(spec.user.gid))?;
                (directory, name, BENEATH | NO_LINKS)
            }
        })
    }
}

/// Where a volume goes: a trusted directory, the path below it, and how that is resolved. In the sandbox it is made.
fn target(spec: &ContainerSpec, volume: &Volume, is_directory: bool) -> io::Result<(PathBuf, PathBuf, u64)> {
    if let Ok(path) = volume.target.strip_prefix("/") {
        return Ok((PathBuf::from("/"), path.to_owned(), IN_ROOT | NO_MAGIC_LINKS));
    }
    let sandbox = Destination::open(&spec.sandbox, &spec.user)?;
    if is_directory {
        sandbox.directory(&volume.target)?;
    } else {
        match sandbox.create(&volume.target) {
            Ok(file) => sandbox.give(&file, 0o600)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok((spec.sandbox.clone(), volume.target.clone(), BENEATH | NO_LINKS))
}

impl Isolator for VolumesIsolator {
    fn name(&self) -> &'static str {
        "volumes"
    }

    fn note(&self) -> EnforcementNote {
        EnforcementNote {
            isolator: "volumes",
            text: "mounts without devices and privileged programs; links lead nowhere else".into(),
            enforced: true,
        }
    }

    fn containers(&self) -> Vec<ContainerId> {
        let entries = std::fs::read_dir(&self.secrets).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.map(ContainerId).collect()
    }

    fn prepare(&self, spec: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        for (slot, volume) in spec.volumes.iter().enumerate() {
            let failed = |what: &str| {
                let attempted = format!("{what} the volume {}", volume.target.display());
                |source| Error::System { attempted, source }
            };
            let (root, path, resolve) = self.source(spec, slot, volume).map_err(failed("make the source of"))?;
            let is_directory = match &volume.source {
                VolumeSource::Secret(_) => false,
                VolumeSource::Sandbox { .. } | VolumeSource::Pod { .. } | VolumeSource::Persistent { .. } => true,
                VolumeSource::Host { .. } => std::fs::metadata(root.join(&path))
                    .map_err(failed("find the source of"))?
                    .is_dir(),
            };
            let (target_root, target, target_resolve) =
                target(spec, volume, is_directory).map_err(failed("make a place for"))?;
            let slot = slot as u32;
            plan.holds.push(&Step::HoldBeneath {
                slot,
                root: &path_text(&root)?,
                path: &path_text(&path)?,
                resolve,
            });
            plan.volumes.push(&Step::AttachBeneath {
                slot,
                root: &path_text(&target_root)?,
                path: &path_text(&target)?,
                resolve: target_resolve,
                read_only: volume.read_only,
            });
        }
        Ok(())
    }

    fn restrict(&self, spec: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        // What lies in the sandbox may be changed as the sandbox may.
        let outside = spec.volumes.iter().filter(|volume| volume.target.is_absolute());
        for volume in outside.filter(|volume| !volume.read_only) {
            plan.writable.push(path_text(&volume.target)?);
        }
        Ok(())
    }

    fn cleanup(&self, container: &ContainerId) {
        let directory = self.secrets.join(container.as_str());
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(container_id = %container, %error, "the secrets of a container cannot be removed");
            }
            _ => {}
        }
    }
}

fn path_text(path: &Path) -> Result<CString, Error> {
    // Beneath a root the root itself is `.`.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    text("volumes", path.as_os_str().as_encoded_bytes())
}

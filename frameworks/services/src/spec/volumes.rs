//! What is mounted into an instance: directories of the host, its own that outlive it, and files that the specification holds.

use proffer_proto::Rejection;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::Fields;
use super::values::{at_most, sandbox_path, text, within};

/// The most volumes and files of one service: what an agent mounts.
pub const MOUNTS_MAX: usize = 32;

/// The most that all files of a service hold together, in bytes.
pub const FILES_BYTES_MAX: usize = 512 * 1024;

/// A directory that an instance sees, or a file of the host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VolumeSpec {
    /// What it is.
    #[serde(flatten)]
    pub source: VolumeSource,
    /// Where the instance sees it: a path in its sandbox, or an absolute one that is there.
    pub path: String,
    /// Whether the instance may change it.
    pub mode: Mode,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A file or directory of the agent's host: an absolute path that the agent lends (`--host-volumes`).
    Host(String),
    /// A directory of the instance's own, which outlives its tasks.
    Persistent(PersistentVolume),
}

/// A directory of an instance's own, which outlives its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PersistentVolume {
    /// How much it holds, in MiB, when it is made.
    pub size: f64,
}

/// Whether a volume may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Read only.
    Ro,
    /// Read and write.
    Rw,
}

/// A file whose content is in the specification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSpec {
    /// Where the instance finds it: a path in its sandbox.
    pub path: String,
    /// What it holds.
    pub content: String,
}

impl VolumeSpec {
    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let host = fields.optional("host", "an absolute path on the agent's host")?;
        let persistent = fields.nested("persistent", |value| {
            let mut fields = Fields::of(value)?;
            let size = fields.required("size", "a number of MiB")?;
            fields.end()?;
            Ok(PersistentVolume { size })
        })?;
        let accepted = "either `host`, an absolute path on the agent's host, or `persistent`";
        let (source, usual) = match (host, persistent) {
            (Some(host), None) => (VolumeSource::Host(host), Mode::Ro),
            (None, Some(persistent)) => (VolumeSource::Persistent(persistent), Mode::Rw),
            (None, None) => return Err(Rejection::new("host", "is missing", accepted)),
            (Some(_), Some(_)) => return Err(Rejection::new("persistent", "is set beside `host`", accepted)),
        };
        let volume = Self {
            source,
            path: fields.required("path", "a path in the sandbox, or an absolute one")?,
            mode: fields.optional("mode", "ro or rw")?.unwrap_or(usual),
        };
        fields.end()?;
        Ok(volume)
    }

    /// The size of a persistent one, in MiB.
    pub fn persistent_mib(&self) -> Option<f64> {
        match &self.source {
            VolumeSource::Host(_) => None,
            VolumeSource::Persistent(persistent) => Some(persistent.size),
        }
    }

    fn validate(&self) -> Result<(), Rejection> {
        match &self.source {
            VolumeSource::Host(host) => {
                text("host", host, 1, 4096)?;
                if !host.starts_with('/') {
                    let accepted = "an absolute path on the agent's host";
                    return Err(Rejection::new("host", format!("is {host:?}"), accepted));
                }
            }
            VolumeSource::Persistent(persistent) => {
                within("size", persistent.size, 1.0, 1e15).map_err(|rejection| rejection.within("persistent"))?;
            }
        }
        match self.path.strip_prefix('/') {
            Some(_) => text("path", &self.path, 2, 4096),
            None => sandbox_path("path", &self.path),
        }
    }
}

impl FileSpec {
    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let file = Self {
            path: fields.required("path", "a path in the sandbox")?,
            content: fields.required("content", "text")?,
        };
        fields.end()?;
        Ok(file)
    }
}

pub(super) fn validate(volumes: &[VolumeSpec], files: &[FileSpec]) -> Result<(), Rejection> {
    at_most("volumes", volumes.len(), MOUNTS_MAX)?;
    at_most("files", files.len(), MOUNTS_MAX)?;
    if volumes.len() + files.len() > MOUNTS_MAX {
        let problem = format!("makes {} mounts with `volumes`", volumes.len() + files.len());
        let accepted = format!("up to {MOUNTS_MAX} volumes and files together");
        return Err(Rejection::new("files", problem, accepted));
    }
    let mut paths = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        volume
            .validate()
            .and_then(|()| only_once(&mut paths, &volume.path))
            .map_err(|rejection| rejection.at(index).within("volumes"))?;
    }
    for (index, file) in files.iter().enumerate() {
        sandbox_path("path", &file.path)
            .and_then(|()| only_once(&mut paths, &file.path))
            .map_err(|rejection| rejection.at(index).within("files"))?;
    }
    let bytes: usize = files.iter().map(|file| file.content.len()).sum();
    if bytes > FILES_BYTES_MAX {
        let accepted = format!("up to {FILES_BYTES_MAX} bytes in all files together; larger ones as `artifacts`");
        return Err(Rejection::new("files", format!("holds {bytes} bytes"), accepted));
    }
    Ok(())
}

fn only_once<'a>(paths: &mut Vec<&'a str>, path: &'a str) -> Result<(), Rejection> {
    if paths.contains(&path) {
        let problem = format!("is {path:?} a second time");
        return Err(Rejection::new(
            "path",
            problem,
            "every path once in `volumes` and `files`",
        ));
    }
    paths.push(path);
    Ok(())
}

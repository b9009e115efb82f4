//! What is mounted into an instance: directories of the host, and files that the specification holds.

use proffer_proto::Rejection;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::Fields;
use super::values::{at_most, sandbox_path, text};

/// The most volumes and files of one service: what an agent mounts.
pub const MOUNTS_MAX: usize = 32;

/// The most that all files of a service hold together, in bytes.
pub const FILES_BYTES_MAX: usize = 512 * 1024;

/// A file or directory of the agent's host that an instance sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeSpec {
    /// Where it is on the host: an absolute path that the agent lends (`--host-volumes`).
    pub host: String,
    /// Where the instance sees it: a path in its sandbox, or an absolute one that is there.
    pub path: String,
    /// Whether the instance may change it.
    pub mode: Mode,
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
        if fields.has("persistent") {
            let accepted = "`host`, a directory that the agents lend with --host-volumes";
            return Err(Rejection::new("persistent", "is not there yet", accepted));
        }
        let volume = Self {
            host: fields.required("host", "an absolute path on the agent's host")?,
            path: fields.required("path", "a path in the sandbox, or an absolute one")?,
            mode: fields.optional("mode", "ro or rw")?.unwrap_or(Mode::Ro),
        };
        fields.end()?;
        Ok(volume)
    }

    fn validate(&self) -> Result<(), Rejection> {
        text("host", &self.host, 1, 4096)?;
        if !self.host.starts_with('/') {
            let accepted = "an absolute path on the agent's host";
            return Err(Rejection::new("host", format!("is {:?}", self.host), accepted));
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

//! A file that is made again and again, with a check before it counts and a command that tells its reader.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(60);

/// The most of what a command says that is kept, in bytes.
const SAID_BYTES_MAX: usize = 8 * 1024;

/// A file with what is done when it changes.
#[derive(Clone, Debug)]
pub struct Output {
    /// The file.
    pub path: PathBuf,
    /// A line for the shell that is to exit with 0, or the file stays as it was. It finds the new file by `$FILE`; one that
    /// does not name that is run with the new file in its place.
    pub check: Option<String>,
    /// A line for the shell that is run when the file has changed.
    pub reload: Option<String>,
}

/// What became of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The file holds it already.
    Same,
    /// It is in its place now.
    Changed,
}

/// Why a text is not in its place, or nobody was told.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The file cannot be written.
    #[error("write {}", .path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A command cannot be run.
    #[error("run `{command}`")]
    Run {
        /// The line.
        command: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The check did not succeed: the file is as it was.
    #[error("the check `{command}` {ended}, so {} stays as it was: {said}", .path.display())]
    Check {
        /// The file.
        path: PathBuf,
        /// The line.
        command: String,
        /// How it ended.
        ended: String,
        /// What it said.
        said: String,
    },
    /// The reader was not told.
    #[error("`{command}` {ended}: {said}")]
    Reload {
        /// The line.
        command: String,
        /// How it ended.
        ended: String,
        /// What it said.
        said: String,
    },
}

impl Output {
    /// Puts a text in its place, as a whole, once it was checked.
    pub async fn install(&self, text: &str) -> Result<Installed, OutputError> {
        let written = |source| OutputError::Write {
            path: self.path.clone(),
            source,
        };
        let before = match std::fs::read(&self.path) {
            Ok(before) => Some(before),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(written(error)),
        };
        if before.as_deref() == Some(text.as_bytes()) {
            return Ok(Installed::Same);
        }
        let new = self.beside("new");
        self.write(&new, text.as_bytes()).map_err(written)?;
        let apart = self.check.as_ref().is_some_and(|check| check.contains("FILE"));
        if apart && let Err(error) = self.check(&new).await {
            let _ = std::fs::remove_file(&new);
            return Err(error);
        }
        std::fs::rename(&new, &self.path).map_err(written)?;
        if !apart && let Err(error) = self.check(&self.path).await {
            match before {
                Some(before) => {
                    let old = self.beside("old");
                    self.write(&old, &before)
                        .and_then(|()| std::fs::rename(&old, &self.path))
                        .map_err(written)?;
                }
                None => std::fs::remove_file(&self.path).map_err(written)?,
            }
            return Err(error);
        }
        Ok(Installed::Changed)
    }

    /// Tells the reader.
    pub async fn reload(&self) -> Result<(), OutputError> {
        let Some(command) = &self.reload else { return Ok(()) };
        match run(command, &self.path).await? {
            None => Ok(()),
            Some((ended, said)) => Err(OutputError::Reload {
                command: command.clone(),
                ended,
                said,
            }),
        }
    }

    async fn check(&self, file: &Path) -> Result<(), OutputError> {
        let Some(command) = &self.check else { return Ok(()) };
        match run(command, file).await? {
            None => Ok(()),
            Some((ended, said)) => Err(OutputError::Check {
                path: self.path.clone(),
                command: command.clone(),
                ended,
                said,
            }),
        }
    }

    /// A file in the same directory, which readers of `*.conf` and the like pass over.
    fn beside(&self, what: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{what}"))
    }

    /// Writes a file that is on the disk, with the mode of the one whose place it is to take.
    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = std::fs::File::create(path)?;
        file.write_all(bytes)?;
        if let Ok(known) = std::fs::metadata(&self.path) {
            file.set_permissions(known.permissions())?;
        }
        file.sync_all()
    }
}

/// Runs a line in the shell. Where it did not succeed: how it ended, and what it said last.
async fn run(command: &str, file: &Path) -> Result<Option<(String, String)>, OutputError> {
    let failed = |source| OutputError::Run {
        command: command.to_owned(),
        source,
    };
    let (writer, mut reader) = tokio::net::unix::pipe::pipe().map_err(failed)?;
    let writer = writer.into_blocking_fd().map_err(failed)?;
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env("FILE", file)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut said = Vec::new();
    let ended = tokio::time::timeout(COMMAND, async {
        // A daemon that it starts may keep the pipe: what counts is its own end.
        let mut buffer = [0; 1024];
        let mut open = true;
        loop {
            tokio::select! {
                status = child.wait() => return status,
                read = reader.read(&mut buffer), if open => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(length) => keep_last(&mut said, &buffer[..length]),
                }
            }
        }
    });
    let ended = match ended.await {
        Ok(status) => {
            let status = status.map_err(failed)?;
            if status.success() {
                return Ok(None);
            }
            match status.code() {
                Some(code) => format!("ended with {code}"),
                None => status.to_string(),
            }
        }
        Err(_) => format!("took longer than {} s", COMMAND.as_secs()),
    };
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = reader.try_read(&mut buffer) {
        keep_last(&mut said, &buffer[..length]);
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Ok(Some((ended, said)))
}

fn keep_last(said: &mut Vec<u8>, more: &[u8]) {
    said.extend_from_slice(more);
    let surplus = said.len().saturating_sub(SAID_BYTES_MAX);
    said.drain(..surplus);
}

#[cfg(test)]
mod tests;

//! One process of a local cluster: started, awaited until it serves, signalled, restarted, ended.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What can go wrong with a process of a local cluster.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The process could not be started.
    #[error("cannot start {name} ({program})")]
    Start {
        /// The process's name in the cluster.
        name: String,
        /// The path of its binary.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process ended before it served.
    #[error("{name} ended ({status}) before it was ready; the end of its log {log}:\n{tail}")]
    EndedEarly {
        /// The process's name in the cluster.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The path of its log.
        log: String,
        /// The last lines of its log.
        tail: String,
    },
    /// The process did not serve in time.
    #[error("{name} is not ready after {waited:?}; the end of its log {log}:\n{tail}")]
    NotReady {
        /// The process's name in the cluster.
        name: String,
        /// How long was waited.
        waited: Duration,
        /// The path of its log.
        log: String,
        /// The last lines of its log.
        tail: String,
    },
    /// No master leads.
    #[error("no master leads after {waited:?}; the end of the first one's log {log}:\n{tail}")]
    NoLeader {
        /// How long was waited.
        waited: Duration,
        /// The path of its log.
        log: String,
        /// The last lines of its log.
        tail: String,
    },
    /// The directory is that of a cluster with another number of masters.
    #[error(
        "{directory} holds a cluster of {there} masters, not of {wanted}: start as many, or take another directory"
    )]
    OtherMasters {
        /// The directory of the cluster.
        directory: String,
        /// How many masters it has.
        there: usize,
        /// How many were asked for.
        wanted: usize,
    },
    /// Masters cannot listen there.
    #[error("cannot take the address {address} for a master")]
    Port {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or directory of the cluster could not be made or read.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl LocalError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| LocalError::File { action, path, source }
    }
}

/// How a process is started, so that it can be started again the same way.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// The process's name in the cluster, for example `agent-1`.
    pub name: String,
    /// The binary.
    pub program: PathBuf,
    /// Its arguments, without the address file.
    pub args: Vec<String>,
    /// Environment variables set for it.
    pub environment: Vec<(String, String)>,
    /// Its state, log and address file live here.
    pub directory: PathBuf,
}

/// A running (or ended) process of a local cluster.
#[derive(Debug)]
pub struct LocalProcess {
    spec: ProcessSpec,
    child: Option<Child>,
}

impl LocalProcess {
    /// Starts the process; it appends to `log` in its directory.
    ///
    /// # Errors
    /// The directory cannot be made or the binary cannot be started.
    pub fn start(spec: ProcessSpec) -> Result<Self, LocalError> {
        std::fs::create_dir_all(&spec.directory).map_err(LocalError::file("create", &spec.directory))?;
        let mut process = LocalProcess { spec, child: None };
        process.restart()?;
        Ok(process)
    }

    /// Starts the process again after it ended.
    ///
    /// # Errors
    /// As [`LocalProcess::start`].
    ///
    /// # Panics
    /// When it has not ended.
    pub fn restart(&mut self) -> Result<(), LocalError> {
        assert!(!self.is_running(), "{} still runs", self.spec.name);
        let address_file = self.address_file();
        if let Err(source) = std::fs::remove_file(&address_file)
            && source.kind() != std::io::ErrorKind::NotFound
        {
            return Err(LocalError::file("remove", &address_file)(source));
        }
        let log = self.open_log()?;
        let errors = log.try_clone().map_err(LocalError::file("open", &self.log_file()))?;
        let child = Command::new(&self.spec.program)
            .args(&self.spec.args)
            .arg("--address-file")
            .arg(&address_file)
            .envs(self.spec.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| LocalError::Start {
                name: self.spec.name.clone(),
                program: self.spec.program.display().to_string(),
                source,
            })?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the process has told its address, `host:port`.
    ///
    /// # Errors
    /// It ended first, or `deadline` passed.
    pub async fn address(&mut self, deadline: Duration) -> Result<String, LocalError> {
        let started = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(self.address_file())
                && !text.trim().is_empty()
            {
                return Ok(text.trim().to_owned());
            }
            if let Some(status) = self.try_wait() {
                return Err(LocalError::EndedEarly {
                    name: self.spec.name.clone(),
                    status,
                    log: self.log_file().display().to_string(),
                    tail: self.log_tail(),
                });
            }
            if started.elapsed() > deadline {
                return Err(LocalError::NotReady {
                    name: self.spec.name.clone(),
                    waited: deadline,
                    log: self.log_file().display().to_string(),
                    tail: self.log_tail(),
                });
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it was started.
    pub fn spec(&self) -> &ProcessSpec {
        &self.spec
    }

    /// How it is started the next time.
    pub fn spec_mut(&mut self) -> &mut ProcessSpec {
        &mut self.spec
    }

    /// Where its output goes.
    pub fn log_file(&self) -> PathBuf {
        self.spec.directory.join("log")
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.try_wait().is_none()
    }

    /// Sends a signal; no error when it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()))
        {
            // It may end between the check and the signal; as our own unreaped child its pid cannot be reused.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it has ended, at most until `deadline`; then it is killed.
    pub async fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < deadline {
            self.child.as_ref()?;
            if let Some(status) = self.try_wait() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.kill()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        self.child.take().and_then(|mut child| child.wait().ok())
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn address_file(&self) -> PathBuf {
        self.spec.directory.join("address")
    }

    fn open_log(&self) -> Result<File, LocalError> {
        let path = self.log_file();
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(LocalError::file("open", &path))
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }
}

impl Drop for LocalProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

//! Brings the artifacts of a task into its sandbox before it starts.
//!
//! Each is a file of the host or of a server. It is written into the sandbox as the agent's, checked against its checksum, and only
//! then unpacked or given to the task's user. Tasks without artifacts never come here. Fetching has threads of its own: a slow
//! server delays those who ask it, and nobody else.

mod artifact;
mod cache;
pub(crate) mod checksum;
mod connection;
mod download;
mod local;
mod progress;
#[cfg(test)]
mod tests;
mod unpack;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use proffer_proto::v1::command_info::Uri;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use self::artifact::Source;
use self::cache::{Cache, Content};
use self::checksum::Checksum;
use self::download::{Downloaded, Order, Version};
use self::progress::{Progress, mebibytes};
use self::unpack::Budget;
use crate::containerizer::User;
use crate::sandbox::beneath::Destination;

pub(crate) use self::artifact::Artifact;
pub(crate) use self::cache::Held;
pub(crate) use self::progress::FILE as LOG_FILE;

/// How the fetcher works.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where downloads are kept.
    pub(crate) directory: PathBuf,
    /// How much may be kept.
    pub(crate) cache_bytes: u64,
    /// How much a task may fetch, unpacked.
    pub(crate) bytes_max: u64,
    /// How long a server may be silent.
    pub(crate) stall: Duration,
    /// How long to wait before it is asked again; four times as long each further time.
    pub(crate) pause: Duration,
    /// The certificates to trust in place of the host's.
    pub(crate) ca_file: Option<PathBuf>,
    /// How many tasks fetch at once.
    pub(crate) parallel: usize,
}

/// Fetches; one for the whole agent.
#[derive(Debug)]
pub(crate) struct Fetcher {
    settings: Settings,
    connection: connection::Settings,
    cache: Cache,
    permits: Arc<Semaphore>,
    counts: Counts,
}

/// What was done since the agent started.
#[derive(Debug, Default)]
struct Counts {
    running: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

/// Figures for the operator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Tasks that fetch now.
    pub(crate) running: u64,
    /// Tasks whose artifacts all came.
    pub(crate) succeeded: u64,
    /// Tasks of which one did not.
    pub(crate) failed: u64,
    /// Bytes downloaded.
    pub(crate) bytes: u64,
    /// What is kept.
    pub(crate) held: Held,
}

/// Whose artifacts are fetched, and whether they are still wanted.
pub(crate) struct Task<'a> {
    /// What it asks for.
    pub(crate) uris: &'a [Uri],
    /// Its sandbox, which exists.
    pub(crate) sandbox: &'a Path,
    /// Its user.
    pub(crate) user: &'a User,
    /// Its `disk`, where it has any.
    pub(crate) disk_bytes: Option<u64>,
    /// Becomes true when nobody waits any more.
    pub(crate) cancelled: watch::Receiver<bool>,
}

/// One task's fetching.
struct Run<'a> {
    fetcher: &'a Fetcher,
    runtime: &'a Handle,
    user: &'a User,
    destination: Destination,
    cancelled: watch::Receiver<bool>,
    progress: Progress,
}

impl Fetcher {
    /// Opens the cache.
    pub(crate) fn open(settings: Settings) -> io::Result<Self> {
        Ok(Fetcher {
            connection: connection::Settings {
                ca_file: settings.ca_file.clone(),
                stall: settings.stall,
                pause: settings.pause,
            },
            cache: Cache::open(&settings.directory, settings.cache_bytes)?,
            permits: Arc::new(Semaphore::new(settings.parallel)),
            counts: Counts::default(),
            settings,
        })
    }

    /// Bounds how many fetch at once.
    pub(crate) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits)
    }

    /// Figures for the operator.
    pub(crate) fn figures(&self) -> Figures {
        let counts = &self.counts;
        Figures {
            running: counts.running.load(Relaxed),
            succeeded: counts.succeeded.load(Relaxed),
            failed: counts.failed.load(Relaxed),
            bytes: counts.bytes.load(Relaxed),
            held: self.cache.held(),
        }
    }

    /// Fetches all artifacts of a task. Blocks; must not be called on a thread of the runtime.
    ///
    /// # Errors
    /// What is wrong, naming the artifact.
    pub(crate) fn fetch(&self, task: &Task<'_>, runtime: &Handle) -> Result<(), String> {
        let counts = &self.counts;
        counts.running.fetch_add(1, Relaxed);
        let result = self.fetch_all(task, runtime);
        counts.running.fetch_sub(1, Relaxed);
        let counted = if result.is_ok() {
            &counts.succeeded
        } else {
            &counts.failed
        };
        counted.fetch_add(1, Relaxed);
        result
    }

    fn fetch_all(&self, task: &Task<'_>, runtime: &Handle) -> Result<(), String> {
        let destination = Destination::open(task.sandbox, task.user);
        let destination = destination.map_err(|error| format!("{}: {error}", task.sandbox.display()))?;
        let log = destination.create(Path::new(LOG_FILE)).and_then(|log| {
            destination.give(&log, 0o640)?;
            Ok(log)
        });
        let mut run = Run {
            fetcher: self,
            runtime,
            user: task.user,
            destination,
            cancelled: task.cancelled.clone(),
            progress: Progress::new(log.ok()),
        };
        let wanted = || !*task.cancelled.borrow();
        let most = task.disk_bytes.unwrap_or(u64::MAX).min(self.settings.bytes_max);
        let mut budget = Budget::new(most, &wanted);
        for uri in task.uris {
            let artifact = Artifact::parse(uri)?;
            run.progress.of(&artifact.uri);
            run.one(&artifact, &mut budget).map_err(|problem| {
                run.progress.say(&problem);
                format!("command.uris: `{artifact}`: {problem}")
            })?;
        }
        Ok(())
    }
}

impl Run<'_> {
    fn one(&mut self, artifact: &Artifact, budget: &mut Budget<'_>) -> Result<(), String> {
        self.progress.say("fetching");
        match &artifact.source {
            Source::Remote(url) if artifact.cache => self.kept(artifact, url, budget),
            source => {
                let (mut file, staged) = self.stage(artifact)?;
                let sum = match source {
                    Source::Local(path) => self.copy_local(path, &mut file, budget)?,
                    Source::Remote(url) => {
                        let downloaded = self.download(artifact, url, &mut file, budget.left(), None)?;
                        let downloaded =
                            downloaded.ok_or("the server says that nothing changed, but nothing is here")?;
                        budget.take(downloaded.bytes).map_err(text)?;
                        downloaded.checksum
                    }
                };
                check(artifact, sum)?;
                self.settle(artifact, &mut file, &staged, budget)
            }
        }
    }

    /// The file in the sandbox that the artifact is written to.
    fn stage(&self, artifact: &Artifact) -> Result<(File, PathBuf), String> {
        let name = match artifact.unpack {
            // What is unpacked may have any name.
            Some(_) => PathBuf::from(".fetched"),
            None => artifact.name.clone(),
        };
        let made = self.destination.create(&name);
        let file = made.map_err(|error| format!("cannot make `{}` in the sandbox: {error}", name.display()))?;
        Ok((file, name))
    }

    /// Unpacks what was staged, or gives it away.
    fn settle(
        &mut self,
        artifact: &Artifact,
        file: &mut File,
        staged: &Path,
        budget: &mut Budget<'_>,
    ) -> Result<(), String> {
        if let Some(format) = artifact.unpack {
            let unpacked = unpack::unpack(file, format, &artifact.name, &self.destination, budget);
            unpacked.map_err(|error| format!("cannot be unpacked: {error}"))?;
            self.destination.remove(staged).map_err(text)?;
            self.progress.say("unpacked");
            return Ok(());
        }
        let mode = if artifact.executable { 0o750 } else { 0o640 };
        let given = self.destination.give(file, mode);
        given.map_err(|error| format!("cannot be given to the task's user: {error}"))?;
        self.progress.say(&format!("is in `{}`", artifact.name.display()));
        Ok(())
    }

    fn copy_local(&mut self, path: &Path, to: &mut File, budget: &mut Budget<'_>) -> Result<Checksum, String> {
        let mut from = local::open(path, self.user).map_err(text)?;
        let mut seen = 0;
        let copied = checksum::copy(&mut from, to, |total| {
            let more = total - std::mem::replace(&mut seen, total);
            budget.take(more)
        });
        copied.map_err(|error| format!("cannot be copied: {error}"))
    }

    /// From the cache, or through it.
    fn kept(&mut self, artifact: &Artifact, url: &http::Uri, budget: &mut Budget<'_>) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..2 {
            let content = self.cached(artifact, url, budget.left())?;
            check(artifact, content.note.checksum.parse()?)?;
            match self.use_content(artifact, &content, budget)? {
                Ok(()) => return Ok(()),
                // Damaged on this host's disk: once more from the server.
                Err(problem) => {
                    self.progress.say(&problem);
                    self.fetcher.cache.discard(&content);
                    last = problem;
                }
            }
        }
        Err(last)
    }

    fn cached(&mut self, artifact: &Artifact, url: &http::Uri, bytes_max: u64) -> Result<Arc<Content>, String> {
        let (fetcher, cancelled) = (self.fetcher, self.cancelled.clone());
        let wanted = || !*cancelled.borrow();
        let checksum = artifact.checksum.map(|checksum| checksum.to_string());
        fetcher
            .cache
            .get(&artifact.uri, checksum.as_deref(), &wanted, |file, have| {
                let downloaded = self.download(artifact, url, file, bytes_max, have);
                let downloaded = match (downloaded, have) {
                    (Err(problem), Some(_)) if wanted() => {
                        self.progress.say(&format!("{problem}; what was kept is used"));
                        None
                    }
                    (downloaded, _) => downloaded?,
                };
                if let Some(downloaded) = &downloaded {
                    check(artifact, downloaded.checksum)?;
                }
                Ok(downloaded)
            })
    }

    /// Copies or unpacks a kept download; the inner error says that it is damaged.
    fn use_content(
        &mut self,
        artifact: &Artifact,
        content: &Content,
        budget: &mut Budget<'_>,
    ) -> Result<Result<(), String>, String> {
        let mut kept = match content.open() {
            Ok(kept) => kept,
            Err(error) => return Ok(Err(format!("what was kept cannot be read: {error}"))),
        };
        let damaged = || Ok(Err("what was kept is damaged".to_owned()));
        if let Some(format) = artifact.unpack {
            let sum = checksum::copy(&mut kept, &mut io::sink(), |_| budget.take(0)).map_err(text)?;
            if sum.to_string() != content.note.checksum {
                return damaged();
            }
            let unpacked = unpack::unpack(&mut kept, format, &artifact.name, &self.destination, budget);
            unpacked.map_err(|error| format!("cannot be unpacked: {error}"))?;
            self.progress.say("unpacked");
            return Ok(Ok(()));
        }
        let (mut file, staged) = self.stage(artifact)?;
        let copied = checksum::copy(&mut kept, &mut file, |_| budget.take(0));
        if copied.map_err(text)?.to_string() != content.note.checksum {
            self.destination.remove(&staged).map_err(text)?;
            return damaged();
        }
        budget.take(content.note.bytes).map_err(text)?;
        self.settle(artifact, &mut file, &staged, budget).map(Ok)
    }

    /// Downloads until somebody says that it is not wanted any more.
    fn download(
        &mut self,
        artifact: &Artifact,
        url: &http::Uri,
        to: &mut File,
        bytes_max: u64,
        have: Option<&Version>,
    ) -> Result<Option<Downloaded>, String> {
        let order = Order {
            url,
            to,
            bytes_max,
            have,
            plain_redirects: artifact.checksum.is_some(),
        };
        let (fetcher, progress, cancelled) = (self.fetcher, &mut self.progress, &mut self.cancelled);
        let downloaded = self.runtime.block_on(async {
            tokio::select! {
                downloaded = download::download(&fetcher.connection, order, progress) => downloaded,
                // Its end also says that nobody waits.
                _ = cancelled.wait_for(|cancelled| *cancelled) => Err("is not wanted any more".into()),
            }
        })?;
        if let Some(downloaded) = &downloaded {
            fetcher.counts.bytes.fetch_add(downloaded.bytes, Relaxed);
            progress.say(&format!("{}, {}", mebibytes(downloaded.bytes), downloaded.checksum));
        }
        Ok(downloaded)
    }
}

fn check(artifact: &Artifact, found: Checksum) -> Result<(), String> {
    match artifact.checksum {
        Some(wanted) if wanted != found => Err(format!("has the checksum {found}, and {wanted} was asked for")),
        _ => Ok(()),
    }
}

fn text(error: io::Error) -> String {
    error.to_string()
}

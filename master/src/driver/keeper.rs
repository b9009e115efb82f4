//! The thread that keeps the applied registry up with the log.
//!
//! Nothing waits for it: committed changes are gathered and written together, the longer the more there are, so that it takes a
//! small part of a processor however much is written. It never gets ahead of what is durable in the log, because only what is
//! committed and durable is told; what it lacks when the master stops is replayed from the log. What fails is made anew from
//! the whole registry; so is, after a while, what cannot keep up; where that does not help, the next start does it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proffer_master_core::Image;
use tokio::sync::Notify;

use super::entry;
use crate::applied::{self, AppliedRegistry};
use crate::{fatal, faults};

/// How long changes are gathered at least and at most.
const GATHERED_MIN: Duration = Duration::from_millis(100);
const GATHERED_MAX: Duration = Duration::from_secs(10);
/// How much longer they are gathered than it took to write the last ones.
const GATHERED_RATIO: u32 = 10;
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// Beyond so many bytes of changes that wait, all are dropped.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// After so long, what could not keep up is made anew at the next snapshot.
const BEHIND_MIN: Duration = Duration::from_secs(60);
/// How often a failed applied registry is made anew while running. Each costs what sled held in memory.
const REBUILDS: u32 = 3;

#[cfg(test)]
type Look = Box<dyn FnOnce(Option<&mut AppliedRegistry>) + Send>;

enum Job {
    /// Changes by their indexes, as they are in the log.
    Apply(Vec<(u64, Bytes)>),
    /// What there is, is thrown away; the registry as of the index takes its place.
    Rebuild {
        index: u64,
        registry: Box<Image>,
    },
    /// What there is, is thrown away.
    Discard,
    /// Runs something on the thread.
    #[cfg(test)]
    Look(Look),
    Stop,
}

#[derive(Debug)]
struct Shared {
    waiting_bytes: AtomicUsize,
    failed: AtomicBool,
    /// Rung when it has failed.
    bell: Arc<Notify>,
}

/// The driver's end. Ends the thread when dropped, after everything that was handed over.
pub(super) struct Keeper {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Not handed over yet.
    gathered: Vec<(u64, Bytes)>,
    gathered_bytes: usize,
    rebuilds_left: u32,
    /// Since when it does not keep up.
    behind_since: Option<Instant>,
}

impl Keeper {
    /// Starts the thread. What is there stands at `index`.
    pub(super) fn start(
        path: PathBuf,
        registry: Option<AppliedRegistry>,
        index: u64,
        bell: Arc<Notify>,
    ) -> std::io::Result<Self> {
        let (jobs, jobs_of_thread) = channel();
        let shared = Arc::new(Shared {
            waiting_bytes: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            bell,
        });
        let mut worker = Worker {
            jobs: jobs_of_thread,
            path,
            registry,
            index,
            unflushed: None,
            shared: shared.clone(),
        };
        let thread = thread::Builder::new().name("registry".to_owned()).spawn(move || {
            let _fatal = fatal::OnPanic(fatal::end_process);
            worker.run();
        })?;
        Ok(Self {
            jobs,
            shared,
            thread: Some(thread),
            gathered: Vec::new(),
            gathered_bytes: 0,
            rebuilds_left: REBUILDS,
            behind_since: None,
        })
    }

    /// Takes a committed change.
    pub(super) fn apply(&mut self, index: u64, data: Bytes) {
        if self.behind_since.is_some() {
            return;
        }
        self.gathered_bytes += data.len();
        self.gathered.push((index, data));
    }

    /// Hands over what was gathered.
    pub(super) fn hand_over(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.gathered);
        let bytes = std::mem::take(&mut self.gathered_bytes);
        let waiting = self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting > WAITING_BYTES_MAX {
            tracing::info!(
                "the applied registry does not keep up with the log and is thrown away; it is made anew later"
            );
            self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.behind_since = Some(Instant::now());
            self.send(Job::Discard);
            return;
        }
        self.send(Job::Apply(changes));
    }

    /// True, once, where the whole registry is needed to make a failed one anew.
    pub(super) fn has_failed(&mut self) -> bool {
        if !self.shared.failed.load(Ordering::Relaxed) {
            return false;
        }
        self.shared.failed.store(false, Ordering::Relaxed);
        if self.rebuilds_left == 0 {
            tracing::warn!("the applied registry fails again and again; the next start makes it anew");
            return false;
        }
        self.rebuilds_left -= 1;
        true
    }

    /// Makes the registry anew.
    pub(super) fn rebuild(&mut self, index: u64, registry: Image) {
        let registry = Box::new(registry);
        self.gathered.clear();
        self.gathered_bytes = 0;
        self.behind_since = None;
        self.send(Job::Rebuild { index, registry });
    }

    /// True where it could not keep up, and is to be made anew by now.
    pub(super) fn is_behind(&self) -> bool {
        self.behind_since.is_some_and(|since| since.elapsed() >= BEHIND_MIN)
    }

    /// Waits until everything that was handed over is written back, and ends the thread.
    pub(super) fn stop(&mut self) {
        self.hand_over();
        self.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }

    fn send(&self, job: Job) {
        // After a stop there is nobody to hear it.
        let _ = self.jobs.send(job);
    }

    #[cfg(test)]
    pub(super) fn look<T: Send + 'static>(
        &mut self,
        look: impl FnOnce(Option<&mut AppliedRegistry>) -> T + Send + 'static,
    ) -> T {
        self.hand_over();
        let (answer, answered) = channel();
        self.send(Job::Look(Box::new(move |registry| {
            answer.send(look(registry)).unwrap()
        })));
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        answered.recv().unwrap()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    jobs: Receiver<Job>,
    path: PathBuf,
    /// None while it has failed.
    registry: Option<AppliedRegistry>,
    /// Where it stands.
    index: u64,
    /// Since when something is not written back.
    unflushed: Option<Instant>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(&mut self) {
        let mut changes = Vec::new();
        let mut gathered = GATHERED_MIN;
        while let Some(first) = self.receive() {
            if matches!(first, Job::Apply(_)) {
                thread::park_timeout(gathered);
            }
            let began = Instant::now();
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Apply(more) => changes.extend(more),
                    Job::Rebuild { index, registry } => {
                        self.forget(&mut changes);
                        self.rebuild(index, &registry);
                    }
                    Job::Discard => {
                        self.forget(&mut changes);
                        self.discard();
                    }
                    #[cfg(test)]
                    Job::Look(look) => {
                        self.apply(&mut changes);
                        look(self.registry.as_mut());
                    }
                    Job::Stop => {
                        self.apply(&mut changes);
                        self.flush();
                        return;
                    }
                }
                next = self.jobs.try_recv().ok();
            }
            self.apply(&mut changes);
            if self.unflushed.is_some_and(|since| since.elapsed() >= FLUSH_AFTER) {
                self.flush();
            }
            gathered = (began.elapsed() * GATHERED_RATIO).clamp(GATHERED_MIN, GATHERED_MAX);
        }
    }

    /// The next job; flushes if there is none for a while.
    fn receive(&mut self) -> Option<Job> {
        if let Some(since) = self.unflushed {
            match self.jobs.recv_timeout(FLUSH_AFTER.saturating_sub(since.elapsed())) {
                Err(RecvTimeoutError::Timeout) => self.flush(),
                received => return received.ok(),
            }
        }
        self.jobs.recv().ok()
    }

    fn apply(&mut self, changes: &mut Vec<(u64, Bytes)>) {
        let bytes: usize = changes.iter().map(|(_, data)| data.len()).sum();
        let index = self.index;
        let decoded: Vec<_> = changes
            .drain(..)
            .filter(|(at, _)| *at > index)
            // The driver has decoded them before.
            .filter_map(|(at, data)| Some((at, entry::decode(at, &data).ok()?)))
            .collect();
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let (Some(registry), Some((last, _))) = (&mut self.registry, decoded.last()) else {
            return;
        };
        self.index = *last;
        faults::KEEPER_BEFORE_BATCH.pass();
        match registry.apply_all(&decoded) {
            Ok(()) => {
                self.unflushed.get_or_insert_with(Instant::now);
            }
            Err(error) => self.failed(&error),
        }
    }

    fn forget(&self, changes: &mut Vec<(u64, Bytes)>) {
        let bytes: usize = changes.drain(..).map(|(_, data)| data.len()).sum();
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn rebuild(&mut self, index: u64, registry: &Image) {
        // sled must have let go of the files before they are opened again.
        self.registry = None;
        self.unflushed = Some(Instant::now());
        self.index = index;
        match AppliedRegistry::rebuild(&self.path, &registry.to_wire(), index) {
            Ok(rebuilt) => {
                self.registry = Some(rebuilt);
                tracing::info!(index, "the applied registry is made anew");
            }
            Err(error) => tracing::warn!(%error, "the applied registry cannot be written; the master runs without"),
        }
    }

    fn flush(&mut self) {
        self.unflushed = None;
        let Some(registry) = &mut self.registry else { return };
        faults::KEEPER_BEFORE_FLUSH.pass();
        if let Err(error) = registry.flush() {
            self.failed(&error);
        }
        faults::KEEPER_FLUSHED.pass();
    }

    fn failed(&mut self, error: &applied::Error) {
        tracing::warn!(%error, "the applied registry failed and is thrown away");
        self.discard();
        self.shared.failed.store(true, Ordering::Relaxed);
        self.shared.bell.notify_one();
    }

    fn discard(&mut self) {
        if let Some(registry) = self.registry.take() {
            registry.abandon();
        }
        if let Err(error) = applied::remove(&self.path) {
            tracing::warn!(%error, "the applied registry cannot be removed");
        }
    }
}

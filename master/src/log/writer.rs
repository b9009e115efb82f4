//! The thread that writes the log: it owns the log and the snapshots, and the driver never waits for the disk.
//!
//! Whatever waits is written together, with one sync: the longer a sync takes, the more the next one carries. A write that
//! nothing waits for is kept back for the next one, but not for long. Snapshots of this master's own state are saved by a
//! thread each, so that the log goes on meanwhile; only then does the log's marker name them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use proffer_replication::eraftpb::Snapshot;
use proffer_replication::{Position, Write, position};
use serde::Serialize;
use tokio::sync::Notify;

use super::{Batch, LogStore};
use crate::snapshots::{self, Snapshots};
use crate::{fatal, faults};

/// Writes beyond this are left for the next sync.
const JOINED_BYTES_MAX: usize = 8 << 20;
/// How long a write that nothing waits for is kept back.
const KEPT_BACK_MAX: Duration = Duration::from_millis(100);

/// Nothing more can be made durable: the master must end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The log failed.
    #[error("the raft log cannot be written. {ADVICE}")]
    Log(#[from] super::Error),
    /// A snapshot failed.
    #[error("the registry's snapshot cannot be saved. {ADVICE}")]
    Snapshot(#[from] snapshots::Error),
}

const ADVICE: &str =
    "The master ends; nothing that it acknowledged is lost. Start it again when its disk works and has room";

/// What was written since the start. How many entries share a sync says how well the load is joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// How often something was made durable.
    pub syncs: u64,
    /// How many entries.
    pub entries: u64,
    /// How many bytes they hold.
    pub bytes: u64,
}

/// How far the writer has come.
#[derive(Debug)]
pub struct Written {
    number: AtomicU64,
    syncs: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    failure: Mutex<Option<Failure>>,
    /// Rung at every change.
    bell: Arc<Notify>,
}

impl Written {
    /// The highest write that is durable, as every write before it is; 0 before the first.
    ///
    /// # Errors
    /// The writer has failed. Told once.
    pub fn number(&self) -> Result<u64, Failure> {
        let number = self.number.load(Ordering::Acquire);
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(number), Err)
    }

    /// What was written so far.
    pub fn totals(&self) -> Totals {
        Totals {
            syncs: self.syncs.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    fn count(&self, batches: &[Batch<'_>]) {
        let entries = batches.iter().flat_map(|batch| batch.entries);
        let (count, bytes) = entries.fold((0, 0), |(count, bytes), entry| {
            (count + 1, bytes + entry.data.len() as u64)
        });
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(count, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn fail(&self, failure: Failure) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        self.bell.notify_one();
    }
}

enum Job {
    Write(Write),
    Compact(Snapshot),
    /// The thread that saves this snapshot has ended.
    Saved(Position),
    Stop,
}

/// The driver's end. Ends the thread when dropped, after everything that was handed over.
#[derive(Debug)]
pub struct Writer {
    jobs: Sender<Job>,
    written: Arc<Written>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. `newest` is the snapshot that the log continues; the bell is rung when something was written.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        log: Box<dyn LogStore>,
        snapshots: Snapshots,
        newest: Position,
        bell: Arc<Notify>,
    ) -> io::Result<Self> {
        let (jobs, jobs_of_thread) = channel();
        let written = Arc::new(Written {
            number: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failure: Mutex::default(),
            bell,
        });
        let mut worker = Worker {
            jobs: jobs_of_thread,
            saved: jobs.clone(),
            log,
            snapshots,
            newest,
            saving: None,
            waiting: Waiting::default(),
            written: written.clone(),
        };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let _fatal = fatal::OnPanic(fatal::end_process);
            if let Err(failure) = worker.run() {
                worker.written.fail(failure);
            }
        })?;
        Ok(Self {
            jobs,
            written,
            thread: Some(thread),
        })
    }

    /// Hands a write over. Nothing happens where the writer has failed.
    pub fn write(&self, write: Write) {
        let _ = self.jobs.send(Job::Write(write));
    }

    /// Hands over a snapshot of this master's own state. Nothing happens where the writer has failed.
    pub fn compact(&self, snapshot: Snapshot) {
        let _ = self.jobs.send(Job::Compact(snapshot));
    }

    /// How far it has come.
    pub fn written(&self) -> &Arc<Written> {
        &self.written
    }

    /// Waits until everything that was handed over is durable, and ends the thread.
    ///
    /// # Errors
    /// It is not.
    pub fn stop(&mut self) -> Result<(), Failure> {
        self.join();
        self.written.number().map(drop)
    }

    fn join(&mut self) {
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.join();
    }
}

/// Writes that were taken and are not yet in the log.
#[derive(Default)]
struct Waiting {
    writes: Vec<Write>,
    bytes: usize,
    /// When the first of them was taken.
    since: Option<Instant>,
}

impl Waiting {
    fn push(&mut self, write: Write) {
        self.since.get_or_insert_with(Instant::now);
        self.bytes += write.entries.iter().map(|entry| entry.data.len() + 64).sum::<usize>();
        self.writes.push(write);
    }
}

/// A snapshot that is being saved.
struct Saving {
    position: Position,
    bytes: u64,
    thread: JoinHandle<Result<(), snapshots::Error>>,
}

struct Worker {
    jobs: Receiver<Job>,
    saved: Sender<Job>,
    log: Box<dyn LogStore>,
    snapshots: Snapshots,
    /// The newest snapshot that the log's marker names.
    newest: Position,
    saving: Option<Saving>,
    waiting: Waiting,
    written: Arc<Written>,
}

impl Worker {
    fn run(&mut self) -> Result<(), Failure> {
        loop {
            let mut next = self.receive();
            let mut due = next.is_none();
            let mut stop = false;
            while let Some(job) = next {
                match job {
                    Job::Write(write) => {
                        due |= write.must_sync || write.snapshot.is_some();
                        self.waiting.push(write);
                    }
                    Job::Compact(snapshot) => self.save(snapshot)?,
                    Job::Saved(position) => {
                        if self.saving.as_ref().is_some_and(|saving| saving.position == position) {
                            self.finish_saving()?;
                        }
                    }
                    Job::Stop => stop = true,
                }
                if stop || self.waiting.bytes >= JOINED_BYTES_MAX {
                    due = true;
                    break;
                }
                next = self.jobs.try_recv().ok();
            }
            let kept_back = self.waiting.since.map(|since| since.elapsed());
            if due || kept_back.is_some_and(|time| time >= KEPT_BACK_MAX) {
                self.write()?;
            }
            if stop {
                return self.finish_saving();
            }
        }
    }

    /// The next job; none if what was kept back is due before.
    fn receive(&self) -> Option<Job> {
        let Some(since) = self.waiting.since else {
            return Some(self.jobs.recv().unwrap_or(Job::Stop));
        };
        match self.jobs.recv_timeout(KEPT_BACK_MAX.saturating_sub(since.elapsed())) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Job::Stop),
        }
    }

    fn write(&mut self) -> Result<(), Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        let Some(last) = waiting.writes.last() else {
            return Ok(());
        };
        let mut installed = None;
        for snapshot in waiting.writes.iter().filter_map(|write| write.snapshot.as_ref()) {
            // Its file is not one that an older snapshot's thread may still be making.
            self.finish_saving()?;
            self.snapshots.save(snapshot)?;
            installed = Some(position(snapshot));
        }
        let batches: Vec<Batch<'_>> = waiting.writes.iter().map(batch).collect();
        self.log.append(&batches)?;
        self.written.count(&batches);
        if let Some(position) = installed {
            self.newest = position;
            self.snapshots.remove_others(position);
        }
        self.written.number.store(last.number, Ordering::Release);
        self.written.bell.notify_one();
        Ok(())
    }

    fn save(&mut self, snapshot: Snapshot) -> Result<(), Failure> {
        self.finish_saving()?;
        let (snapshots, saved) = (self.snapshots.clone(), self.saved.clone());
        let (place, bytes) = (position(&snapshot), snapshot.data.len() as u64);
        let thread = thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            let _fatal = fatal::OnPanic(fatal::end_process);
            let result = snapshots.save(&snapshot);
            // The writer may have ended.
            let _ = saved.send(Job::Saved(place));
            result
        });
        match thread {
            Ok(thread) => {
                let position = place;
                self.saving = Some(Saving {
                    position,
                    bytes,
                    thread,
                });
            }
            // The next one may fare better; until then the log is longer.
            Err(error) => tracing::warn!(%error, "no thread can be started to save a snapshot"),
        }
        Ok(())
    }

    /// Waits for the snapshot that is being saved, and frees the space that it covers.
    fn finish_saving(&mut self) -> Result<(), Failure> {
        let Some(saving) = self.saving.take() else {
            return Ok(());
        };
        let Saving {
            position,
            bytes,
            thread,
        } = saving;
        // A panic there has ended the process.
        let Ok(result) = thread.join() else { return Ok(()) };
        result?;
        if position.index > self.newest.index {
            self.log.compact(position, bytes)?;
            faults::LOG_COMPACTED.pass();
            self.newest = position;
            self.snapshots.remove_others(position);
        }
        Ok(())
    }
}

fn batch(write: &Write) -> Batch<'_> {
    Batch {
        snapshot: write.snapshot_position(),
        entries: &write.entries,
        hard_state: write.hard_state.as_ref(),
    }
}

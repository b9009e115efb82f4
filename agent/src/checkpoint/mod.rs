//! What the agent keeps on disk, durable before it is acted on.
//!
//! [`Checkpoint`] owns the journal and a thread that writes to it. Batches that arrive while the disk is busy are made
//! durable together: hundreds of launches a second share a few dozen flushes. What need only outlive the agent, because the
//! machine's end makes it void, is written at once by whoever brings it, where the thread is not before it, and flushed with
//! the next batch that must be durable, or soon after: to wake a thread for a write into memory would cost more than the write.
//!
//! While the disk is full the thread waits for room, and all that needs something of the journal waits for it: no task is started
//! and no update sent, nothing is lost, and whoever waits goes on by himself.

pub mod image;
pub mod journal;
pub mod layout;
pub mod record;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, mpsc};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, IFlags};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use image::Image;
use journal::Journal;
use layout::Layout;
use record::Record;

/// How long what is written may wait for its flush.
const FLUSH_DELAY: Duration = Duration::from_millis(50);
/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(500);
/// How often that is said.
const FULL_SAID_EVERY: u32 = 20;

/// Failures of opening the checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or file could not be made.
    #[error("cannot prepare {path}")]
    Prepare {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the work directory.
    #[error("another agent uses the work directory {path}: stop it, or give this one a --work-dir of its own")]
    InUse {
        /// The work directory.
        path: String,
    },
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The thread could not be started.
    #[error("cannot start the checkpoint thread")]
    Thread(#[source] io::Error),
}

/// What must be true of a batch before its ticket is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing: it may be lost.
    Nothing,
    /// Whoever reads the journal on this machine finds it.
    Written,
    /// It is on disk.
    Durable,
}

/// Opened as soon as the batch that it came with is as safe as it must be.
pub type Gate = oneshot::Sender<()>;

/// Where tickets are returned, or the failure after which nothing more is written.
pub type Tickets = UnboundedSender<Result<u64, journal::Error>>;

/// The writing end of the journal.
#[derive(Debug)]
pub struct Checkpoint {
    shared: Arc<Shared>,
    batches: mpsc::Sender<Batch>,
    durable: Tickets,
    /// When what is written must be flushed.
    flush_at: Option<Instant>,
    /// Set when the journal must not be used any more.
    has_failed: bool,
    /// Held, and thereby locked, as long as the agent runs.
    _lock: std::fs::File,
}

/// What the thread and its callers share.
#[derive(Debug)]
struct Shared {
    journal: Mutex<Journal>,
    /// Batches that the thread has not appended yet.
    queued: AtomicUsize,
}

#[derive(Debug)]
struct Batch {
    records: Vec<Record>,
    need: Need,
    ticket: u64,
    gates: Vec<Gate>,
}

impl Checkpoint {
    /// Locks the work directory, reads the journal, and starts the thread. `durable` gets the ticket of every batch that needs
    /// something once that is so, in order, or the failure after which nothing more is written.
    ///
    /// # Errors
    /// The work directory is in use, cannot be written, or its journal is corrupt.
    pub fn open(layout: &Layout, durable: Tickets) -> Result<(Self, Image), Error> {
        let prepare = |path: &Path| {
            let path = path.display().to_string();
            move |source| Error::Prepare { path, source }
        };
        let sandboxes = layout.sandboxes();
        std::fs::create_dir_all(&sandboxes).map_err(prepare(&sandboxes))?;
        spread(&sandboxes);
        let lock = std::fs::File::create(layout.lock()).map_err(prepare(&layout.lock()))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::InUse {
            path: layout.work_dir().display().to_string(),
        })?;
        let journal = Journal::open(layout)?;
        let image = journal.image().clone();
        let shared = Arc::new(Shared {
            journal: Mutex::new(journal),
            queued: AtomicUsize::new(0),
        });
        let (batches, incoming) = mpsc::channel();
        let (of_thread, tickets) = (Arc::clone(&shared), durable.clone());
        std::thread::Builder::new()
            .name("checkpoint".into())
            .stack_size(256 << 10)
            .spawn(move || write(&of_thread, &incoming, &tickets))
            .map_err(Error::Thread)?;
        let checkpoint = Self {
            shared,
            batches,
            durable,
            flush_at: None,
            has_failed: false,
            _lock: lock,
        };
        Ok((checkpoint, image))
    }

    /// Hands records to the journal. True when what they need is so already; otherwise the ticket is returned once it is so,
    /// unless they need nothing. The gates are opened just before, without the detour through whoever waits for tickets.
    pub fn append(&mut self, records: Vec<Record>, need: Need, ticket: u64, gates: Vec<Gate>) -> bool {
        match need {
            // All that was written before is flushed with it.
            Need::Durable => self.flush_at = None,
            Need::Written => self.flush_at = self.flush_at.or_else(|| Some(Instant::now() + FLUSH_DELAY)),
            Need::Nothing => {}
        }
        let batch = Batch {
            records,
            need,
            ticket,
            gates,
        };
        match self.write_now(batch) {
            Ok(is_written) => is_written,
            Err(batch) => {
                self.hand_over(batch);
                false
            }
        }
    }

    /// When [`Checkpoint::flush`] is due.
    pub fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    /// Has all that is written made durable, for nobody who waits.
    pub fn flush(&mut self) {
        self.flush_at = None;
        self.hand_over(Batch {
            records: Vec::new(),
            need: Need::Durable,
            ticket: 0,
            gates: Vec::new(),
        });
    }

    /// Writes what need not be durable, and says whether it could; gives it back where it would have to wait: for batches
    /// before it, for the journal, or for space.
    fn write_now(&mut self, mut batch: Batch) -> Result<bool, Batch> {
        if self.has_failed {
            return Ok(false);
        }
        if batch.need == Need::Durable || self.shared.queued.load(Ordering::Acquire) > 0 {
            return Err(batch);
        }
        let mut journal = match self.shared.journal.try_lock() {
            Ok(journal) => journal,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(batch),
        };
        if !journal.has_room(&batch.records) {
            return Err(batch);
        }
        match journal.append(&mut batch.records) {
            Ok(()) => {}
            Err(error) if error.is_full() => return Err(batch),
            Err(error) => {
                // Whoever waits for tickets stops then.
                let _ = self.durable.send(Err(error));
                self.has_failed = true;
                return Ok(false);
            }
        }
        for gate in batch.gates {
            let _ = gate.send(());
        }
        Ok(true)
    }

    fn hand_over(&self, batch: Batch) {
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        // The thread ends early only after it reported a failure, which stops the agent.
        let _ = self.batches.send(batch);
    }
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends records, however long it takes until there is room for them.
    fn append(&self, mut records: Vec<Record>) -> Result<(), journal::Error> {
        let mut tries = 0;
        loop {
            let appended = self.journal().append(&mut records);
            match appended {
                Err(error) if error.is_full() => {
                    if tries % FULL_SAID_EVERY == 0 {
                        let error = full(&error);
                        tracing::error!(
                            error,
                            "the disk is full: no task is started and no update sent until there is room"
                        );
                    }
                }
                appended => {
                    if tries > 0 && appended.is_ok() {
                        tracing::warn!("the disk has room again: what waited goes on");
                    }
                    return appended;
                }
            }
            tries += 1;
            std::thread::sleep(FULL_RETRY);
        }
    }

    /// Makes all that was appended durable. While the disk is at it others may append.
    fn sync(&self) -> Result<(), journal::Error> {
        let unsynced = self.journal().unsynced();
        if let Some(unsynced) = unsynced {
            unsynced.sync()?;
            self.journal().synced(&unsynced)?;
        }
        Ok(())
    }
}

fn full(error: &journal::Error) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// Lets ext4 place each directory in it where the disk is least used, as it does below the root: sandboxes of different frameworks
/// have nothing to do with each other. Beside others, new inodes are dear where many were removed lately.
fn spread(directory: &Path) {
    let spread = || -> io::Result<()> {
        let directory = std::fs::File::open(directory)?;
        let flags = rustix::fs::ioctl_getflags(&directory)?;
        Ok(rustix::fs::ioctl_setflags(&directory, flags | IFlags::TOPDIR)?)
    };
    if let Err(error) = spread() {
        tracing::debug!(directory = %directory.display(), %error, "the file system does not spread directories");
    }
}

fn write(shared: &Shared, batches: &mpsc::Receiver<Batch>, durable: &Tickets) {
    while let Ok(first) = batches.recv() {
        let group: Vec<Batch> = std::iter::once(first).chain(batches.try_iter()).collect();
        let need = group.iter().map(|batch| batch.need).max().unwrap_or(Need::Durable);
        let (mut records, mut waiting, count) = (Vec::new(), Vec::new(), group.len());
        for batch in group {
            records.extend(batch.records);
            if batch.need > Need::Nothing {
                waiting.push((batch.ticket, batch.gates));
            }
        }
        let mut result = shared.append(records);
        shared.queued.fetch_sub(count, Ordering::Release);
        if result.is_ok() && need == Need::Durable {
            result = shared.sync();
        }
        if let Err(error) = result {
            let _ = durable.send(Err(error));
            return;
        }
        // Who waits for a gate waits for a processor longest.
        let mut tickets = Vec::with_capacity(waiting.len());
        for (ticket, gates) in waiting {
            tickets.push(ticket);
            for gate in gates {
                let _ = gate.send(());
            }
        }
        for ticket in tickets.into_iter().filter(|ticket| *ticket > 0) {
            if durable.send(Ok(ticket)).is_err() {
                return;
            }
        }
    }
    let _ = shared.sync();
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::checkpoint::record::{Boot, Fact};

    fn boot(id: &str) -> Vec<Record> {
        vec![Fact::Boot(Boot { id: id.to_owned() }).into()]
    }

    #[test]
    fn what_need_only_be_written_is_there_at_once_and_never_before_what_came_earlier() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let (tickets, mut durable) = unbounded_channel();
        let (mut checkpoint, _) = Checkpoint::open(&layout, tickets).unwrap();
        let boot_of = |checkpoint: &Checkpoint| checkpoint.shared.journal().image().boot.clone();

        assert!(checkpoint.append(boot("1"), Need::Written, 1, Vec::new()));
        assert_eq!(boot_of(&checkpoint).as_deref(), Some("1"));
        assert!(checkpoint.flush_at().is_some());

        let shared = Arc::clone(&checkpoint.shared);
        let busy = shared.journal();
        assert!(!checkpoint.append(boot("2"), Need::Durable, 2, Vec::new()));
        assert!(checkpoint.flush_at().is_none(), "flushed with the second");
        assert!(!checkpoint.append(boot("3"), Need::Written, 3, Vec::new()));
        drop(busy);
        for ticket in [2, 3] {
            assert_eq!(durable.blocking_recv().unwrap().unwrap(), ticket);
        }
        assert_eq!(boot_of(&checkpoint).as_deref(), Some("3"));
    }

    #[test]
    fn a_flush_is_made_for_nobody_who_waits() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let (tickets, mut durable) = unbounded_channel();
        let (mut checkpoint, _) = Checkpoint::open(&layout, tickets).unwrap();
        assert!(checkpoint.append(boot("1"), Need::Written, 1, Vec::new()));
        checkpoint.flush();
        assert!(checkpoint.flush_at().is_none());
        assert!(!checkpoint.append(boot("2"), Need::Durable, 2, Vec::new()));
        assert_eq!(durable.blocking_recv().unwrap().unwrap(), 2);
        assert!(checkpoint.shared.journal().unsynced().is_none());
    }
}

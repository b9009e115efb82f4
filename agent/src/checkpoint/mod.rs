//! What the agent keeps on disk, durable before it is acted on.
//!
//! [`Checkpoint`] owns the journal and a thread that writes to it. Batches that arrive while the disk is busy are made
//! durable together: hundreds of launches a second share a few dozen flushes. What need only outlive the agent, because the
//! machine's end makes it void, is written at once and flushed with the next batch that must be durable, or soon after.

pub mod image;
pub mod journal;
pub mod layout;
pub mod record;

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::fs::{FlockOperation, IFlags};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use image::Image;
use journal::Journal;
use layout::Layout;
use record::Record;

/// How long what is written may wait for its flush.
const FLUSH_DELAY: Duration = Duration::from_millis(50);

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

/// The writing end of the journal.
#[derive(Debug)]
pub struct Checkpoint {
    batches: mpsc::Sender<Batch>,
    /// Held, and thereby locked, as long as the agent runs.
    _lock: std::fs::File,
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
    pub fn open(
        layout: &Layout,
        durable: UnboundedSender<Result<u64, journal::Error>>,
    ) -> Result<(Self, Image), Error> {
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
        let (batches, incoming) = mpsc::channel();
        std::thread::Builder::new()
            .name("checkpoint".into())
            .stack_size(256 << 10)
            .spawn(move || write(journal, &incoming, &durable))
            .map_err(Error::Thread)?;
        Ok((Self { batches, _lock: lock }, image))
    }

    /// Hands records to the journal. The ticket is returned once what they need is so; those that need nothing return none.
    /// The gates are opened just before, without the detour through whoever waits for tickets.
    pub fn append(&self, records: Vec<Record>, need: Need, ticket: u64, gates: Vec<Gate>) {
        // The thread ends early only after it reported a failure, which stops the agent.
        let _ = self.batches.send(Batch {
            records,
            need,
            ticket,
            gates,
        });
    }
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

fn write(
    mut journal: Journal,
    batches: &mpsc::Receiver<Batch>,
    durable: &UnboundedSender<Result<u64, journal::Error>>,
) {
    let mut unsynced = false;
    loop {
        let first = match unsynced {
            true => batches.recv_timeout(FLUSH_DELAY),
            false => batches.recv().map_err(RecvTimeoutError::from),
        };
        let group: Vec<Batch> = match first {
            Ok(first) => std::iter::once(first).chain(batches.try_iter()).collect(),
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let need = group.iter().map(|batch| batch.need).max().unwrap_or(Need::Durable);
        let (mut records, mut waiting) = (Vec::new(), Vec::new());
        for batch in group {
            records.extend(batch.records);
            if batch.need > Need::Nothing {
                waiting.push((batch.ticket, batch.gates));
            }
        }
        let mut result = journal.append(records);
        unsynced = need == Need::Written || (unsynced && need < Need::Durable);
        if result.is_ok() && need == Need::Durable {
            result = journal.sync();
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
        for ticket in tickets {
            if durable.send(Ok(ticket)).is_err() {
                return;
            }
        }
    }
    let _ = journal.sync();
}

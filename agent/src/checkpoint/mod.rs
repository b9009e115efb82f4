//! What the agent keeps on disk, durable before it is acted on.
//!
//! [`Checkpoint`] owns the journal and a thread that writes to it. Batches that arrive while the disk is busy are made
//! durable together: hundreds of launches a second share a few dozen flushes.

pub mod image;
pub mod journal;
pub mod layout;
pub mod record;

use std::io;
use std::sync::mpsc;

use rustix::fs::FlockOperation;
use tokio::sync::mpsc::UnboundedSender;

use image::Image;
use journal::Journal;
use layout::Layout;
use record::Record;

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
    ticket: Option<u64>,
}

impl Checkpoint {
    /// Locks the work directory, reads the journal, and starts the thread. `durable` gets the ticket of every batch once it
    /// is on disk, in order, or the failure after which nothing more is written.
    ///
    /// # Errors
    /// The work directory is in use, cannot be written, or its journal is corrupt.
    pub fn open(
        layout: &Layout,
        durable: UnboundedSender<Result<u64, journal::Error>>,
    ) -> Result<(Self, Image), Error> {
        let prepare = |path: &std::path::Path| {
            let path = path.display().to_string();
            move |source| Error::Prepare { path, source }
        };
        let sandboxes = layout.sandboxes();
        std::fs::create_dir_all(&sandboxes).map_err(prepare(&sandboxes))?;
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

    /// Hands records to the journal. With a ticket they are made durable at once and the ticket is returned; without one
    /// they become durable with the next batch that has one.
    pub fn append(&self, records: Vec<Record>, ticket: Option<u64>) {
        // The thread ends early only after it reported a failure, which stops the agent.
        let _ = self.batches.send(Batch { records, ticket });
    }
}

fn write(
    mut journal: Journal,
    batches: &mpsc::Receiver<Batch>,
    durable: &UnboundedSender<Result<u64, journal::Error>>,
) {
    while let Ok(first) = batches.recv() {
        let group: Vec<Batch> = std::iter::once(first).chain(batches.try_iter()).collect();
        let tickets: Vec<u64> = group.iter().filter_map(|batch| batch.ticket).collect();
        let mut result = journal.append(group.into_iter().flat_map(|batch| batch.records));
        if result.is_ok() && !tickets.is_empty() {
            result = journal.sync();
        }
        if let Err(error) = result {
            let _ = durable.send(Err(error));
            return;
        }
        for ticket in tickets {
            if durable.send(Ok(ticket)).is_err() {
                return;
            }
        }
    }
    let _ = journal.sync();
}

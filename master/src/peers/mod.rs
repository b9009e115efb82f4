//! The other masters: what goes to them, and who this master is to them.
//!
//! The driver has one [`Peers`]. It never waits for it: a message is queued or lost, as raft allows, and every loss is told
//! once ([`Event::Unreachable`]). What comes from the other masters is handed to the driver as [`Event`]s on a bounded queue.
//! Every master opens a stream of its own to each of the others, and sends on it only; snapshots have connections of their own.

mod book;
mod dial;
mod incoming;
mod introduce;
mod outgoing;
mod pause;
mod queue;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proffer_replication::eraftpb::{Message, MessageType};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use book::Book;
use queue::{Bounds, Queue};

pub(crate) use dial::reason_of;
pub use dial::{Dial, Duplex};
pub use incoming::Incoming;
pub(crate) use pause::Pause;

/// The largest snapshot that is taken.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;

/// Who this master is to the others.
#[derive(Debug, Clone)]
pub struct Me {
    /// The cluster's random id.
    pub cluster_id: String,
    /// The cluster's name, for people.
    pub cluster: String,
    /// This master's id in the group.
    pub member: u64,
    /// Where it is reached, `host:port`.
    pub address: String,
    /// The newest format of the registry that it understands.
    pub level: u32,
    /// Its version, for people.
    pub version: String,
}

/// What the driver hears of the other masters.
#[derive(Debug)]
pub enum Event {
    /// A message that can be decoded and is for this master. The member decides whether it takes it.
    Message(Box<Message>),
    /// Messages to this member were lost; told once for each break of the connection, and for each time that the queue was full.
    Unreachable(u64),
    /// How sending a `MsgSnapshot` ended; told for each of them.
    SnapshotSent {
        /// The member that it was for.
        id: u64,
        /// Whether it took the whole of it.
        whole: bool,
    },
}

/// How long the sender of a snapshot waits for the receiver, and the other way round.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For the next piece to be taken, or to come.
    piece: Duration,
    /// For the answer to the last piece.
    answer: Duration,
}

/// What every connection needs.
#[derive(Debug)]
struct Shared {
    me: Me,
    dial: Dial,
    book: Book,
    events: mpsc::Sender<Event>,
    leader: watch::Sender<Option<u64>>,
    patience: Patience,
    snapshot_bytes_max: u64,
}

/// The ways to the other masters. Nothing is sent any more once this is dropped.
#[derive(Debug)]
pub struct Peers {
    shared: Arc<Shared>,
    /// None where there can be no connections.
    runtime: Option<runtime::Handle>,
    peers: Mutex<BTreeMap<u64, Peer>>,
    _introducing: Option<Task>,
    _own: Option<Own>,
}

/// The way to one of them.
#[derive(Debug)]
struct Peer {
    queue: Arc<Queue>,
    snapshots: mpsc::UnboundedSender<Message>,
    _tasks: [Task; 2],
}

/// A runtime that ends without being waited for: it is dropped in another one.
#[derive(Debug)]
struct Own(Option<runtime::Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs until this is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Peers {
    /// Begins; nobody is known yet. What goes to the others goes on a thread of its own: a heartbeat that waits its turn among ten
    /// thousand agents costs the leadership. `events` is the driver's queue: whoever brings something waits where it is full.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(me: Me, events: mpsc::Sender<Event>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("peers")
            .enable_all()
            .build()?;
        let guard = runtime.enter();
        let peers = Self::with_dial(me, events, Dial::default());
        drop(guard);
        Ok(Self {
            _own: Some(Own(Some(runtime))),
            ..peers
        })
    }

    /// As [`Peers::start`], over connections of the caller's making, which the runtime carries that the caller is in.
    pub fn with_dial(me: Me, events: mpsc::Sender<Event>, dial: Dial) -> Self {
        let patience = Patience {
            piece: Duration::from_secs(10),
            answer: Duration::from_secs(60),
        };
        Self::with(Shared {
            me,
            dial,
            book: Book::default(),
            events,
            leader: watch::Sender::new(None),
            patience,
            snapshot_bytes_max: SNAPSHOT_BYTES_MAX,
        })
    }

    fn with(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let runtime = runtime::Handle::try_current().ok();
        let introducing = runtime
            .as_ref()
            .map(|runtime| Task(runtime.spawn(introduce::to_leaders(shared.clone()))));
        Self {
            shared,
            runtime,
            peers: Mutex::default(),
            _introducing: introducing,
            _own: None,
        }
    }

    /// The receiving side.
    pub fn incoming(&self) -> Incoming {
        Incoming::new(self.shared.clone())
    }

    /// Everyone in the group with their addresses, as the registry has them; this master itself may be among them. To be called
    /// whenever they change.
    pub fn set(&self, mut members: BTreeMap<u64, String>) {
        members.remove(&self.shared.me.member);
        let known = self.shared.book.set(members);
        let mut peers = self.peers();
        peers.retain(|id, _| known.contains(id));
        for id in known {
            self.open(&mut peers, id);
        }
    }

    /// Members that left: nothing is taken from them any more, and they are told so. To be called whenever they change.
    pub fn set_removed(&self, members: Vec<u64>) {
        self.peers().retain(|id, _| !members.contains(id));
        self.shared.book.set_removed(members.into_iter().collect());
    }

    /// Who leads, as far as is known: this master introduces itself there. To be called at start and whenever it changes.
    pub fn leader(&self, leader: Option<u64>) {
        self.shared.leader.send_replace(leader);
    }

    /// Queues a message for the member that it is for, or drops it. Never waits.
    pub fn send(&self, message: Message) {
        let id = message.to;
        let mut peers = self.peers();
        if !peers.contains_key(&id) && self.shared.book.address(id).is_some() {
            self.open(&mut peers, id);
        }
        let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
        match peers.get(&id) {
            Some(peer) if !is_snapshot => peer.queue.push(message),
            Some(peer) if peer.snapshots.send(message).is_ok() => {}
            _ => {
                tracing::debug!(member = id, "a message is for a master whose address is not known");
                if is_snapshot {
                    self.tell_later(Event::SnapshotSent { id, whole: false });
                }
            }
        }
    }

    fn open(&self, peers: &mut BTreeMap<u64, Peer>, id: u64) {
        let Some(runtime) = &self.runtime else { return };
        peers.entry(id).or_insert_with(|| {
            let queue = Arc::new(Queue::new(Bounds::default()));
            // The first connection is being opened from now on.
            queue.open();
            let (snapshots, to_send) = mpsc::unbounded_channel();
            let messages = outgoing::keep(self.shared.clone(), id, queue.clone());
            let snapshots_sent = snapshot::send_all(self.shared.clone(), id, to_send);
            Peer {
                queue,
                snapshots,
                _tasks: [Task(runtime.spawn(messages)), Task(runtime.spawn(snapshots_sent))],
            }
        });
    }

    /// Tells the driver, which cannot wait for itself.
    fn tell_later(&self, event: Event) {
        let shared = self.shared.clone();
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move { shared.tell(event).await });
        }
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<u64, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    async fn tell(&self, event: Event) {
        // A driver that has stopped needs to hear nothing.
        let _ = self.events.send(event).await;
    }
}

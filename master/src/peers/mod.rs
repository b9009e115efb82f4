//! The other masters: what goes to them, and who this master is to them.
//!
//! The driver has one [`Peers`]. It never waits for it: a message is queued or lost, as raft allows, and every loss is told
//! once ([`Event::Unreachable`]). What comes from the other masters is handed to the driver as [`Event`]s on a bounded queue.

use std::collections::BTreeMap;

use raft::eraftpb::Message;
use tokio::sync::mpsc;

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

/// The receiving side, for the transport: the driver gives it out as `Running::incoming`.
#[derive(Debug, Clone)]
pub struct Incoming {}

/// The ways to the other masters. Nothing is sent any more once this is dropped.
#[derive(Debug)]
pub struct Peers {}

#[allow(unused_variables, clippy::todo, clippy::unused_self)]
impl Peers {
    /// Begins; nobody is known yet. To be called within a tokio runtime, which carries the connections, unless there will
    /// be no others. `events` is the driver's queue: messages are dropped where it is full, all else waits for a place.
    pub fn start(me: Me, events: mpsc::Sender<Event>) -> Self {
        todo!()
    }

    /// The receiving side.
    pub fn incoming(&self) -> Incoming {
        todo!()
    }

    /// Everyone in the group with their addresses, as the registry has them; this master itself may be among them. To be called
    /// whenever they change.
    pub fn set(&self, members: BTreeMap<u64, String>) {
        todo!()
    }

    /// Members that left: nothing is taken from them any more, and they are told so. To be called whenever they change.
    pub fn set_removed(&self, members: Vec<u64>) {
        todo!()
    }

    /// Who leads, as far as is known: this master introduces itself there. To be called at start and whenever it changes.
    pub fn leader(&self, leader: Option<u64>) {
        todo!()
    }

    /// Queues a message for the member that it is for, or drops it. Never waits.
    pub fn send(&self, message: Message) {
        todo!()
    }
}

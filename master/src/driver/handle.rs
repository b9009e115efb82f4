//! How the transport reaches the driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proffer_master_core::{Answer, ConnectionId, StreamId};
use proffer_proto::{link, v1};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::outbox::Outbox;

/// How many requests wait for the driver before their senders wait too.
pub(super) const QUEUE_LENGTH: usize = 4096;
/// How many of them are messages of one agent: however much it says, others are heard in between.
pub const WAITING_OF_ONE_AGENT: usize = 256;

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Answer>;

/// What the transport asks of the driver.
#[derive(Debug)]
pub enum Request {
    /// A scheduler's SUBSCRIBE.
    Subscribe {
        /// The stream's number.
        stream: StreamId,
        /// What the scheduler will call it.
        text: String,
        /// The call.
        call: Box<v1::scheduler::Call>,
        /// Where the events go.
        outbox: Outbox<v1::scheduler::Event>,
        /// The answer.
        reply: Reply,
    },
    /// Any other call of a scheduler.
    SchedulerCall {
        /// The stream that the caller named.
        stream: Option<String>,
        /// The call.
        call: Box<v1::scheduler::Call>,
        /// The answer.
        reply: Reply,
    },
    /// An operator's call.
    Operator {
        /// The call.
        call: Box<v1::master::Call>,
        /// The answer.
        reply: Reply,
    },
    /// The first message of an agent's stream.
    AgentRegister {
        /// The stream's number.
        connection: ConnectionId,
        /// The message.
        register: Box<link::Register>,
        /// Where the stream comes from.
        address: String,
        /// Where messages to the agent go.
        outbox: Outbox<link::MasterMessage>,
    },
    /// A later message of an agent's stream.
    AgentMessage {
        /// The stream's number.
        connection: ConnectionId,
        /// The message.
        message: Box<link::AgentMessage>,
        /// The message's place among those of its stream that wait; free again when this is dropped.
        place: OwnedSemaphorePermit,
    },
    /// Stop in order.
    Stop,
}

/// A stream that its peer ended.
#[derive(Debug, Clone, Copy)]
pub enum Ended {
    /// An agent's.
    Agent(ConnectionId),
    /// A scheduler's.
    Scheduler(StreamId),
}

/// The driver, for the transport.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    /// Not bounded, because a destructor cannot wait; there is one message for each stream.
    ended: mpsc::UnboundedSender<Ended>,
    leader: watch::Receiver<Option<String>>,
    numbers: Arc<AtomicU64>,
}

/// The driver has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the master is stopping")]
pub struct Stopped;

impl Handle {
    pub(super) fn new(
        requests: mpsc::Sender<Request>,
        ended: mpsc::UnboundedSender<Ended>,
        leader: watch::Receiver<Option<String>>,
    ) -> Self {
        Self {
            requests,
            ended,
            leader,
            numbers: Arc::default(),
        }
    }

    /// Hands a request over; waits while too many others wait.
    ///
    /// # Errors
    /// The driver has stopped.
    pub async fn send(&self, request: Request) -> Result<(), Stopped> {
        self.requests.send(request).await.map_err(|_| Stopped)
    }

    /// Tells that a stream ended.
    pub fn end(&self, ended: Ended) {
        // A driver that has stopped has no streams.
        let _ = self.ended.send(ended);
    }

    /// Where the leader is, `host:port`, as far as is known.
    pub fn leader(&self) -> Option<String> {
        self.leader.borrow().clone()
    }

    /// A number for an agent's stream.
    pub fn new_connection(&self) -> ConnectionId {
        ConnectionId(self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for a scheduler's stream.
    pub fn new_stream(&self) -> StreamId {
        StreamId(self.numbers.fetch_add(1, Ordering::Relaxed))
    }
}

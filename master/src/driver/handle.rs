//! How the transport reaches the driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proffer_master_core::{Answer, ConnectionId, StreamId};
use proffer_proto::{link, masters, raft, state, v1};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::answers::Ticket;
use crate::log::{Totals, Written};
use crate::outbox::Outbox;

/// How many requests wait for the driver before their senders wait too.
pub(super) const QUEUE_LENGTH: usize = 4096;
/// How many messages of other masters wait for the driver before more are dropped.
pub(super) const PEER_EVENTS_LENGTH: usize = 1024;
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
    /// Calls of a scheduler that came in one message.
    SchedulerCalls {
        /// The stream that the caller named.
        stream: Option<String>,
        /// The calls.
        calls: Vec<(Ticket, Box<v1::scheduler::Call>)>,
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
    /// A call about the frameworks' state.
    State {
        /// The call.
        call: Box<state::Call>,
        /// The answer.
        reply: Reply,
    },
    /// Calls about the frameworks' state that came in one message.
    StateCalls(Vec<(Ticket, state::Call)>),
    /// A watch of the frameworks' state.
    Watch {
        /// The stream's number.
        stream: StreamId,
        /// What is watched.
        watch: Box<state::Watch>,
        /// Where the events go.
        outbox: Outbox<state::Event>,
        /// The answer.
        reply: Reply,
    },
    /// An operator's call about the group of masters.
    Masters {
        /// The call.
        call: MastersCall,
        /// The answer: the group as it is then.
        reply: oneshot::Sender<Result<masters::MastersList, MastersError>>,
    },
    /// Another master says who it is.
    Introduce {
        /// Who.
        who: raft::Introduction,
        /// Who this one is.
        reply: oneshot::Sender<raft::Introduction>,
    },
    /// A new master wants to become a learner.
    Join {
        /// Who.
        newcomer: raft::Introduction,
        /// Whether it may.
        reply: oneshot::Sender<raft::JoinAnswer>,
    },
    /// Stop in order.
    Stop,
}

/// What an operator asks of the group of masters.
#[derive(Debug, Clone)]
pub enum MastersCall {
    /// Who is in the group, as far as this master knows.
    List,
    /// A learner shall vote.
    Add(masters::AddMaster),
    /// A member shall leave.
    Remove(masters::RemoveMaster),
    /// Another shall lead.
    Transfer(masters::TransferLeadership),
}

/// Why the group of masters is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MastersError {
    /// Only the leader changes the group; [`Handle::leader`] says where it is.
    #[error("this master does not lead")]
    NotLeader,
    /// The call is wrong; sent again it will be wrong again.
    #[error("{0}")]
    Wrong(String),
    /// The call is right, but cannot be granted as things are.
    #[error("{0}")]
    Refused(String),
    /// The change may take place or not; the list of masters tells.
    #[error("{0}")]
    Uncertain(String),
}

/// A stream that its peer ended.
#[derive(Debug, Clone, Copy)]
pub enum Ended {
    /// An agent's.
    Agent(ConnectionId),
    /// A scheduler's.
    Scheduler(StreamId),
    /// A watch of the frameworks' state.
    Watch(StreamId),
}

/// The driver, for the transport.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    /// Not bounded, because a destructor cannot wait; there is one message for each stream.
    ended: mpsc::UnboundedSender<Ended>,
    leader: watch::Receiver<Option<String>>,
    written: Arc<Written>,
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
        written: Arc<Written>,
    ) -> Self {
        Self {
            requests,
            ended,
            leader,
            written,
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

    /// Waits until the driver has stopped.
    pub async fn stopped(&self) {
        self.requests.closed().await;
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

    /// What the log has taken since this master was started.
    pub fn log(&self) -> Totals {
        self.written.totals()
    }

    /// A number for an agent's stream.
    pub fn new_connection(&self) -> ConnectionId {
        ConnectionId(self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for the stream of a scheduler or a watch.
    pub fn new_stream(&self) -> StreamId {
        StreamId(self.numbers.fetch_add(1, Ordering::Relaxed))
    }
}

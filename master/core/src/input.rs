//! Everything that can happen to a master.

use std::fmt;

use proffer_proto::v1::{master, scheduler};
use proffer_proto::{link, registry, state};

macro_rules! edge_id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    };
}

edge_id!(
    /// One link stream of an agent, numbered by the driver; never used twice.
    ConnectionId,
    "c"
);
edge_id!(
    /// One event stream of a scheduler, or one watch of the frameworks' state, numbered by the driver; never used twice.
    /// The driver keeps a scheduler's text for `mesos-stream-id`.
    StreamId,
    "s"
);
edge_id!(
    /// One call that waits for its answer, numbered by the driver; never used twice.
    RequestId,
    "r"
);
edge_id!(
    /// One proposed registry change, numbered by the core; never used twice by one core.
    ProposalId,
    "p"
);

edge_id!(
    /// One question to the group whether this master still leads, numbered by the core; never used twice by one core.
    ReadId,
    "g"
);

/// One thing that happened.
// Committed changes are few, and moved once.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum Input {
    /// A registry change is committed. `proposal` is set where this master proposed it in its present term.
    /// Applied by leaders and followers alike, in the order of the log. Members, levels and the frameworks' state may change
    /// without a proposal of the core; after any other change that it did not propose, a leader closes all streams and
    /// starts over from the registry.
    Committed {
        /// Its place in the log; must grow.
        index: u64,
        /// The proposal of this master that it answers.
        proposal: Option<ProposalId>,
        /// What changed.
        change: registry::Change,
    },
    /// A proposal will not be committed (the leadership was lost, or the log refused it).
    ProposalDropped {
        /// Which one.
        proposal: ProposalId,
    },
    /// This master leads, and has applied everything committed before its term.
    BecameLeader {
        /// Goes into every id made from now on; must never have been used before, by any master of the cluster. It
        /// may hold what a task id may hold.
        incarnation: String,
    },
    /// Another master leads, or none.
    LostLeadership,
    /// The first message of an agent's link stream.
    AgentRegister {
        /// The stream.
        connection: ConnectionId,
        /// What the agent says of itself.
        register: Box<link::Register>,
        /// Where the stream comes from, `ip:port`, for people.
        address: String,
    },
    /// Any later message of an agent's link stream.
    AgentMessage {
        /// The stream.
        connection: ConnectionId,
        /// The message.
        message: Box<link::AgentMessage>,
    },
    /// An agent's link stream ended. Not sent for a stream that `Effect::CloseAgent` closed; harmless if it is.
    AgentDisconnected {
        /// The stream.
        connection: ConnectionId,
    },
    /// A scheduler's SUBSCRIBE. Answered by `Answer::Accepted`, and only then by events on `stream`; after any other
    /// answer the stream was never opened.
    Subscribe {
        /// To be answered.
        request: RequestId,
        /// Where the events go.
        stream: StreamId,
        /// The call; its type is checked here.
        call: Box<scheduler::Call>,
    },
    /// Any other call of a scheduler.
    SchedulerCall {
        /// To be answered.
        request: RequestId,
        /// The stream that the call's `mesos-stream-id` names: none where the caller sent none or one that is not open.
        stream: Option<StreamId>,
        /// The call.
        call: Box<scheduler::Call>,
    },
    /// A scheduler's event stream ended. Not sent for a stream that `Effect::CloseStream` closed; harmless if it is.
    SchedulerDisconnected {
        /// The stream.
        stream: StreamId,
    },
    /// What `Effect::Continue` waited for has come.
    Continue {
        /// The stream.
        stream: StreamId,
    },
    /// An operator's call. SUBSCRIBE is answered with a rejection.
    Operator {
        /// To be answered.
        request: RequestId,
        /// The call.
        call: Box<master::Call>,
    },
    /// A call about the frameworks' state.
    State {
        /// To be answered.
        request: RequestId,
        /// The call.
        call: Box<state::Call>,
    },
    /// Someone wants to watch the frameworks' state. Answered by `Answer::Accepted`, and only then by events on `stream`; after
    /// any other answer the stream was never opened.
    Watch {
        /// To be answered.
        request: RequestId,
        /// Where the events go.
        stream: StreamId,
        /// What is watched.
        watch: Box<state::Watch>,
    },
    /// The stream of a watch ended. Not sent for a stream that `Effect::CloseStream` closed; harmless if it is.
    WatchEnded {
        /// The stream.
        stream: StreamId,
    },
    /// This master led after `Effect::Read` was carried out, and has applied everything that was committed before that.
    Readable {
        /// Which question is answered.
        read: ReadId,
    },
    /// It will not be known whether this master led.
    Unreadable {
        /// Which question has no answer.
        read: ReadId,
    },
    /// Time passed: the last `Effect::Wake` is due. A tick that comes early or unasked does no harm.
    Tick,
}

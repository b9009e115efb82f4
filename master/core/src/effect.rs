//! Everything that a master may ask its driver to do.

use proffer_proto::v1::{master, scheduler};
use proffer_proto::{link, registry, state};

use crate::Rejection;
use crate::input::{ConnectionId, ProposalId, ReadId, RequestId, StreamId};
use crate::time::Timestamp;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Put the change into the replicated log. Comes back as `Input::Committed` or `Input::ProposalDropped`.
    Propose {
        /// To be given back.
        id: ProposalId,
        /// What changes.
        change: Box<registry::Change>,
    },
    /// Send to an agent; nothing happens where the stream has ended.
    SendAgent {
        /// The stream.
        connection: ConnectionId,
        /// The message.
        message: Box<link::MasterMessage>,
    },
    /// Close an agent's stream after everything sent to it before.
    CloseAgent {
        /// The stream.
        connection: ConnectionId,
    },
    /// Send to a scheduler; nothing happens where the stream has ended.
    SendEvent {
        /// The stream.
        stream: StreamId,
        /// The event.
        event: Box<scheduler::Event>,
    },
    /// Ask the group whether this master still leads. Comes back as `Input::Readable` or `Input::Unreadable`; needs no answer
    /// where the leadership is lost.
    Read {
        /// To be given back.
        read: ReadId,
    },
    /// Send to a watch of the frameworks' state; nothing happens where the stream has ended.
    SendState {
        /// The stream.
        stream: StreamId,
        /// The event.
        event: Box<state::Event>,
    },
    /// Send `Input::Continue` when the reader of this scheduler's stream has taken most of what was sent on it; never where the
    /// stream has ended.
    Continue {
        /// The stream.
        stream: StreamId,
    },
    /// Close the stream of a scheduler or a watch after everything sent to it before.
    CloseStream {
        /// The stream.
        stream: StreamId,
    },
    /// Answer a call. Every `RequestId` is answered once, maybe in a later step.
    Answer {
        /// The call.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// Set the driver's one timer: send `Input::Tick` at this time. Replaces the time set before.
    Wake {
        /// When.
        at: Timestamp,
    },
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The call was accepted; there is nothing more to say. HTTP 202 (200 for SUBSCRIBE, UPDATE_FRAMEWORK and operator calls).
    Accepted,
    /// What an operator asked for. HTTP 200.
    Response(Box<master::Response>),
    /// What a call about the frameworks' state asked for, or what came of it.
    State(Box<state::Answer>),
    /// The call is wrong; sent again it will be wrong again. HTTP 400.
    Rejected(Rejection),
    /// The caller's subscription is over, or was never made: it must subscribe before it calls again. HTTP 403.
    NotSubscribed(String),
    /// The call is right, but cannot be granted as things are. gRPC FAILED_PRECONDITION.
    Refused(String),
    /// The call is right, but there is no room for what it brings. gRPC RESOURCE_EXHAUSTED.
    Exhausted(String),
    /// This master does not lead, or lost the leadership before it could answer. What the call wanted to change may
    /// have changed or not. HTTP 307 or 503.
    NotLeader,
}

/// The effects of a step, in the order in which they must be carried out. One buffer is reused for all steps.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
}

impl Effects {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the effects out, in order, and keeps the buffer.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect> {
        self.list.drain(..)
    }

    /// The effects so far.
    pub fn iter(&self) -> std::slice::Iter<'_, Effect> {
        self.list.iter()
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many effects there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    pub(crate) fn answer(&mut self, request: RequestId, answer: Answer) {
        self.push(Effect::Answer { request, answer });
    }

    pub(crate) fn send_event(&mut self, stream: StreamId, event: scheduler::Event) {
        let event = Box::new(event);
        self.push(Effect::SendEvent { stream, event });
    }

    pub(crate) fn send_state(&mut self, stream: StreamId, event: state::event::Body) {
        let event = Box::new(state::Event { body: Some(event) });
        self.push(Effect::SendState { stream, event });
    }

    pub(crate) fn send_agent(&mut self, connection: ConnectionId, body: link::master_message::Body) {
        let message = Box::new(link::MasterMessage { body: Some(body) });
        self.push(Effect::SendAgent { connection, message });
    }
}

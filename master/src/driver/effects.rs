//! What the core asks for is carried out.

use std::task::Waker;

use proffer_master_core::{Answer, ConnectionId, Effect, Input, ProposalId, RequestId, StreamId};
use proffer_proto::{link, state, v1};

use super::{Driver, Stream, Waiting, entry};
use crate::faults;
use crate::outbox::Gone;

/// About so many bytes are proposed together. What raft refuses together is dropped together.
const PROPOSED_BYTES: usize = 256 << 10;

impl Driver {
    /// Does what the core asks for.
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Propose { id, change } => self.proposals.push((id.0, entry::encode(&change))),
            Effect::SendAgent { connection, message } => self.send_agent(connection, message),
            Effect::CloseAgent { connection } => {
                self.agents.remove(&connection);
            }
            Effect::SendEvent { stream, event } => self.send_event(stream, event),
            Effect::Continue { stream } => self.go_on_when_read(stream),
            Effect::CloseStream { stream } => {
                self.forget_stream(stream);
            }
            Effect::SendState { stream, event } => self.send_state(stream, event),
            Effect::Read { read } => self.member.read(read.0),
            Effect::Answer { request, answer } => self.answer(request, answer),
            Effect::Wake { at } => self.wake = Some(at),
        }
    }

    /// Puts what the core proposed since the last time into the log, as much at once as raft takes well.
    pub(super) fn propose(&mut self) {
        let mut proposals = std::mem::take(&mut self.proposals).into_iter().peekable();
        while proposals.peek().is_some() {
            let mut bytes = 0;
            let together: Vec<_> = std::iter::from_fn(|| {
                let fits = |(_, data): &(u64, Vec<u8>)| bytes == 0 || bytes + data.len() <= PROPOSED_BYTES;
                let next = proposals.next_if(fits)?;
                bytes += next.1.len();
                Some(next)
            })
            .collect();
            let numbers: Vec<_> = together.iter().map(|(number, _)| *number).collect();
            if !self.member.propose_all(together) {
                let dropped = |number| Input::ProposalDropped {
                    proposal: ProposalId(number),
                };
                self.inputs.extend(numbers.into_iter().map(dropped));
            }
        }
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        let Some(waiting) = self.waiting.remove(&request) else {
            return;
        };
        faults::BEFORE_ANSWER.pass();
        let reply = match waiting {
            Waiting::AmongMany(ticket) => {
                self.bells.extend(ticket.answer(answer));
                return;
            }
            Waiting::Alone(reply) => reply,
            Waiting::ForStream(reply, stream) => {
                if answer == Answer::Accepted {
                    self.notice_early_end(stream);
                } else {
                    self.forget_stream(stream);
                }
                reply
            }
        };
        // A caller who did not wait does not need the answer.
        let _ = reply.send(answer);
    }

    /// The reader of what was sent is woken when the driver has nothing more to do, or has done much.
    fn wake_later(&mut self, sent: Result<Option<Waker>, Gone>) -> Result<(), Gone> {
        self.readers.extend(sent?);
        Ok(())
    }

    /// Wakes those for whom there is something to read.
    pub(super) fn wake_readers(&mut self) {
        for reader in self.readers.drain(..) {
            reader.wake();
        }
    }

    fn send_agent(&mut self, connection: ConnectionId, message: Box<link::MasterMessage>) {
        let Some(outbox) = self.agents.get(&connection) else {
            return;
        };
        let sent = outbox.send(message);
        if let Err(gone) = self.wake_later(sent) {
            if gone == Gone::TooSlow {
                tracing::warn!(%connection, "an agent reads its stream too slowly and is disconnected");
            }
            self.agents.remove(&connection);
            self.inputs.push_back(Input::AgentDisconnected { connection });
        }
    }

    fn send_event(&mut self, stream: StreamId, event: Box<v1::scheduler::Event>) {
        let Some(Stream::Scheduler(outbox, _)) = self.streams.get(&stream) else {
            return;
        };
        let sent = outbox.send(event);
        if let Err(gone) = self.wake_later(sent) {
            if gone == Gone::TooSlow {
                tracing::warn!(%stream, "a scheduler reads its stream too slowly and is disconnected");
            }
            self.forget_stream(stream);
            self.inputs.push_back(Input::SchedulerDisconnected { stream });
        }
    }

    fn send_state(&mut self, stream: StreamId, event: Box<state::Event>) {
        let Some(Stream::Watch(outbox)) = self.streams.get(&stream) else {
            return;
        };
        let sent = outbox.send(event);
        if let Err(gone) = self.wake_later(sent) {
            if gone == Gone::TooSlow {
                tracing::warn!(%stream, "a watch of the frameworks' state is read too slowly and is disconnected");
            }
            self.forget_stream(stream);
            self.inputs.push_back(Input::WatchEnded { stream });
        }
    }
}

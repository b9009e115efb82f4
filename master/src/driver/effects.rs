//! What the core asks for is carried out.

use proffer_master_core::{Answer, ConnectionId, Effect, Input, RequestId, StreamId};
use proffer_proto::{link, state, v1};

use super::{Driver, Stream, entry};
use crate::faults;
use crate::outbox::Gone;

impl Driver {
    /// Does what the core asks for.
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Propose { id, change } => {
                if !self.member.propose(id.0, entry::encode(&change)) {
                    self.inputs.push_back(Input::ProposalDropped { proposal: id });
                }
            }
            Effect::SendAgent { connection, message } => self.send_agent(connection, *message),
            Effect::CloseAgent { connection } => {
                self.agents.remove(&connection);
            }
            Effect::SendEvent { stream, event } => self.send_event(stream, *event),
            Effect::CloseStream { stream } => {
                self.forget_stream(stream);
            }
            Effect::SendState { stream, event } => self.send_state(stream, *event),
            Effect::Read { read } => self.member.read(read.0),
            Effect::Answer { request, answer } => self.answer(request, answer),
            Effect::Wake { at } => self.wake = Some(at),
        }
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        let Some(waiting) = self.waiting.remove(&request) else {
            return;
        };
        if let Some(stream) = waiting.stream {
            if answer == Answer::Accepted {
                self.notice_early_end(stream);
            } else {
                self.forget_stream(stream);
            }
        }
        faults::BEFORE_ANSWER.pass();
        // A caller who did not wait does not need the answer.
        let _ = waiting.reply.send(answer);
    }

    fn send_agent(&mut self, connection: ConnectionId, message: link::MasterMessage) {
        let Some(outbox) = self.agents.get(&connection) else {
            return;
        };
        if let Err(gone) = outbox.send(message) {
            if gone == Gone::TooSlow {
                tracing::warn!(%connection, "an agent reads its stream too slowly and is disconnected");
            }
            self.agents.remove(&connection);
            self.inputs.push_back(Input::AgentDisconnected { connection });
        }
    }

    fn send_event(&mut self, stream: StreamId, event: v1::scheduler::Event) {
        let Some(Stream::Scheduler(outbox, _)) = self.streams.get(&stream) else {
            return;
        };
        if let Err(gone) = outbox.send(event) {
            if gone == Gone::TooSlow {
                tracing::warn!(%stream, "a scheduler reads its stream too slowly and is disconnected");
            }
            self.forget_stream(stream);
            self.inputs.push_back(Input::SchedulerDisconnected { stream });
        }
    }

    fn send_state(&mut self, stream: StreamId, event: state::Event) {
        let Some(Stream::Watch(outbox)) = self.streams.get(&stream) else {
            return;
        };
        if let Err(gone) = outbox.send(event) {
            if gone == Gone::TooSlow {
                tracing::warn!(%stream, "a watch of the frameworks' state is read too slowly and is disconnected");
            }
            self.forget_stream(stream);
            self.inputs.push_back(Input::WatchEnded { stream });
        }
    }
}

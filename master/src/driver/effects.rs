//! Requests become inputs, and effects are carried out.

use proffer_master_core::{Answer, Effect, Input, RequestId, StreamId};
use proffer_proto::{link, v1};

use super::handle::Reply;
use super::{Driver, Request, Stream, Waiting, encode_entry};
use crate::outbox::Gone;
use proffer_master_core::ConnectionId;

impl Driver {
    /// Takes a request over; false if it is the last.
    pub(super) fn accept(&mut self, request: Request) -> bool {
        match request {
            Request::Subscribe {
                stream,
                text,
                call,
                outbox,
                reply,
            } => {
                let request = self.wait(reply, Some(stream));
                self.stream_ids.insert(text.clone(), stream);
                self.streams.insert(stream, Stream { outbox, text });
                self.inputs.push_back(Input::Subscribe { request, stream, call });
                self.notice_early_end(stream);
            }
            Request::SchedulerCall { stream, call, reply } => {
                let request = self.wait(reply, None);
                let stream = stream.and_then(|text| self.stream_ids.get(&text).copied());
                self.inputs.push_back(Input::SchedulerCall { request, stream, call });
            }
            Request::Operator { call, reply } => {
                let request = self.wait(reply, None);
                self.inputs.push_back(Input::Operator { request, call });
            }
            Request::AgentRegister {
                connection,
                register,
                address,
                outbox,
            } => {
                let has_left = outbox.reader_left();
                self.inputs.push_back(Input::AgentRegister {
                    connection,
                    register,
                    address,
                });
                // Its end may have been told before its beginning.
                if has_left {
                    self.inputs.push_back(Input::AgentDisconnected { connection });
                } else {
                    self.agents.insert(connection, outbox);
                }
            }
            Request::AgentMessage {
                connection, message, ..
            } => {
                if self.agents.contains_key(&connection) {
                    self.inputs.push_back(Input::AgentMessage { connection, message });
                }
            }
            Request::Stop => return false,
        }
        true
    }

    /// Does what the core asks for.
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Propose { id, change } => {
                if !self.replica.propose(id.0, encode_entry(&change)) {
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
            Effect::Answer { request, answer } => self.answer(request, answer),
            Effect::Wake { at } => self.wake = Some(at),
        }
    }

    fn wait(&mut self, reply: Reply, stream: Option<StreamId>) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.waiting.insert(request, Waiting { reply, stream });
        request
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
        // A caller who did not wait does not need the answer.
        let _ = waiting.reply.send(answer);
    }

    /// A stream whose end was told before the core knew of it is ended again.
    fn notice_early_end(&mut self, stream: StreamId) {
        let has_left = self
            .streams
            .get(&stream)
            .is_none_or(|stream| stream.outbox.reader_left());
        if has_left {
            self.forget_stream(stream);
            self.inputs.push_back(Input::SchedulerDisconnected { stream });
        }
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
        let Some(open) = self.streams.get(&stream) else {
            return;
        };
        if let Err(gone) = open.outbox.send(event) {
            if gone == Gone::TooSlow {
                tracing::warn!(%stream, "a scheduler reads its stream too slowly and is disconnected");
            }
            self.forget_stream(stream);
            self.inputs.push_back(Input::SchedulerDisconnected { stream });
        }
    }
}

//! Requests of the transport become inputs.

use proffer_master_core::{Input, RequestId, StreamId};

use super::{Driver, Ended, Request, Stream, Waiting};

impl Driver {
    /// Takes a request over. Where the master stops, the request is dropped, and its caller hears that.
    pub(super) fn accept(&mut self, request: Request) {
        if self.stopping.is_some() {
            return;
        }
        match request {
            Request::Subscribe {
                stream,
                text,
                call,
                outbox,
                reply,
            } => {
                let request = self.wait(Waiting::ForStream(reply, stream));
                self.stream_ids.insert(text.clone(), stream);
                self.streams.insert(stream, Stream::Scheduler(outbox, text));
                self.inputs.push_back(Input::Subscribe { request, stream, call });
                self.notice_early_end(stream);
            }
            Request::SchedulerCall { stream, call, reply } => {
                let request = self.wait(Waiting::Alone(reply));
                let stream = stream.and_then(|text| self.stream_ids.get(&text).copied());
                self.inputs.push_back(Input::SchedulerCall { request, stream, call });
            }
            Request::SchedulerCalls { stream, calls } => {
                let stream = stream.and_then(|text| self.stream_ids.get(&text).copied());
                for (ticket, call) in calls {
                    let request = self.wait(Waiting::AmongMany(ticket));
                    self.inputs.push_back(Input::SchedulerCall { request, stream, call });
                }
            }
            Request::Operator { call, reply } => {
                let request = self.wait(Waiting::Alone(reply));
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
            Request::State { call, reply } => {
                let request = self.wait(Waiting::Alone(reply));
                self.inputs.push_back(Input::State { request, call });
            }
            Request::StateCalls(calls) => {
                for (ticket, call) in calls {
                    let request = self.wait(Waiting::AmongMany(ticket));
                    let call = Box::new(call);
                    self.inputs.push_back(Input::State { request, call });
                }
            }
            Request::Watch {
                stream,
                watch,
                outbox,
                reply,
            } => {
                let request = self.wait(Waiting::ForStream(reply, stream));
                self.streams.insert(stream, Stream::Watch(outbox));
                self.inputs.push_back(Input::Watch { request, stream, watch });
                self.notice_early_end(stream);
            }
            Request::Masters { call, reply } => self.masters_call(call, reply),
            Request::Introduce { who, reply } => {
                // A master who did not wait does not need the answer.
                let _ = reply.send(self.introduced(who));
            }
            Request::Join { newcomer, reply } => self.join(newcomer, reply),
            Request::Stop => self.begin_to_stop(),
        }
    }

    /// The peer of a stream ended it.
    pub(super) fn ended(&mut self, end: Ended) {
        match end {
            Ended::Agent(connection) => {
                if self.agents.remove(&connection).is_some() {
                    self.inputs.push_back(Input::AgentDisconnected { connection });
                }
            }
            Ended::Scheduler(stream) => {
                if self.forget_stream(stream) {
                    self.inputs.push_back(Input::SchedulerDisconnected { stream });
                }
            }
            Ended::Watch(stream) => {
                if self.forget_stream(stream) {
                    self.inputs.push_back(Input::WatchEnded { stream });
                }
            }
        }
    }

    pub(super) fn forget_stream(&mut self, stream: StreamId) -> bool {
        let forgotten = self.streams.remove(&stream);
        if let Some(Stream::Scheduler(_, text)) = &forgotten {
            self.stream_ids.remove(text);
        }
        forgotten.is_some()
    }

    /// A stream whose end was told before the core knew of it is ended again.
    pub(super) fn notice_early_end(&mut self, stream: StreamId) {
        let (has_left, ended) = match self.streams.get(&stream) {
            Some(Stream::Scheduler(outbox, _)) => (outbox.reader_left(), Input::SchedulerDisconnected { stream }),
            Some(Stream::Watch(outbox)) => (outbox.reader_left(), Input::WatchEnded { stream }),
            None => return,
        };
        if has_left {
            self.forget_stream(stream);
            self.inputs.push_back(ended);
        }
    }

    fn wait(&mut self, waiting: Waiting) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.waiting.insert(request, waiting);
        request
    }
}

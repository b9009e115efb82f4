//! What happens between the world and the clients of the frameworks' state.
//!
//! A call that was not taken (nobody listens, or the master does not lead) is made again, and is still the same call. One that was
//! taken and has no answer in time may have had its effect or not: the client gives it up and makes others.

use proffer_master_core::{Answer, Input};
use proffer_proto::state;

use super::links::Knock;
use super::*;
use crate::sim::state_client::{Open, only_reads};

/// How long a client waits for an answer at most.
const PATIENCE_MAX_MS: u64 = 2_000;

impl World {
    fn moment(&mut self) -> u64 {
        self.next_moment += 1;
        self.next_moment
    }

    pub(super) fn state_next(&mut self, client: usize) {
        let target = self.clients[client].target;
        // The kernel of a machine whose master stands still takes a call all the same.
        let hangs = self.machines[target].paused.is_some() && self.knock(target) == Knock::Silence;
        if !hangs && let Some((next, delay)) = self.look_on(target) {
            self.clients[client].target = next;
            self.after(delay, Event::StateNext { client });
            return;
        }
        let attempt = self.moment();
        let (operation, call) = match &mut self.clients[client].open {
            Some(open) => {
                open.attempt = attempt;
                (open.operation, self.operations[open.operation].call.clone())
            }
            None => {
                let call = self.clients[client].next_call(&mut self.rng);
                self.operations.push(Operation {
                    client,
                    begun: attempt,
                    ended: None,
                    call: call.clone(),
                    answer: None,
                });
                (self.operations.len() - 1, call)
            }
        };
        self.clients[client].open = Some(Open { operation, attempt });
        let delay = self.delay();
        let call = Box::new(call);
        self.master_after(delay, target, ToMaster::State { client, attempt, call });
        let patience = self.rng.range(PATIENCE_MAX_MS / 8, PATIENCE_MAX_MS);
        self.after(patience, Event::StateGivenUp { client, attempt });
    }

    pub(super) fn state_arrives(&mut self, machine: usize, client: usize, attempt: u64, call: Box<state::Call>) {
        if !self.process(machine).leads() {
            let delay = self.delay();
            self.after(delay, Event::StateNotTaken { client, attempt });
            return;
        }
        let request = self.request();
        self.asking.insert(request, (client, attempt));
        self.detail(|| format!("master {machine} <- client {client} {:?}", call.body));
        self.process(machine).input(Input::State { request, call });
    }

    pub(super) fn state_answer(&mut self, client: usize, attempt: u64, answer: Answer) -> Step {
        let delay = self.delay();
        match answer {
            Answer::State(answer) => {
                // Some answers are lost on their way.
                if self.healed || !self.rng.one_in(20) {
                    self.after(
                        delay,
                        Event::StateAnswered {
                            client,
                            attempt,
                            answer,
                        },
                    );
                }
            }
            // What the call wanted may have happened or not. Of a read nothing can have.
            Answer::NotLeader => {
                let open = self.clients[client]
                    .open
                    .as_ref()
                    .filter(|open| open.attempt == attempt);
                let reads = open.is_some_and(|open| only_reads(&self.operations[open.operation].call));
                let event = if reads {
                    Event::StateNotTaken { client, attempt }
                } else {
                    Event::StateGivenUp { client, attempt }
                };
                self.after(delay, event);
            }
            Answer::Exhausted(_) if self.state_bytes_max.is_some() => {
                self.after(delay, Event::StateRefused { client, attempt });
            }
            other => {
                let what = format!("a sound call of client {client} is answered with {other:?}");
                return Err(Violation::new("state_linearizable", what));
            }
        }
        Ok(())
    }

    pub(super) fn state_answered(&mut self, client: usize, attempt: u64, answer: state::Answer) {
        let Some(operation) = self.close_call(client, attempt) else {
            return;
        };
        let moment = self.moment();
        let text = format!("{:?} of {:?}", answer.body, self.operations[operation].call.body);
        self.note(format_args!("client {client} hears {text}"));
        self.clients[client].learn(&self.operations[operation].call, &answer);
        let record = &mut self.operations[operation];
        record.ended = Some(moment);
        record.answer = Some(answer);
        self.report.state_calls += 1;
        self.next_call_later(client);
    }

    /// There was no room for what it wanted to write, which had no effect.
    pub(super) fn state_refused(&mut self, client: usize, attempt: u64) {
        let Some(operation) = self.close_call(client, attempt) else {
            return;
        };
        let moment = self.moment();
        self.note(format_args!("client {client} hears that there is no room"));
        self.operations[operation].ended = Some(moment);
        self.clients[client].answered += 1;
        self.report.state_refused += 1;
        self.next_call_later(client);
    }

    pub(super) fn state_not_taken(&mut self, client: usize, attempt: u64) {
        let open = self.clients[client].open.as_mut();
        if let Some(open) = open.filter(|open| open.attempt == attempt) {
            // Nothing that is said of this attempt counts any more.
            open.attempt = 0;
            let delay = self.rng.range(10, 100);
            self.after(delay, Event::StateNext { client });
        }
    }

    pub(super) fn state_given_up(&mut self, client: usize, attempt: u64) {
        if self.close_call(client, attempt).is_some() {
            self.note(format_args!("client {client} does not know what became of its call"));
            self.report.state_unknown += 1;
            self.next_call_later(client);
        }
    }

    fn close_call(&mut self, client: usize, attempt: u64) -> Option<usize> {
        let open = &mut self.clients[client].open;
        let is_this = open.as_ref().is_some_and(|open| open.attempt == attempt);
        is_this.then(|| open.take()).flatten().map(|open| open.operation)
    }

    fn next_call_later(&mut self, client: usize) {
        if !self.clients[client].is_done() {
            // Some look for the leader anew, others stay where they were answered, or were not.
            if self.rng.one_in(3) {
                self.clients[client].target = self.rng.index(self.machines.len());
            }
            let delay = if self.healed { 10 } else { self.rng.range(0, 800) };
            self.after(delay, Event::StateNext { client });
        }
    }
}

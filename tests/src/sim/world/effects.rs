//! What a master's core asks for is carried out: messages go on their way, answers to who waits.

use proffer_master_core::{Answer, ConnectionId, Effect, Input, RequestId, StreamId};
use proffer_proto::link::{MasterMessage, master_message};
use proffer_proto::v1::scheduler::Event as SchedulerEvent;

use super::links::LinkEnd;
use super::*;
use crate::sim::agent::AGENT_CPUS;

impl World {
    pub(super) fn effect(&mut self, machine: usize, effect: Effect) -> Step {
        match effect {
            Effect::SendAgent { connection, message } => self.send_agent(connection, message)?,
            Effect::CloseAgent { connection } => self.close(connection.0),
            Effect::SendEvent { stream, event } => self.send_event(machine, stream, event)?,
            Effect::CloseStream { stream } => {
                self.open_streams.remove(&stream);
                self.offers.stream_ended(stream);
                self.close(stream.0);
            }
            Effect::Continue { stream } => {
                let delay = self.rng.range(0, 20);
                let input = Box::new(Input::Continue { stream });
                self.master_after(delay, machine, ToMaster::Input { link: stream.0, input });
            }
            Effect::Answer { request, answer } => self.answer(request, answer)?,
            Effect::Wake { at } => {
                let host = &mut self.machines[machine];
                let at = host.true_time(at.0).max(self.now);
                host.wake = Some(at);
                let delay = at - self.now;
                self.master_after(delay, machine, ToMaster::Wake { at });
            }
            Effect::SendState { stream, event } => self.send_state(stream, event),
            Effect::Propose { .. } | Effect::Read { .. } => unreachable!("these stay inside the process"),
        }
        Ok(())
    }

    fn send_agent(&mut self, connection: ConnectionId, message: Box<MasterMessage>) -> Step {
        match &message.body {
            Some(master_message::Body::Registered(registered)) => self.durable.agent_told(&registered.agent_id)?,
            Some(master_message::Body::ShutdownFramework(shutdown)) => {
                self.durable.framework_shut_down(&shutdown.framework_id)?;
            }
            _ => {}
        }
        let Some((at, LinkEnd::Agent(agent))) = self.arrival(connection.0) else {
            return Ok(());
        };
        self.at(
            at,
            Event::ToAgent {
                agent,
                connection,
                message,
            },
        );
        Ok(())
    }

    fn send_event(&mut self, machine: usize, stream: StreamId, event: Box<SchedulerEvent>) -> Step {
        if let Some(subscribed) = &event.subscribed {
            self.durable.framework_told(&subscribed.framework_id)?;
        }
        for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
            self.offers.offered(machine, stream, offer, AGENT_CPUS)?;
        }
        if let Some(rescind) = &event.rescind {
            self.offers.ended(&rescind.offer_id);
        }
        let Some((at, LinkEnd::Framework(framework))) = self.arrival(stream.0) else {
            return Ok(());
        };
        self.at(
            at,
            Event::ToFramework {
                framework,
                stream,
                event,
            },
        );
        Ok(())
    }

    fn answer(&mut self, request: RequestId, answer: Answer) -> Step {
        if let Some((client, attempt)) = self.asking.remove(&request) {
            return self.state_answer(client, attempt, answer);
        }
        if let Some(stream) = self.watching.remove(&request) {
            if answer != Answer::Accepted {
                self.close(stream.0);
            }
            return Ok(());
        }
        if let Some((framework, stream)) = self.subscribing.remove(&request) {
            return self.subscription_answer(framework, stream, &answer);
        }
        Ok(())
    }
}

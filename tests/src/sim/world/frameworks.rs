//! What happens between the world and its model frameworks.

use proffer_master_core::{Answer, Input, RequestId, StreamId};
use proffer_proto::v1::TaskStatus;
use proffer_proto::v1::scheduler::{Call, Event as SchedulerEvent};
use proffer_proto::v1::task_status::Reason;

use super::links::{LinkEnd, Phase};
use super::*;
use crate::sim::brief::brief_event;
use crate::sim::framework::FrameworkAction;

impl World {
    pub(super) fn framework_connect(&mut self, framework: usize) {
        let model = &self.frameworks[framework];
        if !model.up || model.stream.is_some() {
            return;
        }
        let target = model.target;
        if let Some((next, delay)) = self.look_on(target) {
            self.frameworks[framework].target = next;
            self.after(delay, Event::FrameworkConnect { framework });
            return;
        }
        let stream = StreamId(self.open_link(LinkEnd::Framework(framework), target));
        let model = &mut self.frameworks[framework];
        model.stream = Some(stream);
        model.subscribed = false;
        let call = Box::new(model.subscribe());
        let request = self.request();
        self.subscribing.insert(request, (framework, stream));
        self.send_to_master(stream.0, Input::Subscribe { request, stream, call });
    }

    pub(super) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    pub(super) fn subscription_answer(&mut self, framework: usize, stream: StreamId, answer: &Answer) -> Step {
        match answer {
            Answer::Accepted => {
                self.open_streams.insert(stream);
            }
            Answer::Rejected(rejection) => {
                let model = &mut self.frameworks[framework];
                self.kept.refused(model.id.as_ref(), &rejection.to_string())?;
                // Its failover timeout ran out while it was away: it starts again as a new framework.
                model.id = None;
                model.tasks.clear();
                model.operations.open.clear();
                self.note(format_args!("framework {framework} is refused: {rejection}"));
                self.close(stream.0);
            }
            _ => self.close(stream.0),
        }
        Ok(())
    }

    pub(super) fn framework_notices(&mut self, framework: usize, stream: StreamId) {
        if self.frameworks[framework].stream == Some(stream) {
            self.note(format_args!("framework {framework} lost {stream}"));
            self.drop_stream(framework);
            let delay = self.rng.range(10, 500);
            self.after(delay, Event::FrameworkConnect { framework });
        }
    }

    pub(super) fn drop_stream(&mut self, framework: usize) {
        self.frameworks[framework].stream = None;
        self.frameworks[framework].subscribed = false;
    }

    pub(super) fn framework_start(&mut self, framework: usize) {
        self.note(format_args!("framework {framework} starts again"));
        self.frameworks[framework].up = true;
        self.framework_connect(framework);
    }

    pub(super) fn deliver_to_framework(&mut self, framework: usize, stream: StreamId, event: SchedulerEvent) -> Step {
        let model = &mut self.frameworks[framework];
        if !model.up || model.stream != Some(stream) {
            return Ok(());
        }
        if self.links.get(&stream.0).is_none_or(|link| link.phase == Phase::Broken) {
            return Ok(());
        }
        let mut actions = Vec::new();
        let text = brief_event(&event);
        model.handle(event, &mut self.rng, &mut actions);
        self.note(format_args!("framework {framework} <- {text}"));
        for action in actions {
            match action {
                FrameworkAction::Call(call) => self.send_call(framework, call),
                FrameworkAction::Asks(all) => all.iter().for_each(|asked| self.volumes.asked(asked)),
                FrameworkAction::Done(asked, agent) => self.volumes.finished(&asked, &agent, &self.agents)?,
                FrameworkAction::Saw(status) => self.saw(framework, &status)?,
                FrameworkAction::Resubscribe => {
                    self.break_link(stream.0);
                    self.framework_notices(framework, stream);
                }
                FrameworkAction::Removed => {
                    self.frameworks[framework].id = None;
                    self.frameworks[framework].tasks.clear();
                    self.frameworks[framework].operations.open.clear();
                    self.break_link(stream.0);
                    self.framework_notices(framework, stream);
                }
            }
        }
        Ok(())
    }

    fn saw(&mut self, framework: usize, status: &TaskStatus) -> Step {
        let Some(id) = self.frameworks[framework].id.clone() else {
            return Ok(());
        };
        if status.reason() == Reason::ContainerPreempted {
            self.report.preempted += 1;
        }
        let key = (id, status.task_id.clone());
        let runs = self.agents.iter().any(|agent| agent.runs(&key));
        self.no_task_lost.told(&key, status, runs)?;
        self.updates.saw(&key, status)
    }

    /// Calls go over connections of their own to the master that the stream comes from.
    fn send_call(&mut self, framework: usize, call: Box<Call>) {
        let Some(stream) = self.frameworks[framework].stream else {
            return;
        };
        if let (Some(kill), Some(id)) = (&call.kill, &call.framework_id) {
            self.no_task_lost.kill_asked((id.clone(), kill.task_id.clone()));
        }
        let Some(machine) = self.links.get(&stream.0).map(|link| link.machine) else {
            return;
        };
        let cut = self.machines[machine].cut_from_clients_until;
        let at = (self.now + self.delay()).max(self.call_free_at[framework]).max(cut);
        self.call_free_at[framework] = at;
        if !self.healed && self.rng.one_in(100) {
            return;
        }
        let delay = at - self.now;
        self.master_after(
            delay,
            machine,
            ToMaster::Call {
                framework,
                stream,
                call,
            },
        );
    }

    /// Only the master's end of the stream counts.
    pub(super) fn call_arrives(&mut self, machine: usize, framework: usize, stream: StreamId, call: Box<Call>) {
        let open = self.open_streams.contains(&stream).then_some(stream);
        if open.is_some() {
            let accepted = call.accept.iter().flat_map(|accept| &accept.offer_ids);
            let declined = call.decline.iter().flat_map(|decline| &decline.offer_ids);
            for id in accepted.chain(declined) {
                self.offers.ended(id);
            }
        }
        let request = self.request();
        self.note(format_args!(
            "master {machine} <- framework {framework} {:?}",
            call.r#type()
        ));
        let input = Input::SchedulerCall {
            request,
            stream: open,
            call,
        };
        self.process(machine).input(input);
    }

    pub(super) fn framework_timer(&mut self, framework: usize) {
        let delay = self.rng.range(500, 3_000);
        self.after(delay, Event::FrameworkTimer { framework });
        let model = &self.frameworks[framework];
        if !model.up || !model.subscribed {
            return;
        }
        let call = if self.healed || self.rng.one_in(2) {
            model.reconcile()
        } else {
            Some(model.whim(&mut self.rng))
        };
        if let Some(call) = self.frameworks[framework].reconcile_operations() {
            self.send_call(framework, Box::new(call));
        }
        if self.healed {
            let revive = self.frameworks[framework].revive();
            self.send_call(framework, Box::new(revive));
        }
        if let Some(call) = call {
            self.send_call(framework, Box::new(call));
        }
    }
}

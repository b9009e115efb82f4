//! What happens between the world and its model frameworks.

use proffer_master_core::{Input, RequestId, StreamId};
use proffer_proto::v1::TaskStatus;
use proffer_proto::v1::scheduler::{Call, Event as SchedulerEvent};

use super::brief::brief_event;
use super::{Event, LinkEnd, Step, World};
use crate::sim::framework::FrameworkAction;

impl World {
    pub(super) fn framework_connect(&mut self, framework: usize) -> Step {
        let model = &self.frameworks[framework];
        if !model.up || model.stream.is_some() {
            return Ok(());
        }
        if self.master.core.is_none() {
            let delay = self.rng.range(50, 500);
            self.after(delay, Event::FrameworkConnect { framework });
            return Ok(());
        }
        let call = Box::new(model.subscribe());
        let stream = StreamId(self.open_link(LinkEnd::Framework(framework)));
        self.frameworks[framework].stream = Some(stream);
        self.frameworks[framework].subscribed = false;
        let request = self.request();
        self.subscribing.insert(request, (framework, stream));
        self.send_to_master(stream.0, Input::Subscribe { request, stream, call });
        Ok(())
    }

    pub(super) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    pub(super) fn framework_notices(&mut self, framework: usize, stream: StreamId) {
        if self.frameworks[framework].stream == Some(stream) {
            self.note(format_args!("framework {framework} lost {stream}"));
            self.drop_stream(framework);
            let delay = self.rng.range(10, 1_000);
            self.after(delay, Event::FrameworkConnect { framework });
        }
    }

    pub(super) fn drop_stream(&mut self, framework: usize) {
        self.frameworks[framework].stream = None;
        self.frameworks[framework].subscribed = false;
    }

    pub(super) fn deliver_to_framework(&mut self, framework: usize, stream: StreamId, event: SchedulerEvent) -> Step {
        let model = &mut self.frameworks[framework];
        if !model.up || model.stream != Some(stream) {
            return Ok(());
        }
        if self.links.get(&stream.0).is_some_and(|link| link.broken) {
            return Ok(());
        }
        let mut actions = Vec::new();
        let text = brief_event(&event);
        model.handle(event, &mut self.rng, &mut actions);
        self.note(format_args!("framework {framework} <- {text}"));
        for action in actions {
            match action {
                FrameworkAction::Call(call) => self.send_call(framework, call),
                FrameworkAction::Saw(status) => self.saw(framework, &status)?,
                FrameworkAction::Resubscribe => {
                    self.break_link(stream.0);
                    self.framework_notices(framework, stream);
                }
                FrameworkAction::Removed => {
                    self.frameworks[framework].id = None;
                    self.frameworks[framework].tasks.clear();
                    self.break_link(stream.0);
                    self.framework_notices(framework, stream);
                }
            }
        }
        Ok(())
    }

    pub(super) fn saw(&mut self, framework: usize, status: &TaskStatus) -> Step {
        let Some(id) = self.frameworks[framework].id.clone() else {
            return Ok(());
        };
        self.updates.saw(&(id, status.task_id.clone()), status)
    }

    pub(super) fn send_call(&mut self, framework: usize, call: Box<Call>) {
        let Some(stream) = self.frameworks[framework].stream else {
            return;
        };
        let at = (self.now + self.delay()).max(self.call_free_at[framework]);
        self.call_free_at[framework] = at;
        self.at(
            at,
            Event::Call {
                framework,
                stream,
                call,
            },
        );
    }

    pub(super) fn call_arrives(&mut self, framework: usize, stream: StreamId, call: Box<Call>) -> Step {
        // Calls go over connections of their own: only the master's end of the stream counts.
        if self.master.core.is_none() || self.rng.one_in(if self.healed { u64::MAX } else { 100 }) {
            return Ok(());
        }
        let open = self.open_streams.contains(&stream).then_some(stream);
        if open.is_some() {
            let accepted = call.accept.iter().flat_map(|accept| &accept.offer_ids);
            let declined = call.decline.iter().flat_map(|decline| &decline.offer_ids);
            for id in accepted.chain(declined) {
                self.offers.ended(id);
            }
        }
        let request = self.request();
        self.note(format_args!("master <- framework {framework} {:?}", call.r#type()));
        let now = self.now;
        let effects = self.master.step(
            now,
            Input::SchedulerCall {
                request,
                stream: open,
                call,
            },
        );
        self.effects(effects)
    }

    pub(super) fn framework_timer(&mut self, framework: usize) -> Step {
        let delay = self.rng.range(500, 4_000);
        self.after(delay, Event::FrameworkTimer { framework });
        let model = &self.frameworks[framework];
        if !model.up || !model.subscribed {
            return Ok(());
        }
        let call = if self.healed || self.rng.one_in(2) {
            model.reconcile()
        } else {
            Some(model.whim(&mut self.rng))
        };
        if self.healed {
            let revive = self.frameworks[framework].revive();
            self.send_call(framework, Box::new(revive));
        }
        if let Some(call) = call {
            self.send_call(framework, Box::new(call));
        }
        Ok(())
    }
}

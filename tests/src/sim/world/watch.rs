//! What happens between the world and the watchers of the frameworks' state.

use proffer_master_core::{Input, StreamId};
use proffer_proto::state;

use super::links::{LinkEnd, Phase};
use super::*;
use crate::sim::checkers;
use crate::sim::state_client::NAMESPACE;

impl World {
    pub(super) fn watch_connect(&mut self, watcher: usize) {
        if self.watchers[watcher].stream.is_some() {
            return;
        }
        let target = self.watchers[watcher].target;
        if let Some((next, delay)) = self.look_on(target) {
            self.watchers[watcher].target = next;
            self.after(delay, Event::WatchConnect { watcher });
            return;
        }
        let stream = StreamId(self.open_link(LinkEnd::Watcher(watcher), target));
        let watch = Box::new(self.watchers[watcher].watch(stream));
        let request = self.request();
        self.watching.insert(request, stream);
        self.send_to_master(stream.0, Input::Watch { request, stream, watch });
    }

    pub(super) fn send_state(&mut self, stream: StreamId, event: Box<state::Event>) {
        if let Some((at, LinkEnd::Watcher(watcher))) = self.arrival(stream.0) {
            self.at(at, Event::ToWatcher { watcher, stream, event });
        }
    }

    pub(super) fn deliver_to_watcher(&mut self, watcher: usize, stream: StreamId, event: state::Event) {
        let holds = self
            .links
            .get(&stream.0)
            .is_some_and(|link| link.phase != Phase::Broken);
        if holds && self.watchers[watcher].stream == Some(stream) {
            self.detail(|| format!("watcher {watcher} <- {:?}", event.body));
            self.watchers[watcher].hear(event);
        }
    }

    pub(super) fn watch_notices(&mut self, watcher: usize, stream: StreamId) {
        if self.watchers[watcher].stream == Some(stream) {
            self.note(format_args!("watcher {watcher} lost {stream}"));
            self.watchers[watcher].stream = None;
            let delay = self.rng.range(10, 500);
            self.after(delay, Event::WatchConnect { watcher });
        }
    }

    /// Every watch saw all there was to see; those that are open have seen everything.
    pub(super) fn check_watches(&self) -> Step {
        for (index, watcher) in self.watchers.iter().enumerate() {
            let mut is_current = false;
            for seen in &watcher.seen {
                is_current = checkers::watches_complete(&self.log, NAMESPACE, seen)?;
            }
            if watcher.stream.is_none() || !is_current {
                let what = format!("watcher {index} has not seen everything");
                return Err(Violation::new("progress_after_heal", what));
            }
        }
        Ok(())
    }
}

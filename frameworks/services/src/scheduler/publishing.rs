//! The catalogue of what there is, and the alarm at which time alone changes something.

use std::time::Duration;

use proffer_proto::v1::{TaskState, TaskStatus};
use proffer_sdk::Context;

use super::{Message, Services};
use crate::catalogue::Catalogue;
use crate::plan::Millis;

/// So many launch latencies are kept.
const LATENCIES_MAX: usize = 1_024;

/// The shortest time between two catalogues, in milliseconds: thousands of updates make no thousands of catalogues.
const PUBLISH_INTERVAL_MS: Millis = 5;

impl Services {
    /// Publishes the catalogue, and sees to it that time wakes the plan.
    pub(super) fn settle(&mut self, context: &mut Context<Message>) {
        let now = self.clock.now();
        let publish_at = self.published_at + PUBLISH_INTERVAL_MS;
        let unpublished = now < publish_at;
        // What is going to be changed at once is no news.
        if !unpublished && self.deferred.is_empty() {
            self.published_at = now;
            self.publish(context);
        }
        let wake_at = self
            .plan
            .wake_at(self.stepped_at)
            .into_iter()
            .chain(unpublished.then_some(publish_at))
            .min();
        if let Some(wake_at) = wake_at {
            self.set_alarm(context, now, wake_at);
        }
    }

    pub(super) fn publish(&mut self, context: &mut Context<Message>) {
        self.counts.launch_us = self.latencies.iter().copied().collect();
        let framework_id = context.framework_id().map(|id| id.value.clone());
        let catalogue = Catalogue::of(&self.plan, framework_id, context.is_connected(), &self.counts);
        self.catalogue.send_if_modified(|current| {
            let changed = *current != catalogue;
            *current = catalogue;
            changed
        });
    }

    fn set_alarm(&mut self, context: &mut Context<Message>, now: Millis, wake_at: Millis) {
        if let Some((set_to, alarm)) = &self.alarm {
            if *set_to <= wake_at && *set_to > now {
                return;
            }
            alarm.abort();
        }
        let sender = context.sender();
        let wait = Duration::from_millis(wake_at.saturating_sub(now));
        let alarm = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = sender.send(Message::Wake);
        });
        self.alarm = Some((wake_at, alarm.abort_handle()));
    }

    pub(super) fn note_latency(&mut self, status: &TaskStatus) {
        let runs = status.state() == TaskState::TaskRunning;
        if runs && let Some(placed) = self.placed.remove(&status.task_id.value) {
            let latency_us = u64::try_from(placed.elapsed().as_micros()).unwrap_or(u64::MAX);
            if self.latencies.len() == LATENCIES_MAX {
                self.latencies.pop_front();
            }
            self.latencies.push_back(latency_us);
        }
    }
}

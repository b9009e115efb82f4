//! An instance that takes requests is ended only some time after it was taken out of discovery: whoever found it has left
//! it by then.
//!
//! A scheduler that dies meanwhile forgets nothing: the next one finds the same instance to end, and waits anew.

use std::time::Duration;

use proffer_sdk::Context;

use super::{Message, Services, kill};

impl Services {
    /// Ends a task after a time.
    pub(super) fn drain(&mut self, context: &mut Context<Message>, task_id: String, grace_ms: u64, drain_ms: u64) {
        tracing::info!(task_id, drain_ms, "instance drains");
        self.draining.insert(task_id.clone());
        let sender = context.sender();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(drain_ms)).await;
            let _ = sender.send(Message::Drained { task_id, grace_ms });
        });
    }

    /// The time is up; the task may have ended before.
    pub(super) fn drained(&mut self, context: &mut Context<Message>, task_id: &str, grace_ms: u64) {
        if self.draining.remove(task_id) {
            kill(context, &task_id.into(), grace_ms);
        }
    }
}

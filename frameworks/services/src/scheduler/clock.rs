//! The time that the plan is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::plan::Millis;

/// Milliseconds since the epoch that never go back within a process.
#[derive(Debug)]
pub(super) struct Clock {
    begun: Instant,
    begun_ms: Millis,
}

impl Clock {
    pub(super) fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            begun: Instant::now(),
            begun_ms: whole_millis(since_epoch),
        }
    }

    pub(super) fn now(&self) -> Millis {
        self.begun_ms + whole_millis(self.begun.elapsed())
    }
}

fn whole_millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

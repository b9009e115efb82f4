//! The driver's clock: the time of day at start, and from then on a clock that never jumps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proffer_master_core::Timestamp;

/// Unix time that only moves forward, at the pace of the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    /// Reads the time of day, once.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            started_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        let unix = self.started_unix + self.started.elapsed();
        Timestamp(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX))
    }

    /// How long it is until then; nothing where it has passed.
    pub fn until(&self, then: Timestamp) -> Duration {
        Duration::from_millis(then.0).saturating_sub(self.started_unix + self.started.elapsed())
    }
}

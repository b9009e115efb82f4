//! When raft's clock ticks.
//!
//! A leader's heartbeats hang on it, so it ticks in time however much there is to do: between two steps, not only when all that
//! waits is done. Ticks that were missed are left out: time that was lost in a pause must not look like a silent leader.

use std::time::Duration;

use tokio::time::Instant;

/// An election timeout is ten to twenty of these.
const PERIOD: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Ticks {
    next: Instant,
}

impl Ticks {
    pub(super) fn start() -> Self {
        Ticks { next: Instant::now() }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Takes the tick that is due, if one is.
    pub(super) fn take(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        self.next += PERIOD;
        if self.next <= now {
            self.next = now + PERIOD;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ticks_that_were_missed_are_left_out() {
        let mut ticks = Ticks::start();
        assert!(ticks.take() && !ticks.take());
        tokio::time::advance(PERIOD * 3 / 2).await;
        assert!(ticks.is_due() && ticks.take() && !ticks.take());
        tokio::time::advance(PERIOD / 2).await;
        assert!(ticks.take());
        tokio::time::advance(PERIOD * 10).await;
        assert!(ticks.take() && !ticks.take());
    }
}

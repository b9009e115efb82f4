//! Waits that grow from attempt to attempt.

use std::time::Duration;

/// Exponential back-off; each delay is drawn from the upper half of its step.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    growth: f64,
    step: Duration,
}

impl Backoff {
    /// Steps that double.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self::growing(min, max, 2.0)
    }

    pub(crate) fn growing(min: Duration, max: Duration, growth: f64) -> Self {
        Backoff {
            min,
            max,
            growth,
            step: min,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.step = self.min;
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        let half = self.step / 2;
        self.step = self.step.mul_f64(self.growth).min(self.max);
        half + half.mul_f64(random_fraction())
    }
}

/// Uniform in [0, 1).
fn random_fraction() -> f64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    (high >> 32) as f64 / (1u64 << 32) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_grows_to_its_maximum_and_is_jittered() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(300));
        for step in [50, 100, 200, 300, 300] {
            let delay = backoff.next_delay();
            assert!(
                delay >= Duration::from_millis(step / 2) && delay <= Duration::from_millis(step),
                "{delay:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(50));
    }
}

//! How long the restart of a failed instance waits, and when failures are a crash loop.

use crate::spec::Backoff;

use super::Millis;

/// So many failures in a row are a crash loop.
pub const CRASH_LOOP: u32 = 5;

/// How long to wait after the n-th failure in a row, with chance.
pub(super) fn wait(backoff: &Backoff, failures: u32, jitter: &mut Jitter) -> Millis {
    let growth = backoff
        .factor
        .powi(i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX));
    // Bounded before it is multiplied: nothing times infinity is no number.
    let wait = (backoff.initial_ms as f64 * growth.min(1e12)).min(backoff.max_ms as f64);
    jitter.upper_half(wait as Millis)
}

/// Repeatable chance: the generator splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A time between half of `wait` and all of it, so that instances that failed together do not come back together.
    fn upper_half(&mut self, wait: Millis) -> Millis {
        let half = wait / 2;
        wait - self.next() % (half + 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

//! Notices workers that live but do nothing: stopped, or cut off without a reset.
//!
//! A worker that has written totals once writes them at least every second. Where the files cannot be read nothing is
//! known, and nothing is concluded.

use std::time::{Duration, Instant};

use crate::output::Layout;

const CHECK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Stall {
    timeout: Duration,
    check_at: Instant,
    /// By worker: the last sign of life, and when it was seen first.
    seen: Vec<Option<(u64, Instant)>>,
}

impl Stall {
    pub(super) fn new(timeout: Duration) -> Stall {
        Stall {
            timeout,
            check_at: Instant::now(),
            seen: Vec::new(),
        }
    }

    /// Begins with a new attempt.
    pub(super) fn reset(&mut self, workers: usize) {
        self.seen = vec![None; workers];
    }

    /// The first worker that has stalled.
    pub(super) fn check(&mut self, layout: &Layout, attempt: u64) -> Option<usize> {
        let now = Instant::now();
        if now < self.check_at {
            return None;
        }
        self.check_at = now + CHECK_EVERY;
        let timeout = self.timeout;
        self.seen.iter_mut().enumerate().find_map(|(index, seen)| {
            let totals = layout.read_totals(attempt, index)?;
            let known = *seen.get_or_insert((totals.updated_ms, now));
            if known.0 != totals.updated_ms {
                *seen = Some((totals.updated_ms, now));
                return None;
            }
            (!totals.drained && now.duration_since(known.1) >= timeout).then_some(index)
        })
    }
}

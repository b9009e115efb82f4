//! How long to wait before the next attempt: longer from time to time, and never in step with other masters.

use std::time::Duration;

/// The waits of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Pause {
    first: Duration,
    last: Duration,
    next: Duration,
    random: u64,
}

impl Pause {
    /// Between `first` and `last`; each about half as long again as the one before. What differs between masters is the seed.
    pub(crate) fn new(first: Duration, last: Duration, seed: u64) -> Self {
        Self {
            first,
            last,
            next: first,
            random: seed ^ 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Begins with the shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next wait: between a half and the whole of what is due.
    pub(crate) fn next(&mut self) -> Duration {
        let due = self.next;
        self.next = (due * 3 / 2).min(self.last);
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = (mixed >> 40) as u32 & 0xffff;
        due / 2 + due / 2 * share / 0x1_0000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_begin_anew() {
        let (first, last) = (Duration::from_millis(50), Duration::from_secs(1));
        let mut pause = Pause::new(first, last, 7);
        let mut due = first;
        for _ in 0..20 {
            let wait = pause.next();
            assert!(due / 2 <= wait && wait <= due, "{wait:?} of {due:?}");
            due = (due * 3 / 2).min(last);
        }
        assert_eq!(due, last);
        pause.reset();
        assert!(pause.next() <= first);
        let (mut one, mut other) = (Pause::new(first, last, 1), Pause::new(first, last, 2));
        assert_ne!(one.next(), other.next());
    }
}

//! How far event time has come at one worker's sources.
//!
//! Each file promises that no line earlier than its newest line less the allowed lateness is still to come. The worker's
//! watermark is the least promise of its files, with three exceptions:
//! - A file that has been at its end for the idle time promises nothing and holds nothing back.
//! - When all files are idle, or there are none, the promise is the host's clock less idle time and lateness: access logs
//!   are stamped by a clock, so nothing older is expected.
//! - No promise is ahead of the host's clock, so that one wrong stamp does not make all others late.
//!
//! A watermark never goes back. What breaks a promise is late, and counted as such.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
struct Progress {
    newest_ms: Option<u64>,
    /// When the last line was read, or the file first seen, by the host's clock.
    active_ms: u64,
    at_end: bool,
}

/// The watermark over a set of files named by `K`. Holds no clock.
#[derive(Debug)]
pub struct Watermark<K> {
    lateness_ms: u64,
    idle_ms: u64,
    files: HashMap<K, Progress>,
    /// Since when there is no file, by the host's clock.
    started_ms: u64,
    current_ms: u64,
}

impl<K: Eq + Hash> Watermark<K> {
    /// Starts at zero. `now_ms` is the host's clock.
    pub fn new(lateness_ms: u64, idle_ms: u64, now_ms: u64) -> Self {
        Watermark {
            lateness_ms,
            idle_ms,
            files: HashMap::new(),
            started_ms: now_ms,
            current_ms: 0,
        }
    }

    /// A file is followed from now on. It holds the watermark until its first line, or until it is idle.
    pub fn opened(&mut self, file: K, now_ms: u64) {
        self.files.insert(
            file,
            Progress {
                newest_ms: None,
                active_ms: now_ms,
                at_end: false,
            },
        );
    }

    /// A file is followed no longer.
    pub fn closed(&mut self, file: &K) {
        self.files.remove(file);
    }

    /// A line with event time `ts_ms` was read.
    pub fn observe(&mut self, file: &K, ts_ms: u64, now_ms: u64) {
        if let Some(progress) = self.files.get_mut(file) {
            progress.newest_ms = progress.newest_ms.max(Some(ts_ms));
            progress.active_ms = now_ms;
        }
    }

    /// Says whether a file was read to its present end. One with bytes left to read is never idle.
    pub fn at_end(&mut self, file: &K, at_end: bool) {
        if let Some(progress) = self.files.get_mut(file) {
            progress.at_end = at_end;
        }
    }

    /// The watermark in milliseconds since the Unix epoch.
    pub fn advance(&mut self, now_ms: u64) -> u64 {
        let idle = |progress: &Progress| progress.at_end && now_ms.saturating_sub(progress.active_ms) >= self.idle_ms;
        let least = self
            .files
            .values()
            .filter(|progress| !idle(progress))
            .map(|progress| {
                progress
                    .newest_ms
                    .map_or(0, |newest| newest.min(now_ms).saturating_sub(self.lateness_ms))
            })
            .min();
        let promise = match least {
            Some(least) => least,
            None if now_ms.saturating_sub(self.started_ms) < self.idle_ms => 0,
            None => now_ms.saturating_sub(self.idle_ms + self.lateness_ms),
        };
        self.current_ms = self.current_ms.max(promise);
        self.current_ms
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::windows::{WindowRow, Windows};

    #[test]
    fn the_slowest_file_holds_the_watermark_until_it_is_idle() {
        let mut watermark = Watermark::new(100, 500, 10_000);
        assert_eq!(watermark.advance(10_000), 0);
        watermark.opened("a", 10_000);
        watermark.opened("b", 10_000);
        watermark.observe(&"a", 9_000, 10_000);
        assert_eq!(watermark.advance(10_000), 0, "b has no line yet");
        watermark.observe(&"b", 8_000, 10_000);
        assert_eq!(watermark.advance(10_000), 7_900);
        watermark.observe(&"a", 10_300, 10_400);
        watermark.at_end(&"b", true);
        assert_eq!(watermark.advance(10_400), 7_900, "b is quiet but not idle yet");
        assert_eq!(watermark.advance(10_600), 10_200);
        watermark.at_end(&"a", true);
        assert_eq!(watermark.advance(20_000), 19_400, "all idle: the clock");
        watermark.at_end(&"a", false);
        assert_eq!(watermark.advance(20_000), 19_400, "never back");
    }

    #[test]
    fn a_stamp_from_the_future_does_not_carry_the_watermark_there() {
        let mut watermark = Watermark::new(0, 500, 1_000);
        watermark.opened("a", 1_000);
        watermark.observe(&"a", 9_000_000, 1_000);
        assert_eq!(watermark.advance(1_001), 1_001);
    }

    /// One record: which file, its event time, its latency, and how long the reader pauses before it.
    type Record = (usize, u64, u64, u64);

    /// Runs records through watermark and windows. Returns rows and the number of late records.
    fn stream(records: &[Record], lateness_ms: u64, idle_ms: u64, size_ms: u64) -> (Vec<WindowRow>, u64) {
        let mut now = 1_000_000;
        let mut watermark = Watermark::new(lateness_ms, idle_ms, now);
        let mut windows = Windows::new(size_ms);
        let mut rows = Vec::new();
        for file in 0..3 {
            watermark.opened(file, now);
        }
        for &(file, ts, latency, pause) in records {
            now += pause;
            (0..3).for_each(|file| watermark.at_end(&file, true));
            windows.close(watermark.advance(now), &mut rows);
            watermark.at_end(&file, false);
            watermark.observe(&file, ts, now);
            let route = windows.route(["/a", "/b"][(latency % 2) as usize]);
            windows.add(route, ts, if latency % 5 == 0 { 500 } else { 200 }, latency);
        }
        windows.close(u64::MAX, &mut rows);
        (rows, windows.late())
    }

    /// The same by sorting everything: count and errors by window and route.
    fn batch(records: &[Record], size_ms: u64) -> BTreeMap<(u64, &'static str), (u64, u64, u64)> {
        let mut all = BTreeMap::new();
        for &(_, ts, latency, _) in records {
            let cell = all
                .entry((ts - ts % size_ms, ["/a", "/b"][(latency % 2) as usize]))
                .or_insert((0, 0, 0));
            *cell = (cell.0 + 1, cell.1 + u64::from(latency % 5 == 0), cell.2.max(latency));
        }
        all
    }

    fn records(pause: std::ops::Range<u64>) -> impl Strategy<Value = Vec<Record>> {
        proptest::collection::vec((0usize..3, 990_000u64..1_010_000, 0u64..100_000, pause), 0..200)
    }

    proptest! {
        #[test]
        fn with_room_for_lateness_the_stream_equals_the_batch(records in records(0..50), size in 1u64..5_000) {
            let (rows, late) = stream(&records, 50_000, 1_000_000, size);
            prop_assert_eq!(late, 0);
            let got: BTreeMap<_, _> =
                rows.iter().map(|r| ((r.window_start_ms, r.route.as_str()), (r.count, r.errors, r.max_us))).collect();
            prop_assert_eq!(got.len(), rows.len(), "a window was given out twice");
            prop_assert_eq!(got, batch(&records, size));
        }

        #[test]
        fn whatever_is_late_or_idle_nothing_is_lost_or_given_out_twice(
            records in records(0..2_000), lateness in 0u64..3_000, idle in 0u64..1_500, size in 1u64..5_000,
        ) {
            let (rows, late) = stream(&records, lateness, idle, size);
            let mut seen = std::collections::BTreeSet::new();
            for row in &rows {
                prop_assert!(seen.insert((row.window_start_ms, row.route.clone())));
            }
            let counted: u64 = rows.iter().map(|row| row.count).sum();
            prop_assert_eq!(counted + late, records.len() as u64);
        }
    }
}

//! Tumbling event-time windows by route.
//!
//! A window `[start, start + size)` is open until the watermark reaches its end; then its rows are given out, once. A record
//! for a window that was given out already is *late*: it stays in the totals and is counted as late, so that
//! `records = sum of the rows' counts + late` once all windows are closed.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// How many routes one worker tells apart. All further ones are counted together as [`OTHER_ROUTES`].
pub const ROUTES_MAX: usize = 4096;

/// The name under which routes beyond [`ROUTES_MAX`] are counted.
pub const OTHER_ROUTES: &str = "(other)";

/// A route as this worker numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(u32);

/// What is known of one route in one closed window. Also a line of `windows-<index>.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRow {
    /// The first millisecond of the window, since the Unix epoch.
    pub window_start_ms: u64,
    /// The first millisecond after it.
    pub window_end_ms: u64,
    /// The route.
    pub route: String,
    /// Requests served in the window.
    pub count: u64,
    /// Those of them with a status of 500 or more.
    pub errors: u64,
    /// The median latency in microseconds; all percentiles are at most 1/64 too high.
    pub p50_us: u64,
    /// The 90th percentile of the latency in microseconds.
    pub p90_us: u64,
    /// The 99th percentile of the latency in microseconds.
    pub p99_us: u64,
    /// The largest latency in microseconds, exactly.
    pub max_us: u64,
}

#[derive(Debug, Default)]
struct Cell {
    errors: u64,
    latency: Histogram,
}

/// The windows of one worker. Holds no clock: time comes in with records and watermarks.
#[derive(Debug)]
pub struct Windows {
    size_ms: u64,
    /// Every window that ends at or before this has been given out.
    closed_until_ms: u64,
    open: BTreeMap<u64, HashMap<RouteId, Cell>>,
    numbers: HashMap<String, RouteId>,
    routes: Vec<(String, u64)>,
    records: u64,
    late: u64,
}

impl Windows {
    /// Creates windows of `size_ms` milliseconds, at least one.
    pub fn new(size_ms: u64) -> Self {
        assert!(size_ms > 0, "a window has a size");
        Windows {
            size_ms,
            closed_until_ms: 0,
            open: BTreeMap::new(),
            numbers: HashMap::new(),
            routes: Vec::new(),
            records: 0,
            late: 0,
        }
    }

    /// The number of a route, given at its first appearance.
    pub fn route(&mut self, name: &str) -> RouteId {
        if let Some(&route) = self.numbers.get(name) {
            return route;
        }
        if self.routes.len() >= ROUTES_MAX && name != OTHER_ROUTES {
            return self.route(OTHER_ROUTES);
        }
        let route = RouteId(self.routes.len() as u32);
        self.routes.push((name.to_owned(), 0));
        self.numbers.insert(name.to_owned(), route);
        route
    }

    /// Counts one request.
    pub fn add(&mut self, route: RouteId, ts_ms: u64, status: u16, latency_us: u64) {
        self.records += 1;
        self.routes[route.0 as usize].1 += 1;
        let start = ts_ms - ts_ms % self.size_ms;
        if start.saturating_add(self.size_ms) <= self.closed_until_ms {
            self.late += 1;
            return;
        }
        let cell = self.open.entry(start).or_default().entry(route).or_default();
        cell.errors += u64::from(status >= 500);
        cell.latency.record(latency_us);
    }

    /// Closes all windows that end at or before `watermark_ms` and appends their rows, ordered by time and route. A
    /// watermark below an earlier one does nothing.
    pub fn close(&mut self, watermark_ms: u64, rows: &mut Vec<WindowRow>) {
        self.closed_until_ms = self.closed_until_ms.max(watermark_ms);
        while let Some(entry) = self.open.first_entry() {
            let start = *entry.key();
            let end = start.saturating_add(self.size_ms);
            if end > self.closed_until_ms {
                break;
            }
            let from = rows.len();
            for (route, cell) in entry.remove() {
                rows.push(WindowRow {
                    window_start_ms: start,
                    window_end_ms: end,
                    route: self.routes[route.0 as usize].0.clone(),
                    count: cell.latency.total(),
                    errors: cell.errors,
                    p50_us: cell.latency.quantile(0.50),
                    p90_us: cell.latency.quantile(0.90),
                    p99_us: cell.latency.quantile(0.99),
                    max_us: cell.latency.max(),
                });
            }
            rows[from..].sort_unstable_by(|left, right| left.route.cmp(&right.route));
        }
    }

    /// Requests counted, late ones included.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Requests whose window was closed before they came.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Requests by route, late ones included.
    pub fn per_route(&self) -> BTreeMap<String, u64> {
        self.routes.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(windows: &mut Windows, watermark_ms: u64) -> Vec<(u64, String, u64)> {
        let mut rows = Vec::new();
        windows.close(watermark_ms, &mut rows);
        rows.into_iter()
            .map(|row| (row.window_start_ms, row.route, row.count))
            .collect()
    }

    #[test]
    fn a_window_is_given_out_once_and_what_comes_later_is_late() {
        let mut windows = Windows::new(1_000);
        let (a, b) = (windows.route("/a"), windows.route("/b"));
        windows.add(b, 1_999, 200, 5);
        windows.add(a, 1_000, 500, 7);
        windows.add(a, 2_000, 200, 9);
        assert_eq!(rows(&mut windows, 1_999), []);
        assert_eq!(
            rows(&mut windows, 2_000),
            [(1_000, "/a".into(), 1), (1_000, "/b".into(), 1)]
        );
        windows.add(a, 1_500, 200, 1);
        assert_eq!(rows(&mut windows, 500), []);
        assert_eq!(rows(&mut windows, u64::MAX), [(2_000, "/a".into(), 1)]);
        assert_eq!((windows.records(), windows.late()), (4, 1));
        assert_eq!(
            windows.per_route(),
            BTreeMap::from([("/a".into(), 3), ("/b".into(), 1)])
        );
    }

    #[test]
    fn routes_without_end_are_counted_together() {
        let mut windows = Windows::new(1_000);
        for n in 0..ROUTES_MAX as u64 + 10 {
            let route = windows.route(&format!("/{n}"));
            windows.add(route, n, 200, 1);
        }
        assert_eq!(windows.per_route().len(), ROUTES_MAX + 1);
        assert_eq!(windows.per_route()[OTHER_ROUTES], 10);
    }

    #[test]
    fn the_end_of_time_is_a_window_too() {
        let mut windows = Windows::new(1_000);
        let route = windows.route("/");
        windows.add(route, u64::MAX, 200, u64::MAX);
        assert_eq!(rows(&mut windows, u64::MAX).len(), 1);
    }
}

//! What a load did, and how that compares with what the servers logged.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told apart from longer ones, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;

/// What a load did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Beginning of every request id of the load.
    pub prefix: String,
    /// Requests with a whole response.
    pub answered: u64,
    /// Answered requests by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answered requests by the pattern of their route.
    pub routes: BTreeMap<&'static str, u64>,
    /// Ids of the requests of which nobody knows whether a server saw them.
    pub ambiguous: Vec<String>,
    /// How long the load took.
    pub elapsed: Duration,
    numbers: Vec<u64>,
    latencies_us: Histogram<u64>,
}

/// The answered requests of a load beside the ids in the servers' logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Lines of this load in the logs.
    pub logged: u64,
    /// Ambiguous requests that a server did log.
    pub ambiguous_logged: u64,
    /// Ids that were answered and are in no log: lost lines.
    pub missing: Vec<String>,
    /// Ids that are logged more than once.
    pub repeated: Vec<String>,
    /// Ids with the load's prefix that it never sent.
    pub unknown: Vec<String>,
}

impl Comparison {
    /// Whether every answered request is logged once, and nothing else but ambiguous ones is.
    pub fn equal(&self) -> bool {
        self.missing.is_empty() && self.repeated.is_empty() && self.unknown.is_empty()
    }
}

impl Report {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            answered: 0,
            statuses: BTreeMap::new(),
            routes: BTreeMap::new(),
            ambiguous: Vec::new(),
            elapsed: Duration::ZERO,
            numbers: Vec::new(),
            latencies_us: Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are valid"),
        }
    }

    pub(super) fn answered(&mut self, number: u64, route: &'static str, status: u16, latency: Duration) {
        self.answered += 1;
        self.numbers.push(number);
        *self.statuses.entry(status).or_default() += 1;
        *self.routes.entry(route).or_default() += 1;
        self.latencies_us
            .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn merge(&mut self, part: Self) {
        self.answered += part.answered;
        self.ambiguous.extend(part.ambiguous);
        self.numbers.extend(part.numbers);
        for (status, count) in part.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (route, count) in part.routes {
            *self.routes.entry(route).or_default() += count;
        }
        self.latencies_us
            .add(part.latencies_us)
            .expect("all parts have the same bounds");
    }

    /// The latency, in microseconds, that `quantile` (0 to 1) of the answered requests did not exceed.
    pub fn latency_us(&self, quantile: f64) -> u64 {
        self.latencies_us.value_at_quantile(quantile)
    }

    /// Ids of the requests with a whole response.
    pub fn answered_ids(&self) -> impl Iterator<Item = String> {
        self.numbers.iter().map(|number| format!("{}-{number}", self.prefix))
    }

    /// Compares with the ids that the servers logged. Ids of other loads are passed over.
    pub fn compare<'a>(&self, logged: impl IntoIterator<Item = &'a str>) -> Comparison {
        let mut comparison = Comparison::default();
        let answered: HashSet<String> = self.answered_ids().collect();
        let ambiguous: HashSet<&str> = self.ambiguous.iter().map(String::as_str).collect();
        let mut seen = HashSet::new();
        for id in logged {
            if id
                .strip_prefix(self.prefix.as_str())
                .is_none_or(|rest| !rest.starts_with('-'))
            {
                continue;
            }
            comparison.logged += 1;
            if !seen.insert(id) {
                comparison.repeated.push(id.to_owned());
            } else if ambiguous.contains(id) {
                comparison.ambiguous_logged += 1;
            } else if !answered.contains(id) {
                comparison.unknown.push(id.to_owned());
            }
        }
        comparison.missing = answered.into_iter().filter(|id| !seen.contains(id.as_str())).collect();
        comparison.missing.sort();
        comparison
    }
}

//! A bounded HTTP load driver over keep-alive connections and a changing set of endpoints.
//!
//! Every request carries an `x-request-id` of its own, `<prefix>-<number>`. A request ends in one of two ways:
//! *answered*, when its whole response arrived, or *ambiguous*, when the connection died after the request had been
//! handed to it: the server may or may not have seen it. [`Report::compare`] settles the ambiguous ones against the ids
//! found in the servers' access logs, so that counts can be compared for equality even when servers are killed.

mod connection;
mod mix;
mod report;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use mix::{Target, default_mix};
pub use report::{Comparison, Report};

use connection::{Connections, Outcome};

/// How long a driver waits before it looks again when there is no endpoint or none lets it connect.
const RETRY: Duration = Duration::from_millis(10);

/// When a load ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After exactly this many answered requests. Ambiguous ones are replaced by new ones.
    Answered(u64),
    /// After this long.
    Elapsed(Duration),
}

/// What to drive, and how hard.
#[derive(Clone, Debug)]
pub struct Config {
    /// Requests in flight at a time; each one has a connection to every endpoint at most.
    pub concurrency: usize,
    /// When the load ends by itself.
    pub limit: Limit,
    /// Requests a second over all connections; as fast as answers come where absent.
    pub rate: Option<f64>,
    /// Beginning of every request id. Unique per load, or comparison with logs means nothing.
    pub prefix: String,
    /// How long a response may take before its request is ambiguous.
    pub timeout: Duration,
    /// What is asked for, in turn.
    pub mix: Vec<Target>,
    /// Ends the load when no request was answered for this long.
    pub give_up_after: Duration,
}

impl Config {
    /// A load of `answered` requests of the default mix over eight connections.
    pub fn requests(answered: u64, prefix: impl Into<String>) -> Self {
        Self {
            concurrency: 8,
            limit: Limit::Answered(answered),
            rate: None,
            prefix: prefix.into(),
            timeout: Duration::from_secs(10),
            mix: default_mix(),
            give_up_after: Duration::from_secs(30),
        }
    }
}

/// Counts of a load under way, for progress displays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Requests handed to a connection.
    pub sent: u64,
    /// Requests with a whole response.
    pub answered: u64,
    /// Requests of which nobody knows whether a server saw them.
    pub ambiguous: u64,
}

/// A load under way. Dropping it ends it.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    drivers: JoinSet<Report>,
}

impl Load {
    /// Begins to drive requests at `endpoints`, each `host:port`; the set may change and be empty for a while.
    pub fn start(config: Config, endpoints: watch::Receiver<Vec<String>>) -> Self {
        let begun = Instant::now();
        let shared = Arc::new(Shared::new(config, begun));
        let mut drivers = JoinSet::new();
        for driver in 0..shared.config.concurrency.max(1) {
            drivers.spawn(drive(shared.clone(), Connections::new(endpoints.clone(), driver)));
        }
        Self { shared, drivers }
    }

    /// The counts so far.
    pub fn progress(&self) -> Progress {
        Progress {
            sent: self.shared.sent.load(Relaxed),
            answered: self.shared.answered.load(Relaxed),
            ambiguous: self.shared.ambiguous.load(Relaxed),
        }
    }

    /// Lets requests in flight end and begins no new ones.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Relaxed);
    }

    /// Waits for the end of the load.
    pub async fn finish(mut self) -> Report {
        let mut report = Report::new(self.shared.config.prefix.clone());
        while let Some(part) = self.drivers.join_next().await {
            match part {
                Ok(part) => report.merge(part),
                Err(error) => tracing::error!(%error, "load driver failed"),
            }
        }
        report.elapsed = self.shared.begun.elapsed();
        report
    }
}

/// Drives one load from beginning to end.
pub fn run(config: Config, endpoints: watch::Receiver<Vec<String>>) -> impl Future<Output = Report> {
    Load::start(config, endpoints).finish()
}

/// What the drivers of one load share.
#[derive(Debug)]
struct Shared {
    config: Config,
    begun: Instant,
    /// Requests that may still be begun, where the limit is a number.
    budget: AtomicU64,
    /// The number of the next request, and with a rate its time.
    next: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    ambiguous: AtomicU64,
    answered_at_ms: AtomicU64,
    stopped: AtomicBool,
}

impl Shared {
    fn new(config: Config, begun: Instant) -> Self {
        let budget = match config.limit {
            Limit::Answered(answered) => answered,
            Limit::Elapsed(_) => u64::MAX,
        };
        Self {
            config,
            begun,
            budget: AtomicU64::new(budget),
            next: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            ambiguous: AtomicU64::new(0),
            answered_at_ms: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn over(&self) -> bool {
        let elapsed = matches!(self.config.limit, Limit::Elapsed(limit) if self.begun.elapsed() >= limit);
        let give_up_ms = u64::try_from(self.config.give_up_after.as_millis()).unwrap_or(u64::MAX);
        let silent_ms = self.elapsed_ms().saturating_sub(self.answered_at_ms.load(Relaxed));
        elapsed || self.stopped.load(Relaxed) || silent_ms >= give_up_ms
    }

    /// Takes the right to begin one request.
    fn take(&self) -> bool {
        self.budget
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    fn give_back(&self) {
        self.budget.fetch_add(1, Relaxed);
    }

    async fn pace(&self, number: u64) {
        if let Some(rate) = self.config.rate.filter(|rate| rate.is_finite() && *rate > 0.0) {
            let due = Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX);
            let Some(due) = self.begun.checked_add(due) else { return };
            tokio::time::sleep_until(due).await;
        }
    }
}

async fn drive(shared: Arc<Shared>, mut connections: Connections) -> Report {
    let mut report = Report::new(shared.config.prefix.clone());
    while !shared.over() && shared.take() {
        let number = shared.next.fetch_add(1, Relaxed);
        shared.pace(number).await;
        if !request(&shared, &mut connections, number, &mut report).await {
            // Others may have left when the budget was empty; this driver stays and takes what it gives back.
            shared.give_back();
        }
    }
    report
}

/// Sends one request, to one endpoint after the other until one takes it. Tells whether it was answered.
async fn request(shared: &Shared, connections: &mut Connections, number: u64, report: &mut Report) -> bool {
    let Some(target) = usize::try_from(number)
        .ok()
        .and_then(|n| shared.config.mix.get(n % shared.config.mix.len().max(1)))
    else {
        shared.stopped.store(true, Relaxed);
        return false;
    };
    let id = format!("{}-{number}", shared.config.prefix);
    while !shared.over() {
        let begun = Instant::now();
        match connections.send(target, number, &id, shared.config.timeout).await {
            Outcome::NotSent => tokio::time::sleep(RETRY).await,
            Outcome::Ambiguous => {
                shared.sent.fetch_add(1, Relaxed);
                shared.ambiguous.fetch_add(1, Relaxed);
                report.ambiguous.push(id);
                return false;
            }
            Outcome::Answered(status) => {
                shared.sent.fetch_add(1, Relaxed);
                shared.answered.fetch_add(1, Relaxed);
                shared.answered_at_ms.fetch_max(shared.elapsed_ms(), Relaxed);
                report.answered(number, target.route, status, begun.elapsed());
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests;

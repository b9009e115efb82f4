//! Many agents, and the books over what they did.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use proffer_proto::resources::Resources;
use proffer_proto::v1::{AgentInfo, TaskState};
use proffer_sdk::Masters;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::agent::Agent;
use super::freed::{self, Freed};
use super::link::{self, Lines};

/// What a fleet consists of.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Where the agents look for the leader.
    pub masters: Masters,
    /// How many there are.
    pub agents: usize,
    /// So many of them share a connection.
    pub agents_per_connection: usize,
    /// What each of them has, as the agent's `--resources` takes it.
    pub cpus: f64,
    /// MiB.
    pub mem_mib: f64,
    /// MiB; none where there is none to be offered.
    pub disk_mib: f64,
    /// Whether every task and update is remembered, so that it can be told what was lost.
    pub remembers: bool,
    /// Over how long they come, one after the other; all at once where it is nothing.
    pub coming: Duration,
    /// Where the agents note when what tasks held became free.
    pub freed: Arc<Freed>,
}

impl FleetOptions {
    /// So many agents with eight processors and 16 GiB each, a hundred on a connection.
    pub fn new(masters: Masters, agents: usize) -> Self {
        FleetOptions {
            masters,
            agents,
            agents_per_connection: 100,
            cpus: 8.0,
            mem_mib: 16_384.0,
            disk_mib: 100_000.0,
            remembers: true,
            coming: Duration::ZERO,
            freed: Arc::new(Freed::of(agents)),
        }
    }
}

/// Running agents; they are gone when it is dropped, as if their machines had lost power.
#[derive(Debug)]
pub struct Fleet {
    agents: usize,
    ledger: Arc<Ledger>,
    _running: JoinSet<()>,
}

/// What the agents of a fleet did, all together.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    attached: AtomicUsize,
    /// Counts the calls of [`Fleet::begin_round`]; 0 before the first.
    round: AtomicU64,
    /// Agents that registered within this round.
    back: AtomicUsize,
    changed: Notify,
    made: AtomicU64,
    unacknowledged: AtomicI64,
    pub(super) freed: Arc<Freed>,
    forgets: bool,
    /// The newest state of every task that ever was.
    tasks: Mutex<BTreeMap<String, TaskState>>,
    /// Every update that was made.
    updates: Mutex<Vec<[u8; 16]>>,
}

impl Ledger {
    pub(super) fn made(&self, task: &str, state: TaskState, uuid: [u8; 16]) {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.unacknowledged.fetch_add(1, Ordering::Relaxed);
        if self.forgets {
            return;
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.insert(task.to_owned(), state);
        self.updates.lock().unwrap_or_else(PoisonError::into_inner).push(uuid);
    }

    pub(super) fn acknowledged(&self) {
        self.unacknowledged.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    #[cfg(test)]
    pub(super) fn unacknowledged(&self) -> i64 {
        self.unacknowledged.load(Ordering::Relaxed)
    }

    /// An agent registered; it did so in round `last` before. Returns the present round.
    pub(super) fn attached(&self, last: Option<u64>) -> Option<u64> {
        let round = self.round.load(Ordering::Acquire);
        self.attached.fetch_add(1, Ordering::AcqRel);
        if last != Some(round) {
            self.back.fetch_add(1, Ordering::AcqRel);
        }
        self.changed.notify_waiters();
        Some(round)
    }

    pub(super) fn detached(&self) {
        self.attached.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }
}

impl Fleet {
    /// Starts the agents; they register by themselves.
    ///
    /// # Errors
    /// The resources make no sense.
    pub fn start(options: &FleetOptions) -> anyhow::Result<Self> {
        let mut resources = format!("cpus:{};mem:{}", options.cpus, options.mem_mib);
        if options.disk_mib > 0.0 {
            resources += &format!(";disk:{}", options.disk_mib);
        }
        let resources = Resources::parse(&resources).map_err(|rejection| anyhow::anyhow!("{rejection}"))?;
        let ledger = Arc::new(Ledger {
            freed: options.freed.clone(),
            forgets: !options.remembers,
            ..Ledger::default()
        });
        let masters = options.masters.addresses().to_vec();
        let mut running = JoinSet::new();
        let mut lines = Arc::new(Lines::default());
        for index in 0..options.agents {
            if index % options.agents_per_connection == 0 {
                lines = Arc::new(Lines::default());
            }
            let info = AgentInfo {
                hostname: freed::hostname(index),
                port: Some(5051),
                resources: resources.to_wire(),
                ..Default::default()
            };
            let agent = Agent::new(index, info, ledger.clone());
            let after = options.coming.mul_f64(index as f64 / options.agents as f64);
            let run = link::run(agent, lines.clone(), masters.clone(), ledger.clone());
            running.spawn(async move {
                tokio::time::sleep(after).await;
                run.await;
            });
        }
        Ok(Fleet {
            agents: options.agents,
            ledger,
            _running: running,
        })
    }

    /// From now on [`Fleet::all_back`] waits for every agent anew.
    pub fn begin_round(&self) {
        self.ledger.back.store(0, Ordering::Release);
        self.ledger.round.fetch_add(1, Ordering::AcqRel);
    }

    /// Waits until every agent has registered since the round began.
    ///
    /// # Errors
    /// `deadline` passed.
    pub async fn all_back(&self, deadline: Duration) -> anyhow::Result<()> {
        let what = format!("{} agents to register", self.agents);
        let enough = |ledger: &Ledger| ledger.back.load(Ordering::Acquire) >= self.agents;
        self.until(&what, deadline, enough).await
    }

    /// Waits until every agent has a stream.
    ///
    /// # Errors
    /// `deadline` passed.
    pub async fn all_attached(&self, deadline: Duration) -> anyhow::Result<()> {
        let what = format!("{} agents to be attached", self.agents);
        let enough = |ledger: &Ledger| ledger.attached.load(Ordering::Acquire) == self.agents;
        self.until(&what, deadline, enough).await
    }

    /// Waits until every update was acknowledged.
    ///
    /// # Errors
    /// `deadline` passed: updates were lost.
    pub async fn all_acknowledged(&self, deadline: Duration) -> anyhow::Result<()> {
        let none = |ledger: &Ledger| ledger.unacknowledged.load(Ordering::Acquire) == 0;
        self.until("all updates to be acknowledged", deadline, none).await
    }

    /// How many updates were not acknowledged yet.
    pub fn unacknowledged(&self) -> i64 {
        self.ledger.unacknowledged.load(Ordering::Relaxed)
    }

    /// How many agents have registered since the round began.
    pub fn back(&self) -> usize {
        self.ledger.back.load(Ordering::Acquire)
    }

    /// The newest state of every task that was ever launched here.
    pub fn tasks(&self) -> BTreeMap<String, TaskState> {
        self.ledger.tasks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ids of all updates that were made.
    pub fn updates(&self) -> Vec<[u8; 16]> {
        self.ledger
            .updates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn until(&self, what: &str, deadline: Duration, holds: impl Fn(&Ledger) -> bool) -> anyhow::Result<()> {
        let looking = async {
            loop {
                let changed = self.ledger.changed.notified();
                if holds(&self.ledger) {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(deadline, looking).await;
        waited.with_context(|| {
            format!(
                "waited {deadline:?} for {what}; {} are attached, {} are back, {} updates are unacknowledged",
                self.ledger.attached.load(Ordering::Acquire),
                self.ledger.back.load(Ordering::Acquire),
                self.ledger.unacknowledged.load(Ordering::Acquire)
            )
        })
    }
}

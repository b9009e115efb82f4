//! Frameworks that launch a task on every share of every offer, at once, and acknowledge every update: as many launches a second
//! as tasks end.
//!
//! Unlike a [`super::Flood`] it remembers nothing of single tasks, so that it takes little of the processors that it shares with
//! the master, and it does not come back: a lost subscription is an error.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use proffer_proto::v1::scheduler::{Event, event};
use proffer_proto::v1::{AgentId, CommandInfo, Offer, OfferId, TaskId, TaskInfo, TaskState, TaskStatus, value};
use proffer_sdk::offers::launch;
use proffer_sdk::{CallError, Calls, Masters, connect};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::freed::{Freed, number};

/// Nothing is declined as long as all shares are used; in the end everything is.
const REFUSE_SECONDS: f64 = 3600.0;

/// What the frameworks do.
#[derive(Debug, Clone)]
pub struct ChurnOptions {
    /// Where they look for the leader.
    pub masters: Masters,
    /// How many there are.
    pub frameworks: usize,
    /// What a task asks for; an agent has room for a whole number of them.
    pub cpus: f64,
    /// MiB.
    pub mem_mib: f64,
    /// How long a task runs, on the average.
    pub life: Duration,
    /// By how much of that it may be shorter or longer: tasks that began together do not end together.
    pub spread: f64,
}

/// Running frameworks.
#[derive(Debug)]
pub struct Churn {
    books: Arc<Books>,
    running: JoinSet<anyhow::Result<()>>,
}

/// What all of them did, up to some moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Tasks that were launched.
    pub launched: u64,
    /// ACCEPT calls.
    pub accepts: u64,
    /// Updates that were heard.
    pub updates: u64,
    /// Updates whose acknowledgement the master took.
    pub acknowledged: u64,
}

#[derive(Debug, Default)]
struct Books {
    launched: AtomicU64,
    accepts: AtomicU64,
    updates: AtomicU64,
    acknowledged: AtomicU64,
    subscribed: AtomicUsize,
    /// No more tasks are launched.
    stopped: AtomicBool,
    /// From when a share became free until it was offered, in milliseconds.
    offered_ms: Mutex<Vec<f64>>,
}

impl Churn {
    /// Subscribes the frameworks, which begin at once.
    pub fn start(options: &ChurnOptions, freed: &Arc<Freed>) -> Self {
        let books = Arc::new(Books::default());
        let mut running = JoinSet::new();
        for index in 0..options.frameworks {
            let name = format!("churn-{index}");
            running.spawn(run(name, options.clone(), books.clone(), freed.clone()));
        }
        Churn { books, running }
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            launched: count(&self.books.launched),
            accepts: count(&self.books.accepts),
            updates: count(&self.books.updates),
            acknowledged: count(&self.books.acknowledged),
        }
    }

    /// How many frameworks have subscribed.
    pub fn subscribed(&self) -> usize {
        self.books.subscribed.load(Ordering::Relaxed)
    }

    /// How long each offer took since this was asked last, in milliseconds.
    pub fn take_offered_ms(&self) -> Vec<f64> {
        std::mem::take(&mut *self.books.offered_ms.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Launches nothing more.
    pub fn stop(&self) {
        self.books.stopped.store(true, Ordering::Relaxed);
    }

    /// Lets so much time pass, and looks whether all frameworks are well.
    ///
    /// # Errors
    /// One has ended.
    pub async fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        match tokio::time::timeout(time, self.running.join_next()).await {
            Err(_) => Ok(()),
            Ok(None) => bail!("there are no frameworks"),
            Ok(Some(ended)) => ended.context("a framework panicked")?,
        }
    }
}

impl Books {
    fn offered(&self, offered_ms: Vec<f64>) {
        let mut all = self.offered_ms.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(offered_ms);
    }
}

struct Session {
    calls: Calls,
    failures: mpsc::Sender<CallError>,
    books: Arc<Books>,
    freed: Arc<Freed>,
    options: ChurnOptions,
    name: String,
    launched: u64,
}

async fn run(name: String, options: ChurnOptions, books: Arc<Books>, freed: Arc<Freed>) -> anyhow::Result<()> {
    let info = proffer_sdk::Framework::new(&name).build();
    let (mut events, calls) = connect(&options.masters, info).await?;
    books.subscribed.fetch_add(1, Ordering::Relaxed);
    let (failures, mut failed) = mpsc::channel(1);
    let mut session = Session {
        calls,
        failures,
        books,
        freed,
        options,
        name,
        launched: 0,
    };
    loop {
        tokio::select! {
            event = events.next() => session.handle(event.context("a framework lost its subscription")?)?,
            Some(error) = failed.recv() => return Err(error).context("a call was not accepted"),
        }
    }
}

impl Session {
    fn handle(&mut self, event: Event) -> anyhow::Result<()> {
        match event.r#type() {
            event::Type::Offers => {
                let offers = event.offers.map(|offers| offers.offers).unwrap_or_default();
                self.offers(offers);
            }
            event::Type::Update => {
                let status = event.update.context("an UPDATE has a status")?.status;
                self.update(status)?;
            }
            event::Type::Error => bail!("a framework got an error: {event:?}"),
            _ => {}
        }
        Ok(())
    }

    fn offers(&mut self, offers: Vec<Offer>) {
        let now = tokio::time::Instant::now();
        let mut agents: BTreeMap<AgentId, (Vec<OfferId>, usize)> = BTreeMap::new();
        let mut offered_ms = Vec::new();
        for offer in offers {
            let shares = (scalar(&offer, "cpus") / self.options.cpus).round() as usize;
            if let Some(agent) = number(&offer.hostname) {
                let free = self.freed.take(agent, shares);
                offered_ms.extend(free.iter().map(|since| (now - *since).as_secs_f64() * 1e3));
            }
            let (ids, all) = agents.entry(offer.agent_id).or_default();
            ids.push(offer.id);
            *all += shares;
        }
        self.books.offered(offered_ms);
        for (agent, (ids, shares)) in agents {
            if self.books.stopped.load(Ordering::Relaxed) {
                self.call(|calls| async move { calls.decline(ids, Some(filters())).await });
                continue;
            }
            let infos: Vec<_> = (0..shares).map(|_| self.task(&agent)).collect();
            self.books.accepts.fetch_add(1, Ordering::Relaxed);
            self.books.launched.fetch_add(shares as u64, Ordering::Relaxed);
            self.call(|calls| async move { calls.accept(ids, vec![launch(infos)], Some(filters())).await });
        }
    }

    fn task(&mut self, agent: &AgentId) -> TaskInfo {
        self.launched += 1;
        // Spread evenly and without chance, so that runs are alike.
        let place = (self.launched as f64 * 0.618_033_988_75).fract() * 2.0 - 1.0;
        let seconds = self.options.life.as_secs_f64() * (1.0 + place * self.options.spread);
        let resource = |name: &str, amount: f64| proffer_proto::v1::Resource {
            name: name.to_owned(),
            r#type: value::Type::Scalar as i32,
            scalar: Some(value::Scalar { value: amount }),
            ..Default::default()
        };
        TaskInfo {
            name: self.name.clone(),
            task_id: TaskId {
                value: format!("{}-{}", self.name, self.launched),
            },
            agent_id: agent.clone(),
            resources: vec![
                resource("cpus", self.options.cpus),
                resource("mem", self.options.mem_mib),
            ],
            command: Some(CommandInfo {
                value: Some(format!("sleep {seconds:.3}")),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn update(&self, status: TaskStatus) -> anyhow::Result<()> {
        self.books.updates.fetch_add(1, Ordering::Relaxed);
        ensure!(
            matches!(status.state(), TaskState::TaskRunning | TaskState::TaskFinished),
            "a task did not run: {status:?}"
        );
        let (uuid, agent) = (status.uuid.context("a uuid")?, status.agent_id.context("an agent")?);
        let books = self.books.clone();
        self.call(|calls| async move {
            match calls.acknowledge(agent, status.task_id, uuid).await {
                Ok(()) => books.acknowledged.fetch_add(1, Ordering::Relaxed),
                // It came twice, and the first one was acknowledged.
                Err(CallError::Rejected(_)) => 0,
                Err(error) => return Err(error),
            };
            Ok(())
        });
        Ok(())
    }

    /// Makes a call beside others: who reads events only when calls are through is soon too slow a reader.
    fn call<F>(&self, call: impl FnOnce(Calls) -> F)
    where
        F: Future<Output = Result<(), CallError>> + Send + 'static,
    {
        let (call, failures) = (call(self.calls.clone()), self.failures.clone());
        tokio::spawn(async move {
            if let Err(error) = call.await {
                // One is enough.
                let _ = failures.try_send(error);
            }
        });
    }
}

fn scalar(offer: &Offer, name: &str) -> f64 {
    let of_name = offer.resources.iter().filter(|resource| resource.name == name);
    of_name
        .filter_map(|resource| resource.scalar.as_ref())
        .map(|scalar| scalar.value)
        .sum()
}

fn filters() -> proffer_proto::v1::Filters {
    proffer_proto::v1::Filters {
        refuse_seconds: Some(REFUSE_SECONDS),
    }
}

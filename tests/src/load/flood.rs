//! A framework that keeps so many tasks alive, acknowledges every update, and remembers what it heard.
//!
//! It subscribes again by itself. An ACCEPT that was on its way when its master died may be lost; the tasks of it that
//! nobody has heard of are asked after, and are no loss: they never ran.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use proffer_proto::v1::scheduler::{Event, event};
use proffer_proto::v1::{AgentId, FrameworkId, FrameworkInfo, Offer, TaskId, TaskState, TaskStatus};
use proffer_sdk::offers::{Matcher, launch};
use proffer_sdk::{CallError, Calls, Disconnected, Masters, Task, connect};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Calls on their way at a time.
const CALLS_IN_FLIGHT_MAX: usize = 64;
/// What is not used is not wanted again for so long; where a task ends there is more, and it is offered at once.
const REFUSE_SECONDS: f64 = 10.0;
/// How often it is looked whether what is waited for has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it is looked what is missing, and how long a task is without news before it is asked after.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// So many are asked after at a time.
const ASKED_MAX: usize = 10_000;

/// What a flood does.
#[derive(Debug, Clone)]
pub struct FloodOptions {
    /// Where it looks for the leader.
    pub masters: Masters,
    /// Its name.
    pub name: String,
    /// How many tasks are alive at a time.
    pub wanted: usize,
    /// How many are launched on one offer.
    pub per_offer: usize,
    /// What each of them runs; agents of a [`super::Fleet`] understand `sleep SECONDS`.
    pub line: String,
}

/// A running framework.
#[derive(Debug)]
pub struct Flood {
    books: Arc<Books>,
    running: JoinHandle<anyhow::Result<()>>,
}

#[derive(Debug)]
struct Books {
    wanted: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    framework_id: Option<FrameworkId>,
    subscriptions: u64,
    launched: u64,
    /// Tasks that may be alive.
    alive: HashMap<String, Alive>,
    /// How many of them run.
    running: usize,
    /// Tasks whose ACCEPT may have been lost, in the order in which they are asked after.
    unsure: VecDeque<(Instant, String)>,
    /// Tasks whose end was heard.
    ended: HashSet<String>,
    /// The updates that were heard.
    heard: HashSet<Vec<u8>>,
    /// Offers came since it was looked last.
    had_offers: bool,
    offered_at: Option<Instant>,
    /// Offers of this subscription, and of those before, do not count.
    offers_of: u64,
}

/// What was last heard of a task.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Alive {
    Silent,
    Heard,
    Running,
}

impl Inner {
    fn change(&mut self, task: &str, news: Alive) {
        let Some(known) = self.alive.get_mut(task) else { return };
        self.running += usize::from(news == Alive::Running);
        self.running -= usize::from(*known == Alive::Running);
        *known = news;
    }

    fn end(&mut self, task: &str) {
        self.change(task, Alive::Heard);
        self.alive.remove(task);
    }

    /// Tasks that are to be asked after now; those that stay silent are asked after again.
    fn unsure(&mut self, now: Instant) -> Vec<(TaskId, Option<AgentId>)> {
        let mut asked = Vec::new();
        while asked.len() < ASKED_MAX
            && let Some((since, _)) = self.unsure.front()
            && *since + ASK_AGAIN <= now
            && let Some((_, task)) = self.unsure.pop_front()
        {
            if self.alive.get(&task) == Some(&Alive::Silent) {
                asked.push((TaskId { value: task.clone() }, None));
                self.unsure.push_back((now, task));
            }
        }
        asked
    }

    /// What was launched in an earlier subscription and is silent may be lost.
    fn subscribed(&mut self, id: FrameworkId) {
        self.framework_id = Some(id);
        self.subscriptions += 1;
        let now = Instant::now();
        let silent = self.alive.iter().filter(|(_, news)| **news == Alive::Silent);
        self.unsure = silent.map(|(task, _)| (now, task.clone())).collect();
    }

    /// An ACCEPT failed. What the master refused was not launched; of the rest nobody knows.
    fn failed(&mut self, tasks: Vec<String>, error: &CallError) {
        let now = Instant::now();
        for task in tasks {
            match error {
                CallError::Disconnected(_) => self.unsure.push_back((now, task)),
                CallError::Rejected(_) | CallError::NotSubscribed(_) => self.end(&task),
            }
        }
    }
}

impl Flood {
    /// Subscribes and goes on.
    pub fn start(options: FloodOptions) -> Self {
        let books = Arc::new(Books {
            wanted: AtomicUsize::new(options.wanted),
            inner: Mutex::default(),
        });
        let info = proffer_sdk::Framework::new(&options.name).build();
        let running = tokio::spawn(run(options, info, books.clone()));
        Flood { books, running }
    }

    /// Its id, once it has one.
    pub fn framework_id(&self) -> Option<FrameworkId> {
        self.books.inner().framework_id.clone()
    }

    /// How often it has subscribed.
    pub fn subscriptions(&self) -> u64 {
        self.books.inner().subscriptions
    }

    /// How many tasks it has launched.
    pub fn launched(&self) -> u64 {
        self.books.inner().launched
    }

    /// How many of its tasks run.
    pub fn count_running(&self) -> usize {
        self.books.inner().running
    }

    /// Changes how many tasks are kept alive.
    pub fn want(&self, tasks: usize) {
        self.books.wanted.store(tasks, Ordering::Release);
    }

    /// Forgets when offers came; [`Flood::first_offer`] waits for those of the next subscription.
    pub fn forget_offers(&self) {
        let mut inner = self.books.inner();
        (inner.offered_at, inner.offers_of) = (None, inner.subscriptions);
    }

    /// When offers came first in a subscription after [`Flood::forget_offers`].
    ///
    /// # Errors
    /// `deadline` passed.
    pub async fn first_offer(&self, deadline: Duration) -> anyhow::Result<Instant> {
        self.until("offers", deadline, |inner| inner.offered_at).await
    }

    /// Waits until so many tasks run.
    ///
    /// # Errors
    /// `deadline` passed.
    pub async fn running(&self, tasks: usize, deadline: Duration) -> anyhow::Result<()> {
        self.until(&format!("{tasks} running tasks"), deadline, |inner| {
            (inner.running >= tasks).then_some(())
        })
        .await
    }

    /// Waits until no task is alive; none must be wanted any more.
    ///
    /// # Errors
    /// `deadline` passed.
    pub async fn all_ended(&self, deadline: Duration) -> anyhow::Result<()> {
        self.until("all tasks to end", deadline, |inner| {
            inner.alive.is_empty().then_some(())
        })
        .await
    }

    /// Which of these updates were never heard.
    pub fn unheard<'a>(&self, updates: impl IntoIterator<Item = &'a [u8; 16]>) -> Vec<[u8; 16]> {
        let inner = self.books.inner();
        let lost = updates
            .into_iter()
            .filter(|uuid| !inner.heard.contains(uuid.as_slice()));
        lost.copied().collect()
    }

    /// Which of these tasks are neither thought to be alive nor known to have ended.
    pub fn unknown(&self, tasks: impl IntoIterator<Item = String>) -> Vec<String> {
        let inner = self.books.inner();
        let known = |task: &String| inner.alive.contains_key(task) || inner.ended.contains(task);
        tasks.into_iter().filter(|task| !known(task)).collect()
    }

    async fn until<T>(&self, what: &str, deadline: Duration, find: impl Fn(&Inner) -> Option<T>) -> anyhow::Result<T> {
        let looking = async {
            loop {
                if let Some(found) = find(&self.books.inner()) {
                    return found;
                }
                // Not at every change: there are tens of thousands a second.
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let waited = tokio::time::timeout(deadline, looking).await;
        waited.with_context(|| {
            let inner = self.books.inner();
            format!(
                "waited {deadline:?} for {what}; {} tasks are alive, {} run, {} have ended, {} subscriptions",
                inner.alive.len(),
                inner.running,
                inner.ended.len(),
                inner.subscriptions
            )
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Books {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(options: FloodOptions, mut info: FrameworkInfo, books: Arc<Books>) -> anyhow::Result<()> {
    let calls_in_flight = Arc::new(Semaphore::new(CALLS_IN_FLIGHT_MAX));
    loop {
        let (mut events, calls) = connect(&options.masters, info.clone()).await?;
        info.id = Some(calls.framework_id().clone());
        books.inner().subscribed(calls.framework_id().clone());
        let session = Session {
            options: &options,
            books: &books,
            calls,
            calls_in_flight: calls_in_flight.clone(),
        };
        let mut ask = tokio::time::interval(ASK_AGAIN);
        let Disconnected(reason) = loop {
            tokio::select! {
                event = events.next() => match event {
                    Ok(event) => session.handle(event).await?,
                    Err(disconnected) => break disconnected,
                },
                _ = ask.tick() => session.look().await,
            }
        };
        tracing::debug!(reason, "subscribes again");
    }
}

struct Session<'a> {
    options: &'a FloodOptions,
    books: &'a Arc<Books>,
    calls: Calls,
    calls_in_flight: Arc<Semaphore>,
}

impl Session<'_> {
    async fn handle(&self, event: Event) -> anyhow::Result<()> {
        match event.r#type() {
            event::Type::Offers => {
                self.offers(event.offers.map(|offers| offers.offers).unwrap_or_default())
                    .await
            }
            event::Type::Update => {
                let status = event.update.context("an UPDATE has a status")?.status;
                self.update(status).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn offers(&self, offers: Vec<Offer>) {
        {
            let mut inner = self.books.inner();
            inner.had_offers = true;
            if inner.subscriptions > inner.offers_of {
                inner.offered_at.get_or_insert_with(Instant::now);
            }
        }
        let mut unused = Vec::new();
        for offer in offers {
            let infos = self.choose(&offer);
            if infos.is_empty() {
                unused.push(offer.id);
                continue;
            }
            let books = self.books.clone();
            self.begin(|calls| async move {
                let tasks = infos.iter().map(|info| info.task_id.value.clone()).collect();
                let accepted = calls.accept(vec![offer.id], vec![launch(infos)], Some(filters()));
                if let Err(error) = accepted.await {
                    books.inner().failed(tasks, &error);
                }
            })
            .await;
        }
        if !unused.is_empty() {
            let _ = self.calls.decline(unused, Some(filters())).await;
        }
    }

    /// As many tasks as are wanted on one offer; they are in the books from now on.
    fn choose(&self, offer: &Offer) -> Vec<proffer_proto::v1::TaskInfo> {
        let mut inner = self.books.inner();
        let wanted = self.books.wanted.load(Ordering::Acquire);
        let count = wanted.saturating_sub(inner.alive.len()).min(self.options.per_offer);
        if count == 0 {
            return Vec::new();
        }
        let mut matcher = Matcher::new([offer]);
        let mut infos = Vec::new();
        for _ in 0..count {
            let name = format!("{}-{}", self.options.name, inner.launched);
            let task = Task::command(&self.options.name, &self.options.line);
            let task = task.cpus(0.1).mem(32.0).with_id(&name);
            let Some(placement) = matcher.place(task.shape()) else {
                break;
            };
            infos.push(task.at(&placement));
            inner.launched += 1;
            inner.alive.insert(name, Alive::Silent);
        }
        infos
    }

    async fn update(&self, status: TaskStatus) {
        let state = status.state();
        // Unknown to the master: its ACCEPT or its launch was lost.
        let over = proffer_sdk::is_terminal(state) || state == TaskState::TaskUnknown;
        {
            let mut inner = self.books.inner();
            if over {
                inner.end(&status.task_id.value);
                if status.uuid.is_some() {
                    inner.ended.insert(status.task_id.value.clone());
                }
            } else {
                let news = match state {
                    TaskState::TaskRunning => Alive::Running,
                    _ => Alive::Heard,
                };
                inner.change(&status.task_id.value, news);
            }
            if let Some(uuid) = &status.uuid {
                inner.heard.insert(uuid.clone());
            }
        }
        let (Some(uuid), Some(agent_id)) = (status.uuid, status.agent_id) else {
            return;
        };
        // One that is lost is made up for: the update comes again.
        self.begin(|calls| async move {
            let _ = calls.acknowledge(agent_id, status.task_id, uuid).await;
        })
        .await;
    }

    /// Makes a call beside others, when there is a place for it.
    async fn begin<F>(&self, call: impl FnOnce(Calls) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(place) = self.calls_in_flight.clone().acquire_owned().await else {
            return;
        };
        let call = call(self.calls.clone());
        tokio::spawn(async move {
            call.await;
            drop(place);
        });
    }

    /// Asks after tasks that may be lost, and for offers where tasks are wanted and nothing is offered.
    async fn look(&self) {
        let (unsure, is_short) = {
            let mut inner = self.books.inner();
            let wanted = self.books.wanted.load(Ordering::Acquire);
            let is_short = !std::mem::take(&mut inner.had_offers) && inner.alive.len() < wanted;
            (inner.unsure(Instant::now()), is_short)
        };
        if !unsure.is_empty() {
            let _ = self.calls.reconcile(unsure).await;
        }
        if is_short {
            let _ = self.calls.revive(Vec::new()).await;
        }
    }
}

fn filters() -> proffer_proto::v1::Filters {
    proffer_proto::v1::Filters {
        refuse_seconds: Some(REFUSE_SECONDS),
    }
}

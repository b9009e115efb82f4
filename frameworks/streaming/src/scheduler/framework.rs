//! The framework of one job: a state machine over offers, updates and the user's wishes.
//!
//! ```text
//! Waiting -> Active -> Stopping -> Waiting ...        a worker ended: a new attempt
//!               |          `-----> Ended(Cancelled | Failed)
//!               `----------------> Ended(Drained)     all workers finished
//! ```
//!
//! An attempt begins with a number that no earlier attempt had, and ends when all its tasks are gone. Tasks that turn up
//! from an earlier attempt are killed.

use std::time::{Duration, Instant};

use proffer_sdk::offers::{Matcher, Placement, Strategy};
use proffer_sdk::proto::v1::{DurationInfo, Filters, KillPolicy, Offer, OfferId, TaskId, TaskState, TaskStatus};
use proffer_sdk::{Context, Offers, Scheduler, Task};
use tokio::sync::watch;

use super::spec::JobSpec;
use super::stall::Stall;
use super::status::{JobStatus, Outcome, Phase, WorkerStatus, is_gone};
use crate::output::Layout;
use crate::worker::TOKEN_VARIABLE;

/// For how long offers are refused when none are needed; reviving ends it.
const REFUSE: Duration = Duration::from_secs(3_600);
/// How long offers are held while more are hoped for, and refused after that.
const HOLD: Duration = Duration::from_secs(5);
const REFUSE_AFTER_HOLD_S: f64 = 1.0;
/// An attempt that ends before this has failed quickly.
const QUICK: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long a worker may take to drain when its task is killed by somebody else.
const KILL_GRACE: Duration = Duration::from_secs(30);

/// What the user wants of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Drain,
    Cancel,
}

/// The deciding half of the framework `streaming`, for one job.
#[derive(Debug)]
pub(super) struct StreamingScheduler {
    spec: JobSpec,
    program: String,
    layout: Layout,
    wish: Option<Wish>,
    drain_by_signal: bool,
    stage: Stage,
    attempt: u64,
    restarts: u64,
    quick_failures: u32,
    workers: Vec<WorkerTask>,
    held: Vec<Offer>,
    held_since: Instant,
    /// Offers were suppressed and are needed again.
    wants_revival: bool,
    last_failure: Option<String>,
    stall: Stall,
    status: watch::Sender<JobStatus>,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    /// Wants offers, from a certain time on.
    Waiting(Instant),
    /// Since when the attempt's tasks are launched.
    Active(Instant),
    /// When the attempt's tasks were launched.
    Stopping(Instant),
    Ended(Outcome),
}

#[derive(Debug)]
struct WorkerTask {
    task_id: TaskId,
    agent_id: String,
    address: String,
    state: TaskState,
    message: String,
}

impl StreamingScheduler {
    pub(super) fn new(spec: JobSpec, program: String, status: watch::Sender<JobStatus>) -> Self {
        let layout = Layout::new(&spec.out_dir);
        StreamingScheduler {
            program,
            wish: None,
            drain_by_signal: false,
            stage: Stage::Waiting(Instant::now()),
            attempt: 0,
            restarts: 0,
            quick_failures: 0,
            workers: Vec::new(),
            held: Vec::new(),
            held_since: Instant::now(),
            wants_revival: false,
            last_failure: None,
            stall: Stall::new(Duration::from_millis(spec.stall_timeout_ms)),
            status,
            layout,
            spec,
        }
    }

    fn template(&self, index: usize, arguments: Vec<String>) -> Task {
        let task = Task::program(format!("{}.{index}", self.spec.name), &self.program, arguments)
            .cpus(self.spec.cpus)
            .mem(self.spec.mem_mib)
            .port("data")
            .strategy(format!("{}#{}", self.spec.name, self.attempt + 1), Strategy::Spread)
            .kill_grace(KILL_GRACE)
            .label("streaming.job", &self.spec.name);
        match &self.spec.user {
            Some(user) => task.user(user),
            None => task,
        }
    }

    /// Launches a new attempt if what is held has room for all workers.
    fn launch(&mut self, context: &mut Context<Wish>) {
        let mut matcher = Matcher::new(&self.held);
        let shape = self.template(0, Vec::new()).shape().clone();
        let places: Vec<Placement> = (0..self.spec.workers).map_while(|_| matcher.place(&shape)).collect();
        if places.len() < self.spec.workers {
            tracing::debug!(
                fit = places.len(),
                workers = self.spec.workers,
                "offers do not hold all workers"
            );
            return;
        }
        let peers: Vec<String> = places
            .iter()
            .map(|place| format!("{}:{}", place.hostname, place.ports[0]))
            .collect();
        // A directory may be there from an attempt of an earlier scheduler.
        let attempt = self.attempt.max(self.layout.newest_attempt().unwrap_or(0)) + 1;
        let token = uuid::Uuid::new_v4().simple().to_string();
        self.workers.clear();
        for (index, place) in places.into_iter().enumerate() {
            let agent_id = place.agent_id.value.clone();
            self.held.retain(|offer| !place.offer_ids.contains(&offer.id));
            let task = self
                .template(index, self.arguments(attempt, index, &peers))
                .label("streaming.attempt", attempt.to_string())
                .env(TOKEN_VARIABLE, &token);
            let task_id = context.launch(place, task);
            let address = peers[index].clone();
            self.workers.push(WorkerTask {
                task_id,
                agent_id,
                address,
                state: TaskState::TaskStaging,
                message: String::new(),
            });
        }
        tracing::info!(
            job = self.spec.name,
            attempt,
            workers = self.workers.len(),
            "launches attempt"
        );
        self.restarts += u64::from(self.attempt > 0);
        self.attempt = attempt;
        self.stage = Stage::Active(Instant::now());
        self.stall.reset(self.spec.workers);
        self.give_back(context, REFUSE.as_secs_f64());
        context.suppress();
    }

    fn arguments(&self, attempt: u64, index: usize, peers: &[String]) -> Vec<String> {
        let spec = &self.spec;
        let mut arguments = spec.worker_arguments.clone();
        let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        option("job", spec.name.clone());
        option("attempt", attempt.to_string());
        option("index", index.to_string());
        option("peers", peers.join(","));
        option("out-dir", spec.out_dir.display().to_string());
        option("window-ms", spec.window_ms.to_string());
        option("lateness-ms", spec.lateness_ms.to_string());
        option("idle-ms", spec.idle_ms.to_string());
        spec.sources.iter().for_each(|source| option("source", source.clone()));
        arguments
    }

    fn give_back(&mut self, context: &mut Context<Wish>, refuse_seconds: f64) {
        let ids: Vec<OfferId> = self.held.drain(..).map(|offer| offer.id).collect();
        if !ids.is_empty() {
            context.decline(
                ids,
                Some(Filters {
                    refuse_seconds: Some(refuse_seconds),
                }),
            );
        }
    }

    /// Ends all tasks of the attempt at once: its results are void.
    fn stop(&mut self, context: &mut Context<Wish>, launched: Instant) {
        self.stage = Stage::Stopping(launched);
        let at_once = KillPolicy {
            grace_period: Some(DurationInfo { nanoseconds: 0 }),
        };
        for worker in self
            .workers
            .iter()
            .filter(|worker| !proffer_sdk::is_terminal(worker.state))
        {
            context.kill_with(&worker.task_id, Some(at_once));
        }
        self.settle(context);
    }

    /// Whether a worker ended because there was nothing left to do; killed politely, it has drained as well.
    fn has_drained(&self, index: usize) -> bool {
        match self.workers[index].state {
            TaskState::TaskFinished => true,
            TaskState::TaskKilled => self
                .layout
                .read_totals(self.attempt, index)
                .is_some_and(|totals| totals.drained),
            _ => false,
        }
    }

    /// Goes on when all tasks of the attempt are gone.
    fn settle(&mut self, context: &mut Context<Wish>) {
        let (Stage::Active(launched) | Stage::Stopping(launched)) = self.stage else {
            return;
        };
        if !self.workers.iter().all(|worker| is_gone(worker.state)) {
            return;
        }
        if (0..self.workers.len()).all(|index| self.has_drained(index)) {
            return self.end(context, Outcome::Drained);
        }
        if self.wish == Some(Wish::Cancel) {
            return self.end(context, Outcome::Cancelled);
        }
        self.quick_failures = if launched.elapsed() < QUICK {
            self.quick_failures + 1
        } else {
            0
        };
        if self.quick_failures >= self.spec.quick_failures_max {
            let last = self.last_failure.clone().unwrap_or_default();
            return self.end(
                context,
                Outcome::Failed(format!(
                    "{} attempts failed at once; the last: {last}",
                    self.quick_failures
                )),
            );
        }
        // The first new attempt is made at once.
        let backoff = match self.quick_failures {
            0 | 1 => Duration::ZERO,
            failures => BACKOFF_MAX.min(BACKOFF_FIRST * 2_u32.saturating_pow(failures - 2)),
        };
        self.stage = Stage::Waiting(Instant::now() + backoff);
        self.wants_revival = true;
        if backoff.is_zero() {
            self.revive(context);
        }
    }

    fn revive(&mut self, context: &mut Context<Wish>) {
        self.wants_revival = false;
        context.revive();
    }

    /// Gives the attempt up, so that another is made.
    fn fail(&mut self, context: &mut Context<Wish>, launched: Instant, failure: String) {
        tracing::warn!(job = self.spec.name, attempt = self.attempt, failure, "attempt failed");
        self.last_failure = Some(failure);
        self.stop(context, launched);
    }

    fn end(&mut self, context: &mut Context<Wish>, outcome: Outcome) {
        tracing::info!(job = self.spec.name, attempt = self.attempt, outcome = ?outcome, "job ended");
        self.stage = Stage::Ended(outcome);
        self.give_back(context, REFUSE.as_secs_f64());
        context.teardown();
    }

    fn drain(&mut self, context: &mut Context<Wish>) {
        self.wish = Some(Wish::Drain);
        let asked = std::fs::create_dir_all(&self.spec.out_dir).and_then(|()| std::fs::write(self.layout.drain(), ""));
        if let Err(error) = asked {
            tracing::warn!(error = %error, "cannot write the file that asks to drain: sends SIGTERM instead");
            self.drain_by_signal = true;
            for worker in self
                .workers
                .iter()
                .filter(|worker| worker.state == TaskState::TaskRunning)
            {
                context.kill(&worker.task_id);
            }
        }
    }

    fn cancel(&mut self, context: &mut Context<Wish>) {
        self.wish = Some(Wish::Cancel);
        match self.stage {
            Stage::Waiting(_) => self.end(context, Outcome::Cancelled),
            Stage::Active(launched) => self.stop(context, launched),
            Stage::Stopping(_) | Stage::Ended(_) => {}
        }
    }

    fn publish(&self) {
        let running = || self.workers.iter().all(|worker| worker.state == TaskState::TaskRunning);
        let (phase, outcome) = match &self.stage {
            Stage::Waiting(_) => (Phase::Waiting, None),
            Stage::Active(_) if self.wish == Some(Wish::Drain) => (Phase::Draining, None),
            Stage::Active(_) if running() => (Phase::Running, None),
            Stage::Active(_) => (Phase::Starting, None),
            Stage::Stopping(_) => (Phase::Stopping, None),
            Stage::Ended(outcome) => (Phase::Ended, Some(outcome.clone())),
        };
        let workers = self.workers.iter().enumerate().map(|(index, worker)| WorkerStatus {
            index,
            task_id: worker.task_id.value.clone(),
            agent_id: worker.agent_id.clone(),
            address: worker.address.clone(),
            state: worker.state.as_str_name(),
            message: worker.message.clone(),
        });
        let status = JobStatus {
            name: self.spec.name.clone(),
            phase,
            attempt: self.attempt,
            restarts: self.restarts,
            workers: workers.collect(),
            last_failure: self.last_failure.clone(),
            outcome,
        };
        self.status.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
    }
}

impl Scheduler for StreamingScheduler {
    type Message = Wish;

    async fn reregistered(&mut self, _: &mut Context<Wish>) {
        self.held.clear();
    }

    async fn disconnected(&mut self, _: &mut Context<Wish>) {
        self.held.clear();
    }

    async fn offers(&mut self, context: &mut Context<Wish>, mut offers: Offers) {
        match self.stage {
            Stage::Waiting(from) if Instant::now() >= from => {
                if self.held.is_empty() {
                    self.held_since = Instant::now();
                }
                self.held.extend(offers.take_all());
                self.launch(context);
                self.publish();
            }
            // The back-off ends with a revival.
            _ => offers.refuse_for(REFUSE),
        }
    }

    async fn rescinded(&mut self, _: &mut Context<Wish>, offer_id: OfferId) {
        self.held.retain(|offer| offer.id != offer_id);
    }

    async fn update(&mut self, context: &mut Context<Wish>, status: TaskStatus) {
        let state = status.state();
        let Some(index) = self.workers.iter().position(|worker| worker.task_id == status.task_id) else {
            if !proffer_sdk::is_terminal(state) {
                tracing::warn!(
                    task_id = status.task_id.value,
                    "a task of an earlier attempt turned up: kills it"
                );
                context.kill(&status.task_id);
            }
            return;
        };
        let worker = &mut self.workers[index];
        worker.state = state;
        worker.message = status.message().to_owned();
        tracing::debug!(
            task_id = status.task_id.value,
            index,
            state = state.as_str_name(),
            "worker"
        );
        if self.drain_by_signal && state == TaskState::TaskRunning {
            context.kill(&status.task_id);
        }
        if let Stage::Active(launched) = self.stage
            && is_gone(state)
            && !self.has_drained(index)
        {
            let failure = format!("worker {index}: {} {}", state.as_str_name(), status.message())
                .trim_end()
                .to_owned();
            self.fail(context, launched, failure);
        } else {
            self.settle(context);
        }
        self.publish();
    }

    async fn message(&mut self, context: &mut Context<Wish>, wish: Wish) {
        match (wish, &self.stage) {
            (_, Stage::Ended(_)) => {}
            (Wish::Drain, _) if self.wish.is_none() => self.drain(context),
            (Wish::Cancel, _) => self.cancel(context),
            (Wish::Drain, _) => {}
        }
        self.publish();
    }

    async fn tick(&mut self, context: &mut Context<Wish>) {
        match self.stage {
            Stage::Waiting(from) if Instant::now() >= from => {
                if self.wants_revival {
                    self.revive(context);
                }
                if !self.held.is_empty() && self.held_since.elapsed() >= HOLD {
                    tracing::info!(
                        job = self.spec.name,
                        "offers do not hold all workers: gives them back for a moment"
                    );
                    self.give_back(context, REFUSE_AFTER_HOLD_S);
                }
            }
            Stage::Active(launched) => {
                if let Some(index) = self.stall.check(&self.layout, self.attempt) {
                    self.fail(
                        context,
                        launched,
                        format!("worker {index}: no sign of life for {} ms", self.spec.stall_timeout_ms),
                    );
                    self.publish();
                }
            }
            _ => {}
        }
    }
}

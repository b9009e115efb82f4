//! The shell around the plan: events of the cluster and requests of users go in, and its effects are carried out.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proffer_proto::v1::{DurationInfo, FrameworkId, KillPolicy, TaskId, TaskState, TaskStatus};
use proffer_sdk::offers::{Matcher, Strategy};
use proffer_sdk::{Context, KnownTask, Offers, Scheduler, Task};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::catalogue::{Catalogue, Counts};
use crate::plan::{Effect, Input, InstanceId, Launch, Millis, Observed, Plan, PortAssignment};
use crate::spec::{Run, ServiceSpec};
use crate::store::{Recovered, Store, StoreError};

/// So many launch latencies are kept.
const LATENCIES_MAX: usize = 1_024;

/// The shortest time between two catalogues, in milliseconds: thousands of updates make no thousands of catalogues.
const PUBLISH_INTERVAL_MS: Millis = 5;

/// When a launch that could not be written down is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What is asked of the scheduler from elsewhere in the process.
#[derive(Debug)]
pub(crate) enum Message {
    /// A service is wanted.
    Put(Box<ServiceSpec>, oneshot::Sender<Result<Accepted, StoreError>>),
    /// A service is wanted no more. Answers whether it was there.
    Remove(String, oneshot::Sender<Result<bool, StoreError>>),
    /// Time has come to look at the plan.
    Wake,
    /// The scheduler is to end, and its tasks with it or not.
    Stop { teardown: bool },
}

/// What became of a request for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Accepted {
    /// The version that instances will have.
    pub version: u64,
    /// Whether there was no such service before.
    pub created: bool,
}

/// The scheduler of all services.
#[derive(Debug)]
pub(crate) struct Services {
    plan: Plan,
    store: Store,
    clock: Clock,
    catalogue: watch::Sender<Catalogue>,
    /// Higher than every version in use.
    version_next: u64,
    counts: Counts,
    latencies: VecDeque<u64>,
    /// When the tasks that do not run yet were placed.
    placed: HashMap<String, Instant>,
    /// Effects from before the subscription.
    early: Vec<Effect>,
    alarm: Option<(Millis, AbortHandle)>,
    published_at: Millis,
    /// The time of the plan's last step: what became due since then is still to be stepped for.
    stepped_at: Millis,
    registered: bool,
}

/// Milliseconds since the epoch that never go back within a process.
#[derive(Debug)]
struct Clock {
    begun: Instant,
    begun_ms: Millis,
}

impl Clock {
    fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            begun: Instant::now(),
            begun_ms: whole_millis(since_epoch),
        }
    }

    fn now(&self) -> Millis {
        self.begun_ms + whole_millis(self.begun.elapsed())
    }
}

fn whole_millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

impl Services {
    /// Takes over what an earlier process left. Also returns the tasks of which the driver has to know.
    pub(crate) fn new(
        store: Store,
        recovered: Recovered,
        catalogue: watch::Sender<Catalogue>,
        seed: u64,
    ) -> (Self, Vec<KnownTask>) {
        let clock = Clock::new();
        let now = clock.now();
        let versions = recovered.services.iter().map(|(_, version)| *version);
        let versions = versions.chain(recovered.launches.iter().map(|launch| launch.version));
        let version_next = versions.max().unwrap_or(0) + 1;
        let (mut plan, mut early) = (Plan::new(seed), Vec::new());
        for (spec, version) in recovered.services {
            plan.step(now, Input::Put(Box::new(spec), version), &mut early);
        }
        let mut known = Vec::new();
        // Of two tasks of one instance the older was given up on, so the newer is to have the slot.
        for launch in recovered.launches.into_iter().rev() {
            let agent_id = launch.agent_id.as_deref().map(Into::into);
            known.push(KnownTask::new(launch.task_id.as_str().into(), agent_id));
            plan.step(now, Input::Recovered(launch), &mut early);
        }
        plan.step(now, Input::Tick, &mut early);
        // Who asks before there is a master is told of what is wanted, not that there is nothing.
        catalogue.send_replace(Catalogue::of(&plan, recovered.framework_id, false, &Counts::default()));
        let services = Self {
            plan,
            store,
            clock,
            catalogue,
            version_next,
            counts: Counts::default(),
            latencies: VecDeque::new(),
            placed: HashMap::new(),
            early,
            alarm: None,
            published_at: 0,
            stepped_at: now,
            registered: false,
        };
        (services, known)
    }

    fn step(&mut self, context: &mut Context<Message>, input: Input) {
        let mut effects = Vec::new();
        self.stepped_at = self.clock.now();
        self.plan.step(self.stepped_at, input, &mut effects);
        self.carry_out(context, effects);
    }

    fn carry_out(&mut self, context: &mut Context<Message>, mut effects: Vec<Effect>) {
        if !self.registered {
            self.early.append(&mut effects);
        }
        for effect in effects {
            match effect {
                Effect::Kill { task_id, grace_ms } => kill(context, &task_id.as_str().into(), grace_ms),
                Effect::Revive => context.revive(),
                Effect::Suppress => context.suppress(),
                Effect::Forget(task_id) => {
                    self.placed.remove(&task_id);
                    if let Err(error) = self.store.forget(&task_id) {
                        tracing::warn!(
                            task_id,
                            error = &error as &dyn std::error::Error,
                            "end of a task not kept"
                        );
                    }
                }
                Effect::Removed(service) => tracing::info!(service, "service removed"),
            }
        }
        self.settle(context);
    }

    /// Publishes the catalogue, and sees to it that time wakes the plan.
    fn settle(&mut self, context: &mut Context<Message>) {
        let now = self.clock.now();
        let publish_at = self.published_at + PUBLISH_INTERVAL_MS;
        let unpublished = now < publish_at;
        if !unpublished {
            self.published_at = now;
            self.publish(context);
        }
        let wake_at = self
            .plan
            .wake_at(self.stepped_at)
            .into_iter()
            .chain(unpublished.then_some(publish_at))
            .min();
        if let Some(wake_at) = wake_at {
            self.set_alarm(context, now, wake_at);
        }
    }

    fn publish(&mut self, context: &mut Context<Message>) {
        self.counts.launch_us = self.latencies.iter().copied().collect();
        let framework_id = context.framework_id().map(|id| id.value.clone());
        let catalogue = Catalogue::of(&self.plan, framework_id, context.is_connected(), &self.counts);
        self.catalogue.send_if_modified(|current| {
            let changed = *current != catalogue;
            *current = catalogue;
            changed
        });
    }

    fn set_alarm(&mut self, context: &mut Context<Message>, now: Millis, wake_at: Millis) {
        if let Some((set_to, alarm)) = &self.alarm {
            if *set_to <= wake_at && *set_to > now {
                return;
            }
            alarm.abort();
        }
        let sender = context.sender();
        let wait = Duration::from_millis(wake_at.saturating_sub(now));
        let alarm = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = sender.send(Message::Wake);
        });
        self.alarm = Some((wake_at, alarm.abort_handle()));
    }

    fn put(&mut self, context: &mut Context<Message>, spec: ServiceSpec) -> Result<Accepted, StoreError> {
        let current = self.plan.services().get(&spec.id);
        let created = current.is_none_or(|service| service.removed);
        let kept = current
            .filter(|service| service.spec.same_instance(&spec))
            .map(|service| service.version);
        let version = kept.unwrap_or(self.version_next);
        self.store.keep_service(&spec, version)?;
        self.version_next = self.version_next.max(version + 1);
        tracing::info!(service = spec.id, instances = spec.instances, version, "service wanted");
        self.step(context, Input::Put(Box::new(spec), version));
        Ok(Accepted { version, created })
    }

    fn remove(&mut self, context: &mut Context<Message>, id: String) -> Result<bool, StoreError> {
        if self.plan.services().get(&id).is_none_or(|service| service.removed) {
            return Ok(false);
        }
        self.store.drop_service(&id)?;
        tracing::info!(service = id, "service not wanted any more");
        self.step(context, Input::Remove(id));
        Ok(true)
    }

    /// Finds places for missing instances.
    fn place(&self, offers: &Offers) -> Vec<(proffer_sdk::offers::Placement, Task, Launch)> {
        let wanted = self.plan.wanted(self.clock.now());
        let mut matcher = Matcher::new(offers.iter());
        let mut placed = Vec::new();
        let mut service: Option<&crate::plan::Service> = None;
        let mut full = false;
        for instance in wanted {
            if service.is_none_or(|service| service.spec.id != instance.service) {
                service = self.plan.services().get(&instance.service);
                full = false;
                let live = service.into_iter().flat_map(|service| service.slots.values());
                for agent_id in live.filter_map(|slot| slot.task.as_ref()?.agent_id.as_deref()) {
                    matcher.running(instance.service.as_str(), &agent_id.into());
                }
            }
            let Some(service) = service.filter(|_| !full) else {
                continue;
            };
            let (task, task_id) = task(&service.spec, &instance);
            // All instances of a service are alike: where one finds no place the others do not either.
            let Some(placement) = matcher.place(task.shape()) else {
                full = true;
                continue;
            };
            let ports = service.spec.ports.iter().zip(&placement.ports);
            let launch = Launch {
                task_id,
                instance,
                version: service.version,
                agent_id: Some(placement.agent_id.value.clone()),
                host: placement.hostname.clone(),
                ports: ports
                    .map(|(port, number)| PortAssignment {
                        name: port.name.clone(),
                        port: *number,
                    })
                    .collect(),
            };
            placed.push((placement, task, launch));
        }
        placed
    }

    fn note_latency(&mut self, status: &TaskStatus) {
        let runs = status.state() == TaskState::TaskRunning;
        if runs && let Some(placed) = self.placed.remove(&status.task_id.value) {
            let latency_us = u64::try_from(placed.elapsed().as_micros()).unwrap_or(u64::MAX);
            if self.latencies.len() == LATENCIES_MAX {
                self.latencies.pop_front();
            }
            self.latencies.push_back(latency_us);
        }
    }
}

impl Scheduler for Services {
    type Message = Message;

    async fn registered(&mut self, context: &mut Context<Message>, framework_id: &FrameworkId) {
        if let Err(error) = self.store.keep_framework_id(&framework_id.value) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "framework id not kept, so nothing is launched"
            );
            return context.stop();
        }
        self.registered = true;
        let early = std::mem::take(&mut self.early);
        // What was asked for first is void by what was asked for last.
        let demand = early
            .iter()
            .rposition(|effect| matches!(effect, Effect::Revive | Effect::Suppress));
        let effects = early
            .into_iter()
            .enumerate()
            .filter(|(index, effect)| !matches!(effect, Effect::Revive | Effect::Suppress) || Some(*index) == demand);
        let effects = effects.map(|(_, effect)| effect).collect();
        self.carry_out(context, effects);
    }

    async fn reregistered(&mut self, context: &mut Context<Message>) {
        self.settle(context);
    }

    async fn disconnected(&mut self, context: &mut Context<Message>) {
        self.settle(context);
    }

    async fn offers(&mut self, context: &mut Context<Message>, offers: Offers) {
        let placed = self.place(&offers);
        if placed.is_empty() {
            return;
        }
        let launches: Vec<_> = placed.iter().map(|(_, _, launch)| launch.clone()).collect();
        if let Err(error) = self.store.launching(&launches) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "launches not kept, so not made"
            );
            let sender = context.sender();
            tokio::spawn(async move {
                tokio::time::sleep(STORE_RETRY).await;
                let _ = sender.send(Message::Wake);
            });
            return;
        }
        let now = Instant::now();
        for (placement, task, launch) in placed {
            tracing::info!(
                task_id = launch.task_id,
                agent_id = placement.agent_id.value,
                ports = ?placement.ports,
                "instance launched"
            );
            self.counts.launched += 1;
            self.placed.insert(launch.task_id.clone(), now);
            context.launch(placement, task);
            self.step(context, Input::Launched(launch));
        }
    }

    async fn update(&mut self, context: &mut Context<Message>, status: TaskStatus) {
        self.note_latency(&status);
        let state = observed(status.state());
        let message = end_message(&status);
        let task_id = status.task_id.value;
        match state {
            Observed::Ended | Observed::Vanished => tracing::info!(task_id, reason = message, "instance ended"),
            Observed::Unreachable => tracing::warn!(task_id, "instance unreachable"),
            Observed::Starting | Observed::Running => tracing::debug!(task_id, ?state, "instance heard of"),
        }
        let agent_id = status.agent_id.map(|id| id.value);
        self.step(
            context,
            Input::Task {
                task_id,
                agent_id,
                state,
                message,
            },
        );
    }

    async fn message(&mut self, context: &mut Context<Message>, message: Message) {
        match message {
            Message::Put(spec, answer) => {
                let result = self.put(context, *spec);
                // Whoever has the answer finds it in the catalogue.
                self.publish(context);
                let _ = answer.send(result);
            }
            Message::Remove(id, answer) => {
                let result = self.remove(context, id);
                self.publish(context);
                let _ = answer.send(result);
            }
            Message::Wake => self.step(context, Input::Tick),
            Message::Stop { teardown: true } => context.teardown(),
            Message::Stop { teardown: false } => context.stop(),
        }
    }

    async fn error(&mut self, _context: &mut Context<Message>, message: &str) {
        tracing::error!(message, "the master ended the framework's subscription");
    }
}

fn kill(context: &mut Context<Message>, task_id: &TaskId, grace_ms: u64) {
    let nanoseconds = i64::try_from(grace_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let policy = KillPolicy {
        grace_period: Some(DurationInfo { nanoseconds }),
    };
    context.kill_with(task_id, Some(policy));
}

/// Builds the task of an instance, with an id that no task had before.
fn task(spec: &ServiceSpec, instance: &InstanceId) -> (Task, String) {
    let task_id = instance.task_id(&uuid::Uuid::new_v4().simple().to_string()[..12]);
    let mut task = match &spec.run {
        Run::Command(line) => Task::command(&spec.id, line),
        Run::Argv(argv) => {
            let program = argv.first().cloned().unwrap_or_default();
            Task::program(&spec.id, program, argv.iter().skip(1))
        }
    };
    let strategy = if spec.constraints.unique_host {
        Strategy::Unique
    } else {
        Strategy::Spread
    };
    task = task
        .with_id(&task_id)
        .cpus(spec.cpus)
        .mem(spec.mem)
        .kill_grace(Duration::from_secs_f64(spec.kill_grace_seconds))
        .strategy(&spec.id, strategy)
        .label("service", &spec.id)
        .label("instance", instance.index.to_string());
    if let Some(disk) = spec.disk {
        task = task.disk(disk);
    }
    for port in &spec.ports {
        task = if port.port == 0 {
            task.port(&port.name)
        } else {
            task.fixed_port(&port.name, port.port)
        };
    }
    for (name, value) in &spec.env {
        task = task.env(name, value);
    }
    if let Some(user) = &spec.user {
        task = task.user(user);
    }
    task = task
        .env("SERVICE", &spec.id)
        .env("INSTANCE", instance.to_string())
        .env("INSTANCE_INDEX", instance.index.to_string());
    (task, task_id)
}

fn observed(state: TaskState) -> Observed {
    use TaskState::*;
    match state {
        TaskStaging | TaskStarting => Observed::Starting,
        TaskRunning | TaskKilling => Observed::Running,
        TaskUnreachable => Observed::Unreachable,
        TaskFinished | TaskFailed | TaskKilled | TaskError => Observed::Ended,
        // The master does not know the agent of an unknown task: nobody will ever hear of it again.
        TaskLost | TaskDropped | TaskGone | TaskGoneByOperator | TaskUnknown => Observed::Vanished,
    }
}

/// What is shown of the end of a task.
fn end_message(status: &TaskStatus) -> String {
    match status.message.as_deref().filter(|message| !message.is_empty()) {
        Some(message) => format!("{}: {message}", status.state().as_str_name()),
        None => status.state().as_str_name().to_owned(),
    }
}

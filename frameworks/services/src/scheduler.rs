//! The shell around the plan: events of the cluster and requests of users go in, and its effects are carried out.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use proffer_proto::Rejection;
use proffer_proto::v1::scheduler::OfferConstraints;
use proffer_proto::v1::{FrameworkId, TaskId, TaskState, TaskStatus};
use proffer_sdk::offers::Placement;
use proffer_sdk::{Context, KnownTask, Offers, Scheduler, Task};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::catalogue::{Catalogue, Counts};
use crate::placement::{self, Decision, Machine, Round};
use crate::plan::{Effect, Gates, Input, InstanceId, Launch, Millis, Observed, Plan, PortAssignment, Put, Service};
use crate::spec::OnFailure;
use crate::store::{Recovered, Store, StoreError};
use crate::template::Facts;
use crate::versions::{Change, Versions};

mod clock;
mod status;
mod task;

use clock::Clock;

pub(crate) use task::shape;

/// So many launch latencies are kept.
const LATENCIES_MAX: usize = 1_024;

/// The shortest time between two catalogues, in milliseconds: thousands of updates make no thousands of catalogues.
const PUBLISH_INTERVAL_MS: Millis = 5;

/// When a launch that could not be written down is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What is asked of the scheduler from elsewhere in the process.
#[derive(Debug)]
pub(crate) enum Message {
    /// A service is wanted, or is to change.
    Change(Request, oneshot::Sender<Result<Accepted, ChangeError>>),
    /// What is remembered of a service.
    Versions(String, oneshot::Sender<Option<Versions>>),
    /// A service is wanted no more. Answers whether it was there.
    Remove(String, oneshot::Sender<Result<bool, StoreError>>),
    /// Time has come to look at the plan.
    Wake,
    /// The scheduler is to end, and its tasks with it or not.
    Stop { teardown: bool },
}

/// A change of a service that somebody wants.
#[derive(Debug)]
pub(crate) struct Request {
    /// The id of the service.
    pub(crate) id: String,
    /// What is to change.
    pub(crate) change: Change,
    /// Only where this is its version; 0 is that of a service that is not there.
    pub(crate) expected: Option<u64>,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such service.
    #[error("no service `{0}`")]
    Unknown(String),
    /// Somebody else changed it.
    #[error("`{id}` has the version {found}, not {expected}: somebody else changed it")]
    Conflict {
        /// The id of the service.
        id: String,
        /// The version that was expected.
        expected: u64,
        /// The version that it has; 0 where it is not there.
        found: u64,
    },
    /// It asks for something invalid.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It could not be kept.
    #[error("keep the change")]
    Store(#[from] StoreError),
}

/// What became of a change of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Accepted {
    /// The version of the specification.
    pub version: u64,
    /// The version that instances will have: that in which what an instance is changed last.
    pub instance_version: u64,
    /// Whether there was no such service before.
    pub created: bool,
}

/// What became of an update, and is to be kept.
#[derive(Debug)]
enum Deferred {
    Settled {
        service: String,
        version: u64,
    },
    Stuck {
        service: String,
        reason: String,
        reverts: bool,
    },
}

/// The scheduler of all services.
#[derive(Debug)]
pub(crate) struct Services {
    plan: Plan,
    store: Store,
    clock: Clock,
    catalogue: watch::Sender<Catalogue>,
    /// What is remembered of the services that are wanted.
    versions: BTreeMap<String, Versions>,
    /// Higher than every version in use.
    version_next: u64,
    counts: Counts,
    latencies: VecDeque<u64>,
    /// When the tasks that do not run yet were placed.
    placed: HashMap<String, Instant>,
    /// Effects from before the subscription.
    early: Vec<Effect>,
    /// What is to be kept when the plan has been followed.
    deferred: VecDeque<Deferred>,
    torn_down: bool,
    role: String,
    /// What the master was told of the agents that are of use.
    constraints: Option<OfferConstraints>,
    alarm: Option<(Millis, AbortHandle)>,
    published_at: Millis,
    /// The time of the plan's last step: what became due since then is still to be stepped for.
    stepped_at: Millis,
    registered: bool,
}

impl Services {
    /// Takes over what an earlier process left. Also returns the tasks of which the driver has to know.
    pub(crate) fn new(
        store: Store,
        recovered: Recovered,
        catalogue: watch::Sender<Catalogue>,
        role: String,
        seed: u64,
    ) -> (Self, Vec<KnownTask>) {
        let clock = Clock::new();
        let now = clock.now();
        let versions = recovered.services.iter().map(|versions| versions.current.version);
        let versions = versions.chain(recovered.launches.iter().map(|launch| launch.version));
        let version_next = versions.max().unwrap_or(0) + 1;
        let (mut plan, mut early) = (Plan::new(seed), Vec::new());
        let mut versions = BTreeMap::new();
        for known in recovered.services {
            plan.step(now, Input::Put(Box::new(put_of(&known))), &mut early);
            versions.insert(known.current.spec.id.clone(), known);
        }
        let mut known = Vec::new();
        // Of two tasks of one instance the older was given up on, so the newer is to have the slot.
        for launch in recovered.launches.into_iter().rev() {
            let agent_id = launch.agent_id().map(Into::into);
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
            versions,
            version_next,
            counts: Counts::default(),
            latencies: VecDeque::new(),
            placed: HashMap::new(),
            early,
            deferred: VecDeque::new(),
            torn_down: false,
            role,
            constraints: None,
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
                Effect::Revive => self.ask(context),
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
                Effect::Settled { service, version } => {
                    self.deferred.push_back(Deferred::Settled { service, version });
                }
                Effect::Stuck {
                    service,
                    reason,
                    reverts,
                } => self.deferred.push_back(Deferred::Stuck {
                    service,
                    reason,
                    reverts,
                }),
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

    /// Keeps what the plan has found.
    async fn finish(&mut self, context: &mut Context<Message>) {
        while let Some(deferred) = self.deferred.pop_front() {
            match deferred {
                Deferred::Settled { service, version } => self.settled(&service, version).await,
                Deferred::Stuck {
                    service,
                    reason,
                    reverts,
                } => self.stuck(context, service, reason, reverts).await,
            }
        }
    }

    /// The framework has ended.
    pub(crate) async fn ended(self) -> Result<(), StoreError> {
        if self.torn_down {
            self.store.clear().await
        } else {
            Ok(())
        }
    }

    /// All instances of a service were ready: it may go back to this version.
    async fn settled(&mut self, id: &str, version: u64) {
        let Some(versions) = self.versions.get_mut(id) else {
            return;
        };
        tracing::info!(service = id, version, "all instances are ready");
        let renewed = Versions {
            stable: Some(version),
            ..versions.clone()
        };
        match self.store.keep_service(&renewed).await {
            Ok(()) => *versions = renewed,
            Err(error) => tracing::warn!(
                service = id,
                error = &error as &dyn std::error::Error,
                "version not kept"
            ),
        }
    }

    /// An update made no progress: the version before comes back, where the specification wants that.
    async fn stuck(&mut self, context: &mut Context<Message>, id: String, reason: String, reverts: bool) {
        tracing::warn!(service = id, reason, "update failed");
        let versions = self.versions.get(&id);
        let policy = versions.map(|versions| versions.current.spec.update.on_failure);
        if reverts || policy != Some(OnFailure::Revert) {
            return;
        }
        let request = Request {
            id: id.clone(),
            change: Change::Revert(reason),
            expected: None,
        };
        match self.change(context, request).await {
            Ok(accepted) => tracing::info!(service = id, version = accepted.version, "update reverted"),
            Err(ChangeError::Rejected(_)) => tracing::info!(service = id, "there is no version to go back to"),
            Err(error) => tracing::error!(
                service = id,
                error = &error as &dyn std::error::Error,
                "update not reverted"
            ),
        }
    }

    async fn change(&mut self, context: &mut Context<Message>, request: Request) -> Result<Accepted, ChangeError> {
        let Request { id, change, expected } = request;
        let known = self.versions.get(&id);
        let found = known.map_or(0, |versions| versions.current.version);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(ChangeError::Conflict { id, expected, found });
        }
        let (version, now) = (self.version_next, self.clock.now());
        let versions = match (known, change) {
            (None, Change::Spec(spec)) => Versions::first(*spec, version, now),
            (None, _) => return Err(ChangeError::Unknown(id)),
            (Some(known), change) => {
                let after = known.after(change, version, now);
                after.ok_or_else(|| {
                    let numbers: Vec<_> = known.numbers().iter().map(ToString::to_string).collect();
                    let accepted = format!("one that is remembered: {}", numbers.join(", "));
                    Rejection::new("version", "is none to go back to", accepted)
                })?
            }
        };
        versions.current.spec.validate()?;
        self.store.keep_service(&versions).await?;
        self.version_next += 1;
        let accepted = Accepted {
            version,
            instance_version: versions.current.instance_version,
            created: known.is_none(),
        };
        tracing::info!(
            service = id,
            instances = versions.current.spec.instances,
            version,
            instance_version = accepted.instance_version,
            "service wanted"
        );
        let put = put_of(&versions);
        self.versions.insert(id, versions);
        self.step(context, Input::Put(Box::new(put)));
        Ok(accepted)
    }

    async fn remove(&mut self, context: &mut Context<Message>, id: String) -> Result<bool, StoreError> {
        if self.plan.services().get(&id).is_none_or(|service| service.removed) {
            return Ok(false);
        }
        self.store.drop_service(&id).await?;
        self.versions.remove(&id);
        tracing::info!(service = id, "service not wanted any more");
        self.step(context, Input::Remove(id));
        Ok(true)
    }

    /// Finds places for missing instances.
    fn place(&self, offers: &Offers) -> Vec<(Placement, Task, Launch)> {
        let mut round = Round::new(offers);
        let mut placed = Vec::new();
        for (service, indices) in self.missing() {
            let here = machines(service);
            let neighbours = |id: &str, machine: &Machine| {
                let other = self.plan.services().get(id);
                other.is_some_and(|other| machines(other).any(|known| known.agent_id == machine.agent_id))
            };
            let shape = task::shape(&service.spec);
            let decisions = round.decide(&service.spec, &shape, indices, here, neighbours);
            placed.extend(launches(service, decisions));
        }
        placed
    }

    /// The missing instances by service.
    fn missing(&self) -> impl Iterator<Item = (&Service, Vec<u32>)> {
        let services = self.plan.services().values();
        let missing = services.map(|service| (service, service.missing(self.stepped_at).collect::<Vec<_>>()));
        missing.filter(|(_, indices)| !indices.is_empty())
    }

    /// Asks for offers, and says what for.
    fn ask(&mut self, context: &mut Context<Message>) {
        let missing = self.missing();
        let count = |indices: Vec<u32>| u32::try_from(indices.len()).unwrap_or(u32::MAX);
        let specs: Vec<_> = missing
            .map(|(service, indices)| (&service.spec, count(indices)))
            .collect();
        let constraints = placement::constraints(&self.role, specs.iter().map(|(spec, _)| *spec));
        let demand = placement::demand(specs);
        if self.constraints != constraints {
            self.constraints.clone_from(&constraints);
            context.constrain(constraints);
        }
        context.request(demand);
        context.revive();
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
        if let Err(error) = self.store.keep_framework_id(&framework_id.value).await {
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
        self.finish(context).await;
    }

    async fn reregistered(&mut self, context: &mut Context<Message>) {
        // A new subscription begins without demand.
        if self.missing().next().is_some() {
            self.ask(context);
        }
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
        if let Err(error) = self.store.launching(&launches).await {
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
            self.placed.insert(launch.task_id, now);
            context.launch(placement, task);
        }
        self.step(context, Input::Launched(launches));
        self.finish(context).await;
    }

    async fn update(&mut self, context: &mut Context<Message>, status: TaskStatus) {
        self.note_latency(&status);
        let news = status::news(status);
        let task_id = news.task_id.as_str();
        match news.state {
            Observed::Ended | Observed::Vanished => tracing::info!(task_id, reason = news.message, "instance ended"),
            Observed::Unreachable => tracing::warn!(task_id, "instance unreachable"),
            Observed::Starting | Observed::Running => {
                tracing::debug!(task_id, state = ?news.state, "instance heard of")
            }
        }
        self.step(context, Input::Task(news));
        self.finish(context).await;
    }

    async fn message(&mut self, context: &mut Context<Message>, message: Message) {
        match message {
            Message::Versions(id, answer) => drop(answer.send(self.versions.get(&id).cloned())),
            Message::Change(request, answer) => {
                let result = self.change(context, request).await;
                // Whoever has the answer finds it in the catalogue.
                self.publish(context);
                let _ = answer.send(result);
            }
            Message::Remove(id, answer) => {
                let result = self.remove(context, id).await;
                self.publish(context);
                let _ = answer.send(result);
            }
            Message::Wake => self.step(context, Input::Tick),
            Message::Stop { teardown: true } => {
                self.torn_down = true;
                context.teardown();
            }
            Message::Stop { teardown: false } => context.stop(),
        }
        self.finish(context).await;
    }

    async fn error(&mut self, _context: &mut Context<Message>, message: &str) {
        tracing::error!(message, "the master ended the framework's subscription");
    }
}

fn kill(context: &mut Context<Message>, task_id: &TaskId, grace_ms: u64) {
    context.kill_with(task_id, Some(task::kill_policy(grace_ms as f64 / 1_000.0)));
}

/// What the plan is told of a service.
fn put_of(versions: &Versions) -> Put {
    let current = &versions.current;
    Put {
        spec: current.spec.clone(),
        version: current.version,
        instance_version: current.instance_version,
        reverts: current.reverts.clone(),
    }
}

/// Where the instances of a service are.
fn machines(service: &Service) -> impl Iterator<Item = &Machine> {
    let tasks = service.slots.values().filter_map(|slot| slot.task.as_ref());
    tasks.filter(|task| task.agent_id().is_some()).map(|task| &task.machine)
}

/// The tasks for what was decided about a service. Those of one round know each other as peers.
fn launches(service: &Service, decisions: Vec<Decision>) -> Vec<(Placement, Task, Launch)> {
    let spec = &service.spec;
    let launches: Vec<_> = decisions
        .into_iter()
        .map(|decision| {
            let instance = InstanceId {
                service: spec.id.clone(),
                index: decision.index,
            };
            let launch = Launch {
                task_id: task::fresh_id(&instance),
                instance,
                version: service.instance_version,
                ports: task::ports(spec, &decision.placement),
                machine: decision.machine,
                gates: Gates::of(spec),
            };
            (decision.placement, launch)
        })
        .collect();
    let fresh: HashSet<u32> = launches.iter().map(|(_, launch)| launch.instance.index).collect();
    let others = service
        .slots
        .iter()
        .filter(|(index, _)| !fresh.contains(index))
        .filter_map(|(index, slot)| Some((*index, slot.task.as_ref()?)));
    let fresh = launches.iter().map(|(_, launch)| (launch.instance.index, launch));
    let peers: BTreeMap<u32, &Launch> = others.chain(fresh).collect();
    let peers: Vec<(u32, &str, &[PortAssignment])> = peers
        .into_iter()
        .map(|(index, peer)| (index, peer.machine.hostname.as_str(), peer.ports.as_slice()))
        .collect();
    let tasks: Vec<_> = launches
        .iter()
        .map(|(_, launch)| {
            let facts = Facts {
                service: &spec.id,
                version: service.version,
                task: &launch.task_id,
                instance: launch.instance.index,
                instances: spec.instances,
                machine: &launch.machine,
                ports: &launch.ports,
                peers: &peers,
            };
            task::build(spec, &facts)
        })
        .collect();
    let joined = launches.into_iter().zip(tasks);
    joined
        .map(|((placement, launch), task)| (placement, task, launch))
        .collect()
}

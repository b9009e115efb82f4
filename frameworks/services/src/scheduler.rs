//! The shell around the plan: events of the cluster and requests of users go in, and its effects are carried out.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use proffer_proto::v1::scheduler::OfferConstraints;
use proffer_proto::v1::{FrameworkId, InverseOffer, OperationStatus, TaskId, TaskStatus};
use proffer_sdk::{Context, KnownTask, Offers, Scheduler};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::catalogue::{Catalogue, Counts};
use crate::plan::{Effect, Input, Millis, Observed, Plan};
use crate::store::{Recovered, Store, StoreError};
use crate::versions::Versions;

mod change;
mod clock;
mod draining;
mod launching;
mod leaving;
mod message;
mod publishing;
mod status;
mod task;

pub(crate) use change::validate_role;
use change::{Deferred, put_of};
use clock::Clock;
use leaving::Asked;

pub use message::{Accepted, ChangeError};
pub(crate) use message::{Message, Request};
pub(crate) use task::shape;

/// When a launch that could not be written down is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

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
    /// Tasks that are found no more, and end as soon as nobody uses them.
    draining: HashSet<String>,
    /// Effects from before the subscription.
    early: Vec<Effect>,
    /// What is to be kept when the plan has been followed.
    deferred: VecDeque<Deferred>,
    /// Inverse offers that were not answered yet.
    asked: Asked,
    torn_down: bool,
    /// Whether another scheduler is the active one now.
    replaced: bool,
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
        for home in recovered.homes {
            plan.step(now, Input::Home(Box::new(home)), &mut early);
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
            draining: HashSet::new(),
            early,
            deferred: VecDeque::new(),
            asked: Asked::new(),
            torn_down: false,
            replaced: false,
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
                Effect::Kill {
                    task_id,
                    grace_ms,
                    drain_ms: 0,
                } => kill(context, &task_id.as_str().into(), grace_ms),
                Effect::Kill {
                    task_id,
                    grace_ms,
                    drain_ms,
                } => self.drain(context, task_id, grace_ms, drain_ms),
                Effect::Revive => self.ask(context),
                Effect::Suppress => context.suppress(),
                Effect::Forget(task_id) => {
                    self.placed.remove(&task_id);
                    self.draining.remove(&task_id);
                    if let Err(error) = self.store.forget(&task_id) {
                        tracing::warn!(
                            task_id,
                            error = &error as &dyn std::error::Error,
                            "end of a task not kept"
                        );
                    }
                }
                Effect::Switch { service, base } => self.deferred.push_back(Deferred::Switch { service, base }),
                Effect::KeepHome(home) => self.deferred.push_back(Deferred::Home(home)),
                Effect::DropHome(id) => self.deferred.push_back(Deferred::NoHome(id)),
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
        self.give_back(context);
        self.settle(context);
    }

    /// The framework has ended.
    pub(crate) async fn ended(self) -> Result<(), StoreError> {
        if self.torn_down {
            self.store.clear().await
        } else {
            Ok(())
        }
    }
}

impl Services {
    /// Whether another scheduler has taken over; then this one ends, and leaves all as it is.
    fn is_overtaken(&mut self, context: &mut Context<Message>, error: &StoreError) -> bool {
        let overtaken = matches!(error, StoreError::Overtaken(_));
        if overtaken {
            self.replaced = true;
            context.stop();
        }
        overtaken
    }

    /// Whether it ended because another scheduler has taken over.
    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced
    }
}

impl Scheduler for Services {
    type Message = Message;

    async fn registered(&mut self, context: &mut Context<Message>, framework_id: &FrameworkId) {
        if let Err(error) = self.store.keep_framework_id(&framework_id.value).await {
            if self.is_overtaken(context, &error) {
                return;
            }
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
        // They are made again.
        self.asked.clear();
        self.settle(context);
    }

    async fn offers(&mut self, context: &mut Context<Message>, offers: Offers) {
        self.look_who_stays(context, &offers);
        let answer = self.place(&offers);
        if answer.placed.is_empty() {
            return self.accept(context, answer);
        }
        let launches: Vec<_> = answer.placed.iter().map(|placed| placed.launch.clone()).collect();
        if let Err(error) = self.keep_launches(&answer, &launches).await {
            if self.is_overtaken(context, &error) {
                return;
            }
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
        for placed in &answer.placed {
            self.counts.launched += 1;
            self.placed.insert(placed.launch.task_id.clone(), now);
            if let Some((home, _)) = &placed.residence {
                self.step(context, Input::Home(Box::new(home.clone())));
            }
        }
        self.accept(context, answer);
        self.step(context, Input::Launched(launches));
        self.finish(context).await;
    }

    async fn inverse_offers(&mut self, context: &mut Context<Message>, offers: Vec<InverseOffer>) {
        self.asked_back(context, offers);
        self.finish(context).await;
    }

    async fn operation(&mut self, context: &mut Context<Message>, status: OperationStatus) {
        self.destroyed(context, &status);
        self.finish(context).await;
    }

    async fn update(&mut self, context: &mut Context<Message>, status: TaskStatus) {
        self.note_latency(&status);
        let draining = status.agent_id.as_ref().filter(|_| status::is_draining(&status));
        let draining = draining.map(|agent| agent.value.clone());
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
        if let Some(agent_id) = draining {
            self.step(context, Input::Leave(agent_id));
        }
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
            Message::Drained { task_id, grace_ms } => self.drained(context, &task_id, grace_ms),
            Message::Unswitched { service, base } => self.step(context, Input::Switched { service, base }),
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
        tracing::warn!(message, "the master ended the framework's subscription");
    }
}

fn kill(context: &mut Context<Message>, task_id: &TaskId, grace_ms: u64) {
    context.kill_with(task_id, Some(task::kill_policy(grace_ms as f64 / 1_000.0)));
}

//! The deciding half: which instances are missing, which tasks have to end, and when to look again.
//!
//! A pure state machine: time is an argument, chance comes from a seed, and nothing is read or written here. A service
//! has one [`Slot`] for each index from 0 to one less than its wanted number, and while an update rolls some more; a slot
//! has at most one task that is not known to have ended, so that there are never more instances than allowed. Life of a
//! slot:
//!
//! ```text
//!            launched              running             ended, vanished
//!  missing ----------> starting ----------> running ------------------> missing (due later: back-off)
//!     ^                                        |
//!     |  too long unreachable: given up        v
//!     +----------------------------------- unreachable <-> running
//! ```
//!
//! A task that was given up is killed when it comes back, unless its slot is still missing: then it is taken back. How a
//! service goes from one version to the next is in [`rollout`], how long a failed instance waits in [`failures`].

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::{ScaleDown, ServiceSpec};

pub mod failures;
pub mod homes;
mod instance;
pub mod rollout;
mod service;
mod sides;
mod slot;

pub use instance::{Gates, InstanceId, Launch, Millis, PortAssignment, Verdicts};
pub use rollout::{Rollout, RolloutState};
pub use service::Service;
pub use sides::SIDE;
pub use slot::{Phase, Slot};

use failures::Jitter;
use homes::{Home, Homes};

/// Everything that can happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// A service is wanted.
    Put(Box<Put>),
    /// A service is wanted no more.
    Remove(String),
    /// A task that an earlier process launched and that had not ended.
    Recovered(Launch),
    /// An agent is going to be taken away.
    Leave(String),
    /// It is not any more.
    Stay(String),
    /// Where the persistent volumes of an instance lie, or are going to lie.
    Home(Box<Home>),
    /// The volumes of a home that was doomed are no more.
    Destroyed(String),
    /// That another side of a service serves was kept.
    Switched {
        /// The id of the service.
        service: String,
        /// The first index of that side.
        base: u32,
    },
    /// Missing instances are being launched.
    Launched(Vec<Launch>),
    /// The state of a task was told.
    Task(News),
    /// Time has passed.
    Tick,
}

/// What is wanted of a service.
#[derive(Clone, Debug)]
pub struct Put {
    /// The specification.
    pub spec: ServiceSpec,
    /// Its version, which grows with every change.
    pub version: u64,
    /// The version in which what an instance is changed last.
    pub instance_version: u64,
    /// Why it goes back to an older version, where it does by itself.
    pub reverts: Option<String>,
    /// The first index of the side that serves.
    pub base: u32,
}

/// What was told of a task.
#[derive(Clone, Debug)]
pub struct News {
    /// Its id.
    pub task_id: String,
    /// Its agent, where it was told.
    pub agent_id: Option<String>,
    /// Its state.
    pub state: Observed,
    /// What its checks said, where they were told.
    pub verdicts: Verdicts,
    /// What the cluster says about it.
    pub message: String,
}

impl News {
    /// Whether nothing more will be heard of the task.
    pub fn is_over(&self) -> bool {
        matches!(self.state, Observed::Ended | Observed::Vanished)
    }
}

/// The state of a task, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It is on its way.
    Starting,
    /// It runs.
    Running,
    /// Its agent is away; it may be running.
    Unreachable,
    /// It ended by itself, or somebody ended it.
    Ended,
    /// It is gone, or never was, without fault of its own.
    Vanished,
}

/// Everything that may have to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask for the end of a task.
    Kill {
        /// Its id.
        task_id: String,
        /// How long it may take to end after SIGTERM, in milliseconds.
        grace_ms: u64,
        /// How long to wait before, so that those who find it have left it, in milliseconds.
        drain_ms: u64,
    },
    /// More is missing than before: ask for offers.
    Revive,
    /// Nothing is missing: ask for no offers.
    Suppress,
    /// Nothing more will be heard of a task.
    Forget(String),
    /// The side of the new version of a service is to serve: that is to be kept first.
    Switch {
        /// The id of the service.
        service: String,
        /// The first index of that side.
        base: u32,
    },
    /// What is known of the persistent volumes of an instance has changed.
    KeepHome(Box<Home>),
    /// Persistent volumes are no more.
    DropHome(String),
    /// The last task of a removed service ended.
    Removed(String),
    /// All instances of a service have the version.
    Settled {
        /// The id of the service.
        service: String,
        /// The version of its specification.
        version: u64,
    },
    /// An update of a service has failed.
    Stuck {
        /// The id of the service.
        service: String,
        /// What did not happen.
        reason: String,
        /// Whether it was a way back already.
        reverts: bool,
    },
}

/// All services.
#[derive(Clone, Debug)]
pub struct Plan {
    services: BTreeMap<String, Service>,
    /// Tasks on unreachable agents that were given up.
    given_up: BTreeMap<String, Launch>,
    /// Tasks without a slot that are being killed.
    strays: BTreeSet<String>,
    homes: Homes,
    /// Agents that are going to be taken away.
    leaving: BTreeSet<String>,
    suppressed: bool,
    jitter: Jitter,
}

impl Plan {
    /// A plan without services. Equal seeds give equal waits.
    pub fn new(seed: u64) -> Self {
        Self {
            services: BTreeMap::new(),
            given_up: BTreeMap::new(),
            strays: BTreeSet::new(),
            homes: Homes::default(),
            leaving: BTreeSet::new(),
            suppressed: false,
            jitter: Jitter::new(seed),
        }
    }

    /// The services by id.
    pub fn services(&self) -> &BTreeMap<String, Service> {
        &self.services
    }

    /// The agents that are going to be taken away.
    pub fn leaving(&self) -> &BTreeSet<String> {
        &self.leaving
    }

    /// Whether an instance has a task on an agent that was not told to end.
    pub fn uses(&self, agent_id: &str) -> bool {
        let slots = self.services.values().flat_map(|service| service.slots.values());
        let mut staying = slots.filter(|slot| !slot.killing);
        staying.any(|slot| slot.task.as_ref().and_then(|task| task.agent_id()) == Some(agent_id))
    }

    /// Where persistent volumes lie.
    pub fn homes(&self) -> &Homes {
        &self.homes
    }

    /// The instances that may be launched now.
    pub fn wanted(&self, now: Millis) -> impl Iterator<Item = InstanceId> + '_ {
        self.services.iter().flat_map(move |(id, service)| {
            service.missing(now).map(|index| InstanceId {
                service: id.clone(),
                index,
            })
        })
    }

    /// When time alone changes something next.
    pub fn wake_at(&self, now: Millis) -> Option<Millis> {
        let services = self.services.values().filter_map(|service| service.wake_at(now));
        services.chain(self.homes.wake_at(now, &self.services)).min()
    }

    /// Applies one input. What must be done about it is appended to `effects`, in the order in which it must be done.
    pub fn step(&mut self, now: Millis, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Put(put) => self.put(now, *put, effects),
            Input::Remove(id) => {
                if let Some(service) = self.services.get_mut(&id) {
                    service.removed = true;
                    self.converge_all(now, &id, effects);
                }
            }
            Input::Recovered(launch) => self.launched(now, launch, false, effects),
            Input::Home(home) => self.homes.insert(now, *home, effects),
            Input::Leave(agent_id) => {
                if self.leaving.insert(agent_id) {
                    self.leave(now, effects);
                }
            }
            Input::Stay(agent_id) => {
                if self.leaving.remove(&agent_id) {
                    self.leave(now, effects);
                }
            }
            Input::Switched { service: id, base } => {
                if let Some(service) = self.services.get_mut(&id) {
                    service.switched(now, base);
                    self.converge_all(now, &id, effects);
                }
            }
            Input::Destroyed(id) => self.homes.destroyed(&id, effects),
            Input::Launched(launches) => {
                for launch in launches {
                    self.launched(now, launch, true, effects);
                }
            }
            Input::Task(news) => self.task(now, news, effects),
            Input::Tick => {
                for id in self.services.keys().cloned().collect::<Vec<_>>() {
                    self.converge_due(now, &id, effects);
                }
            }
        }
        self.homes.sweep(now, &self.services, effects);
        self.ask(now, effects);
    }

    /// Brings all services in line with which agents are going to be taken away.
    fn leave(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        for service in self.services.values_mut() {
            service.leave(&self.leaving);
        }
        for id in self.services.keys().cloned().collect::<Vec<_>>() {
            self.converge_all(now, &id, effects);
        }
    }

    fn put(&mut self, now: Millis, put: Put, effects: &mut Vec<Effect>) {
        let id = put.spec.id.clone();
        match self.services.get_mut(&id) {
            Some(service) => service.put(now, put),
            None => drop(self.services.insert(id.clone(), Service::new(now, &put))),
        }
        if let Some(service) = self.services.get_mut(&id) {
            service.leave(&self.leaving);
        }
        self.converge_all(now, &id, effects);
    }

    fn launched(&mut self, now: Millis, launch: Launch, known: bool, effects: &mut Vec<Effect>) {
        let instance = launch.instance.clone();
        let refused = match self.services.get_mut(&instance.service) {
            Some(service) => service.launched(now, launch, known),
            None => Some(launch),
        };
        if let Some(service) = self.services.get_mut(&instance.service)
            && !service.indices().contains(instance.index)
        {
            service.converge(now, instance.index, effects);
        }
        if let Some(launch) = refused {
            self.stray(&launch.task_id, effects);
        }
    }

    fn task(&mut self, now: Millis, news: News, effects: &mut Vec<Effect>) {
        let task_id = news.task_id.clone();
        let over = news.is_over();
        let instance = InstanceId::of_task(&task_id);
        let service = instance.as_ref().and_then(|one| self.services.get_mut(&one.service));
        if let Some((instance, service)) = instance.as_ref().zip(service)
            && let Some(slot) = service.slots.get(&instance.index)
            && slot.task.as_ref().is_some_and(|task| task.task_id == task_id)
        {
            let agent_id = slot.task.as_ref().and_then(|task| task.agent_id()).map(str::to_owned);
            if let Some(agent_id) = agent_id.filter(|_| news.state == Observed::Running) {
                self.homes.runs(instance, &agent_id, effects);
            }
            service.observed(now, instance.index, news, &mut self.jitter);
            if over {
                effects.push(Effect::Forget(task_id));
            }
            return self.converge(now, instance, effects);
        }
        match (news.state, instance) {
            (Observed::Ended | Observed::Vanished, _) => self.forget(&task_id, effects),
            (Observed::Unreachable, Some(_)) => {}
            (Observed::Starting | Observed::Running, Some(instance)) => self.returned(now, &instance, news, effects),
            (_, None) => self.stray(&task_id, effects),
        }
    }

    /// A task without a slot is alive: it is taken into its slot where that is missing, or else it has to end.
    fn returned(&mut self, now: Millis, instance: &InstanceId, news: News, effects: &mut Vec<Effect>) {
        let service = self.services.get_mut(&instance.service);
        let free = service.filter(|service| {
            let slot = service.slots.get(&instance.index);
            let vacant = slot.is_some_and(|slot| slot.task.is_none());
            vacant && service.is_wanted(instance.index) && !self.strays.contains(&news.task_id)
        });
        let Some(service) = free else {
            return self.stray(&news.task_id, effects);
        };
        let known = self.given_up.remove(&news.task_id);
        let version = service.instance_version;
        let unknown = || Launch::unknown(&news.task_id, instance.clone(), version, news.agent_id.clone());
        let launch = known.unwrap_or_else(unknown);
        if service.launched(now, launch, true).is_none() {
            service.observed(now, instance.index, news, &mut self.jitter);
        }
        self.converge(now, instance, effects);
    }

    fn stray(&mut self, task_id: &str, effects: &mut Vec<Effect>) {
        if self.strays.insert(task_id.to_owned()) {
            effects.push(Effect::Kill {
                task_id: task_id.to_owned(),
                grace_ms: 5_000,
                drain_ms: 0,
            });
        }
    }

    fn forget(&mut self, task_id: &str, effects: &mut Vec<Effect>) {
        self.strays.remove(task_id);
        self.given_up.remove(task_id);
        effects.push(Effect::Forget(task_id.to_owned()));
    }

    /// Brings one slot in line with what is wanted, and goes on with an update.
    fn converge(&mut self, now: Millis, instance: &InstanceId, effects: &mut Vec<Effect>) {
        if let Some(service) = self.services.get_mut(&instance.service) {
            let given_up = service.converge(now, instance.index, effects);
            self.give_up(given_up);
            self.roll(now, &instance.service, effects);
        }
    }

    /// Brings in line with what is wanted what time has changed.
    fn converge_due(&mut self, now: Millis, id: &str, effects: &mut Vec<Effect>) {
        if let Some(service) = self.services.get_mut(id) {
            let given_up = service.converge_due(now, effects);
            self.give_up(given_up);
            self.roll(now, id, effects);
        }
    }

    /// Brings all slots of a service in line with what is wanted.
    fn converge_all(&mut self, now: Millis, id: &str, effects: &mut Vec<Effect>) {
        if let Some(service) = self.services.get_mut(id) {
            let given_up = service.converge_all(now, effects);
            self.give_up(given_up);
            self.roll(now, id, effects);
        }
    }

    fn roll(&mut self, now: Millis, id: &str, effects: &mut Vec<Effect>) {
        let Some(service) = self.services.get_mut(id) else {
            return;
        };
        if service.roll(now, effects) {
            let given_up = service.converge_all(now, effects);
            self.give_up(given_up);
        }
        if let Some(service) = self.services.get(id)
            && service.removed
            && service.slots.is_empty()
        {
            let deletes = service.spec.persistence.scale_down == ScaleDown::Delete;
            self.services.remove(id);
            if deletes {
                self.homes.doom_service(now, id, effects);
            }
            effects.push(Effect::Removed(id.to_owned()));
        }
    }

    fn give_up(&mut self, launches: impl IntoIterator<Item = Launch>) {
        let launches = launches.into_iter().map(|launch| (launch.task_id.clone(), launch));
        self.given_up.extend(launches);
    }

    /// Asks for offers when an instance became missing, and for none when nothing is.
    fn ask(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let mut asks = false;
        let mut missing = false;
        for service in self.services.values_mut() {
            asks |= service.ask(now);
            missing |= service.missing(now).next().is_some();
        }
        missing |= self.homes.ask(now);
        if asks && missing {
            self.suppressed = false;
            effects.push(Effect::Revive);
        } else if !missing && !self.suppressed {
            self.suppressed = true;
            effects.push(Effect::Suppress);
        }
    }
}

/// Whole milliseconds of a valid number of seconds.
pub(crate) fn millis(seconds: f64) -> Millis {
    (seconds * 1_000.0).round() as Millis
}

#[cfg(test)]
mod tests;

//! The deciding half: which instances are missing, which tasks have to end, and when to look again.
//!
//! A pure state machine: time is an argument, chance comes from a seed, and nothing is read or written here. A service
//! has one [`Slot`] for each index from 0 to one less than its wanted number; a slot has at most one task that is not
//! known to have ended, so that there are never more instances than wanted. Life of a slot:
//!
//! ```text
//!            launched              running             ended, vanished
//!  missing ----------> starting ----------> running ------------------> missing (due later: back-off)
//!     ^                                        |
//!     |  too long unreachable: given up        v
//!     +----------------------------------- unreachable <-> running
//! ```
//!
//! A task that was given up is killed when it comes back, unless its slot is still missing: then it is taken back.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::ServiceSpec;

mod instance;
mod slot;

pub use instance::{InstanceId, Launch, Millis, PortAssignment};
pub use slot::{Phase, Slot};

use slot::Jitter;

/// Everything that can happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// A service is wanted, with a version that grows with every change of what an instance is.
    Put(Box<ServiceSpec>, u64),
    /// A service is wanted no more.
    Remove(String),
    /// A task that an earlier process launched and that had not ended.
    Recovered(Launch),
    /// A missing instance is being launched.
    Launched(Launch),
    /// The state of a task was told.
    Task {
        /// Its id.
        task_id: String,
        /// Its agent, where it was told.
        agent_id: Option<String>,
        /// Its state.
        state: Observed,
        /// What the cluster says about it.
        message: String,
    },
    /// Time has passed.
    Tick,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask for the end of a task.
    Kill {
        /// Its id.
        task_id: String,
        /// How long it may take to end after SIGTERM, in milliseconds.
        grace_ms: u64,
    },
    /// More is missing than before: ask for offers.
    Revive,
    /// Nothing is missing: ask for no offers.
    Suppress,
    /// Nothing more will be heard of a task.
    Forget(String),
    /// The last task of a removed service ended.
    Removed(String),
}

/// One service: what is wanted, and what there is.
#[derive(Clone, Debug)]
pub struct Service {
    /// What is wanted.
    pub spec: ServiceSpec,
    /// The version of the specification that instances are to have.
    pub version: u64,
    /// Whether it is to end.
    pub removed: bool,
    /// The instances by index.
    pub slots: BTreeMap<u32, Slot>,
    /// Instances that ended and were replaced, apart from those that were ended on purpose.
    pub restarts: u64,
}

impl Service {
    /// How many instances are wanted.
    pub fn wanted(&self) -> u32 {
        if self.removed { 0 } else { self.spec.instances }
    }
}

/// All services.
#[derive(Clone, Debug)]
pub struct Plan {
    services: BTreeMap<String, Service>,
    /// Tasks on unreachable agents that were given up.
    given_up: BTreeMap<String, Launch>,
    /// Tasks without a slot that are being killed.
    strays: BTreeSet<String>,
    /// The missing instances for which offers were asked.
    asked: BTreeSet<InstanceId>,
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
            asked: BTreeSet::new(),
            suppressed: false,
            jitter: Jitter::new(seed),
        }
    }

    /// The services by id.
    pub fn services(&self) -> &BTreeMap<String, Service> {
        &self.services
    }

    /// The instances that may be launched now.
    pub fn wanted(&self, now: Millis) -> Vec<InstanceId> {
        let mut wanted = Vec::new();
        for (id, service) in &self.services {
            for (index, slot) in &service.slots {
                if matches!(slot.phase, Phase::Missing { due } if due <= now) && *index < service.wanted() {
                    wanted.push(InstanceId {
                        service: id.clone(),
                        index: *index,
                    });
                }
            }
        }
        wanted
    }

    /// When time alone changes something next.
    pub fn wake_at(&self, now: Millis) -> Option<Millis> {
        let slots = self
            .services
            .values()
            .flat_map(|service| service.slots.values().map(move |slot| (service, slot)));
        let times = slots.filter_map(|(service, slot)| match slot.phase {
            Phase::Missing { due } => Some(due),
            Phase::Unreachable { since, .. } => Some(since + replace_after(&service.spec)),
            Phase::Starting | Phase::Running { .. } => None,
        });
        times.filter(|time| *time > now).min()
    }

    /// Applies one input. What must be done about it is appended to `effects`, in the order in which it must be done.
    pub fn step(&mut self, now: Millis, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Put(spec, version) => self.put(now, *spec, version, effects),
            Input::Remove(id) => {
                if let Some(service) = self.services.get_mut(&id) {
                    service.removed = true;
                    self.converge(now, &id, effects);
                }
            }
            Input::Recovered(launch) | Input::Launched(launch) => self.launched(now, launch, effects),
            Input::Task {
                task_id,
                agent_id,
                state,
                message,
            } => {
                self.task(now, &task_id, agent_id, state, message, effects);
            }
            Input::Tick => {
                for id in self.services.keys().cloned().collect::<Vec<_>>() {
                    self.converge(now, &id, effects);
                }
            }
        }
        self.ask(now, effects);
    }

    fn put(&mut self, now: Millis, spec: ServiceSpec, version: u64, effects: &mut Vec<Effect>) {
        let id = spec.id.clone();
        let service = self.services.entry(id.clone()).or_insert_with(|| Service {
            spec: spec.clone(),
            version,
            removed: false,
            slots: BTreeMap::new(),
            restarts: 0,
        });
        // Somebody changed something: what failed before may work now.
        for slot in service.slots.values_mut() {
            slot.retry(now);
        }
        service.spec = spec;
        service.version = version;
        service.removed = false;
        self.converge(now, &id, effects);
    }

    fn launched(&mut self, now: Millis, launch: Launch, effects: &mut Vec<Effect>) {
        let slot = self.services.get_mut(&launch.instance.service).map(|service| {
            // An index beyond the wanted number gets a slot too, in which it is then killed.
            service
                .slots
                .entry(launch.instance.index)
                .or_insert_with(|| Slot::missing(now))
        });
        match slot {
            Some(slot) if slot.task.is_none() => slot.launched(launch),
            _ => self.stray(&launch.task_id, effects),
        }
    }

    fn task(
        &mut self,
        now: Millis,
        task_id: &str,
        agent_id: Option<String>,
        state: Observed,
        message: String,
        effects: &mut Vec<Effect>,
    ) {
        let over = matches!(state, Observed::Ended | Observed::Vanished);
        let Some(instance) = InstanceId::of_task(task_id) else {
            return if over {
                self.forget(task_id, effects)
            } else {
                self.stray(task_id, effects)
            };
        };
        let jitter = &mut self.jitter;
        if let Some(service) = self.services.get_mut(&instance.service)
            && let Some(slot) = service.slots.get_mut(&instance.index)
            && slot.task.as_ref().is_some_and(|task| task.task_id == task_id)
        {
            service.restarts += u64::from(over && !slot.killing);
            slot.observed(now, agent_id, state, message, &service.spec.backoff, jitter);
            if over {
                effects.push(Effect::Forget(task_id.to_owned()));
            }
            return self.converge(now, &instance.service, effects);
        }
        match state {
            Observed::Ended | Observed::Vanished => self.forget(task_id, effects),
            Observed::Unreachable => {}
            Observed::Starting | Observed::Running => self.returned(now, instance, task_id, agent_id, state, effects),
        }
    }

    /// A task without a slot is alive: it is taken into its slot where that is missing, or else it has to end.
    fn returned(
        &mut self,
        now: Millis,
        instance: InstanceId,
        task_id: &str,
        agent_id: Option<String>,
        state: Observed,
        effects: &mut Vec<Effect>,
    ) {
        let service = self.services.get_mut(&instance.service);
        let free = service.filter(|service| {
            let vacant = service
                .slots
                .get(&instance.index)
                .is_some_and(|slot| slot.task.is_none());
            vacant && instance.index < service.wanted() && !self.strays.contains(task_id)
        });
        let Some(service) = free else {
            return self.stray(task_id, effects);
        };
        let known = self.given_up.remove(task_id);
        let launch = known.unwrap_or_else(|| Launch::unknown(task_id, instance.clone(), service.version, agent_id));
        let (id, index) = (instance.service, instance.index);
        if let Some(slot) = service.slots.get_mut(&index) {
            slot.launched(launch);
            slot.observed(now, None, state, String::new(), &service.spec.backoff, &mut self.jitter);
        }
        self.converge(now, &id, effects);
    }

    fn stray(&mut self, task_id: &str, effects: &mut Vec<Effect>) {
        if self.strays.insert(task_id.to_owned()) {
            effects.push(Effect::Kill {
                task_id: task_id.to_owned(),
                grace_ms: 5_000,
            });
        }
    }

    fn forget(&mut self, task_id: &str, effects: &mut Vec<Effect>) {
        self.strays.remove(task_id);
        self.given_up.remove(task_id);
        effects.push(Effect::Forget(task_id.to_owned()));
    }

    /// Brings the slots of one service in line with what is wanted.
    fn converge(&mut self, now: Millis, id: &str, effects: &mut Vec<Effect>) {
        let Some(service) = self.services.get_mut(id) else {
            return;
        };
        let wanted = service.wanted();
        for index in 0..wanted {
            service.slots.entry(index).or_insert_with(|| Slot::missing(now));
        }
        for (index, slot) in &mut service.slots {
            let surplus = *index >= wanted;
            let patience = replace_after(&service.spec);
            let waited = matches!(slot.phase, Phase::Unreachable { since, .. } if surplus || now >= since + patience);
            if waited && let Some(task) = slot.give_up(now) {
                service.restarts += u64::from(!surplus);
                self.given_up.insert(task.task_id.clone(), task);
            }
            let outdated = slot.phase == Phase::Starting && slot.version() != Some(service.version);
            if surplus || outdated {
                slot.kill(&service.spec, effects);
            }
        }
        service
            .slots
            .retain(|index, slot| *index < wanted || slot.task.is_some());
        replace_outdated(service, effects);
        if service.removed && service.slots.is_empty() {
            self.services.remove(id);
            effects.push(Effect::Removed(id.to_owned()));
        }
    }

    /// Asks for offers when an instance became missing, and for none when nothing is.
    fn ask(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let wanted: BTreeSet<InstanceId> = self.wanted(now).into_iter().collect();
        if wanted.is_empty() && !self.suppressed {
            self.suppressed = true;
            effects.push(Effect::Suppress);
        } else if !wanted.is_subset(&self.asked) {
            self.suppressed = false;
            effects.push(Effect::Revive);
        }
        self.asked = wanted;
    }
}

/// Ends one instance of an older version where all others run, so that a change takes one instance at a time.
fn replace_outdated(service: &mut Service, effects: &mut Vec<Effect>) {
    let steady = service
        .slots
        .values()
        .all(|slot| matches!(slot.phase, Phase::Running { .. }) && !slot.killing);
    if !steady {
        return;
    }
    let version = service.version;
    if let Some(slot) = service.slots.values_mut().find(|slot| slot.version() != Some(version)) {
        slot.kill(&service.spec, effects);
    }
}

fn replace_after(spec: &ServiceSpec) -> Millis {
    millis(spec.replace_unreachable_after_seconds)
}

/// Whole milliseconds of a valid number of seconds.
pub(crate) fn millis(seconds: f64) -> Millis {
    (seconds * 1_000.0).round() as Millis
}

#[cfg(test)]
mod tests;

//! Where the persistent volumes of instances lie.
//!
//! An instance with persistent volumes has a home: the agent on which they were made, to which it always comes back. Life
//! of a home:
//!
//! ```text
//!   chosen ----- its task runs -----> made ----- not wanted any more, given up -----> doomed ----- destroyed ----> (gone)
//!      |                                                                                 ^
//!      +------------------------- another agent is taken instead ------------------------+
//! ```
//!
//! One that was only chosen may have volumes or not: nobody knows until a task with them runs, or an offer shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::placement::Machine;
use crate::spec::{ScaleDown, ServiceSpec};

use super::{Effect, InstanceId, Millis, Phase, Service, millis};

/// For so long after volumes were doomed, or the start of the process, offers are asked for to destroy them. Later they are
/// destroyed when they happen to be offered.
const DESTROY_PATIENCE: Millis = 60_000;

/// Where the persistent volumes of one instance lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Home {
    /// Tells it from every other one.
    pub id: String,
    /// Whose it is.
    pub instance: InstanceId,
    /// The agent.
    pub machine: Machine,
    /// The volumes.
    pub volumes: Vec<HomeVolume>,
    /// Whether the volumes are certainly there.
    #[serde(default)]
    pub made: bool,
    /// Whether the volumes are to be destroyed.
    #[serde(default)]
    pub doomed: bool,
}

/// One persistent volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HomeVolume {
    /// Its id on the agent.
    pub id: String,
    /// Where the instance sees it.
    pub path: String,
    /// How much it held when it was made, in MiB.
    pub size: f64,
}

/// All homes.
#[derive(Clone, Debug, Default)]
pub struct Homes {
    known: BTreeMap<InstanceId, Home>,
    doomed: BTreeMap<String, Home>,
    /// Until when offers are asked for to destroy what is doomed.
    asks_until: Millis,
}

impl Homes {
    /// The home of an instance.
    pub fn of(&self, instance: &InstanceId) -> Option<&Home> {
        self.known.get(instance)
    }

    /// The homes of a service, by index.
    pub fn of_service<'a>(&'a self, service: &str) -> impl Iterator<Item = &'a Home> {
        let first = InstanceId {
            service: service.to_owned(),
            index: 0,
        };
        let last = InstanceId {
            index: u32::MAX,
            ..first.clone()
        };
        self.known.range(first..=last).map(|(_, home)| home)
    }

    /// Those whose volumes are to be destroyed.
    pub fn doomed(&self) -> impl Iterator<Item = &Home> {
        self.doomed.values()
    }

    /// Whether offers are asked for to destroy volumes.
    pub(super) fn ask(&self, now: Millis) -> bool {
        now < self.asks_until && self.doomed.values().any(|home| home.made)
    }

    /// A home was chosen, or is known from an earlier process; the one before is doomed.
    pub(super) fn insert(&mut self, now: Millis, home: Home, effects: &mut Vec<Effect>) {
        if home.doomed {
            self.asks_until = now + DESTROY_PATIENCE;
            self.doomed.insert(home.id.clone(), home);
            return;
        }
        let before = self.known.insert(home.instance.clone(), home.clone());
        if let Some(before) = before.filter(|before| before.id != home.id) {
            self.doom_home(now, before, effects);
        }
    }

    /// A task of the instance runs there: its volumes are there.
    pub(super) fn runs(&mut self, instance: &InstanceId, agent_id: &str, effects: &mut Vec<Effect>) {
        if let Some(home) = self.known.get_mut(instance)
            && !home.made
            && home.machine.agent_id == agent_id
        {
            home.made = true;
            effects.push(Effect::KeepHome(Box::new(home.clone())));
        }
    }

    /// The volumes of an instance are to be destroyed.
    pub(super) fn doom(&mut self, now: Millis, instance: &InstanceId, effects: &mut Vec<Effect>) {
        if let Some(home) = self.known.remove(instance) {
            self.doom_home(now, home, effects);
        }
    }

    /// Those of all instances of a service.
    pub(super) fn doom_service(&mut self, now: Millis, service: &str, effects: &mut Vec<Effect>) {
        let instances: Vec<_> = self.of_service(service).map(|home| home.instance.clone()).collect();
        for instance in instances {
            self.doom(now, &instance, effects);
        }
    }

    fn doom_home(&mut self, now: Millis, home: Home, effects: &mut Vec<Effect>) {
        let home = Home { doomed: true, ..home };
        effects.push(Effect::KeepHome(Box::new(home.clone())));
        effects.push(Effect::Revive);
        self.asks_until = now + DESTROY_PATIENCE;
        self.doomed.insert(home.id.clone(), home);
    }

    /// The volumes of a doomed home are no more.
    pub(super) fn destroyed(&mut self, id: &str, effects: &mut Vec<Effect>) {
        if self.doomed.remove(id).is_some() {
            effects.push(Effect::DropHome(id.to_owned()));
        }
    }

    /// Dooms what the specifications do not want any more, and what was waited for long enough.
    pub(super) fn sweep(&mut self, now: Millis, services: &BTreeMap<String, Service>, effects: &mut Vec<Effect>) {
        let is_over = |home: &&Home| {
            let service = services.get(&home.instance.service);
            service.is_some_and(|service| is_over(now, service, home))
        };
        let over = self.known.values().filter(is_over).map(|home| home.instance.clone());
        let over: Vec<InstanceId> = over.collect();
        for instance in over {
            self.doom(now, &instance, effects);
        }
    }

    /// When time alone changes something next.
    pub(super) fn wake_at(&self, now: Millis, services: &BTreeMap<String, Service>) -> Option<Millis> {
        let ends = self
            .known
            .values()
            .filter_map(|home| given_up_at(services.get(&home.instance.service)?, home));
        let asks = (!self.doomed.is_empty()).then_some(self.asks_until);
        ends.chain(asks).filter(|time| *time > now).min()
    }
}

fn is_over(now: Millis, service: &Service, home: &Home) -> bool {
    let index = home.instance.index;
    let surplus = !service.is_wanted(index) && !service.slots.contains_key(&index);
    let deletes = service.spec.persistence.scale_down == ScaleDown::Delete;
    (surplus && deletes) || given_up_at(service, home).is_some_and(|time| time <= now)
}

/// When an instance waits no longer for the agent on which its volumes lie. One that was only chosen may be left at any time.
fn given_up_at(service: &Service, home: &Home) -> Option<Millis> {
    let patience = patience(&service.spec).filter(|_| home.made)?;
    match service.slots.get(&home.instance.index)?.phase {
        Phase::Missing { due } => Some(due.saturating_add(patience)),
        _ => None,
    }
}

fn patience(spec: &ServiceSpec) -> Option<Millis> {
    spec.persistence.replace_after_seconds.map(millis)
}

#[cfg(test)]
mod tests;

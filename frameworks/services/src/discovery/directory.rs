//! Pure: the services and their instances as finders see them, under one number that grows with every change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Catalogue, Instance, ServiceStatus, State};

/// All services at one moment.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// With the instances that take requests alone.
    pub ready: View,
    /// With all that have a task.
    pub all: View,
    /// The number of the latest change of either.
    index: u64,
}

/// The services with some of their instances.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The number of the latest change.
    pub index: u64,
    /// By id.
    pub services: BTreeMap<String, Arc<Entry>>,
    /// The number of the latest change by which a service went.
    removed: u64,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The number of the latest change of it.
    pub index: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The names of its ports, in the order of its specification.
    pub ports: Vec<String>,
    /// Its instances, by index.
    pub instances: Vec<Found>,
    /// The addresses of their hosts, each once.
    #[serde(skip)]
    pub addresses: Vec<IpAddr>,
    /// All of this as JSON.
    #[serde(skip)]
    pub json: String,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its index within the service.
    pub index: u32,
    /// Its task.
    pub task_id: String,
    /// Its agent, where that is known.
    pub agent_id: Option<String>,
    /// The host of its agent.
    pub host: String,
    /// The first address of that host; its name where it has none.
    pub address: String,
    /// All its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// The version of its specification.
    pub version: u64,
    /// What it is doing.
    pub state: State,
    /// Whether it takes requests.
    pub ready: bool,
}

/// The addresses of hosts. A host that is not among them is being looked up; one that has no address has none.
pub type Addresses = BTreeMap<String, Arc<[IpAddr]>>;

impl Directory {
    /// One that says nothing yet. Numbers begin behind `index`.
    pub fn new(index: u64) -> Self {
        let view = View {
            index,
            removed: index,
            services: BTreeMap::new(),
        };
        Self {
            ready: view.clone(),
            all: view,
            index,
        }
    }

    /// What another scheduler told of all instances.
    pub(crate) fn of(index: u64, services: BTreeMap<String, Entry>) -> Self {
        let view = |wanted: fn(&Found) -> bool| {
            let entries = services.iter().map(|(id, entry)| {
                let instances = entry.instances.iter().filter(|found| wanted(found));
                let instances = instances.cloned().collect();
                let entry = Entry {
                    instances,
                    ..entry.clone()
                };
                (id.clone(), Arc::new(entry.finished()))
            });
            View {
                index,
                services: entries.collect(),
                removed: index,
            }
        };
        Self {
            ready: view(|found| found.ready),
            all: view(|_| true),
            index,
        }
    }

    /// Takes over what the catalogue says. Instances on hosts that are being looked up are left out. Tells whether
    /// something changed.
    pub fn update(&mut self, catalogue: &Catalogue, addresses: &Addresses) -> bool {
        let next = self.index + 1;
        let ready = self.ready.update(next, catalogue, addresses, |instance| instance.ready);
        let all = self.all.update(next, catalogue, addresses, |_| true);
        if ready || all {
            self.index = next;
        }
        ready || all
    }
}

impl View {
    fn update(
        &mut self,
        next: u64,
        catalogue: &Catalogue,
        addresses: &Addresses,
        wanted: impl Fn(&Instance) -> bool,
    ) -> bool {
        let before = self.services.len();
        self.services.retain(|id, _| is_there(catalogue, id));
        let mut changed = self.services.len() != before;
        if changed {
            self.removed = next;
        }
        for (id, status) in &catalogue.services {
            let found: Vec<_> = findable(status, addresses)
                .filter(|(instance, _)| wanted(instance))
                .collect();
            if !is_there(catalogue, id) || self.services.get(id).is_some_and(|entry| entry.is(status, &found)) {
                continue;
            }
            changed = true;
            self.services
                .insert(id.clone(), Arc::new(Entry::of(next, status, &found)));
        }
        if changed {
            self.index = next;
        }
        changed
    }

    /// The number of the latest change of some services, or of all.
    pub fn index_of(&self, services: Option<&[String]>) -> u64 {
        let Some(services) = services else { return self.index };
        let of_one = |id: &String| self.services.get(id).map_or(self.removed, |entry| entry.index);
        services.iter().map(of_one).max().unwrap_or(self.index)
    }

    /// Some services, or all, as JSON.
    pub fn json(&self, services: Option<&[String]>) -> String {
        let mut text = format!("{{\"index\":{},\"services\":{{", self.index_of(services));
        let wanted = |id: &String| services.is_none_or(|wanted| wanted.contains(id));
        for (number, (id, entry)) in self.services.iter().filter(|(id, _)| wanted(id)).enumerate() {
            // The id is a DNS label: nothing in it has to be escaped.
            text.push_str(if number == 0 { "\"" } else { ",\"" });
            text.push_str(id);
            text.push_str("\":");
            text.push_str(&entry.json);
        }
        text.push_str("}}");
        text
    }
}

impl Entry {
    fn of(index: u64, status: &ServiceStatus, found: &[(&Instance, &Arc<[IpAddr]>)]) -> Self {
        let entry = Self {
            index,
            addresses: Vec::new(),
            labels: status.spec.labels.clone(),
            ports: status.spec.ports.iter().map(|port| port.name.clone()).collect(),
            instances: found
                .iter()
                .map(|(instance, known)| Found::of(instance, known))
                .collect(),
            json: String::new(),
        };
        entry.finished()
    }

    /// The same with what follows from the rest.
    fn finished(mut self) -> Self {
        let addresses: BTreeSet<IpAddr> = self
            .instances
            .iter()
            .flat_map(|found| found.addresses.iter().copied())
            .collect();
        self.addresses = addresses.into_iter().collect();
        self.json = serde_json::to_string(&self).unwrap_or_default();
        self
    }

    /// Whether this is what is to be told of the service. Asked at every change of the catalogue, so it makes nothing.
    fn is(&self, status: &ServiceStatus, found: &[(&Instance, &Arc<[IpAddr]>)]) -> bool {
        let names = || status.spec.ports.iter().map(|port| &port.name);
        self.instances.len() == found.len()
            && self.labels == status.spec.labels
            && self.ports.iter().eq(names())
            && self
                .instances
                .iter()
                .zip(found)
                .all(|(known, (instance, addresses))| known.is(instance, addresses))
    }
}

impl Found {
    fn of(instance: &Instance, addresses: &Arc<[IpAddr]>) -> Self {
        Self {
            index: instance.index,
            task_id: instance.task_id.clone().unwrap_or_default(),
            agent_id: instance.agent_id.clone(),
            host: instance.host.clone(),
            address: addresses
                .first()
                .map_or_else(|| instance.host.clone(), ToString::to_string),
            addresses: addresses.to_vec(),
            ports: instance
                .ports
                .iter()
                .map(|port| (port.name.clone(), port.port))
                .collect(),
            version: instance.version.unwrap_or_default(),
            state: instance.state,
            ready: instance.ready,
        }
    }

    /// The ports of a task never change.
    fn is(&self, instance: &Instance, addresses: &Arc<[IpAddr]>) -> bool {
        self.index == instance.index
            && Some(&self.task_id) == instance.task_id.as_ref()
            && self.agent_id == instance.agent_id
            && self.host == instance.host
            && self.addresses[..] == addresses[..]
            && Some(self.version) == instance.version
            && self.state == instance.state
            && self.ready == instance.ready
    }
}

/// A service that is to end is there as long as it has instances.
fn is_there(catalogue: &Catalogue, id: &str) -> bool {
    let status = catalogue.services.get(id);
    status.is_some_and(|status| !status.removed || !status.instances.is_empty())
}

/// The instances that have a task on a host that was looked up.
fn findable<'a>(
    status: &'a ServiceStatus,
    addresses: &'a Addresses,
) -> impl Iterator<Item = (&'a Instance, &'a Arc<[IpAddr]>)> {
    let placed = status.instances.iter().filter(|instance| instance.task_id.is_some());
    placed.filter_map(|instance| Some((instance, addresses.get(&instance.host)?)))
}

#[cfg(test)]
pub(crate) mod tests;

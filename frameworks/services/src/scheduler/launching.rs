//! Places missing instances on what is offered, and asks for offers.

use std::collections::{BTreeMap, HashSet};

use proffer_sdk::offers::Placement;
use proffer_sdk::{Context, Offers, Task};

use super::{Message, Services, task};
use crate::placement::{self, Decision, Machine, Round};
use crate::plan::{Gates, InstanceId, Launch, PortAssignment, Service};
use crate::template::Facts;

impl Services {
    /// Finds places for missing instances.
    pub(super) fn place(&self, offers: &Offers) -> Vec<(Placement, Task, Launch)> {
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
    pub(super) fn missing(&self) -> impl Iterator<Item = (&Service, Vec<u32>)> {
        let services = self.plan.services().values();
        let missing = services.map(|service| (service, service.missing(self.stepped_at).collect::<Vec<_>>()));
        missing.filter(|(_, indices)| !indices.is_empty())
    }

    /// Asks for offers, and says what for.
    pub(super) fn ask(&mut self, context: &mut Context<Message>) {
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

//! Places missing instances on what is offered, and asks for offers.

use std::collections::{BTreeMap, HashSet};

use proffer_proto::v1::offer::Operation;
use proffer_proto::v1::{Filters, Offer, OperationState, OperationStatus};
use proffer_sdk::offers::Placement;
use proffer_sdk::{Context, Offers, Task, operations};

use super::{Message, Services, leaving, task};
use crate::placement::{self, Decision, Machine, Round, residence};
use crate::plan::homes::Home;
use crate::plan::{Gates, Input, InstanceId, Launch, PortAssignment, Service};
use crate::template::Facts;

/// What an id of an operation that destroys volumes begins with.
const DESTROY: &str = "destroy.";

/// One instance that is going to be launched.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) placement: Placement,
    pub(super) task: Task,
    pub(super) launch: Launch,
    /// Where its persistent volumes lie, and what is to be done first.
    pub(super) residence: Option<(Home, Vec<Operation>)>,
}

/// What is made of some offers.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) placed: Vec<Placed>,
    /// Volumes that are destroyed, with the offers that hold them.
    pub(super) destroyed: Vec<(Vec<proffer_proto::v1::OfferId>, Vec<Operation>)>,
}

impl Services {
    /// Finds places for missing instances.
    pub(super) fn place(&self, offers: &Offers) -> Answer {
        let mut answer = Answer::default();
        let stateful = self.missing().any(|(service, _)| service.spec.is_stateful());
        let leaving = offers.iter().any(|offer| !leaving::stays(offer));
        if !stateful && !leaving && self.plan.homes().doomed().next().is_none() {
            self.place_plain(offers, &mut answer, false);
            return answer;
        }
        let mut agents: BTreeMap<&str, Vec<&Offer>> = BTreeMap::new();
        for offer in offers.iter() {
            agents.entry(&offer.agent_id.value).or_default().push(offer);
        }
        self.destroy(&mut agents, &mut answer);
        self.place_stateful(&mut agents, &mut answer);
        let left = agents.into_values().flatten().cloned();
        let (staying, leaving): (Vec<Offer>, Vec<Offer>) = left.partition(leaving::stays);
        self.place_plain(&staying, &mut answer, false);
        self.place_plain(&leaving, &mut answer, true);
        answer
    }

    /// Places instances by rules, wishes and room. In need only those without which there are fewer than wanted, and that found
    /// no place before: what is offered then is going to be taken away.
    fn place_plain(&self, offers: &[Offer], answer: &mut Answer, in_need: bool) {
        if offers.is_empty() {
            return;
        }
        let mut round = Round::new(offers);
        for (service, mut indices) in self.missing().filter(|(service, _)| !service.spec.is_stateful()) {
            if in_need {
                let placed = answer.placed.iter().map(|placed| &placed.launch.instance);
                let placed: HashSet<u32> = placed
                    .filter(|instance| instance.service == service.spec.id)
                    .map(|instance| instance.index)
                    .collect();
                indices.retain(|index| !placed.contains(index));
                let there = service.alive() as usize + placed.len();
                indices.truncate((service.wanted() as usize).saturating_sub(there));
            }
            let shape = task::shape(&service.spec);
            let decisions = round.decide(&service.spec, &shape, indices, machines(service), self.neighbours());
            answer.placed.extend(launches(service, decisions));
        }
    }

    /// Whether instances of a service are on an agent.
    fn neighbours(&self) -> impl Fn(&str, &Machine) -> bool {
        |id, machine| {
            let other = self.plan.services().get(id);
            other.is_some_and(|other| machines(other).any(|known| known.agent_id == machine.agent_id))
        }
    }

    fn destroy(&self, agents: &mut BTreeMap<&str, Vec<&Offer>>, answer: &mut Answer) {
        for home in self.plan.homes().doomed() {
            let Some(offers) = agents.get(home.machine.agent_id.as_str()) else {
                continue;
            };
            let mut operations = residence::destruction(offers, home);
            let Some(last) = operations.pop() else { continue };
            let unique = uuid::Uuid::new_v4().simple().to_string();
            operations.push(operations::named(last, &format!("{DESTROY}{}.{unique}", home.id)));
            answer.destroyed.push((residence::ids(offers), operations));
            agents.remove(home.machine.agent_id.as_str());
        }
    }

    /// Instances with persistent volumes: where their volumes are, or else where rules, wishes and room are best.
    fn place_stateful(&self, agents: &mut BTreeMap<&str, Vec<&Offer>>, answer: &mut Answer) {
        for (service, indices) in self.missing().filter(|(service, _)| service.spec.is_stateful()) {
            let spec = &service.spec;
            let shape = task::shape(spec);
            let mut fresh = Vec::new();
            for index in indices {
                let instance = InstanceId {
                    service: spec.id.clone(),
                    index,
                };
                let Some(home) = self.plan.homes().of(&instance) else {
                    fresh.push(instance);
                    continue;
                };
                let offers = agents.get(home.machine.agent_id.as_str());
                let resides = offers
                    .and_then(|offers| residence::reside(offers, spec, &shape, &instance, Some(home), &self.role));
                match resides {
                    Some(residence) => {
                        agents.remove(home.machine.agent_id.as_str());
                        answer.placed.extend(resident(service, index, residence));
                    }
                    None if home.made => {}
                    None => fresh.push(instance),
                }
            }
            self.place_fresh(service, fresh, agents, answer);
        }
    }

    /// Instances that have no volumes yet, each on an agent of its own among the offered ones.
    fn place_fresh(
        &self,
        service: &Service,
        fresh: Vec<InstanceId>,
        agents: &mut BTreeMap<&str, Vec<&Offer>>,
        answer: &mut Answer,
    ) {
        let spec = &service.spec;
        let volumes_mib = spec.volumes.iter().filter_map(|volume| volume.persistent_mib()).sum();
        let shape = task::shape(spec);
        let whole = residence::shape_with(&shape, spec.disk, volumes_mib);
        let mut here: Vec<Machine> = machines(service).cloned().collect();
        for instance in fresh {
            let all: Vec<&Offer> = agents.values().flatten().copied().collect();
            let offers = residence::without_reserved_disk(&all);
            let decided = Round::new(&offers).decide(spec, &whole, [instance.index], &here, self.neighbours());
            let Some(decision) = decided.into_iter().next() else {
                return;
            };
            let agent = decision.machine.agent_id.as_str();
            let resides = agents
                .get(agent)
                .and_then(|offers| residence::reside(offers, spec, &shape, &instance, None, &self.role));
            agents.remove(agent);
            if let Some(residence) = resides {
                answer.placed.extend(resident(service, instance.index, residence));
            }
            here.push(decision.machine);
        }
    }

    /// Answers offers with what was decided.
    pub(super) fn accept(&mut self, context: &mut Context<Message>, answer: Answer) {
        let again = || {
            Some(Filters {
                refuse_seconds: Some(0.0),
            })
        };
        for (offers, operations) in answer.destroyed {
            tracing::info!(agent_offers = offers.len(), "persistent volumes destroyed");
            context.accept(offers, operations, again());
        }
        for Placed {
            placement,
            task,
            launch,
            residence,
        } in answer.placed
        {
            tracing::info!(
                task_id = launch.task_id,
                agent_id = placement.agent_id.value,
                ports = ?placement.ports,
                "instance launched"
            );
            match residence {
                None => drop(context.launch(placement, task)),
                Some((_, mut operations)) => {
                    operations.push(operations::launch(vec![task.at(&placement)]));
                    context.accept(placement.offer_ids, operations, again());
                }
            }
        }
    }

    /// What became of volumes that were to be destroyed.
    pub(super) fn destroyed(&mut self, context: &mut Context<Message>, status: &OperationStatus) {
        let id = status.operation_id.as_ref().map(|id| id.value.as_str());
        let Some((home, _)) = id.and_then(|id| id.strip_prefix(DESTROY)?.split_once('.')) else {
            return;
        };
        match status.state() {
            OperationState::OperationFinished => self.step(context, Input::Destroyed(home.to_owned())),
            state => tracing::warn!(
                home,
                state = state.as_str_name(),
                message = status.message(),
                "volumes not destroyed"
            ),
        }
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
        // Volumes are on agents of their own, which need not be what new instances want.
        let volumes = specs.iter().any(|(spec, _)| spec.is_stateful()) || self.plan.homes().doomed().next().is_some();
        let (constraints, demand) = match volumes {
            true => (None, Vec::new()),
            false => (
                placement::constraints(&self.role, specs.iter().map(|(spec, _)| *spec)),
                placement::demand(specs),
            ),
        };
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

/// The task of an instance with persistent volumes.
fn resident(service: &Service, index: u32, residence: residence::Residence) -> Option<Placed> {
    let decision = Decision {
        index,
        placement: residence.placement,
        machine: residence.home.machine.clone(),
    };
    let mut placed = launches(service, vec![decision]);
    let mut one = placed.pop()?;
    one.residence = Some((residence.home, residence.operations));
    Some(one)
}

/// The tasks for what was decided about a service. Those of one round know each other as peers.
fn launches(service: &Service, decisions: Vec<Decision>) -> Vec<Placed> {
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
        .filter(|(index, _)| !fresh.contains(index) && fresh.iter().all(|one| Service::same_side(*one, **index)))
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
                instance: Service::number(launch.instance.index),
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
        .map(|((placement, launch), task)| Placed {
            placement,
            task,
            launch,
            residence: None,
        })
        .collect()
}

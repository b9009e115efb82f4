//! What runs where, for those who want to find it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::homes::Home;
use crate::plan::{InstanceId, Millis, Phase, Plan, PortAssignment, RolloutState, Service, Slot};
use crate::spec::ServiceSpec;

/// All services with their instances. A new one is published whenever something changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Catalogue {
    /// The id of the framework, once it was registered; part of the paths of sandboxes.
    pub framework_id: Option<String>,
    /// Whether the scheduler is subscribed at a master now.
    pub connected: bool,
    /// Instances that an earlier scheduler launched and of which nothing was heard yet.
    pub unheard: u32,
    /// The services by id.
    pub services: BTreeMap<String, ServiceStatus>,
    /// Counts since the start of the process.
    pub counts: Counts,
}

/// What a scheduler did since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Tasks launched.
    pub launched: u64,
    /// Instances replaced because they ended, were lost or became unreachable, of services that are there now.
    pub restarts: u64,
    /// The latest times from the placement of a task to the news that it runs, in microseconds, oldest first.
    pub launch_us: Vec<u64>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// What is wanted.
    pub spec: ServiceSpec,
    /// The version of what is wanted.
    pub version: u64,
    /// The version that instances are to have.
    pub instance_version: u64,
    /// Where the update to that version stands.
    pub update: Update,
    /// Whether it is to end.
    pub removed: bool,
    /// How many instances run.
    pub running: u32,
    /// How many instances take requests.
    pub ready: u32,
    /// Instances replaced because they ended, were lost or became unreachable.
    pub restarts: u64,
    /// The instances by index.
    pub instances: Vec<Instance>,
    /// The persistent volumes of indices that have no instance now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept_volumes: Vec<KeptVolumes>,
}

/// Where the persistent volumes of an index lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptVolumes {
    /// The index.
    pub index: u32,
    /// The agent.
    pub agent_id: String,
    /// Its host.
    pub host: String,
    /// Their ids.
    pub volumes: Vec<String>,
}

/// Where an update stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Update {
    /// What it is doing.
    pub state: UpdateState,
    /// How many instances have an older version.
    pub outdated: u32,
    /// Why it made no progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it goes, or went, back to an older version by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverts: Option<String>,
}

/// What an update is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// Instances are being replaced, or started.
    Rolling,
    /// All instances have the version and were ready.
    Done,
    /// It made no progress and waits for somebody.
    Paused,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Its index within the service.
    pub index: u32,
    /// What it is doing.
    pub state: State,
    /// Its task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// The agent of its task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The host of its agent; empty where that is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Whether it takes requests: it runs, and its checks, where it has any, say so.
    pub ready: bool,
    /// Its ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortAssignment>,
    /// The version of its specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Since when it runs, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_since_ms: Option<Millis>,
    /// Failures in a row.
    pub failures: u32,
    /// Whether it failed so often in a row that it will hardly do by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub crash_looping: bool,
    /// When its back-off ends, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<Millis>,
    /// What was said about the end of its last task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
    /// Where its persistent volumes lie, to which it always comes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<KeptVolumes>,
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has no task: it waits for its back-off or for an offer.
    Missing,
    /// Its task is on its way.
    Starting,
    /// It runs.
    Running,
    /// Its agent is away.
    Unreachable,
    /// It is being ended.
    Ending,
}

/// Where one port of an instance that takes requests is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// The id of the service.
    pub service: String,
    /// The index of the instance.
    pub index: u32,
    /// The name of the port.
    pub name: String,
    /// The host of the agent.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The task.
    pub task_id: String,
    /// Its agent.
    pub agent_id: Option<String>,
}

impl Catalogue {
    pub(crate) fn of(plan: &Plan, framework_id: Option<String>, connected: bool, counts: &Counts) -> Self {
        let services = plan.services().iter().map(|(id, service)| {
            let instances: Vec<_> = service
                .slots
                .iter()
                .map(|(index, slot)| {
                    let id = InstanceId {
                        service: id.clone(),
                        index: *index,
                    };
                    instance(&id, service, slot, plan.homes().of(&id))
                })
                .collect();
            let kept = plan
                .homes()
                .of_service(id)
                .filter(|home| !service.slots.contains_key(&home.instance.index));
            let running = instances
                .iter()
                .filter(|instance| instance.state == State::Running)
                .count();
            let status = ServiceStatus {
                spec: service.spec.clone(),
                version: service.version,
                instance_version: service.instance_version,
                update: update(service),
                ready: service.serving(),
                removed: service.removed,
                running: u32::try_from(running).unwrap_or(u32::MAX),
                restarts: service.restarts,
                instances,
                kept_volumes: kept.map(kept_volumes).collect(),
            };
            (id.clone(), status)
        });
        let services: BTreeMap<_, _> = services.collect();
        let restarts = services.values().map(|service| service.restarts).sum();
        let slots = plan.services().values().flat_map(|service| service.slots.values());
        let unheard = slots.filter(|slot| slot.task.is_some() && !slot.known).count();
        Self {
            framework_id,
            connected,
            unheard: u32::try_from(unheard).unwrap_or(u32::MAX),
            services,
            counts: Counts {
                restarts,
                ..counts.clone()
            },
        }
    }

    /// The ports of all instances that take requests.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let instances = self
            .services
            .iter()
            .flat_map(|(id, service)| service.ready().map(move |one| (id, one)));
        let endpoints = instances.flat_map(|(id, instance)| {
            instance.ports.iter().map(move |port| Endpoint {
                service: id.clone(),
                index: instance.index,
                name: port.name.clone(),
                host: instance.host.clone(),
                port: port.port,
                task_id: instance.task_id.clone().unwrap_or_default(),
                agent_id: instance.agent_id.clone(),
            })
        });
        endpoints.collect()
    }

    /// Where a named port of those instances of a service is reached, as `host:port`.
    pub fn addresses(&self, service: &str, port_name: &str) -> Vec<String> {
        let endpoints = self.endpoints().into_iter();
        endpoints
            .filter(|endpoint| endpoint.service == service && endpoint.name == port_name)
            .map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port))
            .collect()
    }
}

impl ServiceStatus {
    /// The instances that run and are not being ended.
    pub fn running(&self) -> impl Iterator<Item = &Instance> {
        self.instances
            .iter()
            .filter(|instance| instance.state == State::Running)
    }

    /// The instances that take requests.
    pub fn ready(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|instance| instance.ready)
    }

    /// Whether exactly the wanted instances run, all at the wanted version.
    pub fn is_settled(&self) -> bool {
        let wanted = if self.removed { 0 } else { self.spec.instances };
        let current =
            |instance: &Instance| instance.state == State::Running && instance.version == Some(self.instance_version);
        self.running == wanted && self.instances.iter().all(current)
    }
}

fn update(service: &Service) -> Update {
    let (state, reason) = match &service.rollout.state {
        RolloutState::Rolling { .. } => (UpdateState::Rolling, None),
        RolloutState::Done => (UpdateState::Done, None),
        RolloutState::Stuck { reason } => (UpdateState::Paused, Some(reason.clone())),
    };
    Update {
        state,
        outdated: service.outdated(),
        reason,
        reverts: service.rollout.reverts.clone(),
    }
}

fn kept_volumes(home: &Home) -> KeptVolumes {
    KeptVolumes {
        index: home.instance.index,
        agent_id: home.machine.agent_id.clone(),
        host: home.machine.hostname.clone(),
        volumes: home.volumes.iter().map(|volume| volume.id.clone()).collect(),
    }
}

fn instance(id: &InstanceId, service: &Service, slot: &Slot, home: Option<&Home>) -> Instance {
    let (state, running_since_ms, due_ms) = match slot.phase {
        Phase::Missing { due } => (State::Missing, None, Some(due)),
        Phase::Starting => (State::Starting, None, None),
        Phase::Running { since } => (State::Running, Some(since), None),
        Phase::Unreachable { running_since, .. } => (State::Unreachable, running_since, None),
    };
    let task = slot.task.as_ref();
    Instance {
        index: id.index,
        state: if slot.killing { State::Ending } else { state },
        task_id: task.map(|task| task.task_id.clone()),
        agent_id: task.and_then(|task| task.agent_id()).map(str::to_owned),
        host: task.map(|task| task.machine.hostname.clone()).unwrap_or_default(),
        ready: service.serves(id.index, slot),
        ports: task.map(|task| task.ports.clone()).unwrap_or_default(),
        version: task.map(|task| task.version),
        running_since_ms,
        failures: slot.failures,
        crash_looping: slot.is_crash_looping(),
        due_ms,
        last_end: slot.last_end.clone(),
        volumes: home.map(kept_volumes),
    }
}

//! A gang among frameworks whose tasks come and go: a whole master's core, in virtual time.
//!
//! Agents are full of tasks of one processor, each of which lives for up to two seconds, so that half of what runs ends every
//! second; whatever is offered is in use again in the same millisecond. Then a gang is sent that needs a third of the cluster.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proffer_master_core::{
    Answer, Config, ConnectionId, Effect, Effects, Input, Master, RequestId, StreamId, Timestamp,
};
use proffer_proto::link::{self, agent_message, master_message};
use proffer_proto::resources::Resources;
use proffer_proto::v1::scheduler::{self, call};
use proffer_proto::v1::{self, TaskState, offer, task_status};

const TOTAL: &str = "cpus:24;mem:49152";
const SMALL: &str = "cpus:1;mem:1024";
const LARGE: &str = "cpus:2;mem:2048";
/// The longest life of a small task.
const LIFE_MS: u64 = 2000;
const FRAMEWORKS: u64 = 4;

/// What came of one gang.
pub(crate) struct Decided {
    /// How long the gang waited, in virtual time.
    pub(crate) waited: Duration,
    /// How long the core worked meanwhile, on everything.
    pub(crate) worked: Duration,
    /// In how many steps.
    pub(crate) steps: usize,
    /// On how many agents it was launched.
    pub(crate) agents: usize,
}

struct Task {
    framework: StreamId,
    agent: ConnectionId,
}

struct Cluster {
    master: Master,
    effects: Effects,
    now: u64,
    index: u64,
    numbers: u64,
    random: u64,
    worked: Duration,
    steps: usize,
    inputs: VecDeque<Input>,
    frameworks: BTreeMap<StreamId, v1::FrameworkId>,
    agents: BTreeMap<ConnectionId, v1::AgentId>,
    tasks: BTreeMap<String, Task>,
    ends: BTreeSet<(u64, String)>,
    /// What was told of a member that was not launched.
    given_up: Option<String>,
    /// The members of the gang that were launched, in the step with that number.
    launched: BTreeMap<usize, Vec<ConnectionId>>,
}

impl Cluster {
    fn new(agents: u64, seed: u64) -> Self {
        let mut cluster = Cluster {
            master: Master::new(Config::default()),
            effects: Effects::new(),
            now: 0,
            index: 0,
            numbers: 0,
            random: seed.wrapping_mul(2).wrapping_add(1),
            worked: Duration::ZERO,
            steps: 0,
            inputs: VecDeque::new(),
            frameworks: BTreeMap::new(),
            agents: BTreeMap::new(),
            tasks: BTreeMap::new(),
            ends: BTreeSet::new(),
            given_up: None,
            launched: BTreeMap::new(),
        };
        let incarnation = "bench".to_owned();
        cluster.step(Input::BecameLeader { incarnation });
        // The first has the gang, and wants no offers.
        for index in 0..=FRAMEWORKS {
            cluster.subscribe(index);
        }
        for index in 0..agents {
            let register = link::Register {
                protocol: 1,
                agent: v1::AgentInfo {
                    hostname: format!("agent{index}"),
                    resources: Resources::parse(TOTAL).expect("resources").to_wire(),
                    ..v1::AgentInfo::default()
                },
                ..link::Register::default()
            };
            cluster.step(Input::AgentRegister {
                connection: ConnectionId(index),
                register: Box::new(register),
                address: format!("agent{index}:5051"),
            });
        }
        cluster
    }

    fn chance(&mut self, bound: u64) -> u64 {
        // Knuth's linear congruential generator (MMIX).
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    fn subscribe(&mut self, index: u64) {
        let roles = if index == 0 { vec!["*".to_owned()] } else { Vec::new() };
        let call = scheduler::Call {
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(Box::new(call::Subscribe {
                framework_info: v1::FrameworkInfo {
                    user: "user".to_owned(),
                    name: format!("framework{index}"),
                    ..v1::FrameworkInfo::default()
                },
                suppressed_roles: roles,
                ..call::Subscribe::default()
            })),
            ..scheduler::Call::default()
        };
        self.numbers += 1;
        self.step(Input::Subscribe {
            request: RequestId(self.numbers),
            stream: StreamId(index),
            call: Box::new(call),
        });
    }

    fn call(&mut self, stream: StreamId, kind: call::Type, fill: impl FnOnce(&mut scheduler::Call)) -> Input {
        let mut call = scheduler::Call {
            framework_id: self.frameworks.get(&stream).cloned(),
            r#type: Some(kind as i32),
            ..scheduler::Call::default()
        };
        fill(&mut call);
        self.numbers += 1;
        Input::SchedulerCall {
            request: RequestId(self.numbers),
            stream: Some(stream),
            call: Box::new(call),
        }
    }

    /// One step, and all that follows from it.
    fn step(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            let began = Instant::now();
            self.master.step(Timestamp(self.now), input, &mut self.effects);
            self.worked += began.elapsed();
            self.steps += 1;
            let effects: Vec<Effect> = self.effects.drain().collect();
            for effect in effects {
                self.follow(effect);
            }
        }
    }

    fn follow(&mut self, effect: Effect) {
        match effect {
            Effect::Propose { id, change } => {
                self.index += 1;
                self.inputs.push_front(Input::Committed {
                    index: self.index,
                    proposal: Some(id),
                    change: *change,
                });
            }
            Effect::SendAgent { connection, message } => match message.body {
                Some(master_message::Body::Registered(registered)) => {
                    self.agents.insert(connection, registered.agent_id);
                }
                Some(master_message::Body::Launch(launch)) => self.launch(connection, launch),
                _ => {}
            },
            Effect::SendEvent { stream, event } => {
                if let Some(subscribed) = event.subscribed {
                    self.frameworks.insert(stream, subscribed.framework_id);
                }
                for offer in event.offers.into_iter().flat_map(|offers| offers.offers) {
                    self.use_up(stream, offer);
                }
                let status = event.update.map(|update| update.status);
                if let Some(status) = status.as_ref().filter(|_| stream == StreamId(0)) {
                    self.given_up = Some(status.message().to_owned());
                }
                if let Some(status) = status
                    && let (Some(uuid), Some(agent_id)) = (status.uuid, status.agent_id)
                {
                    let acknowledge = call::Acknowledge {
                        agent_id,
                        task_id: status.task_id,
                        uuid,
                    };
                    let call = self.call(stream, call::Type::Acknowledge, |call| {
                        call.acknowledge = Some(acknowledge)
                    });
                    self.inputs.push_back(call);
                }
            }
            Effect::Answer { answer, .. } => assert!(
                matches!(answer, Answer::Accepted | Answer::Response(_)),
                "a call is answered: {answer:?}"
            ),
            _ => {}
        }
    }

    fn launch(&mut self, agent: ConnectionId, launch: link::Launch) {
        let id = launch.framework.id.expect("a framework has an id");
        let found = self.frameworks.iter().find(|(_, framework)| **framework == id);
        let framework = *found.expect("it is subscribed").0;
        for task in launch.tasks {
            if framework == StreamId(0) {
                self.launched.entry(self.steps).or_default().push(agent);
                continue;
            }
            let end = self.now + 1 + self.chance(LIFE_MS);
            let id = task.task_id.value;
            self.ends.insert((end, id.clone()));
            self.tasks.insert(id, Task { framework, agent });
        }
    }

    /// Fills what is offered with small tasks.
    fn use_up(&mut self, stream: StreamId, offer: v1::Offer) {
        let offered = Resources::from_wire(&offer.resources).expect("resources");
        let count = offered.cpus().thousandths() / 1000;
        let resources = Resources::parse(SMALL).expect("resources").to_wire();
        let infos = (0..count).map(|_| {
            self.numbers += 1;
            task(&format!("small{}", self.numbers), offer.agent_id.clone(), &resources)
        });
        let launch = offer::Operation {
            r#type: Some(offer::operation::Type::Launch as i32),
            launch: Some(offer::operation::Launch {
                task_infos: infos.collect(),
            }),
            ..offer::Operation::default()
        };
        let accept = call::Accept {
            offer_ids: vec![offer.id],
            operations: vec![launch],
            filters: Some(v1::Filters {
                refuse_seconds: Some(1e6),
            }),
            ..call::Accept::default()
        };
        let call = self.call(stream, call::Type::Accept, |call| call.accept = Some(accept));
        self.inputs.push_back(call);
    }

    /// One more millisecond: what is to end in it ends.
    fn pass(&mut self) {
        self.now += 1;
        while let Some((at, _)) = self.ends.first()
            && *at <= self.now
        {
            let (_, id) = self.ends.pop_first().expect("it is there");
            let task = self.tasks.remove(&id).expect("it runs");
            self.numbers += 1;
            let mut uuid = vec![0; 8];
            uuid.extend(self.numbers.to_le_bytes());
            let update = link::StatusUpdate {
                framework_id: self.frameworks[&task.framework].clone(),
                status: v1::TaskStatus {
                    task_id: id.as_str().into(),
                    state: TaskState::TaskFinished as i32,
                    uuid: Some(uuid),
                    source: Some(task_status::Source::Executor as i32),
                    ..v1::TaskStatus::default()
                },
                latest_state: TaskState::TaskFinished as i32,
            };
            let message = link::AgentMessage {
                body: Some(agent_message::Body::StatusUpdate(update)),
            };
            self.step(Input::AgentMessage {
                connection: task.agent,
                message: Box::new(message),
            });
        }
        self.step(Input::Tick);
    }

    fn gang(&mut self, members: u64) {
        let resources = Resources::parse(LARGE).expect("resources").to_wire();
        let members = (0..members).map(|index| task(&format!("member{index}"), v1::AgentId::default(), &resources));
        let accept = call::Accept {
            gang: Some(call::accept::Gang {
                id: "gang".to_owned(),
                members: members.collect(),
                max_wait: Some(v1::DurationInfo {
                    nanoseconds: 600_000_000_000,
                }),
                ..call::accept::Gang::default()
            }),
            ..call::Accept::default()
        };
        let call = self.call(StreamId(0), call::Type::Accept, |call| call.accept = Some(accept));
        self.step(call);
    }
}

fn task(id: &str, agent_id: v1::AgentId, resources: &[v1::Resource]) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: id.into(),
        agent_id,
        resources: resources.to_vec(),
        command: Some(v1::CommandInfo {
            value: Some("true".to_owned()),
            ..v1::CommandInfo::default()
        }),
        ..v1::TaskInfo::default()
    }
}

/// Sends a gang of so many members to a full cluster of so many agents, and waits until it is launched.
pub(crate) fn decide(members: u64, agents: u64, seed: u64) -> Decided {
    let mut cluster = Cluster::new(agents, seed);
    for _ in 0..2 * LIFE_MS {
        cluster.pass();
    }
    (cluster.worked, cluster.steps) = (Duration::ZERO, 0);
    let began = cluster.now;
    cluster.gang(members);
    while cluster.launched.is_empty() {
        cluster.pass();
        assert!(
            cluster.given_up.is_none(),
            "the gang was given up: {:?}",
            cluster.given_up
        );
    }
    let launched = cluster.launched.pop_first().expect("it was launched").1;
    assert!(cluster.launched.is_empty(), "the gang was launched in several steps");
    assert_eq!(launched.len() as u64, members, "the gang was launched whole");
    Decided {
        waited: Duration::from_millis(cluster.now - began),
        worked: cluster.worked,
        steps: cluster.steps,
        agents: launched.into_iter().collect::<BTreeSet<_>>().len(),
    }
}

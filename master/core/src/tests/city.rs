//! A cluster in virtual time: agents run tasks of a second or so, frameworks answer offers by habit. Throughput is a count.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::resources::Resources;
use proffer_proto::v1::scheduler::{self, call};
use proffer_proto::v1::{self, TaskState, offer::operation};
use proffer_proto::{link, registry};

use crate::{Config, ConnectionId, Effect, Effects, Input, Master, RequestId, StreamId, Timestamp};

/// What a framework does with an offer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Habit {
    /// Within some milliseconds it launches tasks of one processor, as many as fit.
    Works,
    /// The same, but it thinks for so many milliseconds.
    WorksSlowly(u64),
    /// It declines, after so many milliseconds.
    Sits(u64),
    /// It opted in to optimistic offers and launches some tasks on each until it has launched so many; what it decides reaches the
    /// master some milliseconds later.
    Races(usize),
}

#[derive(Debug)]
enum Due {
    Answer(String, Box<v1::Offer>),
    Call(String, Box<scheduler::Call>),
    Ends {
        agent: usize,
        framework: String,
        task: String,
    },
    Tick,
}

#[derive(Debug)]
struct Player {
    habit: Habit,
    id: v1::FrameworkId,
    stream: StreamId,
    open: BTreeSet<String>,
    rescinded: usize,
    finished: usize,
    conflicts: usize,
    /// Tasks that were asked for and of which nothing was heard.
    asked: BTreeSet<String>,
    /// What is still to be launched.
    left: usize,
}

/// The cluster.
#[derive(Debug)]
pub(crate) struct City {
    master: Master,
    now: u64,
    index: u64,
    numbers: u64,
    random: u64,
    due: BTreeMap<(u64, u64), Due>,
    players: BTreeMap<String, Player>,
    agents: Vec<ConnectionId>,
    steps: u64,
}

impl City {
    pub(crate) fn new(seed: u64, agents: usize, cpus: usize) -> Self {
        let mut city = City {
            master: Master::new(Config {
                // Nobody answers pings here.
                ping_interval: std::time::Duration::from_secs(1 << 30),
                ..Config::default()
            }),
            now: 1,
            index: 0,
            numbers: 0,
            random: seed,
            due: BTreeMap::new(),
            players: BTreeMap::new(),
            agents: Vec::new(),
            steps: 0,
        };
        city.step(Input::BecameLeader {
            incarnation: "m1".to_owned(),
        });
        city.commit(
            None,
            registry::change::Body::RaiseLevel(registry::RaiseLevel { level: crate::LEVEL }),
        );
        for agent in 0..agents {
            let connection = ConnectionId(city.number());
            city.agents.push(connection);
            let resources = Resources::parse(&format!("cpus:{cpus};mem:{}", cpus * 100)).expect("resources");
            let register = link::Register {
                protocol: 1,
                agent: v1::AgentInfo {
                    hostname: format!("a{agent}"),
                    resources: resources.to_wire(),
                    ..v1::AgentInfo::default()
                },
                version: "1".to_owned(),
                ..link::Register::default()
            };
            city.step(Input::AgentRegister {
                connection,
                register: Box::new(register),
                address: "a:5051".to_owned(),
            });
        }
        city
    }

    pub(crate) fn join(&mut self, name: &str, habit: Habit) {
        let stream = StreamId(self.number());
        let player = Player {
            habit,
            id: v1::FrameworkId::default(),
            stream,
            open: BTreeSet::new(),
            rescinded: 0,
            finished: 0,
            conflicts: 0,
            asked: BTreeSet::new(),
            left: match habit {
                Habit::Races(tasks) => tasks,
                _ => usize::MAX,
            },
        };
        self.players.insert(name.to_owned(), player);
        use v1::framework_info::capability::Type;
        let races = matches!(habit, Habit::Races(_)).then_some([Type::OptimisticOffers, Type::PartitionAware]);
        let capabilities = races.into_iter().flatten().chain([Type::MultiRole]);
        let info = v1::FrameworkInfo {
            user: "user".to_owned(),
            name: name.to_owned(),
            roles: vec![name.to_owned()],
            capabilities: capabilities
                .map(|kind| v1::framework_info::Capability {
                    r#type: Some(kind as i32),
                })
                .collect(),
            ..v1::FrameworkInfo::default()
        };
        let call = scheduler::Call {
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(Box::new(call::Subscribe {
                framework_info: info,
                ..call::Subscribe::default()
            })),
            ..scheduler::Call::default()
        };
        let request = RequestId(self.number());
        self.step(Input::Subscribe {
            request,
            stream,
            call: Box::new(call),
        });
    }

    pub(crate) fn weigh(&mut self, role: &str, weight: u32) {
        let request = RequestId(self.number());
        let info = v1::WeightInfo {
            role: Some(role.to_owned()),
            weight: f64::from(weight),
        };
        let call = v1::master::Call {
            r#type: Some(v1::master::call::Type::UpdateWeights as i32),
            update_weights: Some(v1::master::call::UpdateWeights {
                weight_infos: vec![info],
            }),
            ..v1::master::Call::default()
        };
        self.step(Input::Operator {
            request,
            call: Box::new(call),
        });
    }

    /// Lets so many seconds pass from the start on.
    pub(crate) fn run(&mut self, seconds: u64) {
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= seconds * 1000
        {
            let ((at, _), due) = entry.remove_entry();
            self.now = at;
            match due {
                Due::Tick => self.step(Input::Tick),
                Due::Answer(name, offer) => self.answer(&name, &offer),
                Due::Call(name, call) => self.call(&name, *call),
                Due::Ends { agent, framework, task } => self.end(agent, &framework, task),
            }
        }
    }

    pub(crate) fn finished(&self, name: &str) -> usize {
        self.players[name].finished
    }

    pub(crate) fn rescinded(&self, name: &str) -> usize {
        self.players[name].rescinded
    }

    pub(crate) fn conflicts(&self, name: &str) -> usize {
        self.players[name].conflicts
    }

    /// How many tasks it has yet to launch, or has not heard of.
    pub(crate) fn left(&self, name: &str) -> usize {
        self.players[name].left + self.players[name].asked.len()
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// From `from` up to less than `to`; a linear congruence.
    fn random(&mut self, from: u64, to: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        from + (self.random >> 33) % (to - from)
    }

    fn later(&mut self, after: u64, due: Due) {
        let number = self.number();
        self.due.insert((self.now + after, number), due);
    }

    fn call(&mut self, name: &str, call: scheduler::Call) {
        let player = &self.players[name];
        let (id, stream) = (player.id.clone(), player.stream);
        let request = RequestId(self.number());
        self.step(Input::SchedulerCall {
            request,
            stream: Some(stream),
            call: Box::new(scheduler::Call {
                framework_id: Some(id),
                ..call
            }),
        });
    }

    fn answer(&mut self, name: &str, offer: &v1::Offer) {
        let player = self.players.get_mut(name).expect("a player");
        // It was rescinded, and the framework knows.
        if !player.open.remove(&offer.id.value) {
            return;
        }
        if let Habit::Sits(_) = player.habit {
            let decline = call::Decline {
                offer_ids: vec![offer.id.clone()],
                filters: Some(v1::Filters {
                    refuse_seconds: Some(0.0),
                }),
            };
            return self.call(
                name,
                scheduler::Call {
                    r#type: Some(call::Type::Decline as i32),
                    decline: Some(decline),
                    ..scheduler::Call::default()
                },
            );
        }
        let resources = Resources::from_wire(&offer.resources).expect("resources");
        let most = resources.cpus().thousandths() / 1000;
        let count = match player.habit {
            Habit::Races(_) => most.min(1 + most / 2).min(player.left as u64),
            _ => most,
        };
        let each = Resources::parse("cpus:1;mem:100").expect("resources").to_wire();
        let tasks = (0..count).map(|_| {
            let id = format!("t{}", self.number());
            v1::TaskInfo {
                name: id.clone(),
                task_id: id.into(),
                agent_id: offer.agent_id.clone(),
                resources: each.clone(),
                command: Some(super::command()),
                ..v1::TaskInfo::default()
            }
        });
        let launch = operation::Launch {
            task_infos: tasks.collect(),
        };
        let player = self.players.get_mut(name).expect("a player");
        let races = matches!(player.habit, Habit::Races(_));
        if races {
            player.left -= launch.task_infos.len();
            let ids = launch.task_infos.iter().map(|task| task.task_id.value.clone());
            player.asked.extend(ids);
        }
        let accept = call::Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![v1::offer::Operation {
                r#type: Some(operation::Type::Launch as i32),
                launch: Some(launch),
                ..v1::offer::Operation::default()
            }],
            filters: races.then_some(v1::Filters {
                refuse_seconds: Some(0.0),
            }),
            ..call::Accept::default()
        };
        let call = scheduler::Call {
            r#type: Some(call::Type::Accept as i32),
            accept: Some(accept),
            ..scheduler::Call::default()
        };
        if races {
            let after = self.random(0, 8);
            return self.later(after, Due::Call(name.to_owned(), Box::new(call)));
        }
        self.call(name, call);
    }

    fn end(&mut self, agent: usize, framework: &str, task: String) {
        let uuid = self.number().to_be_bytes().repeat(2);
        let status = v1::TaskStatus {
            task_id: task.as_str().into(),
            state: TaskState::TaskFinished as i32,
            uuid: Some(uuid.clone()),
            ..v1::TaskStatus::default()
        };
        let update = link::StatusUpdate {
            framework_id: self.players[framework].id.clone(),
            status,
            latest_state: TaskState::TaskFinished as i32,
        };
        self.step(Input::AgentMessage {
            connection: self.agents[agent],
            message: Box::new(link::AgentMessage {
                body: Some(link::agent_message::Body::StatusUpdate(update)),
            }),
        });
    }

    fn commit(&mut self, proposal: Option<crate::ProposalId>, body: registry::change::Body) {
        self.index += 1;
        let change = registry::Change { body: Some(body) };
        self.step(Input::Committed {
            index: self.index,
            proposal,
            change,
        });
    }

    fn step(&mut self, input: Input) {
        let mut effects = Effects::new();
        self.master.step(Timestamp(self.now), input, &mut effects);
        self.steps += 1;
        let races = self
            .players
            .values()
            .any(|player| matches!(player.habit, Habit::Races(_)));
        if races || self.steps.is_multiple_of(256) {
            crate::invariants::check(&self.master).expect("the invariants hold");
        }
        for effect in effects.drain() {
            match effect {
                Effect::Propose { id, change } => self.commit(Some(id), change.body.expect("a body")),
                Effect::Wake { at } => {
                    let after = at.0.saturating_sub(self.now);
                    self.later(after, Due::Tick);
                }
                Effect::SendAgent { connection, message } => self.hear(connection, *message),
                Effect::SendEvent { stream, event } => self.told(stream, *event),
                Effect::Answer { answer, .. } => assert_eq!(answer, crate::Answer::Accepted),
                _ => {}
            }
        }
    }

    fn hear(&mut self, connection: ConnectionId, message: link::MasterMessage) {
        let Some(link::master_message::Body::Launch(launch)) = message.body else {
            return;
        };
        let agent = self.agents.iter().position(|own| *own == connection).expect("an agent");
        for task in launch.tasks {
            let after = self.random(200, 1000);
            let name = &launch.framework.name;
            let player = self.players.get_mut(name).expect("a player");
            let heard = player.asked.remove(&task.task_id.value);
            assert!(heard || player.left == usize::MAX, "{} is launched twice", task.task_id);
            let due = Due::Ends {
                agent,
                framework: launch.framework.name.clone(),
                task: task.task_id.value,
            };
            self.later(after, due);
        }
    }

    fn told(&mut self, stream: StreamId, event: scheduler::Event) {
        let of = |player: &Player| player.stream == stream;
        let (name, player) = self
            .players
            .iter_mut()
            .find(|(_, player)| of(player))
            .expect("a player");
        let name = name.clone();
        if let Some(subscribed) = event.subscribed {
            player.id = subscribed.framework_id;
        } else if let Some(offers) = event.offers {
            for offer in offers.offers {
                assert!(offer.deadline.is_some() && offer.patient_until < offer.deadline);
                let player = self.players.get_mut(&name).expect("a player");
                player.open.insert(offer.id.value.clone());
                let after = match player.habit {
                    Habit::Works | Habit::Races(_) => self.random(1, 20),
                    Habit::WorksSlowly(millis) | Habit::Sits(millis) => millis,
                };
                self.later(after, Due::Answer(name.clone(), Box::new(offer)));
            }
        } else if let Some(rescind) = event.rescind {
            player.rescinded += 1;
            let open = player.open.remove(&rescind.offer_id.value);
            let crossed = matches!(player.habit, Habit::Races(_));
            assert!(open || crossed, "an offer that is not open is rescinded");
        } else if let Some(update) = event.update {
            let status = update.status;
            player.finished += usize::from(status.state() == TaskState::TaskFinished);
            if status.state() == TaskState::TaskDropped {
                assert_eq!(
                    status.reason(),
                    v1::task_status::Reason::OfferConflict,
                    "{}",
                    status.message()
                );
                assert!(
                    player.asked.remove(&status.task_id.value),
                    "{} is told of twice",
                    status.task_id
                );
                player.conflicts += 1;
                player.left += 1;
            }
            if let (Some(uuid), Some(agent_id)) = (status.uuid, status.agent_id) {
                let acknowledge = call::Acknowledge {
                    agent_id,
                    task_id: status.task_id,
                    uuid,
                };
                self.call(
                    &name,
                    scheduler::Call {
                        r#type: Some(call::Type::Acknowledge as i32),
                        acknowledge: Some(acknowledge),
                        ..scheduler::Call::default()
                    },
                );
            }
        }
    }
}

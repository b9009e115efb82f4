//! How long steps take with 1,000 agents and 100 frameworks, after an election with 10,000 agents and 100,000 tasks, and with
//! many calls about the frameworks' state:
//! `cargo test --release -p proffer-master-core scale -- --ignored --nocapture --test-threads 1`.

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proffer_proto::link;
use proffer_proto::resources::Resources;
use proffer_proto::v1::scheduler::{Call, call};
use proffer_proto::v1::{self, TaskState};

use crate::effect::Answer;
use crate::{Config, ConnectionId, Effect, Effects, Input, Master, RequestId, StreamId, Timestamp};

const AGENTS: u64 = 1000;
const FRAMEWORKS: u64 = 100;
const TOTAL: &str = "cpus:16;mem:65536;disk:500000;ports:[31000-32000]";

/// Commits at once what the core proposes.
struct Timed {
    master: Master,
    effects: Effects,
    now: u64,
    index: u64,
    requests: u64,
    /// How many changes were proposed.
    proposed: u64,
}

impl Timed {
    fn new(master: Master) -> Self {
        Timed {
            master,
            effects: Effects::new(),
            now: 0,
            index: 0,
            requests: 0,
            proposed: 0,
        }
    }

    /// How long the input takes, with the changes that it proposes, and what was sent to schedulers and agents.
    fn step(&mut self, input: Input) -> (Duration, Vec<Effect>) {
        let mut done = Vec::new();
        let mut inputs = VecDeque::from([input]);
        let mut spent = Duration::ZERO;
        while let Some(input) = inputs.pop_front() {
            let began = Instant::now();
            self.master.step(Timestamp(self.now), input, &mut self.effects);
            spent += began.elapsed();
            for effect in self.effects.drain() {
                if let Effect::Propose { id, change } = effect {
                    self.index += 1;
                    self.proposed += 1;
                    inputs.push_back(Input::Committed {
                        index: self.index,
                        proposal: Some(id),
                        change: *change,
                    });
                } else if let Effect::Read { read } = effect {
                    inputs.push_back(Input::Readable { read });
                } else {
                    done.push(effect);
                }
            }
        }
        (spent, done)
    }

    fn subscribe(&mut self, number: u64) -> (Duration, Vec<Effect>) {
        self.subscribe_as(number, None)
    }

    /// A framework of another master.
    fn resubscribe(&mut self, number: u64) -> (Duration, Vec<Effect>) {
        self.subscribe_as(number, Some(format!("m1-F{number:04}").into()))
    }

    fn subscribe_as(&mut self, number: u64, id: Option<v1::FrameworkId>) -> (Duration, Vec<Effect>) {
        let subscribe = call::Subscribe {
            framework_info: v1::FrameworkInfo {
                id: id.clone(),
                user: "nobody".to_owned(),
                name: format!("f{number}"),
                failover_timeout: Some(3600.0),
                roles: vec![format!("role-{}", number % 10)],
                capabilities: vec![v1::framework_info::Capability {
                    r#type: Some(v1::framework_info::capability::Type::MultiRole as i32),
                }],
                ..v1::FrameworkInfo::default()
            },
            ..call::Subscribe::default()
        };
        let call = Call {
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(Box::new(subscribe)),
            framework_id: id,
            ..Call::default()
        };
        self.requests += 1;
        self.step(Input::Subscribe {
            request: RequestId(self.requests),
            stream: StreamId(number),
            call: Box::new(call),
        })
    }

    fn call(&mut self, number: u64, call: Call) -> (Duration, Vec<Effect>) {
        self.requests += 1;
        self.step(Input::SchedulerCall {
            request: RequestId(self.requests),
            stream: Some(StreamId(number)),
            call: Box::new(Call {
                framework_id: Some(format!("m1-F{number:04}").into()),
                ..call
            }),
        })
    }

    fn register(&mut self, number: u64) {
        let register = link::Register {
            protocol: 1,
            agent: v1::AgentInfo {
                hostname: format!("host-{number}"),
                resources: Resources::parse(TOTAL).expect("resources").to_wire(),
                ..v1::AgentInfo::default()
            },
            version: "1".to_owned(),
            ..link::Register::default()
        };
        self.step(Input::AgentRegister {
            connection: ConnectionId(number),
            register: Box::new(register),
            address: String::new(),
        });
    }
}

fn offers(effects: &[Effect]) -> Vec<(u64, v1::Offer)> {
    let mut list = Vec::new();
    for effect in effects {
        if let Effect::SendEvent { stream, event } = effect {
            let offers = event.offers.iter().flat_map(|offers| &offers.offers);
            list.extend(offers.map(|offer| (stream.0, offer.clone())));
        }
    }
    list
}

fn of(kind: call::Type) -> Call {
    Call {
        r#type: Some(kind as i32),
        ..Call::default()
    }
}

fn decline(offers: &[(u64, v1::Offer)], seconds: f64) -> Call {
    Call {
        decline: Some(call::Decline {
            offer_ids: offers.iter().map(|(_, offer)| offer.id.clone()).collect(),
            filters: Some(v1::Filters {
                refuse_seconds: Some(seconds),
            }),
        }),
        ..of(call::Type::Decline)
    }
}

fn launch(offer: &v1::Offer, task: &str) -> Call {
    let launch = v1::offer::operation::Launch {
        task_infos: vec![v1::TaskInfo {
            name: task.to_owned(),
            task_id: task.into(),
            agent_id: offer.agent_id.clone(),
            resources: Resources::parse("cpus:1;mem:32;ports:[31000-31000]")
                .expect("resources")
                .to_wire(),
            command: Some(v1::CommandInfo {
                value: Some("true".to_owned()),
                ..v1::CommandInfo::default()
            }),
            ..v1::TaskInfo::default()
        }],
    };
    Call {
        accept: Some(call::Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![v1::offer::Operation {
                r#type: Some(v1::offer::operation::Type::Launch as i32),
                launch: Some(launch),
                ..v1::offer::Operation::default()
            }],
            filters: Some(v1::Filters {
                refuse_seconds: Some(1e6),
            }),
            ..call::Accept::default()
        }),
        ..of(call::Type::Accept)
    }
}

fn finished(framework: u64, offer: &v1::Offer, task: &str) -> Input {
    let agent = offer.agent_id.value.rsplit_once("-A").expect("an id").1;
    let agent: u64 = agent.parse().expect("a number");
    let update = link::StatusUpdate {
        framework_id: format!("m1-F{framework:04}").into(),
        status: v1::TaskStatus {
            task_id: task.into(),
            state: TaskState::TaskFinished as i32,
            uuid: Some(vec![1; 16]),
            ..v1::TaskStatus::default()
        },
        latest_state: TaskState::TaskFinished as i32,
    };
    Input::AgentMessage {
        connection: ConnectionId(agent),
        message: Box::new(link::AgentMessage {
            body: Some(link::agent_message::Body::StatusUpdate(update)),
        }),
    }
}

#[test]
#[ignore = "a measurement"]
fn steps_of_a_thousand_agents_and_a_hundred_frameworks() {
    let mut timed = Timed::new(Master::new(Config::default()));
    let incarnation = "m1".to_owned();
    timed.step(Input::BecameLeader { incarnation });
    for agent in 1..=AGENTS {
        timed.register(agent);
    }
    let (spent, effects) = timed.subscribe(1);
    let mut open = offers(&effects);
    println!("the first framework is offered {} agents: {spent:?}", open.len());

    // One task, so that something can end later.
    let task_on = open.remove(0).1;
    let (spent, _) = timed.call(1, launch(&task_on, "t0"));
    println!("one launch: {spent:?}");

    for framework in 2..=FRAMEWORKS {
        timed.subscribe(framework);
    }
    let (mut rounds, mut worst, mut sum, mut made) = (0u32, Duration::ZERO, Duration::ZERO, 0);
    while !open.is_empty() {
        let mut next = Vec::new();
        for framework in 1..=FRAMEWORKS {
            let own: Vec<_> = open.iter().filter(|(of, _)| *of == framework).cloned().collect();
            if own.is_empty() {
                continue;
            }
            let (spent, effects) = timed.call(framework, decline(&own, 1e6 + framework as f64));
            next.extend(offers(&effects));
            (rounds, worst, sum, made) = (rounds + 1, worst.max(spent), sum + spent, made + own.len());
        }
        open = next;
    }
    println!("{made} offers declined in {rounds} calls: {sum:?}, at most {worst:?} a call");

    let (spent, effects) = timed.call(50, of(call::Type::Request));
    println!("a step in which nothing changes: {spent:?}, {} effects", effects.len());

    let (mut framework, mut offer) = (1, task_on);
    for round in 0..5 {
        let task = format!("t{round}");
        let (spent, effects) = timed.step(finished(framework, &offer, &task));
        let freed = offers(&effects);
        println!("a task ends, {} offer: {spent:?}", freed.len());
        (framework, offer) = freed[0].clone();
        timed.call(framework, launch(&offer, &format!("t{}", round + 1)));
    }

    let (spent, effects) = timed.subscribe(FRAMEWORKS + 1);
    println!(
        "another framework is offered {} agents that {FRAMEWORKS} others refuse: {spent:?}",
        offers(&effects).len()
    );
    timed.call(FRAMEWORKS + 1, decline(&offers(&effects), 1e6));

    for _ in 0..5 {
        let (spent, effects) = timed.call(FRAMEWORKS, of(call::Type::Revive));
        println!("a revival, {} offers: {spent:?}", offers(&effects).len());
        let (spent, _) = timed.call(FRAMEWORKS, decline(&offers(&effects), 1e6));
        println!("all of it declined, a cycle over {AGENTS} x {FRAMEWORKS} refusals: {spent:?}");
    }

    timed.now += 1_000_001_500;
    let (spent, effects) = timed.step(Input::Tick);
    println!(
        "the refusals of a framework end, {} offers: {spent:?}",
        offers(&effects).len()
    );
}

/// How long this thread has been on a processor: other threads make steps look long.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// The number of the framework whose task it is: each has as many.
fn owner(task: u64, frameworks: u64) -> u64 {
    task % frameworks + 1
}

/// An agent as it registers at a new leader, with what it runs.
fn registration(known: &v1::AgentInfo, number: u64, tasks: u64, frameworks: u64) -> Input {
    let agent_id = known.id.clone().expect("an id");
    let task = |task: u64| v1::Task {
        name: "task".to_owned(),
        task_id: format!("t{number}-{task}").into(),
        framework_id: format!("m1-F{:04}", owner(number * tasks + task, frameworks)).into(),
        agent_id: agent_id.clone(),
        state: TaskState::TaskRunning as i32,
        resources: Resources::parse(&format!("cpus:1;mem:32;ports:[{0}-{0}]", 31000 + task))
            .expect("resources")
            .allocate("role-1")
            .to_wire(),
        ..v1::Task::default()
    };
    Input::AgentRegister {
        connection: ConnectionId(number),
        register: Box::new(link::Register {
            protocol: 1,
            agent: known.clone(),
            version: "1".to_owned(),
            tasks: (0..tasks).map(task).collect(),
            ..link::Register::default()
        }),
        address: String::new(),
    }
}

/// A master with so many agents and frameworks, and no task.
fn idle(agents: u64, frameworks: u64) -> Timed {
    let mut timed = Timed::new(Master::new(Config::default()));
    let incarnation = "m1".to_owned();
    timed.step(Input::BecameLeader { incarnation });
    for agent in 1..=agents {
        timed.register(agent);
    }
    for framework in 1..=frameworks {
        timed.subscribe(framework);
    }
    timed
}

/// A new leader takes over a cluster: every agent comes back with its tasks, and nothing has to be written for it.
fn take_over(agents: u64, tasks: u64, frameworks: u64) -> Timed {
    let old = idle(agents, frameworks);
    let mut timed = Timed::new(Master::new(Config::default()));
    let began = on_processor();
    let registry = old.master.registry();
    timed.master.restore(registry.clone());
    println!(
        "the registry of {agents} agents is copied in {:?}",
        on_processor() - began
    );
    let incarnation = "m2".to_owned();
    let began = on_processor();
    timed.step(Input::BecameLeader { incarnation });
    println!("the new leader is ready after {:?}", on_processor() - began);
    for framework in 1..=frameworks {
        timed.resubscribe(framework);
    }
    timed.proposed = 0;
    let inputs = (1..).zip(&registry.agents);
    let inputs: Vec<_> = inputs
        .map(|(number, agent)| registration(&agent.info, number, tasks, frameworks))
        .collect();
    let mut all = Vec::new();
    let began = on_processor();
    for input in inputs {
        all.push(timed.step(input).1);
    }
    let spent = on_processor() - began;
    let made: usize = all.iter().map(|effects| offers(effects).len()).sum();
    println!("{agents} agents with {tasks} tasks each are back: {spent:?}, {made} offers");
    assert_eq!(timed.proposed, 0, "agents that the registry knows need no write");
    assert_eq!(made as u64, agents, "an agent is offered when it is back");
    timed
}

#[test]
fn agents_come_back_to_a_new_leader_without_a_write() {
    let timed = take_over(20, 3, 2);
    assert_eq!(crate::invariants::check(&timed.master), Ok(()));
}

#[test]
#[ignore = "a measurement"]
fn ten_thousand_agents_come_back_to_a_new_leader() {
    for frameworks in [1, 10, 100] {
        take_over(10_000, 10, frameworks);
    }
}

/// What this process has of the machine's memory, MiB.
fn resident_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

/// Every task runs, and has told so.
#[test]
#[ignore = "a measurement"]
fn memory_of_a_large_cluster() {
    let (agents, tasks, frameworks) = (10_000, 10, 1000);
    // It stays where it is, so that its memory is not counted as free for the new one.
    let old = idle(agents, frameworks);
    let registry = old.master.registry();
    let before = resident_mib();
    let mut timed = Timed::new(Master::new(Config::default()));
    timed.master.restore(registry.clone());
    let incarnation = "m2".to_owned();
    timed.step(Input::BecameLeader { incarnation });
    for framework in 1..=frameworks {
        timed.resubscribe(framework);
    }
    for (number, agent) in (1..).zip(&registry.agents) {
        let agent_id = agent.info.id.clone().expect("an id");
        timed.step(registration(&agent.info, number, tasks, frameworks));
        for task in 0..tasks {
            let framework = owner(number * tasks + task, frameworks);
            let uuid = vec![task as u8; 16];
            let task_id = v1::TaskId::from(format!("t{number}-{task}"));
            let update = link::StatusUpdate {
                framework_id: format!("m1-F{framework:04}").into(),
                status: v1::TaskStatus {
                    task_id: task_id.clone(),
                    state: TaskState::TaskRunning as i32,
                    executor_id: Some(v1::ExecutorId::from(task_id.value.clone())),
                    uuid: Some(uuid.clone()),
                    ..v1::TaskStatus::default()
                },
                latest_state: TaskState::TaskRunning as i32,
            };
            timed.step(Input::AgentMessage {
                connection: ConnectionId(number),
                message: Box::new(link::AgentMessage {
                    body: Some(link::agent_message::Body::StatusUpdate(update)),
                }),
            });
            let acknowledge = call::Acknowledge {
                agent_id: agent_id.clone(),
                task_id,
                uuid,
            };
            let call = Call {
                acknowledge: Some(acknowledge),
                ..of(call::Type::Acknowledge)
            };
            let (_, effects) = timed.call(framework, call);
            assert!(
                matches!(
                    effects[0],
                    Effect::Answer {
                        answer: Answer::Accepted,
                        ..
                    }
                ),
                "{effects:?}"
            );
        }
    }
    let spent = resident_mib() - before;
    let count = agents * tasks;
    println!("{agents} agents, {frameworks} frameworks and {count} tasks take {spent:.0} MiB");
    assert_eq!(old.master.registry().agents.len() as u64, agents);
}

#[test]
#[ignore = "a measurement"]
fn calls_about_the_state_beside_a_large_cluster() {
    let mut timed = take_over(10_000, 10, 100);
    timed.index += 1;
    let level = proffer_proto::registry::RaiseLevel { level: 2 };
    timed.master.step(
        Timestamp(0),
        Input::Committed {
            index: timed.index,
            proposal: None,
            change: proffer_proto::registry::Change {
                body: Some(proffer_proto::registry::change::Body::RaiseLevel(level)),
            },
        },
        &mut timed.effects,
    );
    timed.effects.drain();
    let value = bytes::Bytes::from(vec![7; 256]);
    let call = |body| {
        Box::new(proffer_proto::state::Call {
            namespace: "framework/m1-F0001".to_owned(),
            body: Some(body),
        })
    };
    let count = 100_000u64;
    let began = on_processor();
    for number in 0..count {
        let put = proffer_proto::state::Put {
            key: format!("key-{}", number * 7919 % 50_000),
            value: value.clone(),
            expected_version: None,
        };
        let call = call(proffer_proto::state::call::Body::Put(put));
        timed.step(Input::State {
            request: RequestId(number),
            call,
        });
    }
    println!("{count} writes: {:?} each", (on_processor() - began) / count as u32);
    let began = on_processor();
    for number in 0..count {
        let get = proffer_proto::state::Get {
            key: format!("key-{}", number * 7919 % 50_000),
        };
        let call = call(proffer_proto::state::call::Body::Get(get));
        timed.step(Input::State {
            request: RequestId(number),
            call,
        });
    }
    println!("{count} reads: {:?} each", (on_processor() - began) / count as u32);
    let began = on_processor();
    let image = timed.master.image();
    println!("an image for a snapshot is taken in {:?}", on_processor() - began);
    let registry = image.to_wire();
    let began = on_processor();
    timed.master.restore(registry);
    println!("and taken over from one in {:?}", on_processor() - began);
}

#[test]
#[ignore = "a measurement"]
fn images_of_a_large_registry() {
    let mut master = Master::new(Config::default());
    let incarnation = "m1".to_owned();
    let mut effects = Effects::new();
    master.step(Timestamp(0), Input::BecameLeader { incarnation }, &mut effects);
    effects.drain();
    let value = bytes::Bytes::from(vec![7; 256]);
    let mut index = 0;
    let mut write = |master: &mut Master, key: u64| {
        index += 1;
        let write = proffer_proto::registry::WriteState {
            namespace: "n".to_owned(),
            key: format!("key-{key:08}"),
            value: Some(value.clone()),
            expected_version: None,
        };
        let change = proffer_proto::registry::Change {
            body: Some(proffer_proto::registry::change::Body::WriteState(write)),
        };
        let began = Instant::now();
        let proposal = None;
        master.step(
            Timestamp(0),
            Input::Committed {
                index,
                proposal,
                change,
            },
            &mut effects,
        );
        effects.drain();
        began.elapsed()
    };
    let count = (128 << 20) / 320;
    for key in 0..count {
        write(&mut master, key * 7919 % count);
    }
    for _ in 0..3 {
        let images = (0..20).map(|_| {
            let began = Instant::now();
            drop(master.image());
            began.elapsed()
        });
        println!("an image of {count} keys is taken and dropped in {:?}", images.min());
        let alone = (0..100_000).map(|number| write(&mut master, number * 104_729 % count));
        println!("100000 writes: {:?} each", alone.sum::<Duration>() / 100_000);
        let image = master.image();
        let (mut sum, mut worst) = (Duration::ZERO, Duration::ZERO);
        for number in 0..100_000 {
            let spent = write(&mut master, number * 104_729 % count);
            (sum, worst) = (sum + spent, worst.max(spent));
        }
        println!("100000 writes beside it: {:?} each, at most {worst:?}", sum / 100_000);
        let began = on_processor();
        let registry = image.to_wire();
        println!(
            "what was done before, a copy of {}: {:?}",
            registry.state.len(),
            on_processor() - began
        );
    }
}

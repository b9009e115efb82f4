//! Scripts of inputs go in, transcripts of effects come out.
//!
//! A line of a script is `<milliseconds> <input> <arguments>`. A `restart` throws the core away and recovers another one
//! from the records that it checkpointed, as a crash at that moment would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use proffer_proto::link::{self, MasterMessage, agent_message, master_message};
use proffer_proto::v1;

use super::*;
use crate::checkpoint::image::Image;
use crate::containerizer::Oom;

const KILLING: v1::framework_info::capability::Type = v1::framework_info::capability::Type::TaskKillingState;
const AWARE: v1::framework_info::capability::Type = v1::framework_info::capability::Type::PartitionAware;

/// Counts instead of drawing.
struct Counter(u8, u8);

mod executors;

impl Ids for Counter {
    fn update(&mut self) -> [u8; 16] {
        self.0 += 1;
        [self.0; 16]
    }

    fn container(&mut self) -> String {
        self.1 += 1;
        format!("c{}", self.1)
    }

    fn token(&mut self) -> String {
        "secret".into()
    }
}

struct World {
    /// All that was written, in order.
    records: Vec<Record>,
    core: Core,
    disk: Image,
    transcript: String,
    /// Arguments of tasks that were launched, for their later mention.
    uuids: BTreeMap<String, Vec<u8>>,
    restarts: u8,
}

fn settings() -> Settings {
    Settings {
        agent: v1::AgentInfo {
            hostname: "host".into(),
            ..Default::default()
        },
        boot_id: "boot".into(),
        kill_grace: Duration::from_secs(5),
        executors: Timeouts::default(),
    }
}

/// What comes of a script.
pub(in crate::core) fn run(script: &str) -> String {
    play(script).transcript
}

/// What a script has the agent write down.
pub(in crate::core) fn written(script: &str) -> Vec<Record> {
    play(script).records
}

/// What an agent makes of what is on its disk.
pub(in crate::core) fn recover(disk: Image, effects: &mut Vec<Effect>) -> (Core, Vec<ContainerId>) {
    Core::recover(settings(), Box::new(Counter(200, 200)), disk, effects)
}

fn play(script: &str) -> World {
    let mut effects = Vec::new();
    let (core, _) = Core::recover(settings(), Box::new(Counter(0, 0)), Image::default(), &mut effects);
    let mut world = World {
        core,
        disk: Image::default(),
        records: Vec::new(),
        transcript: String::new(),
        uuids: BTreeMap::new(),
        restarts: 0,
    };
    world.keep(&effects);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.play(line);
    }
    world
}

pub(in crate::core) fn check(script: &str, expected: &str) {
    let transcript = run(script);
    let clean = |text: &str| {
        text.lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let (expected, got) = (clean(expected), clean(&transcript));
    assert_eq!(expected, got, "\n--- transcript ---\n{got}\n");
}

impl World {
    fn play(&mut self, line: &str) {
        let _ = writeln!(self.transcript, "> {line}");
        let words: Vec<&str> = line.split_whitespace().collect();
        let now = Timestamp(words[0].parse::<u64>().unwrap() * 1_000_000);
        let arguments = &words[2..];
        let mut effects = Vec::new();
        if matches!(words[1], "restart" | "reboot") {
            self.restarts += 1;
            let mut settings = settings();
            if words[1] == "reboot" {
                settings.boot_id = "next boot".into();
            }
            let ids = Box::new(Counter(100 * self.restarts, 100 * self.restarts));
            let (core, alive) = Core::recover(settings, ids, self.disk.clone(), &mut effects);
            self.core = core;
            let _ = writeln!(
                self.transcript,
                "recover {:?}",
                alive.iter().map(ContainerId::as_str).collect::<Vec<_>>()
            );
        } else {
            let input = self.input(words[1], arguments);
            self.core.step(now, input, &mut effects);
        }
        self.keep(&effects);
        for effect in &effects {
            let shown = self.show(effect);
            let _ = writeln!(self.transcript, "{shown}");
        }
    }

    fn keep(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Checkpoint(record) | Effect::Write(record) | Effect::Note(record) = effect {
                self.disk.apply(record.clone());
                self.records.push(record.clone());
            }
        }
    }

    fn input(&self, verb: &str, arguments: &[&str]) -> Input {
        let framework_id = v1::FrameworkId { value: "f".into() };
        let task_id = || v1::TaskId {
            value: arguments[0].into(),
        };
        let container = || ContainerId(arguments[0].into());
        let message = |body| Input::Message(1, MasterMessage { body: Some(body) });
        if let Some(input) = executors::input(verb, arguments) {
            return input;
        }
        let body = match verb {
            "attach" => return Input::Attached(1),
            "detach" => return Input::Detached(1),
            "tick" => return Input::Tick,
            "leave" => return Input::Leave,
            "started" => return Input::Launched(container(), Ok(arguments[1].parse().unwrap())),
            "failed" => {
                let failure = LaunchFailure {
                    kind: FailureKind::Failed,
                    message: arguments[1..].join(" "),
                };
                return Input::Launched(container(), Err(failure));
            }
            "checked" => return checked(container(), &arguments[1..]),
            "exit" => return Input::Exited(container(), exit(&arguments[1..])),
            "found" => {
                let found = match arguments[1] {
                    "unknown" => Recovered::Unknown,
                    "running" => Recovered::Running { pid: 99 },
                    _ => Recovered::Exited(exit(&arguments[1..])),
                };
                return Input::Found(container(), found);
            }
            "registered" => {
                let agent_id = v1::AgentId { value: "a1".into() };
                master_message::Body::Registered(link::Registered {
                    agent_id,
                    ping_interval_seconds: 15.0,
                })
            }
            "gone" => master_message::Body::Rejected(link::Rejected {
                message: "gone".into(),
                gone: Some(true),
            }),
            "launch" => master_message::Body::Launch(launch(arguments)),
            "kill" => {
                let kill_policy = arguments.get(1).map(|grace| v1::KillPolicy {
                    grace_period: Some(v1::DurationInfo {
                        nanoseconds: grace.parse::<i64>().unwrap() * 1_000_000,
                    }),
                });
                master_message::Body::Kill(link::Kill {
                    framework_id,
                    task_id: task_id(),
                    kill_policy,
                    drain: None,
                })
            }
            "ack" => {
                let uuid = self.uuids[arguments[1]].clone();
                master_message::Body::Acknowledge(link::Acknowledge {
                    framework_id,
                    task_id: task_id(),
                    uuid,
                })
            }
            "remove" => master_message::Body::ShutdownFramework(link::ShutdownFramework { framework_id }),
            "ping" => master_message::Body::Ping(link::Ping { sequence: 7 }),
            other => panic!("no input is called {other}"),
        };
        message(body)
    }

    fn show(&mut self, effect: &Effect) -> String {
        match effect {
            Effect::Checkpoint(record) => format!("checkpoint {}", show_record(record)),
            Effect::Write(record) => format!("write {}", show_record(record)),
            Effect::Note(record) => format!("note {}", show_record(record)),
            Effect::Launch(order) => format!("start {}", order.container),
            Effect::Watch(container) => format!("watch {container}"),
            Effect::Terminate(container) => format!("terminate {container}"),
            Effect::Destroy(container) => format!("destroy {container}"),
            Effect::Check(order) => format!("check {} {} {}", order.container, kind(order.kind), order.number),
            Effect::Release(container) => format!("release {container}"),
            Effect::Resize(order) => format!("resize {} to {} parts", order.container, order.parts.len()),
            Effect::ReleasePod(pod) => format!("release pod {pod}"),
            Effect::LayOut(wanted) => format!("lay out {}", wanted.version),
            Effect::Answer(_, Ok(())) => "answer".into(),
            Effect::Answer(_, Err(refusal)) => format!("refuse {:?}: {}", refusal.kind, refusal.message),
            Effect::Tell(stream, event) => format!("tell {stream} {}", executors::show_event(event)),
            Effect::CloseExecutor(stream) => format!("close executor {stream}"),
            Effect::Close(session) => format!("close {session}"),
            Effect::Abandon(container) => format!("abandon {container}"),
            Effect::Stop => "stop".into(),
            Effect::Send(_, message) => match message.body.as_ref().unwrap() {
                agent_message::Body::Register(register) => {
                    let id = register.agent.id.as_ref().map_or("-", |id| &id.value);
                    let tasks = register.tasks.iter().map(|task| {
                        let latest = task.statuses.last();
                        let verdict = latest.map(|status| show_verdict(status.healthy, status.check_status.as_ref()));
                        format!(
                            " {}:{}{}",
                            task.task_id.value,
                            state(task.state),
                            verdict.unwrap_or_default()
                        )
                    });
                    let executors = register.executors.iter();
                    let executors = executors.map(|executor| format!(" [{}]", executor.executor_id));
                    format!(
                        "send register {id}{}{}",
                        tasks.collect::<String>(),
                        executors.collect::<String>()
                    )
                }
                agent_message::Body::StatusUpdate(update) => {
                    let uuid = update.status.uuid.clone().unwrap();
                    let name = format!("u{}", uuid[0]);
                    self.uuids.insert(name.clone(), uuid);
                    let ahead = match update.latest_state == update.status.state {
                        true => String::new(),
                        false => format!(" latest {}", state(update.latest_state)),
                    };
                    format!("send {name} {}{ahead}", show_status(&update.status))
                }
                agent_message::Body::Freed(freed) => format!("send freed {}", freed.task_id),
                agent_message::Body::Pong(pong) => format!("send pong {}", pong.sequence),
                agent_message::Body::Unregister(_) => "send unregister".into(),
                agent_message::Body::ExecutorExited(exited) => {
                    format!("send exited {} {}", exited.executor_id, exited.status)
                }
                agent_message::Body::ExecutorMessage(message) => {
                    let text = String::from_utf8_lossy(&message.data);
                    format!("send message of {}: {text}", message.executor_id)
                }
                other => format!("send {other:?}"),
            },
        }
    }
}

fn launch(arguments: &[&str]) -> link::Launch {
    let mut task = v1::TaskInfo {
        name: arguments[0].into(),
        task_id: v1::TaskId {
            value: arguments[0].into(),
        },
        agent_id: v1::AgentId { value: "a1".into() },
        command: Some(v1::CommandInfo {
            value: Some("true".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut capabilities = Vec::new();
    for argument in &arguments[1..] {
        match *argument {
            "killing" => capabilities.push(KILLING),
            "aware" => capabilities.push(AWARE),
            "healthy" => task.health_check = Some(Box::new(v1::HealthCheck::default())),
            "health" => task.health_check = Some(Box::new(health_check())),
            "status" => task.check = Some(Box::new(status_check())),
            "image" => {
                let mesos = v1::container_info::MesosInfo {
                    image: Some(v1::Image::default()),
                };
                let mut container = v1::ContainerInfo {
                    mesos: Some(mesos),
                    ..Default::default()
                };
                container.set_type(v1::container_info::Type::Mesos);
                task.container = Some(Box::new(container));
            }
            limit => {
                let nanoseconds = limit.parse::<i64>().unwrap() * 1_000_000;
                task.max_completion_time = Some(v1::DurationInfo { nanoseconds });
            }
        }
    }
    let capability = |kind: v1::framework_info::capability::Type| v1::framework_info::Capability {
        r#type: Some(kind.into()),
    };
    let framework = v1::FrameworkInfo {
        id: Some(v1::FrameworkId { value: "f".into() }),
        capabilities: capabilities.into_iter().map(capability).collect(),
        ..Default::default()
    };
    link::Launch {
        framework,
        tasks: vec![task],
        ..Default::default()
    }
}

/// After 1 s, every 0.5 s; a grace period of 3 s; two failures.
fn health_check() -> v1::HealthCheck {
    v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Tcp.into()),
        tcp: Some(v1::health_check::TcpCheckInfo {
            port: 80,
            ..Default::default()
        }),
        delay_seconds: Some(1.0),
        interval_seconds: Some(0.5),
        grace_period_seconds: Some(3.0),
        consecutive_failures: Some(2),
        ..Default::default()
    }
}

/// At once, and every second.
fn status_check() -> v1::CheckInfo {
    v1::CheckInfo {
        r#type: Some(v1::check_info::Type::Http.into()),
        http: Some(v1::check_info::Http { port: 80, path: None }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(1.0),
        ..Default::default()
    }
}

fn checked(container: ContainerId, arguments: &[&str]) -> Input {
    use checks::{CheckAnswer, CheckKind, Seen};
    let kind = match arguments[0] {
        "health" => CheckKind::Health,
        _ => CheckKind::Status,
    };
    let (seen, message) = match arguments[2] {
        "connected" => (Seen::Connected(true), ""),
        "refused" => (Seen::Connected(false), "refused"),
        "late" => (Seen::Nothing, "late"),
        code => (Seen::HttpStatus(code.parse().unwrap()), ""),
    };
    let answer = CheckAnswer {
        number: arguments[1].parse().unwrap(),
        seen,
        message: message.into(),
    };
    Input::Checked(container, kind, answer)
}

fn kind(kind: checks::CheckKind) -> &'static str {
    match kind {
        checks::CheckKind::Health => "health",
        checks::CheckKind::Status => "status",
    }
}

/// What checks say.
fn show_verdict(healthy: Option<bool>, status: Option<&v1::CheckStatusInfo>) -> String {
    let healthy = match healthy {
        Some(true) => " healthy",
        Some(false) => " unhealthy",
        None => "",
    };
    let code = status.map(|status| status.http.as_ref().and_then(|http| http.status_code));
    let code = code.map(|code| code.map_or(" http -".into(), |code| format!(" http {code}")));
    format!("{healthy}{}", code.unwrap_or_default())
}

fn exit(arguments: &[&str]) -> Exit {
    let number = || arguments[1].parse().unwrap();
    match arguments[0] {
        "code" => Exit {
            code: Some(number()),
            ..Exit::default()
        },
        "signal" => Exit {
            signal: Some(number()),
            ..Exit::default()
        },
        "oom" => Exit {
            signal: Some(9),
            oom: Some(Oom {
                limit_bytes: 32 << 20,
                used_bytes: 32 << 20,
            }),
            ..Exit::default()
        },
        other => panic!("nothing exits with {other}"),
    }
}

fn state(state: i32) -> String {
    v1::TaskState::try_from(state)
        .unwrap()
        .as_str_name()
        .trim_start_matches("TASK_")
        .to_lowercase()
}

fn show_status(status: &v1::TaskStatus) -> String {
    let mut shown = format!("{} {}", status.task_id.value, state(status.state));
    if status.reason.is_some() {
        let _ = write!(
            shown,
            " {}",
            status
                .reason()
                .as_str_name()
                .trim_start_matches("REASON_")
                .to_lowercase()
        );
    }
    if let Some(message) = &status.message {
        let _ = write!(shown, " ({message})");
    }
    shown + &show_verdict(status.healthy, status.check_status.as_ref())
}

fn show_record(record: &Record) -> String {
    match record.fact.as_ref().unwrap() {
        Fact::Agent(agent) => format!("agent {}", agent.id.as_ref().map_or("-", |id| &id.value)),
        Fact::Boot(boot) => format!("boot {}", boot.id),
        Fact::Framework(framework) => format!("framework {}", framework.id.as_ref().unwrap().value),
        Fact::Launch(launch) => format!("launch {}", launch.task.task_id.value),
        Fact::Update(update) => format!("update {}", state(update.status.state)),
        Fact::Acknowledged(name) => format!("acknowledged {}", name.task),
        Fact::Ending(ending) => format!("ending {} {}ms", ending.task.task, ending.force_at / 1_000_000),
        Fact::Muted(name) => format!("muted {}", name.task),
        Fact::Checked(checked) => format!(
            "checked {}{}",
            checked.task.task,
            show_verdict(checked.healthy, checked.status.as_ref())
        ),
        Fact::Forgotten(name) => format!("forgotten {}", name.task),
        Fact::Executor(launch) => format!("executor {}", launch.info.executor_id),
        Fact::ExecutorEnding(ending) => {
            let (name, at) = (&ending.executor.executor, ending.force_at / 1_000_000);
            format!("ending executor {name} {at}ms")
        }
        Fact::ExecutorForgotten(name) => format!("forgotten executor {}", name.executor),
        Fact::Volumes(volumes) => format!("volumes {}", volumes.version),
    }
}

#[test]
fn a_task_runs_and_finishes_and_every_step_is_on_disk_first() {
    check(
        "0 attach
         1 registered
         2 launch t
         3 started c1 42
         4 ack t u1
         5 exit c1 code 0
         6 ack t u2
         7 ping",
        "> 0 attach
           send register -
         > 1 registered
           checkpoint agent a1
         > 2 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 3 started c1 42
           watch c1
           write update running
           send u1 t running
         > 4 ack t u1
           note acknowledged t
         > 5 exit c1 code 0
           send freed t
           checkpoint update finished
           send u2 t finished
           release c1
         > 6 ack t u2
           note forgotten t
         > 7 ping
           send pong 7",
    );
}

#[test]
fn only_the_head_is_in_flight_and_a_terminal_state_rides_on_it() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 started c1 42
         2 exit c1 code 3
         10001 tick
         10002 tick
         30002 tick
         30003 ack t u1
         30004 ack t u1",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 started c1 42
           watch c1
           write update running
           send u1 t running
         > 2 exit c1 code 3
           send freed t
           checkpoint update failed
           send u1 t running latest failed
           release c1
         > 10001 tick
         > 10002 tick
           send u1 t running latest failed
         > 30002 tick
           send u1 t running latest failed
         > 30003 ack t u1
           note acknowledged t
           send u2 t failed command_executor_failed (exited with code 3)
         > 30004 ack t u1",
    );
}

#[test]
fn nothing_is_sent_without_a_registration_and_all_of_it_after_one() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 detach
         2 started c1 42
         70000 tick
         70001 attach
         70002 registered",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 detach
         > 2 started c1 42
           watch c1
           write update running
         > 70000 tick
         > 70001 attach
           send register a1 t:running
         > 70002 registered
           send u1 t running",
    );
}

#[test]
fn a_kill_asks_first_and_forces_after_the_grace_period() {
    check(
        "0 attach
         0 registered
         0 launch t killing
         1 started c1 42
         2 ack t u1
         3 kill t 2000
         4 ack t u2
         5 kill t 60000
         2002 tick
         2003 tick
         2010 exit c1 signal 9",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t killing
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 started c1 42
           watch c1
           write update running
           send u1 t running
         > 2 ack t u1
           note acknowledged t
         > 3 kill t 2000
           checkpoint ending t 2003ms
           terminate c1
           write update killing
           send u2 t killing (killed as asked)
         > 4 ack t u2
           note acknowledged t
         > 5 kill t 60000
         > 2002 tick
         > 2003 tick
           destroy c1
         > 2010 exit c1 signal 9
           send freed t
           checkpoint update killed
           send u3 t killed (killed as asked; ended by signal 9 (SIGKILL))
           release c1",
    );
}

#[test]
fn a_task_killed_while_it_is_launched_never_runs_as_far_as_anyone_hears() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 kill t
         2 started c1 42
         3 exit c1 signal 9
         4 launch s
         4 kill s
         5 failed c2 no such program",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 kill t
           checkpoint ending t 1ms
           abandon c1
         > 2 started c1 42
           watch c1
           destroy c1
         > 3 exit c1 signal 9
           send freed t
           checkpoint update killed
           send u1 t killed task_killed_during_launch (killed as asked before it ran)
           release c1
         > 4 launch s
           checkpoint launch s
           start c2
         > 4 kill s
           checkpoint ending s 4ms
           abandon c2
         > 5 failed c2 no such program
           checkpoint update killed
           send u2 s killed task_killed_during_launch (killed as asked before it ran)
           release c2",
    );
}

#[test]
fn failures_say_what_failed() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 failed c1 exec /bin/nothing failed: No such file
         2 launch o
         3 started c2 42
         4 ack o u2
         5 exit c2 oom
         6 launch h healthy
         7 launch i image",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 failed c1 exec /bin/nothing failed: No such file
           checkpoint update failed
           send u1 t failed container_launch_failed (exec /bin/nothing failed: No such file)
           release c1
         > 2 launch o
           checkpoint launch o
           start c2
         > 3 started c2 42
           watch c2
           write update running
           send u2 o running
         > 4 ack o u2
           note acknowledged o
         > 5 exit c2 oom
           send freed o
           checkpoint update failed
           send u3 o failed container_limitation_memory (out of memory: the limit is 32.0 MiB and 32.0 MiB were used; ended by signal 9 (SIGKILL))
           release c2
         > 6 launch h healthy
           checkpoint launch h
           checkpoint update error
           send u4 h error task_invalid (health_check.type: must be COMMAND, HTTP, TCP or GRPC)
         > 7 launch i image
           checkpoint launch i
           checkpoint update error
           send u5 i error task_invalid (container.mesos.image: images are not supported yet; leave it unset)",
    );
}

#[test]
fn a_task_may_not_run_longer_than_its_completion_time() {
    check(
        "0 attach
         0 registered
         0 launch t 1000
         10 started c1 42
         11 ack t u1
         1000 tick
         1500 exit c1 signal 15",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t 1000
           checkpoint framework f
           checkpoint launch t
           start c1
         > 10 started c1 42
           watch c1
           write update running
           send u1 t running
         > 11 ack t u1
           note acknowledged t
         > 1000 tick
           checkpoint ending t 6000ms
           terminate c1
         > 1500 exit c1 signal 15
           send freed t
           checkpoint update failed
           send u2 t failed max_completion_time_reached (its max_completion_time was reached; ended by signal 15 (SIGTERM))
           release c1",
    );
}

#[test]
fn a_restart_adopts_what_runs_and_reports_what_ended() {
    check(
        "0 attach
         0 registered
         0 launch r
         0 launch e
         1 started c1 42
         1 started c2 43
         2 ack e u2
         3 restart
         3 found c1 running
         3 found c2 code 7
         4 attach
         5 registered",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch r
           checkpoint framework f
           checkpoint launch r
           start c1
         > 0 launch e
           checkpoint launch e
           start c2
         > 1 started c1 42
           watch c1
           write update running
           send u1 r running
         > 1 started c2 43
           watch c2
           write update running
           send u2 e running
         > 2 ack e u2
           note acknowledged e
         > 3 restart
           recover [\"c2\", \"c1\"]
         > 3 found c1 running
           watch c1
         > 3 found c2 code 7
           checkpoint update failed
           release c2
         > 4 attach
           send register a1 e:failed r:running
         > 5 registered
           send u101 e failed command_executor_failed (exited with code 7)
           send u1 r running",
    );
}

#[test]
fn a_restart_never_starts_a_task() {
    check(
        "0 attach
         0 registered
         0 launch never aware
         0 launch gone aware
         0 launch killed aware
         1 started c2 42
         2 ack gone u1
         2 kill killed
         3 restart
         3 found c1 unknown
         3 found c2 unknown
         3 found c3 unknown
         4 attach
         5 registered",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch never aware
           checkpoint framework f
           checkpoint launch never
           start c1
         > 0 launch gone aware
           checkpoint launch gone
           start c2
         > 0 launch killed aware
           checkpoint launch killed
           start c3
         > 1 started c2 42
           watch c2
           write update running
           send u1 gone running
         > 2 ack gone u1
           note acknowledged gone
         > 2 kill killed
           checkpoint ending killed 2ms
           abandon c3
         > 3 restart
           recover [\"c2\", \"c3\", \"c1\"]
         > 3 found c1 unknown
           checkpoint update dropped
           release c1
         > 3 found c2 unknown
           checkpoint update gone
           release c2
         > 3 found c3 unknown
           checkpoint update killed
           release c3
         > 4 attach
           send register a1 gone:gone killed:killed never:dropped
         > 5 registered
           send u102 gone gone agent_restarted (the agent was restarted: its container is not there any more)
           send u103 killed killed task_killed_during_launch (killed as asked before it ran)
           send u101 never dropped agent_restarted (the agent was restarted: it had not been started)",
    );
}

#[test]
fn a_kill_outlives_a_restart() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 started c1 42
         2 kill t 2000
         3 restart
         3 found c1 running
         2002 tick
         2003 exit c1 signal 9",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 started c1 42
           watch c1
           write update running
           send u1 t running
         > 2 kill t 2000
           checkpoint ending t 2002ms
           terminate c1
         > 3 restart
           recover [\"c1\"]
         > 3 found c1 running
           watch c1
           terminate c1
         > 2002 tick
           destroy c1
         > 2003 exit c1 signal 9
           checkpoint update killed
           release c1",
    );
}

#[test]
fn a_removed_framework_s_tasks_are_dying_until_their_containers_are_gone() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 started c1 42
         2 remove
         3 restart
         3 found c1 running
         4 attach
         4 registered
         5 exit c1 signal 15
         6 attach",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 started c1 42
           watch c1
           write update running
           send u1 t running
         > 2 remove
           checkpoint muted t
           checkpoint ending t 5002ms
           terminate c1
         > 3 restart
           recover [\"c1\"]
         > 3 found c1 running
           watch c1
           terminate c1
         > 4 attach
           send register a1 t:killing
         > 4 registered
         > 5 exit c1 signal 15
           send u101 t killed framework_removed (framework removed)
           note forgotten t
           release c1
         > 6 attach
           send register a1",
    );
}

#[test]
fn every_task_of_a_removed_framework_is_reported_gone_once() {
    check(
        "0 attach
         0 registered
         0 launch ran
         1 started c1 42
         1 exit c1 code 0
         2 launch starts
         2 launch runs
         3 started c3 43
         4 remove
         5 exit c3 signal 15
         6 failed c2 no such program
         7000 tick",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch ran
           checkpoint framework f
           checkpoint launch ran
           start c1
         > 1 started c1 42
           watch c1
           write update running
           send u1 ran running
         > 1 exit c1 code 0
           send freed ran
           checkpoint update finished
           send u1 ran running latest finished
           release c1
         > 2 launch starts
           checkpoint launch starts
           start c2
         > 2 launch runs
           checkpoint launch runs
           start c3
         > 3 started c3 43
           watch c3
           write update running
           send u3 runs running
         > 4 remove
           send u4 ran killed framework_removed (framework removed)
           note forgotten ran
           checkpoint muted runs
           checkpoint ending runs 5004ms
           terminate c3
           checkpoint muted starts
           checkpoint ending starts 4ms
           abandon c2
         > 5 exit c3 signal 15
           send u5 runs killed framework_removed (framework removed)
           note forgotten runs
           release c3
         > 6 failed c2 no such program
           send u6 starts killed framework_removed (framework removed)
           note forgotten starts
           release c2
         > 7000 tick",
    );
}

#[test]
fn a_dying_task_that_ends_while_the_agent_registers_is_reported_when_it_has() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 started c1 42
         2 remove
         3 detach
         4 attach
         5 exit c1 signal 15
         6 registered
         7 attach",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 started c1 42
           watch c1
           write update running
           send u1 t running
         > 2 remove
           checkpoint muted t
           checkpoint ending t 5002ms
           terminate c1
         > 3 detach
         > 4 attach
           send register a1 t:killing
         > 5 exit c1 signal 15
           release c1
         > 6 registered
           send u2 t killed framework_removed (framework removed)
           note forgotten t
         > 7 attach
           send register a1",
    );
}

#[test]
fn an_agent_marked_gone_ends_its_tasks_before_it_asks_for_a_new_id() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 started c1 42
         2 gone
         3 attach
         5 exit c1 signal 15
         6 attach",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 started c1 42
           watch c1
           write update running
           send u1 t running
         > 2 gone
           checkpoint agent -
           checkpoint muted t
           checkpoint ending t 5002ms
           terminate c1
           close 1
         > 3 attach
           close 1
         > 5 exit c1 signal 15
           note forgotten t
           release c1
         > 6 attach
           send register -",
    );
}

#[test]
fn an_agent_that_leaves_ends_its_tasks_first() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 started c1 42
         2 leave
         3 exit c1 signal 15",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 started c1 42
           watch c1
           write update running
           send u1 t running
         > 2 leave
           checkpoint ending t 5002ms
           terminate c1
         > 3 exit c1 signal 15
           send freed t
           checkpoint update killed
           send u1 t running latest killed
           release c1
           send unregister
           stop",
    );
}

#[test]
fn a_reboot_is_named_as_the_cause() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 started c1 42
         2 ack t u1
         3 reboot
         3 found c1 unknown
         4 attach
         5 registered",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 started c1 42
           watch c1
           write update running
           send u1 t running
         > 2 ack t u1
           note acknowledged t
         > 3 reboot
           recover [\"c1\"]
           checkpoint boot next boot
         > 3 found c1 unknown
           checkpoint update lost
           release c1
         > 4 attach
           send register a1 t:lost
         > 5 registered
           send u101 t lost agent_restarted (the agent's machine was rebooted: its container is not there any more)",
    );
}

#[test]
fn a_later_kill_can_shorten_the_grace_period() {
    check(
        "0 attach
         0 registered
         0 launch t
         1 started c1 42
         2 kill t 60000
         3 kill t 500
         503 tick
         504 kill t 0
         510 exit c1 signal 9",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t
           checkpoint framework f
           checkpoint launch t
           start c1
         > 1 started c1 42
           watch c1
           write update running
           send u1 t running
         > 2 kill t 60000
           checkpoint ending t 60002ms
           terminate c1
         > 3 kill t 500
           checkpoint ending t 503ms
         > 503 tick
           destroy c1
         > 504 kill t 0
         > 510 exit c1 signal 9
           send freed t
           checkpoint update killed
           send u1 t running latest killed
           release c1",
    );
}

#[test]
fn the_completion_time_goes_on_while_no_agent_lives() {
    check(
        "0 attach
         0 registered
         0 launch t 1000
         10 started c1 42
         20 restart
         5000 found c1 running
         5001 tick
         5002 exit c1 signal 15",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t 1000
           checkpoint framework f
           checkpoint launch t
           start c1
         > 10 started c1 42
           watch c1
           write update running
           send u1 t running
         > 20 restart
           recover [\"c1\"]
         > 5000 found c1 running
           watch c1
         > 5001 tick
           checkpoint ending t 10001ms
           terminate c1
         > 5002 exit c1 signal 15
           checkpoint update failed
           release c1",
    );
}

//! Any sequence of inputs keeps the invariants, answers every request once, and speaks only to who is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proffer_proto::link;
use proptest::prelude::*;

use super::World;
use super::twin::Twin;
use crate::{Answer, Config, ConnectionId, Effect, RequestId, StreamId};

/// Room for about ten entries.
const STATE_BYTES_MAX: u64 = 1200;

/// What an observer of all effects knows.
#[derive(Default)]
struct Observer {
    answered: BTreeSet<RequestId>,
    closed_streams: BTreeSet<StreamId>,
    closed_connections: BTreeSet<ConnectionId>,
    launched: BTreeMap<(String, String), ConnectionId>,
    offered: BTreeSet<String>,
}

impl Observer {
    fn see(&mut self, effect: &Effect) {
        match effect {
            Effect::Answer { request, .. } => assert!(self.answered.insert(*request), "{request} is answered twice"),
            Effect::SendEvent { stream, event } => {
                assert!(!self.closed_streams.contains(stream), "{stream} is closed");
                for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
                    assert!(
                        self.offered.insert(offer.id.value.clone()),
                        "{} is made twice",
                        offer.id
                    );
                }
            }
            Effect::CloseStream { stream } => assert!(self.closed_streams.insert(*stream), "{stream} is closed twice"),
            Effect::SendAgent { connection, message } => {
                assert!(!self.closed_connections.contains(connection), "{connection} is closed");
                if let Some(link::master_message::Body::Launch(launch)) = &message.body {
                    for task in &launch.tasks {
                        let framework = launch.framework.id.as_ref().expect("an id").value.clone();
                        let before = self
                            .launched
                            .insert((framework, task.task_id.value.clone()), *connection);
                        assert_eq!(before, None, "{} is launched twice", task.task_id);
                    }
                }
            }
            Effect::CloseAgent { connection } => {
                assert!(
                    self.closed_connections.insert(*connection),
                    "{connection} is closed twice"
                );
            }
            Effect::SendState { stream, .. } => assert!(!self.closed_streams.contains(stream), "{stream} is closed"),
            Effect::Continue { stream } => assert!(!self.closed_streams.contains(stream), "{stream} is closed"),
            Effect::Propose { .. } | Effect::Read { .. } | Effect::Wake { .. } => {}
        }
    }
}

/// One line of a script from three random numbers. What exists is named more often than what does not.
fn line(world: &World, now: u64, (verb, who, what): (u8, u8, u16)) -> String {
    let agent = format!("a{}", who % 3 + 1);
    let framework = format!("f{}", who / 3 % 3 + 1);
    let offers = world.open_offers(&framework);
    let offer = match offers.get(usize::from(what / 5) % (offers.len() + 1)) {
        Some((offer, on)) => format!("{offer} on={on}"),
        None => format!("o{} on={agent}", what / 6 % 40 + 1),
    };
    let tasks = world.tasks(&framework);
    let (task, on) = match tasks.get(usize::from(what / 3) % (tasks.len() + 1)) {
        Some((task, on)) => (task.clone(), on.clone()),
        None => (format!("t{}", what % 6), agent.clone()),
    };
    let new = format!("n{}", what % 50);
    let state = ["STARTING", "RUNNING", "KILLING", "FINISHED", "FAILED"][usize::from(what) % 5];
    let attached = world.is_attached(&agent);
    let connected = world.stream(&framework).is_some();
    let text = match verb {
        0..=3 if !attached || what % 4 == 0 => {
            let own = world.tasks_on(&agent);
            let ports = format!("[{}-{}]", what % 5 + 1, what % 5 + 3);
            let listed = match what % 3 {
                0 => Vec::new(),
                1 if what % 2 == 0 => own
                    .iter()
                    .map(|task| format!("{task}:RUNNING:cpus~,1;mem,32"))
                    .collect(),
                1 => own.iter().map(|task| format!("{task}:RUNNING:cpus,1;mem,32")).collect(),
                _ => vec![format!("{framework}/{task}:{state}:cpus,1;mem,32;ports,{ports}")],
            };
            let tasks = if listed.is_empty() {
                String::new()
            } else {
                format!(" tasks={}", listed.join("+"))
            };
            let executors = ["", " executors=f1/e0:mem,16+f2/e1:mem,16"][usize::from(what / 5) % 2];
            format!(
                "{agent} registers cpus:{};mem:512;disk:16;ports:[1-8]{}{tasks}{executors}",
                what % 4 + 4,
                ["", ";cpus(a):2;ports(b):[9-12];mem(b):64"][usize::from(who / 2) % 2],
            )
        }
        4..=7 if !connected || what % 4 == 0 => {
            let options = [
                "timeout=10",
                "timeout=10 roles=a,a/b",
                "timeout=0 can=PARTITION_AWARE,BACKFILL",
                "timeout=10 can=OPTIMISTIC_OFFERS",
                "timeout=10 roles=a,b can=OPTIMISTIC_OFFERS",
                "timeout=10 can=REVOCABLE_RESOURCES",
                "timeout=10 roles=a/b,b can=REVOCABLE_RESOURCES,PARTITION_AWARE",
            ];
            format!("{framework} subscribes {}", options[usize::from(what) % options.len()])
        }
        8 if attached => format!("{agent} disconnects"),
        9 if connected && what % 2 == 0 => format!("{framework} disconnects"),
        10..=17 => {
            let refuse = ["", " refuse=0", " refuse=30"][usize::from(what) % 3];
            let ports = what % 7 + 1;
            format!(
                "{framework} accepts {offer} launch={new}:cpus,1;mem,32+x{what}:mem,32;ports,[{ports}-{ports}]{refuse}"
            )
        }
        44..=46 if what % 2 == 0 => format!("{framework} accepts {offer} launch={new}:mem,8 executor=e0:mem,16"),
        44..=46 => {
            let mem = what % 40;
            format!("{framework} accepts {offer} group={new}:mem,8+x{what}:mem,{mem} executor=e1:mem,16")
        }
        47 | 48 if attached => format!("{agent} exits {framework} e{}", what % 2),
        49..=51 => {
            let force = ["", " force=yes", " force=yes", " dry-run=yes"][usize::from(what) % 4];
            let role = ["a", "a/b", "b", "*"][usize::from(what / 4) % 4];
            let (cpus, ports) = (what / 3 % 9, what / 5 % 7);
            let limits = ["", "cpus,N;ports,P", "cpus,N", "ports,P;mem,300"][usize::from(what / 7) % 4];
            let limits = limits.replace('N', &cpus.to_string()).replace('P', &ports.to_string());
            let guarantee = ["", "cpus,2", "mem,100;ports,1"][usize::from(what / 11) % 3];
            format!("operator quotas {role}={guarantee}/{limits}{force}")
        }
        52 => format!("operator weights a={} b={}", what % 5 + 1, what / 5 % 5 + 1),
        53 if what % 3 == 0 => format!("{framework} requests"),
        53 | 54 => format!("{framework} requests cpus,{} count={}", what % 9 + 1, what % 2 + 1),
        55..=57 => format!("operator explains {framework}"),
        58 => "operator gets GET_QUOTA".to_owned(),
        18 => format!("{framework} declines {offer} refuse={}", what % 7),
        19 => format!("{framework} revives"),
        20 => format!("{framework} suppresses"),
        21..=27 if world.is_attached(&on) => format!("{on} updates {framework}/{task} {state} #{}", what % 4),
        28..=32 => format!("{framework} acknowledges {on} {task} #{}", what % 4),
        33 => format!("{framework} kills {task}"),
        34 => format!("{framework} reconciles {task}@{agent}"),
        35 if connected && what % 2 == 0 => format!("{framework} continues"),
        35 => format!("{framework} reconciles"),
        36 if what % 8 == 0 => format!("operator gone {agent}"),
        37 if what % 8 == 0 => format!("{framework} tears-down"),
        38 if attached => format!("{agent} resizes cpus:{};mem:{}", what % 5, what % 300),
        39 if attached && what % 4 == 0 => format!("{agent} leaves"),
        40 => "operator gets GET_STATE".to_owned(),
        41 => format!("{framework} updates timeout=10 roles=b"),
        42 if world.proposals() > 0 && what % 4 == 0 => "drop".to_owned(),
        43 if what % 16 == 0 => format!("leads n{now}"),
        112.. => lending_line(&framework, &offer, verb - 112, what),
        106.. => gang_line(&framework, &agent, &offer, what),
        80.. => operation_line(world, verb - 80, (&agent, &framework), &offer, &task, what),
        60.. => state_line(world, verb - 60, who, what),
        _ if world.proposals() > 0 => "commit".to_owned(),
        _ => "tick".to_owned(),
    };
    format!("{now}ms {text}")
}

/// A line about gangs.
fn gang_line(framework: &str, agent: &str, offer: &str, what: u16) -> String {
    let offer = offer.split_once(' ').map_or(offer, |(offer, _)| offer);
    let (cpus, minimum) = (what % 4 + 1, what / 4 % 3 + 1);
    let at = ["".to_owned(), format!("@{agent}")][usize::from(what / 12) % 2].clone();
    let rest = ["", " together=yes", " offers=", " together=yes refuse=0 offers="][usize::from(what / 24) % 4];
    let offers = if rest.ends_with("offers=") { offer } else { "" };
    format!(
        "{framework} gangs g{} y{what}-1:cpus,{cpus};mem,16{at} y{what}-2:cpus,1;mem,16;ports,1 y{what}-3:mem,64;ports,2 \
         min={minimum} wait={}{rest}{offers}",
        what % 3,
        [0, 500, 20_000][usize::from(what / 96) % 3]
    )
}

/// A line about reservations and volumes.
fn operation_line(
    world: &World,
    verb: u8,
    (agent, framework): (&str, &str),
    offer: &str,
    task: &str,
    what: u16,
) -> String {
    // Most are about offers that are open.
    let of = |framework: &'static str| {
        let offers = world.open_offers(framework).into_iter();
        offers.map(move |(offer, on)| (framework, format!("{offer} on={on}")))
    };
    let open: Vec<_> = ["f1", "f2", "f3"].into_iter().flat_map(of).collect();
    let (framework, offer) = match open.get(usize::from(what / 3) % open.len().max(1)) {
        Some((framework, offer)) if !what.is_multiple_of(8) => (*framework, offer.as_str()),
        _ => (framework, offer),
    };
    let kinds = [("a", "a!"), ("a/b", "a!a/b!"), ("b", "b!")];
    let offered = offer.split(' ').next().and_then(|offer| world.offered_role(offer));
    let fitting = kinds.into_iter().find(|(role, _)| Some(*role) == offered);
    // Most operations are for the role that the offer is made to.
    let any = kinds[[0, 0, 0, 1, 2][usize::from(what % 5)]];
    let (_, layers) = fitting.filter(|_| !what.is_multiple_of(4)).unwrap_or(any);
    let (size, volume, id) = ([1, 1, 1, 2][usize::from(what / 5 % 4)], what / 20 % 2, what % 7);
    let disk = format!("disk({layers}),{size}");
    let there = offer.split(' ').next().and_then(|offer| world.offered_volume(offer));
    let named = match there.filter(|_| what % 4 > 1) {
        Some((id, size)) => format!("disk({layers})#{id},{size}"),
        None => format!("disk({layers})#v{volume},{size}"),
    };
    let all = [
        format!("reserve@op{id}:cpus({layers}),{size}"),
        format!("reserve:{disk}"),
        format!("reserve:{disk}+create@op{id}:{named}"),
        format!("reserve:{disk}+create@op{id}:{named}+launch:{task}:cpus,1;{named}"),
        format!("launch:{task}:cpus({layers}),1;mem,32"),
        format!("launch:{task}:cpus,1;{named}+destroy@op{id}:{named}"),
        format!("destroy@op{id}:{named}+create@op{volume}:{named}"),
        format!("destroy@op{id}:{named}+unreserve:{disk}"),
        format!("unreserve:{disk}+unreserve@op{id}:cpus({layers}),{size}"),
        format!("grow@op{id}:{named}:{disk}"),
        format!("shrink@op{id}:{named}:1"),
        format!("move:cpus({layers}),{size}:cpus,{size}"),
    ];
    let operation = &all[usize::from(what / 40) % all.len()];
    let ordered = [
        format!("reserve:{disk}"),
        format!("create:{named}"),
        format!("destroy:{named}"),
        format!("unreserve:{disk}"),
    ];
    let ordered = &ordered[usize::from(what / 40) % ordered.len()];
    match verb {
        0..=7 => format!("{framework} accepts {offer} do={operation} refuse=0"),
        8..=10 => format!("operator has {agent} {ordered}"),
        11 if world.stream(framework).is_none() => format!("{framework} subscribes timeout=10 roles=a,a/b,b"),
        12..=14 if world.is_attached(agent) && world.leads() => {
            let failed = if what.is_multiple_of(2) {
                " fail=a/v0+a/v1+a/b/v0+a/b/v1+b/v0+b/v1".to_owned()
            } else {
                String::new()
            };
            format!("{agent} applies{failed}")
        }
        15 => format!("{framework} acknowledges-operation op{id}"),
        17 => format!("{framework} reconciles-operations op{id} op9@{agent}"),
        16 | 18 => format!("{framework} reconciles-operations"),
        19 => "operator gets GET_OPERATIONS".to_owned(),
        _ if world.proposals() > 0 => "commit".to_owned(),
        _ => "tick".to_owned(),
    }
}

/// A line about the frameworks' state.
fn state_line(world: &World, verb: u8, who: u8, what: u16) -> String {
    let namespaces = ["app", "apq", "framework/f1", "framework/f2"];
    let namespace = namespaces[usize::from(who % 4)];
    let key = format!("{}{}", ["a", "b", "ab"][usize::from(who / 4 % 3)], what % 3);
    let version = world.version(namespace, &key);
    let condition = [
        "".to_owned(),
        " if=0".to_owned(),
        format!(" if={version}"),
        format!(" if={what}"),
    ];
    let condition = &condition[usize::from(what / 3) % 4];
    let prefix = ["", " prefix=a", " prefix=ab", " prefix=b"][usize::from(what / 7) % 4];
    let watch = format!("w{}", who % 5);
    match verb {
        0..=5 => format!("state puts {namespace} {key} size={}{condition}", what % 90),
        6..=8 => format!("state deletes {namespace} {key}{condition}"),
        9 | 10 => format!("state gets {namespace} {key}"),
        11 | 12 => format!("state lists {namespace}{prefix} limit={} after={key}", what % 4 + 1),
        13 | 14 if world.stream(&watch).is_none() => format!("{watch} watches {namespace}{prefix}"),
        15 if world.stream(&watch).is_some() => format!("{watch} ends"),
        16 if world.reads_waiting() > 0 && what.is_multiple_of(4) => "unreadable".to_owned(),
        _ if world.reads_waiting() > 0 => "readable".to_owned(),
        _ if world.proposals() > 0 => "commit".to_owned(),
        _ => "tick".to_owned(),
    }
}

/// What is about revocable resources.
fn lending_line(framework: &str, offer: &str, verb: u8, what: u16) -> String {
    let new = format!("r{}", what % 50);
    match verb {
        0..=2 => {
            let refuse = ["", " refuse=0", " refuse=30"][usize::from(what / 2) % 3];
            let wanted = [
                "cpus~,1",
                "cpus~,2;mem~,32",
                "cpus~,1;mem,32",
                "mem~,16;ports~,[9-9]",
                "cpus,1;cpus~,1",
            ];
            let wanted = wanted[usize::from(what) % wanted.len()];
            format!("{framework} accepts {offer} launch={new}:{wanted}{refuse}")
        }
        3 => format!("{framework} declines {offer} refuse={}", what % 9 + 1),
        4 => format!(
            "{framework} {} i{}",
            ["yields", "keeps"][usize::from(what) % 2],
            what % 9
        ),
        5 => format!("{framework} {}", ["suppresses", "revives"][usize::from(what) % 2]),
        _ => "operator gets GET_LOANS".to_owned(),
    }
}

fn run(steps: &[(u8, u8, u16)]) -> String {
    let mut world = World::new(Config {
        completed_frameworks_max: 3,
        gone_agents_max: 2,
        state_bytes_max: STATE_BYTES_MAX,
        told_at_once: 1,
        idle_after: Duration::from_secs(2),
        revocable_grace: Duration::from_secs(1),
        ..Config::default()
    });
    world.line("manual");
    world.line("0ms level 3");
    let mut twin = Twin::default();
    let mut observer = Observer::default();
    let mut now = 0;
    for step in steps {
        now += u64::from(step.2 % 13) * [1, 1, 10, 10, 100, 3000][usize::from(step.1 / 9 % 6)];
        let line = line(&world, now, *step);
        if line.contains("ms leads ") {
            // A new leader cannot know the ids of tasks that ended before, so a framework could use one again.
            observer.launched.clear();
        }
        if let Some((_, watch)) = line.strip_suffix(" ends").and_then(|line| line.split_once(' '))
            && let Some(stream) = world.stream(watch)
        {
            twin.ended(stream);
        }
        world.line(&line);
        look(&mut world, &mut observer, &mut twin);
    }
    while world.proposals() > 0 || world.reads_waiting() > 0 {
        let last = if world.proposals() > 0 { "commit" } else { "readable" };
        world.line(&format!("{now}ms {last}"));
        look(&mut world, &mut observer, &mut twin);
    }
    let requests = world.requests.iter();
    let silent: Vec<&RequestId> = requests
        .filter(|request| !observer.answered.contains(request))
        .collect();
    assert!(silent.is_empty(), "{silent:?} have no answer, after:\n{}", world.out);
    world.out
}

fn look(world: &mut World, observer: &mut Observer, twin: &mut Twin) {
    let effects = std::mem::take(&mut world.last);
    effects.iter().for_each(|effect| observer.see(effect));
    twin.follow(world, &effects);
    // Nobody's write is taken for dropped and committed all the same here, so the limit holds exactly.
    assert!(world.master.registry.state.bytes() <= STATE_BYTES_MAX);
}

proptest! {
    // More with PROPTEST_CASES.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_inputs_keeps_the_invariants(
        steps in proptest::collection::vec((0u8..119, any::<u8>(), any::<u16>()), 1..200),
    ) {
        run(&steps);
    }
}

#[test]
fn an_answer_is_given_once() {
    let mut observer = Observer::default();
    let effect = Effect::Answer {
        request: RequestId(1),
        answer: Answer::Accepted,
    };
    observer.see(&effect);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| observer.see(&effect))).is_err());
}

/// The random scripts are worth something: together they reach every kind of event.
#[test]
fn random_inputs_reach_what_they_should() {
    let mut state = 1u64;
    let mut next = || {
        // Knuth's linear congruential generator (MMIX).
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let mut out = String::new();
    // Without operations, with them, and with all else.
    for (runs, length, verbs) in [(90, 200, 80), (40, 260, 106), (60, 260, 119)] {
        for _ in 0..runs {
            let steps: Vec<_> = (0..length)
                .map(|_| ((next() % verbs) as u8, next() as u8, next() as u16))
                .collect();
            out += &run(&steps);
        }
    }
    let states = ["FINISHED", "FAILED", "ERROR", "DROPPED", "PENDING", "UNKNOWN"];
    let told = out.lines().filter(|line| line.contains("<- operation "));
    let told: Vec<&str> = told.collect();
    let often = states.map(|state| told.iter().filter(|line| line.contains(state)).count());
    assert!(!often.contains(&0), "operations are {states:?} so often: {often:?}");
    for event in [
        " without [",
        "<- launch ",
        "<- launch group ",
        " on new e",
        " on e",
        "(task_group_invalid)",
        "(task_invalid)",
        "(invalid_offers)",
        "<- rescind ",
        "propose lay out",
        "<- layout #",
        "propose unreachable",
        "propose reachable",
        "propose gone",
        "propose remove f",
        "propose remove a",
        "propose away",
        "propose back",
        "Framework failed over",
        "Framework has been removed",
        "(agent_reregistered)",
        "UNREACHABLE",
        "DROPPED",
        "LOST",
        "<- acknowledge ",
        "<- kill ",
        "<- shut down ",
        "<- failure ",
        "<- heartbeat",
        "<- ping",
        "not leader",
        "propose quotas",
        "propose weights",
        "answer refused",
        "answer UPDATE_QUOTA; ",
        "LIMIT",
        "GUARANTEES",
        "LENT",
        "{revocable",
        " for cpus{revocable",
        "DEMAND",
        "answer got nothing",
        "answer got a",
        "answer done",
        "answer conflict: nothing",
        "answer conflict: a",
        "answer exhausted",
        "answer listed [a",
        "and more",
        "with this id is registered",
        "<- put ",
        "<- deleted ",
        "<- current",
        "close w",
        "answer not subscribed",
    ] {
        assert!(out.contains(event), "no {event:?} in {} lines", out.lines().count());
    }
}

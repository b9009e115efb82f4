//! Histories of services as text, and random histories in a small model of a cluster.

use super::*;
use crate::spec::{Backoff, Partition, UpdatePolicy};

mod model;

/// A service whose restarts wait for one millisecond.
fn spec(id: &str, instances: u32) -> ServiceSpec {
    let backoff = Backoff {
        initial_ms: 1,
        max_ms: 1,
        factor: 1.0,
        reset_after_seconds: 10.0,
    };
    ServiceSpec {
        instances,
        backoff,
        update: UpdatePolicy {
            minimum_healthy: Some(0.5),
            over_capacity: Some(0.0),
            ..UpdatePolicy::default()
        },
        ..ServiceSpec::command(id, "serve")
    }
}

fn launch(instance: &str, unique: &str, version: u64) -> Launch {
    let instance = InstanceId::of_task(&format!("{instance}.x")).unwrap();
    Launch::unknown(
        &instance.task_id(unique),
        instance.clone(),
        version,
        Some("a1".to_owned()),
    )
}

fn put(spec: ServiceSpec, version: u64) -> Input {
    Input::Put(Box::new(Put {
        spec,
        version,
        instance_version: version,
        reverts: None,
        base: 0,
    }))
}

fn news(task_id: &str, state: Observed) -> News {
    News {
        task_id: task_id.to_owned(),
        agent_id: None,
        state,
        verdicts: Verdicts::default(),
        message: String::new(),
    }
}

fn parse(line: &str) -> (Millis, Input) {
    let words: Vec<_> = line.split_whitespace().collect();
    let number = |index: usize| words[index].parse::<u64>().unwrap();
    let input = match words[1] {
        "put" => put(spec(words[2], number(3) as u32), number(4)),
        "remove" => Input::Remove(words[2].to_owned()),
        "launch" => Input::Launched(vec![launch(words[2], words[3], number(4))]),
        "recover" => Input::Recovered(launch(words[2], words[3], number(4))),
        "task" => {
            let state = match words[3] {
                "starting" => Observed::Starting,
                "running" => Observed::Running,
                "unreachable" => Observed::Unreachable,
                "ended" => Observed::Ended,
                "vanished" => Observed::Vanished,
                other => panic!("no such state: {other}"),
            };
            Input::Task(news(words[2], state))
        }
        "tick" => Input::Tick,
        other => panic!("no such input: {other}"),
    };
    (number(0), input)
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Kill {
            task_id, drain_ms: 0, ..
        } => format!("kill {task_id}"),
        Effect::Kill { task_id, drain_ms, .. } => format!("kill {task_id} after {drain_ms}"),
        Effect::Revive => "revive".to_owned(),
        Effect::Suppress => "suppress".to_owned(),
        Effect::Forget(task_id) => format!("forget {task_id}"),
        Effect::Switch { service, base } => format!("switch {service} {base}"),
        Effect::KeepHome(home) => {
            let made = if home.made { " made" } else { "" };
            let doomed = if home.doomed { " doomed" } else { "" };
            format!("home {} {}{made}{doomed}", home.instance, home.id)
        }
        Effect::DropHome(id) => format!("no home {id}"),
        Effect::Removed(id) => format!("removed {id}"),
        Effect::Settled { service, version } => format!("settled {service} {version}"),
        Effect::Stuck { service, reason, .. } => format!("stuck {service}: {reason}"),
    }
}

/// Runs a script and compares the transcript: every input behind `>`, then its effects, and what is wanted after it.
#[track_caller]
fn check(transcript: &str) {
    let trimmed: Vec<_> = transcript
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut plan = Plan::new(7);
    let mut got = Vec::new();
    for line in trimmed.iter().filter_map(|line| line.strip_prefix("> ")) {
        got.push(format!("> {line}"));
        let (now, input) = parse(line);
        let mut effects = Vec::new();
        plan.step(now, input, &mut effects);
        got.extend(effects.iter().map(show));
        let mut wanted: Vec<_> = plan.wanted(now).map(|instance| instance.to_string()).collect();
        wanted.sort();
        if !wanted.is_empty() {
            got.push(format!("want {}", wanted.join(" ")));
        }
        // The deadlines of updates are tested by themselves.
        let wake = plan.wake_at(now).filter(|time| *time < 600_000);
        got.extend(wake.map(|time| format!("wake {time}")));
    }
    assert_eq!(got.join("\n"), trimmed.join("\n"));
}

#[test]
fn what_was_found_by_others_drains_before_it_ends() {
    let mut plan = Plan::new(7);
    let mut step = |input: Input| {
        let mut effects = Vec::new();
        plan.step(1, input, &mut effects);
        let kills = effects.iter().filter(|effect| matches!(effect, Effect::Kill { .. }));
        kills.map(show).collect::<Vec<_>>()
    };
    let mut wanted = spec("web", 3);
    wanted.drain_seconds = 3.0;
    step(put(wanted, 1));
    step(Input::Launched(vec![launch("web.0", "a", 1), launch("web.1", "b", 1)]));
    step(Input::Task(news("web.0.a", Observed::Running)));
    step(Input::Recovered(launch("web.2", "c", 1)));
    let kills = step(Input::Remove("web".to_owned()));
    assert_eq!(
        kills,
        ["kill web.0.a after 3000", "kill web.1.b", "kill web.2.c after 3000"]
    );
    assert!(step(Input::Tick).is_empty());
}

#[test]
fn a_service_starts_and_ends() {
    check(
        "> 0 put web 2 1
         revive
         want web.0 web.1
         > 1 launch web.0 a 1
         want web.1
         > 1 launch web.1 b 1
         suppress
         > 2 task web.0.a starting
         > 3 task web.0.a running
         > 3 task web.1.b running
         settled web 1
         > 9 remove web
         kill web.0.a
         kill web.1.b
         > 10 task web.1.b ended
         forget web.1.b
         > 11 task web.0.a ended
         forget web.0.a
         removed web",
    );
}

#[test]
fn an_instance_that_was_stable_is_replaced_at_once_and_another_waits() {
    check(
        "> 0 put web 2 1
         revive
         want web.0 web.1
         > 0 launch web.0 a 1
         want web.1
         > 0 launch web.1 b 1
         suppress
         > 0 task web.0.a running
         > 9000 task web.1.b running
         settled web 1
         > 10000 task web.0.a ended
         forget web.0.a
         revive
         want web.0
         > 10000 task web.1.b ended
         forget web.1.b
         want web.0
         wake 10001
         > 10001 tick
         revive
         want web.0 web.1",
    );
}

#[test]
fn scaling_down_ends_the_highest_and_up_waits_for_their_end() {
    check(
        "> 0 put web 2 1
         revive
         want web.0 web.1
         > 0 launch web.0 a 1
         want web.1
         > 0 launch web.1 b 1
         suppress
         > 1 task web.1.b running
         > 2 put web 1 1
         kill web.1.b
         > 3 put web 2 1
         > 4 task web.1.b ended
         forget web.1.b
         revive
         want web.1",
    );
}

#[test]
fn a_change_takes_one_running_instance_at_a_time() {
    check(
        "> 0 put web 2 1
         revive
         want web.0 web.1
         > 0 launch web.0 a 1
         want web.1
         > 0 launch web.1 b 1
         suppress
         > 1 task web.0.a running
         > 1 task web.1.b running
         settled web 1
         > 2 put web 2 2
         kill web.0.a
         > 3 task web.0.a ended
         forget web.0.a
         revive
         want web.0
         > 4 launch web.0 c 2
         suppress
         > 5 task web.0.c starting
         > 6 task web.0.c running
         kill web.1.b
         > 7 task web.1.b ended
         forget web.1.b
         revive
         want web.1",
    );
}

#[test]
fn what_an_earlier_process_launched_is_taken_over() {
    check(
        "> 0 put web 2 1
         revive
         want web.0 web.1
         > 0 recover web.1 new 1
         want web.0
         > 0 recover web.1 old 1
         kill web.1.old
         want web.0
         > 0 recover gone.0 a 1
         kill gone.0.a
         want web.0
         > 0 recover web.5 a 1
         kill web.5.a
         want web.0
         > 2 task web.1.new running
         want web.0
         > 3 task web.1.old vanished
         forget web.1.old
         want web.0
         > 4 task web.5.a ended
         forget web.5.a
         want web.0
         > 5 task web.0.nobodys running
         settled web 1
         suppress",
    );
}

#[test]
fn a_task_that_returns_is_kept_only_where_it_was_not_replaced() {
    check(
        "> 0 put web 2 1
         revive
         want web.0 web.1
         > 0 launch web.0 a 1
         want web.1
         > 0 launch web.1 b 1
         suppress
         > 1 task web.0.a running
         > 1 task web.1.b running
         settled web 1
         > 2 task web.0.a unreachable
         revive
         want web.0
         > 2 task web.1.b unreachable
         revive
         want web.0 web.1
         > 3 launch web.1 c 1
         want web.0
         > 4 task web.0.a running
         suppress
         > 4 task web.1.b running
         kill web.1.b
         > 5 task web.1.b running
         > 6 task web.1.b ended
         forget web.1.b",
    );
}

#[test]
fn tasks_of_other_names_are_ended() {
    check(
        "> 0 task sleeper running
         kill sleeper
         suppress
         > 1 task sleeper ended
         forget sleeper
         > 2 task web.0.a starting
         kill web.0.a",
    );
}

#[test]
fn an_unreachable_instance_is_waited_for_as_long_as_the_service_says() {
    let patient = ServiceSpec {
        partition: Partition::Replace {
            replace_after_seconds: 60.0,
        },
        ..spec("web", 1)
    };
    let mut plan = Plan::new(1);
    let step = |plan: &mut Plan, now, input| plan.step(now, input, &mut Vec::new());
    step(&mut plan, 0, put(patient, 1));
    step(&mut plan, 0, Input::Launched(vec![launch("web.0", "a", 1)]));
    step(&mut plan, 5, parse("5 task web.0.a running").1);
    step(&mut plan, 10, parse("10 task web.0.a unreachable").1);
    assert_eq!(plan.wake_at(10), Some(60_010));
    step(&mut plan, 60_009, Input::Tick);
    assert!(plan.wanted(60_009).next().is_none());
    step(&mut plan, 60_010, Input::Tick);
    assert_eq!(plan.wanted(60_010).count(), 1);
}

#[test]
fn back_off_grows_to_its_maximum_and_begins_anew() {
    let backoff = Backoff {
        initial_ms: 100,
        max_ms: 1_000,
        factor: 2.0,
        reset_after_seconds: 5.0,
    };
    let mut plan = Plan::new(3);
    plan.step(
        0,
        put(
            ServiceSpec {
                backoff,
                ..spec("web", 1)
            },
            1,
        ),
        &mut Vec::new(),
    );
    let mut now = 0;
    for (ran_ms, wait) in [
        (0, 100),
        (10, 200),
        (10, 400),
        (10, 800),
        (10, 1_000),
        (10, 1_000),
        (5_000, 0),
        (10, 100),
    ] {
        let launch = launch("web.0", &now.to_string(), 1);
        let task = format!("{now} task {}", launch.task_id);
        plan.step(now, Input::Launched(vec![launch]), &mut Vec::new());
        plan.step(now, parse(&format!("{task} running")).1, &mut Vec::new());
        now += ran_ms;
        plan.step(now, parse(&format!("{task} ended")).1, &mut Vec::new());
        let Phase::Missing { due } = plan.services()["web"].slots[&0].phase else {
            panic!("not missing")
        };
        assert!(
            (wait / 2..=wait).contains(&(due - now)),
            "waits {} of {wait}",
            due - now
        );
        now = due;
    }
}

#[test]
fn a_launch_that_never_ran_for_no_fault_of_its_own_does_not_grow_the_back_off() {
    let mut plan = Plan::new(3);
    plan.step(0, put(spec("web", 1), 1), &mut Vec::new());
    for now in 0..100 {
        let launch = launch("web.0", &now.to_string(), 1);
        let task_id = launch.task_id.clone();
        plan.step(now, Input::Launched(vec![launch]), &mut Vec::new());
        plan.step(now, parse(&format!("{now} task {task_id} vanished")).1, &mut Vec::new());
    }
    assert_eq!(plan.services()["web"].slots[&0].failures, 0);
}

#[test]
fn what_an_earlier_process_launched_is_not_ended_before_it_was_heard_of() {
    check(
        "> 0 put web 2 2
         revive
         want web.0 web.1
         > 0 recover web.0 a 1
         want web.1
         > 0 recover web.1 b 1
         suppress
         > 1 tick
         > 2 task web.1.b running
         > 3 task web.0.a running
         kill web.0.a",
    );
}

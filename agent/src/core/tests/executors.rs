//! Executors and task groups.

use proffer_proto::link::{self, master_message};
use proffer_proto::v1;
use proffer_proto::v1::executor::{Call, Event, call, event};

use super::{check, launch, recover, written};
use crate::checkpoint::image::Image;
use crate::containerizer::{ContainerId, Recovered};
use crate::core::{ExecutorCall, Input, Timestamp};

/// - `group p new t1 t2`, `pod p old t3`, `custom e new t1 t2`, `customgroup e old t3`: launches on an executor
/// - `subscribe e 7 [has=t1,t2] [update=t1:running:9]`, `update e t1 running 9 [token]`, `says e hello`, `lost 7`
/// - `shutdown e`, `tell e hello`: the framework's
/// - `beyond c1`: the container holds more than its disk
pub(super) fn input(verb: &str, arguments: &[&str]) -> Option<Input> {
    let message = |body| Input::Message(1, link::MasterMessage { body: Some(body) });
    let executor_call = |token: &str, stream: Option<u64>, call: Call| {
        Input::Executor(ExecutorCall {
            request: 1,
            stream,
            token: token.to_owned(),
            call,
        })
    };
    let option = |key: &str| arguments.iter().find_map(|argument| argument.strip_prefix(key));
    let base = |kind: call::Type| Call {
        executor_id: arguments[0].into(),
        framework_id: "f".into(),
        r#type: Some(kind.into()),
        ..Call::default()
    };
    Some(match verb {
        "group" | "custom" | "customgroup" => {
            let kind = match verb {
                "group" => v1::executor_info::Type::Default,
                _ => v1::executor_info::Type::Custom,
            };
            let infos = arguments[2..].iter().map(|task| launch(&[task]).tasks.remove(0));
            let tasks = infos.map(|task| v1::TaskInfo {
                command: task.command.clone().filter(|_| verb == "group"),
                max_completion_time: task
                    .task_id
                    .value
                    .starts_with("bad")
                    .then_some(v1::DurationInfo { nanoseconds: -1 }),
                ..task
            });
            message(master_message::Body::Launch(link::Launch {
                executor: Some(Box::new(v1::ExecutorInfo {
                    executor_id: arguments[0].into(),
                    framework_id: Some("f".into()),
                    r#type: Some(kind.into()),
                    command: (verb != "group").then(|| v1::CommandInfo {
                        value: Some("true".into()),
                        ..Default::default()
                    }),
                    ..Default::default()
                })),
                tasks: tasks.collect(),
                group: Some(verb != "custom"),
                start_executor: Some(arguments[1] == "new"),
                ..launch(&["none"])
            }))
        }
        "subscribe" => {
            let has = option("has=").into_iter().flat_map(|list| list.split(','));
            let tasks = has.map(|task| launch(&[task]).tasks.remove(0)).collect();
            let update = option("update=").map(|text| {
                let parts: Vec<&str> = text.split(':').collect();
                update(parts[0], parts[1], parts[2])
            });
            let subscribe = call::Subscribe {
                unacknowledged_tasks: tasks,
                unacknowledged_updates: update.into_iter().collect(),
            };
            let call = Call {
                subscribe: Some(subscribe),
                ..base(call::Type::Subscribe)
            };
            executor_call("secret", arguments[1].parse().ok(), call)
        }
        "update" => {
            let call = Call {
                update: Some(update(arguments[1], arguments[2], arguments[3])),
                ..base(call::Type::Update)
            };
            executor_call(arguments.get(4).unwrap_or(&"secret"), None, call)
        }
        "says" => {
            let call = Call {
                message: Some(call::Message {
                    data: arguments[1].into(),
                }),
                ..base(call::Type::Message)
            };
            executor_call("secret", None, call)
        }
        "beyond" => Input::DiskExceeded(ContainerId(arguments[0].to_owned())),
        "lost" => Input::ExecutorDetached(arguments[0].parse().unwrap()),
        "tell" => message(master_message::Body::FrameworkMessage(link::FrameworkMessage {
            framework_id: "f".into(),
            executor_id: arguments[0].into(),
            data: arguments[1].into(),
        })),
        "shutdown" => message(master_message::Body::ShutdownExecutor(link::ShutdownExecutor {
            framework_id: "f".into(),
            executor_id: arguments[0].into(),
        })),
        _ => return None,
    })
}

fn update(task: &str, state: &str, uuid: &str) -> call::Update {
    let state = v1::TaskState::from_str_name(&format!("TASK_{}", state.to_uppercase())).unwrap();
    call::Update {
        status: v1::TaskStatus {
            task_id: task.into(),
            state: state.into(),
            uuid: Some(vec![uuid.parse().unwrap(); 16]),
            ..Default::default()
        },
    }
}

pub(super) fn show_event(event: &Event) -> String {
    let rest = match event.r#type() {
        event::Type::Launch => event.launch.as_ref().unwrap().task.task_id.to_string(),
        event::Type::LaunchGroup => {
            let tasks = &event.launch_group.as_ref().unwrap().task_group.tasks;
            let ids: Vec<&str> = tasks.iter().map(|task| task.task_id.as_str()).collect();
            ids.join(" ")
        }
        event::Type::Kill => {
            let kill = event.kill.as_ref().unwrap();
            let grace = kill.kill_policy.and_then(|policy| policy.grace_period).unwrap();
            format!("{} {}ms", kill.task_id, grace.nanoseconds / 1_000_000)
        }
        event::Type::Acknowledged => {
            let acknowledged = event.acknowledged.as_ref().unwrap();
            format!("{} u{}", acknowledged.task_id, acknowledged.uuid[0])
        }
        event::Type::Message => String::from_utf8_lossy(&event.message.as_ref().unwrap().data).into_owned(),
        _ => String::new(),
    };
    format!("{} {rest}", event.r#type().as_str_name()).trim().to_owned()
}

/// Registered, before anything else.
const HERE: &str = "> 0 attach
       send register -
     > 0 registered
       checkpoint agent a1
    ";

/// Checks a transcript, whose lines after `> ` are the script.
#[track_caller]
fn go(rest: &str) {
    let expected = format!("{HERE}{rest}");
    let script = expected.lines().filter_map(|line| line.trim().strip_prefix("> "));
    check(&script.collect::<Vec<_>>().join("\n"), &expected);
}

#[test]
fn the_tasks_of_a_group_share_a_pod_until_the_last_has_ended() {
    go("> 1 group p new t1 t2
          checkpoint framework f
          checkpoint executor p
          checkpoint launch t1
          checkpoint launch t2
          start c1.c2
          start c1.c3
        > 2 started c1.c2 42
          watch c1.c2
          write update running
          send u1 t1 running
        > 3 started c1.c3 43
          watch c1.c3
          write update running
          send u2 t2 running
        > 4 exit c1.c2 code 0
          checkpoint update finished
          send u1 t1 running latest finished
          release c1.c2
        > 5 group p old t3
          checkpoint launch t3
          start c1.c4
        > 6 exit c1.c3 code 0
          checkpoint update finished
          send u2 t2 running latest finished
          release c1.c3
        > 7 started c1.c4 44
          watch c1.c4
          write update running
          send u5 t3 running
        > 8 exit c1.c4 code 0
          checkpoint update finished
          send u5 t3 running latest finished
          release c1.c4
          release pod c1
          note forgotten executor p
          send exited p 0");
}

#[test]
fn a_group_ends_with_the_first_of_its_tasks_that_fails() {
    go("> 1 group p new t1 t2
          checkpoint framework f
          checkpoint executor p
          checkpoint launch t1
          checkpoint launch t2
          start c1.c2
          start c1.c3
        > 2 started c1.c2 42
          watch c1.c2
          write update running
          send u1 t1 running
        > 3 failed c1.c3 no such program
          checkpoint update failed
          send u2 t2 failed container_launch_failed (no such program)
          release c1.c3
          checkpoint ending t1 5003ms
          terminate c1.c2
        > 4 exit c1.c2 signal 15
          checkpoint update killed
          send u1 t1 running latest killed
          release c1.c2
          release pod c1
          note forgotten executor p
          send exited p 0
        > 5 ack t1 u1
          note acknowledged t1
          send u3 t1 killed (another task of its group failed or was killed; ended by signal 15 (SIGTERM))");
}

#[test]
fn to_kill_one_task_of_a_group_is_to_kill_the_group_also_before_it_runs() {
    go("> 1 group p new t1 t2
          checkpoint framework f
          checkpoint executor p
          checkpoint launch t1
          checkpoint launch t2
          start c1.c2
          start c1.c3
        > 2 started c1.c2 42
          watch c1.c2
          write update running
          send u1 t1 running
        > 3 kill t2 1000
          checkpoint ending t2 3ms
          abandon c1.c3
          checkpoint ending t1 5003ms
          terminate c1.c2
        > 4 started c1.c3 43
          watch c1.c3
          destroy c1.c3
        > 5 exit c1.c3 signal 9
          checkpoint update killed
          send u2 t2 killed task_killed_during_launch (killed as asked before it ran)
          release c1.c3");
}

#[test]
fn a_group_with_a_bad_task_is_refused_whole_and_its_pod_given_back() {
    go("> 1 group p new t1 bad
          checkpoint framework f
          checkpoint launch t1
          checkpoint update error
          send u1 t1 error task_group_invalid (the task group is refused: task_group.tasks[1].max_completion_time: must not be negative)
          checkpoint launch bad
          checkpoint update error
          send u2 bad error task_group_invalid (the task group is refused: task_group.tasks[1].max_completion_time: must not be negative)
          send exited p 0
        > 2 group q old t3
          checkpoint launch t3
          checkpoint update lost
          send u3 t3 lost executor_terminated (its executor has ended, or is about to)");
}

#[test]
fn a_pod_is_taken_over_with_its_tasks() {
    go("> 1 group p new t1 t2
          checkpoint framework f
          checkpoint executor p
          checkpoint launch t1
          checkpoint launch t2
          start c1.c2
          start c1.c3
        > 2 started c1.c2 42
          watch c1.c2
          write update running
          send u1 t1 running
        > 3 restart
          recover [\"c1.c2\", \"c1.c3\"]
        > 4 found c1.c2 running
          watch c1.c2
        > 4 found c1.c3 unknown
          checkpoint update lost
          release c1.c3
          checkpoint ending t1 5004ms
          terminate c1.c2
        > 5 attach
          send register a1 t1:running t2:lost [p]
        > 6 exit c1.c2 signal 15
          checkpoint update killed
          release c1.c2
          release pod c1
          note forgotten executor p
        > 7 registered
          send u1 t1 running latest killed
          send u101 t2 lost agent_restarted (the agent was restarted: it had not been started)
          send exited p 0");
}

#[test]
fn a_custom_executor_is_given_its_tasks_and_says_what_becomes_of_them() {
    go("> 1 custom e new t1 t2
          checkpoint framework f
          checkpoint executor e
          checkpoint launch t1
          checkpoint launch t2
          start c1
        > 2 started c1 42
          watch c1
        > 3 update e t1 running 9
          refuse NotSubscribed: the executor is not subscribed: it must SUBSCRIBE before it calls
        > 4 subscribe e 7
          answer
          tell 7 SUBSCRIBED
          tell 7 LAUNCH t1
          tell 7 LAUNCH t2
        > 5 update e t1 running 9
          write update running
          send u9 t1 running
          tell 7 ACKNOWLEDGED t1 u9
          answer
        > 6 update e t1 running 9
          tell 7 ACKNOWLEDGED t1 u9
          answer
        > 7 ack t1 u9
          note acknowledged t1
        > 8 update e t1 running 9
          tell 7 ACKNOWLEDGED t1 u9
          answer
        > 9 update e t1 finished 10
          checkpoint update finished
          send u10 t1 finished
          tell 7 ACKNOWLEDGED t1 u10
          resize c1 to 2 parts
          answer
        > 10 custom e old t3
          checkpoint launch t3
          resize c1 to 3 parts
          tell 7 LAUNCH t3
        > 11 kill t2
          checkpoint ending t2 11ms
          tell 7 KILL t2 5000ms
        > 12 update e t2 killed 11
          checkpoint update killed
          send u11 t2 killed
          tell 7 ACKNOWLEDGED t2 u11
          resize c1 to 2 parts
          answer
        > 13 says e hello
          answer
          send message of e: hello
        > 14 tell e hi
          tell 7 MESSAGE hi
        > 15 exit c1 code 3
          checkpoint update failed
          send u1 t3 failed executor_terminated (its executor exited with code 3)
          release c1
          close executor 7
          note forgotten executor e
          send exited e 3");
}

#[test]
fn what_an_executor_may_not_say_is_refused() {
    go("> 1 customgroup e new t1 t2
          checkpoint framework f
          checkpoint executor e
          checkpoint launch t1
          checkpoint launch t2
          start c1
        > 2 started c1 42
          watch c1
        > 3 subscribe e 7
          answer
          tell 7 SUBSCRIBED
          tell 7 LAUNCH_GROUP t1 t2
        > 4 update e t1 running 9 wrong
          refuse Unauthenticated: `authorization` does not hold the token of this executor; accepted: `Bearer` and the value of MESOS_EXECUTOR_AUTHENTICATION_TOKEN, while the executor lives
        > 4 update e t9 running 9
          refuse Invalid: `update.status.task_id` is \"t9\", which names no task of this executor; accepted: the id of a task that it was given
        > 4 update e t1 staging 9
          refuse Invalid: `update.status.state` is TASK_STAGING; accepted: TASK_STARTING, TASK_RUNNING, TASK_KILLING, TASK_FINISHED, TASK_FAILED, TASK_KILLED, TASK_ERROR, TASK_LOST, TASK_GONE
        > 5 update e t1 finished 9
          checkpoint update finished
          send u9 t1 finished
          tell 7 ACKNOWLEDGED t1 u9
          resize c1 to 2 parts
          answer
        > 6 update e t1 running 10
          refuse Invalid: `update.status.state` is TASK_RUNNING, but the task has ended; accepted: no update after a terminal one
        > 7 shutdown e
          checkpoint ending executor e 5007ms
          tell 7 SHUTDOWN
        > 8 custom e old t3
          checkpoint launch t3
          checkpoint update lost
          send u1 t3 lost executor_terminated (its executor has ended, or is about to)
        > 5007 tick
          destroy c1
        > 5008 exit c1 signal 9
          checkpoint update killed
          send u2 t2 killed executor_terminated (its executor was shut down; ended by signal 9 (SIGKILL))
          release c1
          close executor 7
          note forgotten executor e
          send exited e -9");
}

#[test]
fn an_executor_that_never_subscribes_is_killed() {
    go("> 1 custom e new t1
          checkpoint framework f
          checkpoint executor e
          checkpoint launch t1
          start c1
        > 2 started c1 42
          watch c1
        > 60001 tick
          checkpoint ending executor e 60001ms
          destroy c1
        > 60002 exit c1 signal 9
          checkpoint update failed
          send u1 t1 failed executor_registration_timeout (its executor did not subscribe in time; ended by signal 9 (SIGKILL))
          release c1
          note forgotten executor e
          send exited e -9");
}

#[test]
fn an_executor_beyond_its_disk_is_killed_and_so_are_the_tasks_of_a_pod() {
    go("> 1 custom e new t1
          checkpoint framework f
          checkpoint executor e
          checkpoint launch t1
          start c1
        > 2 started c1 42
          watch c1
        > 3 beyond c1
          checkpoint ending executor e 3ms
          destroy c1
        > 4 exit c1 signal 9
          checkpoint update failed
          send u1 t1 failed container_limitation_disk (it held more than its disk; ended by signal 9 (SIGKILL))
          release c1
          note forgotten executor e
          send exited e -9");
    go("> 1 group p new t1 t2
          checkpoint framework f
          checkpoint executor p
          checkpoint launch t1
          checkpoint launch t2
          start c1.c2
          start c1.c3
        > 2 started c1.c2 42
          watch c1.c2
          write update running
          send u1 t1 running
        > 3 beyond c1
          checkpoint ending t1 3ms
          destroy c1.c2
          checkpoint ending t2 3ms
          abandon c1.c3");
}

#[test]
fn an_executor_without_tasks_is_not_kept_waiting() {
    go("> 1 custom e new t1
          checkpoint framework f
          checkpoint executor e
          checkpoint launch t1
          start c1
        > 2 started c1 42
          watch c1
        > 3 kill t1
          checkpoint update killed
          send u1 t1 killed task_killed_during_launch (killed as asked before it ran)
          checkpoint ending executor e 5003ms
          terminate c1");
}

#[test]
fn executors_subscribe_again_and_nothing_is_lost_nor_done_twice() {
    go("> 1 custom e new t1 t2 t3
          checkpoint framework f
          checkpoint executor e
          checkpoint launch t1
          checkpoint launch t2
          checkpoint launch t3
          start c1
        > 2 started c1 42
          watch c1
        > 3 subscribe e 7
          answer
          tell 7 SUBSCRIBED
          tell 7 LAUNCH t1
          tell 7 LAUNCH t2
          tell 7 LAUNCH t3
        > 4 update e t1 running 9
          write update running
          send u9 t1 running
          tell 7 ACKNOWLEDGED t1 u9
          answer
        > 5 restart
          recover [\"c1\"]
        > 6 found c1 running
          watch c1
        > 7 attach
          send register a1 t1:running t2:staging t3:staging [e]
        > 8 registered
          send u9 t1 running
        > 9 kill t3
          checkpoint ending t3 9ms
        > 10 ack t1 u9
          note acknowledged t1
        > 11 subscribe e 8 has=t1,t2 update=t1:running:9
          answer
          tell 8 SUBSCRIBED
          tell 8 ACKNOWLEDGED t1 u9
          checkpoint update killed
          send u101 t3 killed task_killed_during_launch (killed as asked before it ran)
          resize c1 to 3 parts
        > 12 lost 8
        > 900012 tick
          send u101 t3 killed task_killed_during_launch (killed as asked before it ran)
          checkpoint ending executor e 900012ms
          destroy c1");
}

#[test]
fn a_recovered_executor_that_does_not_come_back_is_killed() {
    go("> 1 custom e new t1
          checkpoint framework f
          checkpoint executor e
          checkpoint launch t1
          start c1
        > 2 restart
          recover [\"c1\"]
        > 3 found c1 running
          watch c1
        > 15003 tick
          checkpoint ending executor e 15003ms
          destroy c1
        > 15004 exit c1 signal 9
          checkpoint update failed
          release c1
          note forgotten executor e");
}

#[test]
fn executors_end_with_their_framework_and_with_the_agent() {
    go("> 1 custom e new t1
          checkpoint framework f
          checkpoint executor e
          checkpoint launch t1
          start c1
        > 2 started c1 42
          watch c1
        > 3 subscribe e 7
          answer
          tell 7 SUBSCRIBED
          tell 7 LAUNCH t1
        > 4 remove
          checkpoint muted t1
          checkpoint ending executor e 5004ms
          tell 7 SHUTDOWN
        > 5 exit c1 code 0
          send u1 t1 killed framework_removed (framework removed)
          note forgotten t1
          release c1
          close executor 7
          note forgotten executor e
          send exited e 0
        > 6 custom e new t2
          checkpoint framework f
          checkpoint executor e
          checkpoint launch t2
          start c2
        > 7 started c2 42
          watch c2
        > 8 subscribe e 8
          answer
          tell 8 SUBSCRIBED
          tell 8 LAUNCH t2
        > 9 leave
          checkpoint ending executor e 5009ms
          tell 8 SHUTDOWN
        > 10 update e t2 killed 4
          checkpoint update killed
          send u4 t2 killed
          tell 8 ACKNOWLEDGED t2 u4
          answer
        > 11 exit c2 code 0
          release c2
          close executor 8
          note forgotten executor e
          send exited e 0
          send unregister
          stop");
}

/// Wherever the journal ends, after a crash, whoever reads it brings everything that it knows of to an end.
#[test]
fn a_journal_of_pods_and_executors_can_be_torn_anywhere() {
    let records = written(
        "0 attach
         0 registered
         1 group p new t1 t2
         2 started c1.c2 42
         2 started c1.c3 43
         3 custom e new e1 e2 e3
         4 started c4 44
         5 subscribe e 7
         6 update e e1 running 9
         9 ack t1 u1
         10 ack e1 u9
         11 kill e2
         12 update e e3 failed 10
         13 kill t2 1000
         14 exit c1.c3 signal 15
         15 ack t2 u2
         16 exit c1.c2 signal 15
         17 group p new t4
         18 shutdown e
         19 update e e1 killed 11
         20 exit c4 code 0
         21 remove",
    );
    assert!(records.len() > 30, "{} records", records.len());
    let mut alive_at_most = 0;
    for cut in 0..=records.len() {
        let mut disk = Image::default();
        records[..cut].iter().cloned().for_each(|record| disk.apply(record));
        let mut compact = Image::default();
        disk.records().into_iter().for_each(|record| compact.apply(record));
        assert_eq!(disk, compact, "cut at {cut}");
        let mut effects = Vec::new();
        let (mut core, alive) = recover(disk, &mut effects);
        alive_at_most = alive_at_most.max(alive.len());
        for container in alive {
            core.step(Timestamp(1), Input::Found(container, Recovered::Unknown), &mut effects);
        }
        let left: Vec<_> = core.tasks().filter(|(_, task)| task.is_alive()).collect();
        assert!(left.is_empty(), "cut at {cut}: {left:?}");
        let left: Vec<_> = core.executors().collect();
        assert!(left.is_empty(), "cut at {cut}: {left:?}");
        for (name, task) in core.tasks() {
            let told = task.updates.back().is_some_and(|status| status.state().is_terminal());
            assert!(told || task.muted, "cut at {cut}: nobody hears how {name:?} ended");
        }
    }
    assert_eq!(alive_at_most, 3);
}

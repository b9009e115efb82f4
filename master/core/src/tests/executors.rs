//! Custom executors and task groups: what they hold, and who is launched on them.

use proffer_proto::v1::executor_info::Type;
use proffer_proto::v1::offer::{Operation, operation};
use proffer_proto::v1::{self, ExecutorInfo, TaskInfo};

use super::malformed::{accept, operation, scalar, task, world};
use super::{check, command};
use crate::{Effect, Input};

const TWO: &str = "> 0ms f1 subscribes
       propose put f1
       answer accepted
       f1 <- subscribed as m1-F0001
     > 0ms a1 registers cpus:4;mem:1024
       propose admit a1
       a1 <- registered as m1-A0001
       f1 <- offers o1 a1 cpus:4;mem:1024
    ";

fn go(rest: &str) {
    check(&format!("{TWO}{rest}"));
}

#[test]
fn an_executor_is_counted_once_and_until_it_has_ended() {
    go("> 1ms f1 accepts o1 launch=t1:cpus,1;mem,100+t2:cpus,1;mem,100 executor=e1:cpus,0.5;mem,32 refuse=0
          answer accepted
          a1 <- launch f1/t1 cpus:1;mem:100, f1/t2 cpus:1;mem:100 on new e1[cpus:0.5;mem:32]
          f1 <- offers o2 a1 cpus:1.5;mem:792
        > 2ms f1 accepts o2 launch=t3:cpus,1;mem,100 executor=e1:cpus,0.5;mem,32 refuse=0
          answer accepted
          a1 <- launch f1/t3 cpus:1;mem:100 on e1[cpus:0.5;mem:32]
          f1 <- offers o3 a1 cpus:0.5;mem:692
        > 3ms operator gets GET_EXECUTORS
          answer GET_EXECUTORS; e1 on a1 [cpus:0.5;mem:32]
        > 3ms operator gets GET_AGENTS
          answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024] allocated [cpus:3.5;mem:332] offered [cpus:0.5;mem:692]
        > 4ms a1 updates f1/t1 FAILED #1
          f1 <- update t1 FAILED on a1 #1
          f1 <- offers o4 a1 cpus:1;mem:100
        > 5ms a1 exits f1 e1
          f1 <- failure a1 executor e1
          f1 <- offers o5 a1 cpus:0.5;mem:32
        > 6ms f1 reconciles t2
          answer accepted
          f1 <- update t2 STAGING on a1 (reconciliation): the latest state of the task");
}

#[test]
fn a_group_is_launched_whole_or_not_at_all() {
    go("> 1ms f1 accepts o1 group=t1:cpus,1;mem,100+t2:cpus,1;mem,100 executor=p1:mem,24 refuse=0
          answer accepted
          a1 <- launch group f1/t1 cpus:1;mem:100, f1/t2 cpus:1;mem:100 on new p1[mem:24]
          f1 <- offers o2 a1 cpus:2;mem:800
        > 2ms f1 accepts o2 group=t3:cpus,1;mem,100+t4:cpus,2;mem,100 executor=p2:mem,24 refuse=0
          answer accepted
          f1 <- update t3 ERROR on a1 (task_group_invalid): the task group is refused: `accept.operations[0].launch_group.task_group` asks for cpus:3;mem:224 with its executor, which is more than what is left of the offers; accepted: at most cpus:2;mem:800
          f1 <- update t4 ERROR on a1 (task_group_invalid): the task group is refused: `accept.operations[0].launch_group.task_group` asks for cpus:3;mem:224 with its executor, which is more than what is left of the offers; accepted: at most cpus:2;mem:800
        > 5002ms tick
          f1 <- offers o3 a1 cpus:2;mem:800
        > 5003ms f1 accepts o3 group=t5:cpus,1;mem,100+t1:cpus,1;mem,100 executor=p2
          answer accepted
          f1 <- update t5 ERROR on a1 (task_group_invalid): the task group is refused: `accept.operations[0].launch_group.task_group.tasks[1].task_id` is \"t1\", which the framework has used before; accepted: an id that is new within the framework
          f1 <- update t1 ERROR on a1 (task_group_invalid): the task group is refused: `accept.operations[0].launch_group.task_group.tasks[1].task_id` is \"t1\", which the framework has used before; accepted: an id that is new within the framework");
}

#[test]
fn a_group_goes_with_the_offers_and_is_dropped_with_them() {
    go(
        "> 1ms f1 accepts o1 o9 group=t1:cpus,1;mem,100+t2:cpus,1;mem,100 executor=p1
          answer accepted
          f1 <- update t1 LOST on a1 (invalid_offers): `accept.offer_ids[1]` is \"m1-O9\", which is no open offer
          f1 <- update t2 LOST on a1 (invalid_offers): `accept.offer_ids[1]` is \"m1-O9\", which is no open offer",
    );
}

#[test]
fn an_executor_that_runs_is_described_as_before() {
    go("> 1ms f1 accepts o1 launch=t1:cpus,1;mem,100 executor=e1:mem,32 refuse=0
          answer accepted
          a1 <- launch f1/t1 cpus:1;mem:100 on new e1[mem:32]
          f1 <- offers o2 a1 cpus:3;mem:892
        > 2ms f1 accepts o2 launch=t2:cpus,1;mem,100 executor=e1:mem,64 refuse=0
          answer accepted
          f1 <- update t2 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[0].executor.executor_id` is \"e1\", which runs on the agent, described differently; accepted: the description that the executor was started with, or another id");
}

#[test]
fn an_executor_and_its_task_must_fit_together() {
    go("> 1ms f1 accepts o1 launch=t1:cpus,4;mem,100 executor=e1:cpus,0.1 refuse=0
          answer accepted
          f1 <- update t1 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[0].executor.resources` are cpus:0.1, which is more than what the task leaves of the offers; accepted: with the task at most cpus:4;mem:1024");
}

#[test]
fn a_new_leader_learns_of_executors_from_their_agents() {
    go("> 1ms f1 accepts o1 launch=t1:cpus,1;mem,100 executor=e1:cpus,1;mem,32
          answer accepted
          a1 <- launch f1/t1 cpus:1;mem:100 on new e1[cpus:1;mem:32]
        > 2ms leads m2
          close a1
          close f1
          propose away f1 until 60002ms
        > 3ms a1 registers executors=f1/e1:cpus,1;mem,32 tasks=f1/t1:RUNNING:cpus,1;mem,100
          a1 <- registered as m1-A0001
        > 4ms f1 subscribes
          propose back f1
          answer accepted
          f1 <- subscribed as m1-F0001
          f1 <- offers o1 a1 cpus:2;mem:892
        > 5ms a1 registers
          f1 <- rescind o1
          close a1
          a1 <- registered as m1-A0001
          f1 <- update t1 LOST on a1 (reconciliation): the agent does not know the task
          f1 <- offers o2 a1 cpus:4;mem:1024");
}

#[test]
fn what_an_executor_holds_outlives_its_framework() {
    go("> 1ms f1 accepts o1 launch=t1:cpus,1;mem,100 executor=e1:cpus,1;mem,32
          answer accepted
          a1 <- launch f1/t1 cpus:1;mem:100 on new e1[cpus:1;mem:32]
        > 2ms f2 subscribes
          propose put f2
          answer accepted
          f2 <- subscribed as m1-F0002
          f2 <- offers o2 a1 cpus:2;mem:892
        > 3ms f1 tears-down
          propose remove f1
          answer accepted
          close f1
          a1 <- shut down f1
        > 4ms a1 updates f1/t1 KILLED #1
          f2 <- offers o3 a1 cpus:1;mem:100
        > 5ms a1 exits f1 e1
          f2 <- offers o4 a1 cpus:1;mem:32
        > 6ms a1 registers executors=f1/e1:cpus,1;mem,32
          f2 <- rescind o2
          f2 <- rescind o3
          f2 <- rescind o4
          close a1
          a1 <- registered as m1-A0001
          a1 <- shut down f1
          f2 <- offers o5 a1 cpus:3;mem:992");
}

/// The field that the TASK_ERROR of every task of a group names; of a group of one task and its twin.
fn group_refused(change: impl FnOnce(&mut ExecutorInfo, &mut TaskInfo)) -> String {
    let mut world = world();
    let mut executor = ExecutorInfo {
        executor_id: "e1".into(),
        r#type: Some(Type::Default as i32),
        resources: vec![scalar("mem", 32.0)],
        ..ExecutorInfo::default()
    };
    let mut first = task(&world);
    let second = TaskInfo {
        task_id: "twin".into(),
        ..first.clone()
    };
    change(&mut executor, &mut first);
    let call = accept(&world, |accept| {
        accept.operations = vec![Operation {
            launch_group: Some(Box::new(operation::LaunchGroup {
                executor: executor.clone(),
                task_group: v1::TaskGroupInfo {
                    tasks: vec![first.clone(), second.clone()],
                },
            })),
            ..operation(operation::Type::LaunchGroup)
        }];
    });
    let input = Input::SchedulerCall {
        request: world.request(),
        stream: world.stream("f1"),
        call: Box::new(call),
    };
    let effects = world.step(input);
    let statuses = effects.iter().filter_map(|effect| match effect {
        Effect::SendEvent { event, .. } => event.update.as_ref().map(|update| &update.status),
        _ => None,
    });
    let statuses: Vec<&v1::TaskStatus> = statuses.collect();
    assert_eq!(statuses.len(), 2, "{effects:?}");
    for status in &statuses {
        assert_eq!(status.state(), v1::TaskState::TaskError);
        assert_eq!(status.reason(), v1::task_status::Reason::TaskGroupInvalid);
    }
    assert_eq!(statuses[0].message, statuses[1].message);
    let message = statuses[0].message();
    let prefix = "the task group is refused: `accept.operations[0].launch_group.";
    let rest = message.strip_prefix(prefix).unwrap_or_else(|| panic!("{message}"));
    rest.split('`').next().expect("a field").to_owned()
}

#[test]
fn groups_that_are_wrong_name_their_field() {
    let executor = |change: &dyn Fn(&mut ExecutorInfo)| group_refused(|executor, _| change(executor));
    assert_eq!(
        executor(&|own| own.executor_id = "a/b".into()),
        "executor.executor_id.value"
    );
    assert_eq!(
        executor(&|own| own.framework_id = Some("f9".into())),
        "executor.framework_id.value"
    );
    assert_eq!(executor(&|own| own.r#type = None), "executor.type");
    assert_eq!(executor(&|own| own.command = Some(command())), "executor.command");
    assert_eq!(
        executor(&|own| own.r#type = Some(Type::Custom as i32)),
        "executor.command"
    );
    assert_eq!(
        executor(&|own| own.resources = vec![scalar("cpus", -1.0)]),
        "executor.resources[0].scalar.value"
    );
    assert_eq!(
        executor(&|own| own.resources = vec![scalar("cpus", 1e6)]),
        "executor.resources"
    );
    assert_eq!(
        executor(&|own| own.shutdown_grace_period = Some(v1::DurationInfo { nanoseconds: -1 })),
        "executor.shutdown_grace_period.nanoseconds"
    );
    let of_task = |change: &dyn Fn(&mut TaskInfo)| group_refused(|_, task| change(task));
    assert_eq!(
        of_task(&|task| task.task_id = "twin".into()),
        "task_group.tasks[1].task_id"
    );
    assert_eq!(
        of_task(&|task| task.task_id = "..".into()),
        "task_group.tasks[0].task_id.value"
    );
    assert_eq!(
        of_task(&|task| task.agent_id = "a9".into()),
        "task_group.tasks[0].agent_id.value"
    );
    assert_eq!(of_task(&|task| task.command = None), "task_group.tasks[0].command");
    assert_eq!(
        of_task(&|task| task.executor = Some(Box::new(ExecutorInfo::default()))),
        "task_group.tasks[0].executor"
    );
    assert_eq!(of_task(&|task| task.resources.clear()), "task_group.tasks[0].resources");
    assert_eq!(
        of_task(&|task| {
            task.container = Some(Box::new(v1::ContainerInfo {
                network_infos: vec![v1::NetworkInfo::default()],
                ..v1::ContainerInfo::default()
            }));
        }),
        "task_group.tasks[0].container.network_infos"
    );
}

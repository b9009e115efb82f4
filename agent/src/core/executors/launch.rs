//! Takes tasks for an executor: starts it where it is new, gives them to it, or refuses them with a status that says why.

use proffer_proto::v1::task_status::Reason;
use proffer_proto::{link, v1};

use super::super::launch::{leaving, refuse, refuse_command, refuse_container, refuse_name};
use super::super::layout as volumes;
use super::super::recover;
use super::super::task::{Given, Task};
use super::super::updates::{self, News};
use super::super::{Core, Effect, ExecutorName, ExecutorOrder, LaunchOrder, Owner, Start, TaskName, Timestamp};
use super::{Executor, Phase, call, end, task_name};
use crate::checkpoint::layout;
use crate::checkpoint::record::{ExecutorLaunch, Fact, Launch};

/// The master launches tasks of one framework on an executor.
pub(in crate::core) fn launch(
    core: &mut Core,
    now: Timestamp,
    framework_id: &str,
    launch: link::Launch,
    effects: &mut Vec<Effect>,
) {
    let (group, start) = (launch.group(), launch.start_executor());
    let Some(info) = launch.executor else { return };
    let name = ExecutorName {
        framework: framework_id.to_owned(),
        executor: info.executor_id.value.clone(),
    };
    let named = launch.tasks.len();
    let is_new = |task: &v1::TaskInfo| !core.tasks.contains_key(&task_name(&name, &task.task_id.value));
    let tasks: Vec<v1::TaskInfo> = launch.tasks.into_iter().filter(is_new).collect();
    if tasks.is_empty() || (group && tasks.len() < named) {
        // The master repeats itself: a task id is launched at most once.
        tracing::warn!(framework_id, executor_id = name.executor, "the tasks are here already");
        return;
    }
    let group = group.then(|| tasks[0].task_id.value.clone());
    let refusals = judge(core, &name, &info, start, &tasks, group.is_some());
    let exists = core.executors.contains_key(&name);
    let (container, pod) = match core.executors.get(&name) {
        Some(executor) => (executor.container.0.clone(), executor.is_pod()),
        None => {
            let container = core.ids.container();
            (container, info.r#type() == v1::executor_info::Type::Default)
        }
    };
    if !exists && refusals.iter().any(Option::is_none) {
        add_executor(core, now, &name, v1::ExecutorInfo::clone(&info), &container, effects);
    }
    let mut accepted = Vec::new();
    for (mut task, refusal) in tasks.into_iter().zip(refusals) {
        // Whoever has the task finds its pod.
        task.executor.get_or_insert_with(|| info.clone());
        let container = match pod {
            true => format!("{container}.{}", core.ids.container()),
            false => container.clone(),
        };
        let record = Launch {
            framework: framework_id.to_owned(),
            task,
            container,
            at: now.0,
            executor: Some(name.executor.clone()),
            group: group.clone(),
            ..Launch::default()
        };
        accepted.extend(add_task(core, now, &name, record, refusal, effects));
    }
    match (accepted.is_empty(), exists) {
        (true, true) => {}
        (true, false) if start => end::say_exited(core, &name, 0, effects),
        (true, false) => core.forget_framework(framework_id),
        (false, _) => begin(core, &name, &accepted, exists, effects),
    }
    core.set_executor_timer(&name);
    call::deliver(core, &name, effects);
}

/// Why each task is refused, if it is; of a group all are or none.
fn judge(
    core: &Core,
    name: &ExecutorName,
    info: &v1::ExecutorInfo,
    start: bool,
    tasks: &[v1::TaskInfo],
    group: bool,
) -> Vec<Option<News>> {
    let reason = if group {
        Reason::TaskGroupInvalid
    } else {
        Reason::TaskInvalid
    };
    let error = |message: String| News::of(v1::TaskState::TaskError).by_agent(reason).saying(message);
    let here = core.executors.get(name);
    let pod = here.map_or(info.r#type() == v1::executor_info::Type::Default, Executor::is_pod);
    let all = match here {
        _ if core.leaving => Some(leaving()),
        Some(executor) if executor.is_ending() => Some(terminated(core, name)),
        None if !start => Some(terminated(core, name)),
        None => refuse_executor(core, name, info).map(|message| error(format!("executor.{message}"))),
        Some(_) => None,
    };
    if all.is_some() {
        return vec![all; tasks.len()];
    }
    let each = tasks.iter().map(|task| {
        let name = task_name(name, &task.task_id.value);
        match pod {
            true => refuse(&name, task).or_else(|| volumes::mounts(core, task).err()),
            false => refuse_name(&name).or_else(|| volumes::refuse_entrusted(task)),
        }
    });
    let each: Vec<Option<String>> = each.collect();
    if !group {
        return each.into_iter().map(|message| message.map(error)).collect();
    }
    let first = each.iter().enumerate().find_map(|(index, message)| {
        let message = message.as_ref()?;
        Some(error(format!(
            "the task group is refused: task_group.tasks[{index}].{message}"
        )))
    });
    vec![first; tasks.len()]
}

/// The executor has ended, and the master did not know that.
fn terminated(core: &Core, name: &ExecutorName) -> News {
    let state = match recover::is_partition_aware(core, &name.framework) {
        true => v1::TaskState::TaskDropped,
        false => v1::TaskState::TaskLost,
    };
    News::of(state)
        .by_agent(Reason::ExecutorTerminated)
        .saying("its executor has ended, or is about to")
}

fn refuse_executor(core: &Core, name: &ExecutorName, info: &v1::ExecutorInfo) -> Option<String> {
    if let Err(error) = layout::component("executor_id", &name.executor) {
        return Some(error.to_string());
    }
    info.command
        .as_ref()
        .and_then(refuse_command)
        .or_else(|| info.container.as_deref().and_then(refuse_container))
        .or_else(|| volumes::of(core, &info.resources).err())
}

fn add_executor(
    core: &mut Core,
    now: Timestamp,
    name: &ExecutorName,
    info: v1::ExecutorInfo,
    container: &str,
    effects: &mut Vec<Effect>,
) {
    let record = ExecutorLaunch {
        framework: name.framework.clone(),
        info: info.clone(),
        container: container.to_owned(),
        token: core.ids.token(),
    };
    let mut executor = Executor::new(info, record.container.clone(), record.token.clone());
    executor.subscribe_by = Some(now.after(core.settings.executors.registration));
    core.containers
        .insert(executor.container.clone(), Owner::Executor(name.clone()));
    core.executors.insert(name.clone(), executor);
    effects.push(Effect::Checkpoint(Fact::Executor(record).into()));
}

/// Adds a task, which has ended already where it is refused; its name where it is not.
fn add_task(
    core: &mut Core,
    now: Timestamp,
    executor: &ExecutorName,
    record: Launch,
    refusal: Option<News>,
    effects: &mut Vec<Effect>,
) -> Option<TaskName> {
    let name = task_name(executor, &record.task.task_id.value);
    let mut task = Task::new(&record);
    effects.push(Effect::Checkpoint(Fact::Launch(record).into()));
    if let Some(news) = refusal {
        task.phase = super::super::Phase::Ended;
        core.tasks.insert(name.clone(), task);
        updates::push(core, now, &name, news, effects);
        return None;
    }
    let executor = core.executors.get_mut(executor)?;
    executor.tasks.insert(name.task.clone());
    if executor.is_pod() {
        core.containers
            .insert(task.container.clone(), Owner::Task(name.clone()));
    } else {
        executor.queue.push(name.task.clone());
        task.phase = super::super::Phase::Entrusted {
            given: Given::No,
            killed: None,
        };
    }
    core.tasks.insert(name.clone(), task);
    core.set_timer(&name);
    Some(name)
}

/// Orders the containers of what was added.
fn begin(core: &mut Core, name: &ExecutorName, accepted: &[TaskName], exists: bool, effects: &mut Vec<Effect>) {
    let (Some(executor), Some(size)) = (core.executors.get(name), core.size(name)) else {
        return;
    };
    let framework = core.frameworks.get(&name.framework).cloned().unwrap_or_default();
    let order = |start: Start| ExecutorOrder {
        info: executor.info.clone(),
        start,
        size: size.clone(),
    };
    match executor.phase {
        Phase::Pod => {
            for task in accepted.iter().filter_map(|name| core.tasks.get(name)) {
                effects.push(Effect::Launch(Box::new(LaunchOrder {
                    container: task.container.clone(),
                    framework: framework.clone(),
                    task: task.info.clone(),
                    executor: Some(order(Start::Task)),
                    volumes: volumes::mounts(core, &task.info).unwrap_or_default(),
                })));
            }
        }
        _ if exists => effects.push(Effect::Resize(Box::new(size))),
        _ => effects.push(Effect::Launch(Box::new(LaunchOrder {
            container: executor.container.clone(),
            framework,
            task: core.stand_in(name, executor),
            executor: Some(order(Start::Executor(executor.token.clone()))),
            volumes: volumes::of(core, &executor.info.resources).unwrap_or_default(),
        }))),
    }
}

//! Ends executors, and the tasks that depend on them or on each other.

use std::time::Duration;

use proffer_proto::link::{ExecutorExited, ShutdownExecutor, agent_message};

use super::super::task::{Ending, Given, Kill, Task};
use super::super::updates::{self, News};
use super::super::{
    Core, Effect, ExecutorName, Owner, Phase as TaskPhase, Session, TaskName, Timestamp, end as tasks, run, send,
};
use super::{Member, Phase, call, task_name};
use crate::checkpoint::record::{Cause, ExecutorEnding, Fact};

/// The framework shuts an executor down. That of a command task is the task.
pub(in crate::core) fn shutdown(
    core: &mut Core,
    now: Timestamp,
    shutdown: ShutdownExecutor,
    effects: &mut Vec<Effect>,
) {
    let name = ExecutorName {
        framework: shutdown.framework_id.value,
        executor: shutdown.executor_id.value,
    };
    if core.executors.contains_key(&name) {
        return shut_down(core, now, &name, Cause::ExecutorShutDown, effects);
    }
    let task = task_name(&name, &name.executor);
    if core.tasks.get(&task).is_some_and(|task| task.executor.is_none()) {
        let grace = core.settings.kill_grace;
        tasks::end(core, now, &task, Cause::Killed, grace, effects);
    }
}

/// Shuts the executors of a framework down, or all.
pub(in crate::core) fn shut_all_down(
    core: &mut Core,
    now: Timestamp,
    framework: Option<&str>,
    cause: Cause,
    effects: &mut Vec<Effect>,
) {
    let names = core.executors.keys();
    let names = names.filter(|name| framework.is_none_or(|framework| name.framework == framework));
    for name in names.cloned().collect::<Vec<_>>() {
        shut_down(core, now, &name, cause, effects);
    }
}

/// Asks an executor to end, and sees to it that it does.
fn shut_down(core: &mut Core, now: Timestamp, name: &ExecutorName, cause: Cause, effects: &mut Vec<Effect>) {
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    let asked = executor.info.shutdown_grace_period;
    let grace = asked.map_or(core.settings.executors.shutdown_grace, |grace| {
        Duration::from_nanos(u64::try_from(grace.nanoseconds).unwrap_or(0))
    });
    let force_at = now.after(grace);
    match &mut executor.phase {
        Phase::Pod => {
            let names: Vec<TaskName> = executor.tasks.iter().map(|task| task_name(name, task)).collect();
            for task in names {
                let policy = core.tasks.get(&task).and_then(|task| task.info.kill_policy);
                let grace = tasks::grace(policy, core.settings.kill_grace);
                tasks::end(core, now, &task, cause, grace, effects);
            }
            return;
        }
        Phase::Launching { cancelled } => {
            cancelled.get_or_insert(cause);
            effects.push(checkpoint(name, cause, now));
            effects.push(Effect::Abandon(executor.container.clone()));
        }
        Phase::Recovering { ending } => {
            ending.get_or_insert(Ending {
                pid: 0,
                cause,
                force_at: Some(force_at),
            });
            effects.push(checkpoint(name, cause, force_at));
        }
        Phase::Running { pid } => {
            executor.phase = Phase::Ending(Ending {
                pid: *pid,
                cause,
                force_at: Some(force_at),
            });
            effects.push(checkpoint(name, cause, force_at));
            effects.push(match executor.stream {
                Some(stream) => call::shut_down(stream),
                None => Effect::Terminate(executor.container.clone()),
            });
        }
        Phase::Ending(_) => {}
    }
    core.set_executor_timer(name);
}

/// The executor holds more than its disk, or the tasks of a pod share more: nobody gets time to write more.
pub(in crate::core) fn disk_exceeded(core: &mut Core, now: Timestamp, name: &ExecutorName, effects: &mut Vec<Effect>) {
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    match executor.phase {
        Phase::Pod => {
            let names: Vec<TaskName> = executor.tasks.iter().map(|task| task_name(name, task)).collect();
            for task in names {
                tasks::end(core, now, &task, Cause::Disk, Duration::ZERO, effects);
            }
        }
        Phase::Running { pid } => destroy(core, now, name, pid, Cause::Disk, effects),
        Phase::Launching { .. } | Phase::Recovering { .. } | Phase::Ending(_) => {}
    }
}

/// Ends the container of an executor at once.
fn destroy(core: &mut Core, now: Timestamp, name: &ExecutorName, pid: u32, cause: Cause, effects: &mut Vec<Effect>) {
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    executor.phase = Phase::Ending(Ending {
        pid,
        cause,
        force_at: None,
    });
    let container = executor.container.clone();
    effects.push(checkpoint(name, cause, now));
    effects.push(Effect::Destroy(container));
    core.set_executor_timer(name);
}

/// A deadline of the executor may have come.
pub(in crate::core) fn expire(core: &mut Core, now: Timestamp, name: &ExecutorName, effects: &mut Vec<Effect>) {
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    executor.timer = None;
    let late = executor.stream.is_none() && executor.subscribe_by.is_some_and(|at| at <= now);
    let cause = match executor.subscribed {
        true => Cause::NotSubscribedAgain,
        false => Cause::NotSubscribed,
    };
    match executor.phase {
        Phase::Ending(Ending {
            pid,
            cause,
            force_at: Some(at),
        }) if at <= now => {
            executor.phase = Phase::Ending(Ending {
                pid,
                cause,
                force_at: None,
            });
            effects.push(Effect::Destroy(executor.container.clone()));
        }
        Phase::Running { pid } if late => {
            tracing::warn!(
                framework_id = name.framework,
                executor_id = name.executor,
                "executor did not subscribe in time"
            );
            destroy(core, now, name, pid, cause, effects);
        }
        _ => {}
    }
    core.set_executor_timer(name);
}

/// A task of an executor has ended, `well` or not.
pub(in crate::core) fn task_ended(
    core: &mut Core,
    now: Timestamp,
    member: &Member,
    well: bool,
    effects: &mut Vec<Effect>,
) {
    let name = &member.executor;
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    executor.tasks.remove(&member.task);
    executor.queue.retain(|task| *task != member.task);
    let (pod, idle, container) = (executor.is_pod(), executor.tasks.is_empty(), executor.container.clone());
    let idle_from_the_start = idle && !executor.subscribed;
    if !pod {
        if idle_from_the_start {
            // It was started for tasks that are gone before it had them.
            shut_down(core, now, name, Cause::ExecutorShutDown, effects);
        } else {
            resize(core, name, effects);
        }
        return;
    }
    if !well {
        end_group(core, now, member, Cause::GroupEnded, Duration::MAX, effects);
    }
    if idle {
        effects.push(Effect::ReleasePod(container));
        forget(core, name, effects);
        say_exited(core, name, 0, effects);
        tasks::leave_when_over(core, effects);
    }
}

/// Ends the other tasks of a group in a pod, within `longest`.
pub(in crate::core) fn end_group(
    core: &mut Core,
    now: Timestamp,
    member: &Member,
    cause: Cause,
    longest: Duration,
    effects: &mut Vec<Effect>,
) {
    let Some(executor) = core
        .executors
        .get(&member.executor)
        .filter(|executor| executor.is_pod())
    else {
        return;
    };
    let others = executor.tasks.iter().filter(|task| **task != member.task);
    let others: Vec<TaskName> = others.map(|task| task_name(&member.executor, task)).collect();
    for other in others {
        let Some(task) = core.tasks.get(&other).filter(|task| task.group == member.group) else {
            continue;
        };
        let grace = tasks::grace(task.info.kill_policy, core.settings.kill_grace);
        tasks::end(core, now, &other, cause, grace.min(longest), effects);
    }
}

/// Asks a custom executor to end a task; one that it was not given ends at once. What ends the executor ends the others.
pub(in crate::core) fn end_task(
    core: &mut Core,
    now: Timestamp,
    name: &TaskName,
    cause: Cause,
    grace: Duration,
    effects: &mut Vec<Effect>,
) {
    let Some(member) = Member::of(core, name) else { return };
    let stream = core
        .executors
        .get(&member.executor)
        .and_then(|executor| executor.stream);
    let Some(task) = core.tasks.get_mut(name) else { return };
    let TaskPhase::Entrusted { given, killed } = &mut task.phase else {
        return;
    };
    if *given == Given::No {
        let news = run::cancelled_news(cause);
        entrusted_over(core, now, name, news, effects);
        return resize(core, &member.executor, effects);
    }
    if !matches!(cause, Cause::Killed | Cause::Drained) {
        return;
    }
    *killed = Some(Kill { grace, cause });
    effects.push(tasks::checkpoint(name, cause, now));
    effects.extend(stream.map(|stream| call::kill(stream, &name.task, grace)));
}

/// Why an executor was asked to end a task, if it was.
pub(super) fn killed(task: &Task) -> Option<Cause> {
    match task.phase {
        TaskPhase::Entrusted { killed, .. } => killed.map(|kill| kill.cause),
        _ => None,
    }
}

/// Ends a task of a custom executor by the agent's word.
pub(super) fn entrusted_over(core: &mut Core, now: Timestamp, name: &TaskName, news: News, effects: &mut Vec<Effect>) {
    let member = Member::of(core, name);
    if let Some(task) = core.tasks.get_mut(name) {
        task.phase = TaskPhase::Ended;
    }
    updates::push(core, now, name, news, effects);
    core.set_timer(name);
    if let Some(member) = member
        && let Some(executor) = core.executors.get_mut(&member.executor)
    {
        executor.tasks.remove(&member.task);
        executor.queue.retain(|task| *task != member.task);
        if executor.tasks.is_empty() && !executor.subscribed && !executor.is_ending() {
            shut_down(core, now, &member.executor, Cause::ExecutorShutDown, effects);
        }
    }
}

/// Takes from a custom executor what the tasks had that are over.
pub(super) fn resize(core: &Core, name: &ExecutorName, effects: &mut Vec<Effect>) {
    let lives = core.executors.get(name).is_some_and(|executor| !executor.is_ending());
    if let Some(size) = core.size(name).filter(|_| lives) {
        effects.push(Effect::Resize(Box::new(size)));
    }
}

/// Removes an executor whose story is over.
pub(super) fn forget(core: &mut Core, name: &ExecutorName, effects: &mut Vec<Effect>) {
    let Some(executor) = core.executors.remove(name) else {
        return;
    };
    if let Some(at) = executor.timer {
        core.timers.remove(&(at, Owner::Executor(name.clone())));
    }
    core.containers.remove(&executor.container);
    effects.extend(executor.stream.map(Effect::CloseExecutor));
    effects.push(Effect::Note(Fact::ExecutorForgotten(name.clone()).into()));
    core.forget_framework(&name.framework);
}

/// Tells the master that an executor has ended: at once, or when it has heard that the executor was here.
pub(super) fn say_exited(core: &mut Core, name: &ExecutorName, status: i32, effects: &mut Vec<Effect>) {
    let exited = ExecutorExited {
        framework_id: name.framework.as_str().into(),
        executor_id: name.executor.as_str().into(),
        status,
    };
    match core.session {
        Session::Registered(session) => effects.push(send(session, agent_message::Body::ExecutorExited(exited))),
        Session::Registering(_) => core.unsaid.push(exited),
        Session::None => {}
    }
}

fn checkpoint(name: &ExecutorName, cause: Cause, force_at: Timestamp) -> Effect {
    let ending = ExecutorEnding {
        executor: name.clone(),
        force_at: force_at.0,
        cause: cause.into(),
    };
    Effect::Checkpoint(Fact::ExecutorEnding(ending).into())
}

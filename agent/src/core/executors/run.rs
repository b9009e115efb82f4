//! Follows the container of a custom executor: started or not, found again or not, and how it ended.

use proffer_proto::v1;
use proffer_proto::v1::task_status::Reason;

use super::super::task::Ending;
use super::super::updates::News;
use super::super::{Core, Effect, ExecutorName, LaunchFailure, Timestamp, recover, run};
use super::{Phase, end, task_name};
use crate::containerizer::{Exit, Recovered};

/// The executor runs, or could not be started.
pub(in crate::core) fn launched(
    core: &mut Core,
    now: Timestamp,
    name: &ExecutorName,
    result: Result<u32, LaunchFailure>,
    effects: &mut Vec<Effect>,
) {
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    let Phase::Launching { cancelled } = executor.phase else {
        return;
    };
    let container = executor.container.clone();
    match (result, cancelled) {
        (Ok(pid), None) => {
            executor.phase = Phase::Running { pid };
            effects.push(Effect::Watch(container));
        }
        (Ok(pid), Some(cause)) => {
            executor.phase = Phase::Ending(Ending {
                pid,
                cause,
                force_at: None,
            });
            effects.push(Effect::Watch(container.clone()));
            effects.push(Effect::Destroy(container));
        }
        (Err(failure), cancelled) => {
            let mut news = match cancelled {
                Some(cause) => run::cancelled_news(cause),
                None => run::failure_news(failure),
            };
            if cancelled.is_none() {
                news.message = news
                    .message
                    .map(|message| format!("its executor could not be started: {message}"));
            }
            over(core, now, name, -1, |_, _| news.clone(), effects);
        }
    }
    core.set_executor_timer(name);
}

/// What became of an executor of the previous agent process.
pub(in crate::core) fn found(
    core: &mut Core,
    now: Timestamp,
    name: &ExecutorName,
    found: Recovered,
    effects: &mut Vec<Effect>,
) {
    let again = core.settings.executors.reregistration;
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    let Phase::Recovering { ending } = executor.phase else {
        return;
    };
    match found {
        Recovered::Running { pid } => {
            effects.push(Effect::Watch(executor.container.clone()));
            executor.subscribe_by = Some(now.after(again));
            executor.phase = Phase::Running { pid };
            if let Some(ending) = ending {
                executor.phase = Phase::Ending(Ending { pid, ..ending });
                effects.push(Effect::Terminate(executor.container.clone()));
            }
            core.set_executor_timer(name);
        }
        Recovered::Exited(exit) => {
            if let Some(ending) = ending {
                executor.phase = Phase::Ending(ending);
            }
            exited(core, now, name, &exit, effects);
        }
        Recovered::Unknown => over(
            core,
            now,
            name,
            -1,
            |core, task| recover::lost(core, task, ending),
            effects,
        ),
    }
}

/// The executor has ended, and with it whatever ran in its container.
pub(in crate::core) fn exited(
    core: &mut Core,
    now: Timestamp,
    name: &ExecutorName,
    exit: &Exit,
    effects: &mut Vec<Effect>,
) {
    let Some(executor) = core.executors.get(name) else {
        return;
    };
    let cause = match executor.phase {
        Phase::Ending(ending) => Some(ending.cause),
        _ => None,
    };
    let status = exit.code.unwrap_or_else(|| -exit.signal.unwrap_or(1));
    let news = |core: &Core, task: &super::TaskName| match cause.or_else(|| end::killed(core.tasks.get(task)?)) {
        Some(cause) => run::ended_news(cause, exit),
        None => exit_news(exit),
    };
    over(core, now, name, status, news, effects);
}

fn exit_news(exit: &Exit) -> News {
    let of_task = run::exit_news(exit);
    if exit.oom.is_some() {
        return of_task;
    }
    let how = of_task.message.unwrap_or_else(|| "exited with code 0".into());
    News::of(v1::TaskState::TaskFailed)
        .by_agent(Reason::ExecutorTerminated)
        .saying(format!("its executor {how}"))
}

/// Ends the tasks that are left, and lets go of the container.
fn over(
    core: &mut Core,
    now: Timestamp,
    name: &ExecutorName,
    status: i32,
    news: impl Fn(&Core, &super::TaskName) -> News,
    effects: &mut Vec<Effect>,
) {
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    // It is over already: nothing need end it when its last task goes.
    executor.subscribed = true;
    let (container, tasks) = (executor.container.clone(), executor.tasks.clone());
    for task in tasks {
        let task = task_name(name, &task);
        let news = news(core, &task);
        end::entrusted_over(core, now, &task, news, effects);
    }
    effects.push(Effect::Release(container));
    end::forget(core, name, effects);
    end::say_exited(core, name, status, effects);
    super::super::end::leave_when_over(core, effects);
}

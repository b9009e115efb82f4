//! Follows a container: started or not, and how it ended.

use proffer_proto::v1;
use proffer_proto::v1::task_status::Reason;

use super::executors::{self, Member};
use super::task::Ending;
use super::updates::{self, News};
use super::{Core, Effect, FailureKind, LaunchFailure, Phase, TaskName, Timestamp, cause_status, checks, end};
use crate::checkpoint::record::Cause;
use crate::containerizer::{ContainerId, Exit, Oom};

/// The program of a container runs, or could not be started.
pub(super) fn launched(
    core: &mut Core,
    now: Timestamp,
    name: &TaskName,
    container: &ContainerId,
    result: Result<u32, LaunchFailure>,
    effects: &mut Vec<Effect>,
) {
    let Some(task) = core.tasks.get_mut(name) else { return };
    let Phase::Launching { cancelled } = task.phase else {
        return;
    };
    match (result, cancelled) {
        (Ok(pid), None) => {
            task.phase = Phase::Running { pid };
            effects.push(Effect::Watch(container.clone()));
            checks::begin(core, now, name, effects);
            updates::push(core, now, name, News::of(v1::TaskState::TaskRunning), effects);
        }
        (Ok(pid), Some(cause)) => {
            task.phase = Phase::Ending(Ending {
                pid,
                cause,
                force_at: None,
            });
            effects.push(Effect::Watch(container.clone()));
            effects.push(Effect::Destroy(container.clone()));
        }
        (Err(failure), cancelled) => {
            task.phase = Phase::Ended;
            let news = match cancelled {
                Some(cause) => cancelled_news(cause),
                None => failure_news(failure),
            };
            over(core, now, name, container, news, effects);
        }
    }
    core.set_timer(name);
}

/// All processes of a container have ended.
pub(super) fn exited(
    core: &mut Core,
    now: Timestamp,
    name: &TaskName,
    container: &ContainerId,
    exit: &Exit,
    effects: &mut Vec<Effect>,
) {
    let Some(task) = core.tasks.get_mut(name) else { return };
    if task.phase == Phase::Ended {
        return;
    }
    if task.executor.is_none() && !task.muted {
        updates::freed(core, name, effects);
    }
    let Some(task) = core.tasks.get_mut(name) else { return };
    let never_ran = task.latest == v1::TaskState::TaskStaging;
    let news = match task.phase {
        Phase::Ending(Ending {
            cause, force_at: None, ..
        }) if never_ran => cancelled_news(cause),
        Phase::Ending(ending) => ended_news(ending.cause, exit),
        _ => exit_news(exit),
    };
    task.phase = Phase::Ended;
    over(core, now, name, container, news, effects);
}

/// Reports the last state and lets go of the container.
pub(super) fn over(
    core: &mut Core,
    now: Timestamp,
    name: &TaskName,
    container: &ContainerId,
    news: News,
    effects: &mut Vec<Effect>,
) {
    let member = Member::of(core, name);
    let well = news.state == v1::TaskState::TaskFinished;
    updates::push(core, now, name, news, effects);
    effects.push(Effect::Release(container.clone()));
    core.set_timer(name);
    if let Some(member) = member {
        executors::task_ended(core, now, &member, well, effects);
    }
    end::leave_when_over(core, effects);
}

pub(super) fn cancelled_news(cause: Cause) -> News {
    let (state, reason, message) = cause_status(cause);
    let reason = match cause {
        Cause::Killed => Reason::TaskKilledDuringLaunch,
        _ => reason.unwrap_or(Reason::TaskKilledDuringLaunch),
    };
    News::of(state)
        .by_agent(reason)
        .saying(format!("{message} before it ran"))
}

pub(super) fn ended_news(cause: Cause, exit: &Exit) -> News {
    let (state, reason, message) = cause_status(cause);
    let mut news = News::of(state).saying(format!("{message}; {}", describe(exit)));
    news.reason = reason;
    news
}

pub(super) fn failure_news(failure: LaunchFailure) -> News {
    let (state, reason) = match failure.kind {
        FailureKind::Failed => (v1::TaskState::TaskFailed, Reason::ContainerLaunchFailed),
        FailureKind::Unauthorized => (v1::TaskState::TaskError, Reason::TaskUnauthorized),
        FailureKind::Invalid => (v1::TaskState::TaskError, Reason::TaskInvalid),
    };
    News::of(state).by_agent(reason).saying(failure.message)
}

pub(super) fn exit_news(exit: &Exit) -> News {
    if exit.code == Some(0) {
        return News::of(v1::TaskState::TaskFinished);
    }
    if let Some(oom) = exit.oom {
        return oom_news(oom, exit);
    }
    let mut news = News::of(v1::TaskState::TaskFailed).saying(describe(exit));
    if exit.lost {
        return news.by_agent(Reason::ExecutorTerminated);
    }
    news.reason = Some(Reason::CommandExecutorFailed);
    news
}

fn oom_news(oom: Oom, exit: &Exit) -> News {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let message = format!(
        "out of memory: the limit is {:.1} MiB and {:.1} MiB were used; {}",
        mebibytes(oom.limit_bytes),
        mebibytes(oom.used_bytes),
        describe(exit)
    );
    let mut news = News::of(v1::TaskState::TaskFailed)
        .by_agent(Reason::ContainerLimitationMemory)
        .saying(message);
    let used = v1::Resource {
        name: "mem".into(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar {
            value: (mebibytes(oom.used_bytes) * 1000.0).round() / 1000.0,
        }),
        ..v1::Resource::default()
    };
    news.limitation = Some(v1::TaskResourceLimitation { resources: vec![used] });
    news
}

fn describe(exit: &Exit) -> String {
    match (exit.code, exit.signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("ended by signal {}", signal_name(signal)),
        (None, None) => "ended when its supervisor died; the exit code is not known".into(),
    }
}

fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 15] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (10, "SIGUSR1"),
        (11, "SIGSEGV"),
        (12, "SIGUSR2"),
        (13, "SIGPIPE"),
        (15, "SIGTERM"),
        (31, "SIGSYS"),
    ];
    match NAMES.iter().find(|(number, _)| *number == signal) {
        Some((number, name)) => format!("{number} ({name})"),
        None => signal.to_string(),
    }
}

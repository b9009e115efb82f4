//! Ends tasks: asked by the framework, by a deadline, with the framework, or with the agent.

use std::time::Duration;

use proffer_proto::link::{Kill, Unregister, agent_message};
use proffer_proto::v1;
use proffer_proto::v1::framework_info::capability::Type as Capability;

use super::executors::{self, Member};
use super::task::Ending;
use super::updates::{self, News};
use super::{Core, Effect, Phase, Session, TaskName, Timestamp, cause_status, send};
use crate::checkpoint::record::{self, Cause, Fact};

/// The framework kills a task, or an operator, or the agent is drained.
pub(super) fn kill(core: &mut Core, now: Timestamp, kill: Kill, effects: &mut Vec<Effect>) {
    let name = TaskName {
        framework: kill.framework_id.value,
        task: kill.task_id.value,
    };
    let Some(task) = core.tasks.get(&name) else {
        tracing::debug!(
            framework_id = name.framework,
            task_id = name.task,
            "a kill of a task that is not here"
        );
        return;
    };
    let member = Member::of(core, &name);
    let policy = kill.kill_policy.or(task.info.kill_policy);
    let (mut grace, mut longest) = (grace(policy, core.settings.kill_grace), Duration::MAX);
    let (mut cause, mut of_others) = (Cause::Killed, Cause::GroupEnded);
    if let Some(drain) = kill.drain {
        (cause, of_others) = (Cause::Drained, Cause::Drained);
        let max = drain
            .max_grace_period
            .map(|max| u64::try_from(max.nanoseconds).unwrap_or(0));
        longest = max.map_or(Duration::MAX, Duration::from_nanos);
        grace = grace.min(longest);
    }
    end(core, now, &name, cause, grace, effects);
    if let Some(member) = member {
        executors::end_group(core, now, &member, of_others, longest, effects);
    }
}

/// The framework was removed: end its tasks and forget their updates. The master hears when each is really gone.
pub(super) fn framework_removed(core: &mut Core, now: Timestamp, framework: &str, effects: &mut Vec<Effect>) {
    let names: Vec<TaskName> = core
        .tasks
        .keys()
        .filter(|name| name.framework == framework)
        .cloned()
        .collect();
    for name in names {
        mute(core, now, &name, Cause::FrameworkRemoved, effects);
    }
    executors::shut_all_down(core, now, Some(framework), Cause::FrameworkRemoved, effects);
}

/// The agent may never register again under its id: nobody waits for its tasks.
pub(super) fn gone(core: &mut Core, now: Timestamp, effects: &mut Vec<Effect>) {
    core.id = None;
    effects.push(core.identity());
    let names: Vec<TaskName> = core.tasks.keys().cloned().collect();
    for name in names {
        mute(core, now, &name, Cause::AgentLeaves, effects);
    }
    executors::shut_all_down(core, now, None, Cause::AgentLeaves, effects);
}

/// End all tasks, then leave.
pub(super) fn leave(core: &mut Core, now: Timestamp, effects: &mut Vec<Effect>) {
    core.leaving = true;
    let names: Vec<TaskName> = core.tasks.keys().cloned().collect();
    for name in names {
        let policy = core.tasks.get(&name).and_then(|task| task.info.kill_policy);
        let grace = grace(policy, core.settings.kill_grace);
        end(core, now, &name, Cause::AgentLeaves, grace, effects);
    }
    executors::shut_all_down(core, now, None, Cause::AgentLeaves, effects);
    leave_when_over(core, effects);
}

/// Leaves the cluster once nothing runs any more.
pub(super) fn leave_when_over(core: &mut Core, effects: &mut Vec<Effect>) {
    if !core.leaving || !core.executors.is_empty() || core.tasks.values().any(super::Task::is_alive) {
        return;
    }
    if let Session::Registered(session) = core.session {
        effects.push(send(session, agent_message::Body::Unregister(Unregister {})));
    }
    effects.push(Effect::Stop);
}

/// A deadline of the task may have come.
pub(super) fn expire(core: &mut Core, now: Timestamp, name: &TaskName, effects: &mut Vec<Effect>) {
    let Some(task) = core.tasks.get_mut(name) else { return };
    let overdue = task.completion_deadline().is_some_and(|at| at <= now);
    match &mut task.phase {
        Phase::Ending(ending) if ending.force_at.is_some_and(|at| at <= now) => {
            ending.force_at = None;
            effects.push(Effect::Destroy(task.container.clone()));
        }
        Phase::Running { .. } | Phase::Launching { cancelled: None } if overdue => {
            let grace = grace(task.info.kill_policy, core.settings.kill_grace);
            end(core, now, name, Cause::CompletionTime, grace, effects);
        }
        _ => {}
    }
}

/// The task's health check failed once too often.
pub(super) fn unhealthy(core: &mut Core, now: Timestamp, name: &TaskName, effects: &mut Vec<Effect>) {
    let policy = core.tasks.get(name).and_then(|task| task.info.kill_policy);
    let grace = grace(policy, core.settings.kill_grace);
    end(core, now, name, Cause::Unhealthy, grace, effects);
}

/// The task holds more than its disk: it gets no time to write more.
pub(super) fn disk_exceeded(core: &mut Core, now: Timestamp, name: &TaskName, effects: &mut Vec<Effect>) {
    end(core, now, name, Cause::Disk, Duration::ZERO, effects);
}

fn mute(core: &mut Core, now: Timestamp, name: &TaskName, cause: Cause, effects: &mut Vec<Effect>) {
    let Some(task) = core.tasks.get_mut(name) else { return };
    task.muted = true;
    task.updates.clear();
    task.delivery = Default::default();
    if task.phase == Phase::Ended {
        updates::part(core, now, name, effects);
        return;
    }
    effects.push(Effect::Checkpoint(Fact::Muted(name.clone()).into()));
    let grace = grace(task.info.kill_policy, core.settings.kill_grace);
    end(core, now, name, cause, grace, effects);
}

/// Asks a task to end, and sees to it that it does. A second request can shorten the grace period, not lengthen it.
pub(super) fn end(
    core: &mut Core,
    now: Timestamp,
    name: &TaskName,
    cause: Cause,
    grace: Duration,
    effects: &mut Vec<Effect>,
) {
    let Some(task) = core.tasks.get_mut(name) else { return };
    let force_at = now.after(grace);
    match &mut task.phase {
        Phase::Launching { cancelled } => {
            cancelled.get_or_insert(cause);
            effects.push(checkpoint(name, cause, now));
            effects.push(Effect::Abandon(task.container.clone()));
        }
        Phase::Running { pid } => {
            task.phase = Phase::Ending(Ending {
                pid: *pid,
                cause,
                force_at: Some(force_at),
            });
            effects.push(checkpoint(name, cause, force_at));
            if grace.is_zero() {
                expire(core, now, name, effects);
            } else {
                effects.push(Effect::Terminate(task.container.clone()));
                announce(core, now, name, cause, effects);
            }
        }
        Phase::Ending(ending) if ending.force_at.is_some_and(|at| at > force_at) => {
            ending.force_at = Some(force_at);
            effects.push(checkpoint(name, ending.cause, force_at));
            expire(core, now, name, effects);
        }
        Phase::Recovering { ending } => {
            ending.get_or_insert(Ending {
                pid: 0,
                cause,
                force_at: Some(force_at),
            });
            effects.push(checkpoint(name, cause, force_at));
        }
        Phase::Entrusted { .. } => executors::end_task(core, now, name, cause, grace, effects),
        Phase::Ending(_) | Phase::Ended => {}
    }
    core.set_timer(name);
}

/// Says TASK_KILLING to a framework that understands it.
fn announce(core: &mut Core, now: Timestamp, name: &TaskName, cause: Cause, effects: &mut Vec<Effect>) {
    let Some(framework) = core.frameworks.get(&name.framework) else {
        return;
    };
    if framework
        .capabilities
        .iter()
        .any(|capability| capability.r#type() == Capability::TaskKillingState)
    {
        let (_, reason, message) = cause_status(cause);
        let mut news = News::of(v1::TaskState::TaskKilling).saying(message);
        news.reason = reason;
        updates::push(core, now, name, news, effects);
    }
}

pub(super) fn checkpoint(name: &TaskName, cause: Cause, force_at: Timestamp) -> Effect {
    let ending = record::Ending {
        task: name.clone(),
        force_at: force_at.0,
        cause: cause.into(),
    };
    Effect::Checkpoint(Fact::Ending(ending).into())
}

pub(super) fn grace(policy: Option<v1::KillPolicy>, default: Duration) -> Duration {
    let asked = policy.and_then(|policy| policy.grace_period);
    asked.map_or(default, |grace| {
        Duration::from_nanos(u64::try_from(grace.nanoseconds).unwrap_or(0))
    })
}

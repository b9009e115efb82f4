//! RECONCILE: a framework asks what the master knows of its tasks.
//!
//! | task | agent | answer |
//! |---|---|---|
//! | known | | its latest state |
//! | waits for an operation to be launched | | TASK_STAGING |
//! | waits in a gang | | TASK_STAGING |
//! | unknown | known from the registry, not back since the election | silence: the framework asks again |
//! | unknown | not named, and some agent is not back | silence |
//! | unknown | registered | TASK_GONE |
//! | unknown | unreachable | TASK_UNREACHABLE |
//! | unknown | gone | TASK_GONE_BY_OPERATOR |
//! | unknown | unknown, or not named | TASK_UNKNOWN |
//!
//! A framework that is not PARTITION_AWARE hears TASK_LOST for each of the last four. How many are told at once, see
//! [`crate::retelling`].

use proffer_proto::v1::scheduler::call::Reconcile;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, TaskState, TaskStatus};

use crate::agents::{self, Phase};
use crate::effect::Answer;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::record::Record;
use crate::slots::{AgentSlot, FrameworkSlot, TaskSlot};
use crate::tasks::{self, Task};
use crate::{events, frameworks, gangs, operations, retelling, updates};

/// A scheduler's RECONCILE: of the tasks it names, or of all that have not ended.
pub(crate) fn reconcile(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    call: Reconcile,
) {
    if let Err(why) = retelling::has_room(leading, slot, call.tasks.len()) {
        return step.effects.answer(request, Answer::Exhausted(why));
    }
    step.effects.answer(request, Answer::Accepted);
    if call.tasks.is_empty() {
        for (task, agent) in operations::waiting(leading, slot) {
            let status = waiting(leading, step, task, agent);
            frameworks::send(leading, step, slot, events::update(status));
        }
        retelling::all(leading, step, slot);
    } else {
        retelling::named(leading, step, slot, call.tasks);
    }
}

/// Tells a framework the state of a task if it has not ended.
pub(crate) fn open(leading: &Leading, step: &mut Step<'_>, slot: FrameworkSlot, task: TaskSlot) {
    let state = leading.tasks[task].state();
    // To others an unreachable task is lost, and what is lost has ended.
    let aware = leading.frameworks[slot].partition_aware();
    if !tasks::is_terminal(state) && (aware || state != TaskState::TaskUnreachable) {
        let status = known(leading, step, task);
        frameworks::send(leading, step, slot, events::update(status));
    }
}

fn waiting(leading: &Leading, step: &Step<'_>, task: &v1::TaskId, agent: AgentSlot) -> TaskStatus {
    let (state, reason) = (TaskState::TaskStaging, Some(Reason::Reconciliation));
    TaskStatus {
        agent_id: Some(leading.agents[agent].id.clone()),
        ..updates::by_master(step.now, task, state, reason, "the latest state of the task")
    }
}

/// Tells a framework what is known of one task.
pub(crate) fn one(
    leading: &Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    task_id: &v1::TaskId,
    agent_id: Option<&v1::AgentId>,
) {
    named(leading, step, slot, task_id, agent_id, &mut None);
}

/// As [`one`]; `recovering` remembers whether some agent is not back since the election, for many tasks in one step.
pub(crate) fn named(
    leading: &Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    task_id: &v1::TaskId,
    agent_id: Option<&v1::AgentId>,
    recovering: &mut Option<bool>,
) {
    let framework = &leading.frameworks[slot];
    let status = if let Some(task) = framework.tasks.get(task_id) {
        Some(known(leading, step, *task))
    } else if let Some(ended) = framework.completed.get(task_id) {
        Some(of_record(step, ended, ended.state()))
    } else if let Some((task, agent)) = operations::waiting(leading, slot).find(|(task, _)| *task == task_id) {
        Some(waiting(leading, step, task, agent))
    } else if let Some(waiting) = gangs::status(leading, step, slot, task_id) {
        Some(waiting)
    } else {
        unknown(leading, step, slot, task_id, agent_id, recovering)
    };
    if let Some(status) = status {
        frameworks::send(leading, step, slot, events::update(status));
    }
}

fn known(leading: &Leading, step: &Step<'_>, slot: TaskSlot) -> TaskStatus {
    let task: &Task = &leading.tasks[slot];
    if task.state() == TaskState::TaskUnreachable
        && let Some(since) = agents::unreachable_since(&leading.agents[task.agent])
    {
        return TaskStatus {
            reason: Some(Reason::Reconciliation as i32),
            ..tasks::unreachable_status(leading, step.now, slot, since)
        };
    }
    // What the framework was told last, so that it never hears of states in another order than the task went through.
    of_record(step, &task.record, task.record.told().unwrap_or(task.state()))
}

fn of_record(step: &Step<'_>, record: &Record, state: TaskState) -> TaskStatus {
    let mut task = record.task();
    let latest = task.statuses.pop().unwrap_or_default();
    TaskStatus {
        agent_id: Some(task.agent_id),
        executor_id: task.executor_id,
        healthy: latest.healthy,
        check_status: latest.check_status,
        container_status: latest.container_status,
        ..updates::by_master(
            step.now,
            &task.task_id,
            state,
            Some(Reason::Reconciliation),
            "the latest state of the task",
        )
    }
}

fn unknown(
    leading: &Leading,
    step: &Step<'_>,
    slot: FrameworkSlot,
    task_id: &v1::TaskId,
    agent_id: Option<&v1::AgentId>,
    recovering: &mut Option<bool>,
) -> Option<TaskStatus> {
    let agent = agent_id.and_then(|id| leading.agent_ids.get(id));
    let agent = agent.map(|agent| &leading.agents[*agent]);
    let mut since = None;
    let (state, message) = match (agent_id, agent.map(|agent| &agent.phase)) {
        (_, Some(Phase::Recovered)) => return None,
        (_, Some(Phase::Attached(_) | Phase::Disconnected)) => {
            (TaskState::TaskGone, "the agent does not know the task")
        }
        (_, Some(Phase::Unreachable { since: at })) => {
            since = Some(*at);
            (TaskState::TaskUnreachable, "the agent is unreachable")
        }
        (Some(id), None) if step.registry.is_gone(id) => (
            TaskState::TaskGoneByOperator,
            "the agent was marked gone by an operator",
        ),
        (Some(_), None) => (TaskState::TaskUnknown, "neither the task nor the agent is known"),
        (None, None) => {
            let find = || leading.agents.iter().any(|(_, agent)| agent.phase == Phase::Recovered);
            if *recovering.get_or_insert_with(find) {
                return None;
            }
            (TaskState::TaskUnknown, "the task is not known")
        }
    };
    let state = tasks::told(state, leading.frameworks[slot].partition_aware());
    Some(TaskStatus {
        agent_id: agent_id.cloned(),
        unreachable_time: since.map(|at| v1::TimeInfo {
            nanoseconds: at.as_nanos_i64(),
        }),
        ..updates::by_master(step.now, task_id, state, Some(Reason::Reconciliation), message)
    })
}

//! What agents tell of tasks, and what the master tells of them by itself.
//!
//! An update of an agent carries a uuid and comes again until it is acknowledged; the master passes both on. Updates that
//! the master makes have no uuid and are sent once: who misses one asks by RECONCILE.

use proffer_proto::link::{self, agent_message, master_message};
use proffer_proto::v1::task_status::{Reason, Source};
use proffer_proto::v1::{self, TaskState, TaskStatus};
use proffer_proto::{Rejection, v1::scheduler};

use crate::agents;
use crate::effect::Answer;
use crate::input::{ConnectionId, RequestId};
use crate::master::{Leading, Step};
use crate::operations::feedback;
use crate::slots::{AgentSlot, FrameworkSlot};
use crate::tasks::Lent;
use crate::time::Timestamp;
use crate::{events, executors, frameworks, gangs, remnants, tasks};

/// How many bytes a uuid has.
const UUID_BYTES: usize = 16;

/// A status that the master makes.
pub(crate) fn by_master(
    now: Timestamp,
    task_id: &v1::TaskId,
    state: TaskState,
    reason: Option<Reason>,
    message: &str,
) -> TaskStatus {
    TaskStatus {
        task_id: task_id.clone(),
        state: state as i32,
        message: Some(message.to_owned()),
        timestamp: Some(now.as_secs_f64()),
        source: Some(Source::Master as i32),
        reason: reason.map(|reason| reason as i32),
        ..TaskStatus::default()
    }
}

/// Any message of an attached agent but its Register.
pub(crate) fn agent_message(
    leading: &mut Leading,
    step: &mut Step<'_>,
    connection: ConnectionId,
    message: link::AgentMessage,
) {
    let slot = leading.connections.get(&connection).copied();
    let body = match (message.body, slot) {
        (Some(agent_message::Body::Register(again)), _) => {
            return agents::register(leading, step, connection, again, String::new());
        }
        (Some(body), Some(Some(slot))) => (body, slot),
        _ => return,
    };
    let (body, slot) = body;
    agents::heard(leading, slot);
    match body {
        agent_message::Body::StatusUpdate(update) => status_update(leading, step, slot, update),
        agent_message::Body::Freed(task) => freed(leading, slot, &task),
        agent_message::Body::ExecutorMessage(message) => {
            let id = leading.agents[slot].id.clone();
            let event = events::message(id, message.executor_id, message.data);
            send(leading, step, &message.framework_id, event);
        }
        agent_message::Body::ExecutorExited(exited) => executors::exited(leading, step, slot, exited),
        agent_message::Body::Unregister(_) => agents::leave(leading, step, slot, connection),
        agent_message::Body::Resources(resources) => {
            agents::resize(leading, step, slot, connection, resources.total);
        }
        agent_message::Body::LayoutApplied(applied) => feedback::applied(leading, step, slot, applied),
        agent_message::Body::Pong(_) | agent_message::Body::Register(_) => {}
    }
}

fn send(leading: &Leading, step: &mut Step<'_>, id: &v1::FrameworkId, event: scheduler::Event) {
    if let Some(framework) = leading.framework_ids.get(id) {
        frameworks::send(leading, step, *framework, event);
    }
}

/// The head of a task's queue of updates.
fn status_update(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot, update: link::StatusUpdate) {
    let Some(update) = remnants::update(leading, step, agent, update) else {
        return;
    };
    let Some(&framework) = leading.framework_ids.get(&update.framework_id) else {
        // Removed, or never here: the agent has missed that.
        return frameworks::shut_down(leading, step, agent, &update.framework_id);
    };
    let latest = update.latest_state();
    let mut status = update.status;
    status.agent_id = Some(leading.agents[agent].id.clone());
    status.timestamp = status.timestamp.or(Some(step.now.as_secs_f64()));
    let known = leading.frameworks[framework].tasks.get(&status.task_id).copied();
    let Some(slot) = known.filter(|slot| leading.tasks[*slot].agent == agent) else {
        return unknown_task(leading, step, framework, agent, status);
    };
    let task = &mut leading.tasks[slot];
    task.reported = true;
    task.advance(latest);
    let called_back = task.preempted || task.lent == Some(Lent::CalledBack);
    if called_back && status.state() == TaskState::TaskKilled {
        // The agent does not know why.
        status.reason = Some(Reason::ContainerPreempted as i32);
    }
    task.record.tell(Some(status.state), status.uuid.clone());
    task.record(&status);
    task.pending = Some(Box::new(status.clone()));
    if tasks::is_terminal(latest) {
        tasks::release(leading, slot);
    }
    frameworks::send(leading, step, framework, events::update(status));
    gangs::advanced(leading, step, slot);
}

/// The container of a task has gone; its last state follows.
fn freed(leading: &mut Leading, agent: AgentSlot, freed: &link::Freed) {
    let framework = leading.framework_ids.get(&freed.framework_id);
    let task = framework.and_then(|slot| leading.frameworks[*slot].tasks.get(&freed.task_id));
    if let Some(&slot) = task.filter(|slot| leading.tasks[**slot].agent == agent) {
        tasks::release(leading, slot);
    }
}

/// An update of a task that is forgotten, or that is known on another agent. What was forgotten was acknowledged, so the
/// acknowledgement did not reach the agent; of what was never known the framework decides.
fn unknown_task(
    leading: &Leading,
    step: &mut Step<'_>,
    framework: FrameworkSlot,
    agent: AgentSlot,
    status: TaskStatus,
) {
    if leading.frameworks[framework].completed.contains(&status.task_id) {
        if let (Some(connection), Some(uuid)) = (leading.agents[agent].connection(), status.uuid) {
            let acknowledge = link::Acknowledge {
                framework_id: leading.frameworks[framework].id.clone(),
                task_id: status.task_id,
                uuid,
            };
            step.effects
                .send_agent(connection, master_message::Body::Acknowledge(acknowledge));
        }
        return;
    }
    frameworks::send(leading, step, framework, events::update(status));
}

/// A scheduler's ACKNOWLEDGE.
pub(crate) fn acknowledge(
    leading: &mut Leading,
    step: &mut Step<'_>,
    framework: FrameworkSlot,
    request: RequestId,
    call: scheduler::call::Acknowledge,
) {
    match check_acknowledge(leading, framework, &call) {
        Ok(()) => step.effects.answer(request, Answer::Accepted),
        Err(rejection) => {
            let rejection = rejection.within("acknowledge");
            return step.effects.answer(request, Answer::Rejected(rejection));
        }
    }
    let Some(&agent) = leading.agent_ids.get(&call.agent_id) else {
        return;
    };
    let task = leading.frameworks[framework].tasks.get(&call.task_id).copied();
    if let Some(task) = task.map(|task| &leading.tasks[task])
        && task.is_acknowledged(&call.uuid)
        && task.record.unacknowledged() != Some(&call.uuid)
    {
        // The agent was told, and has not sent the update again since.
        return;
    }
    let Some(connection) = leading.agents[agent].connection() else {
        // The agent will send the update again when it is back.
        return;
    };
    let acknowledge = link::Acknowledge {
        framework_id: leading.frameworks[framework].id.clone(),
        task_id: call.task_id,
        uuid: call.uuid.clone(),
    };
    step.effects
        .send_agent(connection, master_message::Body::Acknowledge(acknowledge));
    let Some(task) = task else { return };
    let state = &mut leading.tasks[task];
    let ended = state.record.told().is_some_and(tasks::is_terminal);
    state.pending = None;
    state.record.acknowledge();
    state.acknowledged = call.uuid.try_into().ok();
    if ended {
        tasks::complete(leading, step, task);
    }
}

/// A task that is not known, or an agent that is not here, is no fault of the caller: the master may be new.
fn check_acknowledge(
    leading: &Leading,
    framework: FrameworkSlot,
    call: &scheduler::call::Acknowledge,
) -> Result<(), Rejection> {
    if call.uuid.len() != UUID_BYTES {
        let problem = format!("has {} bytes", call.uuid.len());
        return Err(Rejection::new(
            "uuid",
            problem,
            "the 16 bytes of the update's `status.uuid`",
        ));
    }
    let Some(task) = leading.frameworks[framework].tasks.get(&call.task_id) else {
        return Ok(());
    };
    let task = &leading.tasks[*task];
    let agent = &leading.agents[task.agent];
    if agent.id != call.agent_id {
        let problem = format!("is {:?}, but the task is on another agent", call.agent_id.value);
        return Err(Rejection::new("agent_id", problem, format!("{:?}", agent.id.value)));
    }
    let known = task.record.unacknowledged() == Some(&call.uuid) || task.is_acknowledged(&call.uuid);
    if !known && agent.connection().is_some() && task.reported {
        let accepted = "the `status.uuid` of the task's update that was sent last";
        return Err(Rejection::new("uuid", "names no update that waits", accepted));
    }
    Ok(())
}

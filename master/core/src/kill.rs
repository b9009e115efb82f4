//! KILL, from a scheduler or an operator.

use proffer_proto::v1::scheduler::call::Kill;
use proffer_proto::v1::{self, KillPolicy};
use proffer_proto::{Rejection, link};

use crate::accept::validate;
use crate::effect::Answer;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::slots::{FrameworkSlot, TaskSlot};
use crate::{frameworks, gangs, operations, reconcile, tasks};

/// A scheduler's KILL. A task that waits for an operation is not launched any more; one that is not known is answered as if the scheduler had asked for its state.
pub(crate) fn kill(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot, request: RequestId, call: Kill) {
    if let Err(rejection) = check(call.kill_policy.as_ref()) {
        return step.effects.answer(request, Answer::Rejected(rejection.within("kill")));
    }
    let Some(&task) = leading.frameworks[slot].tasks.get(&call.task_id) else {
        step.effects.answer(request, Answer::Accepted);
        if operations::kill(leading, step, slot, &call.task_id) || gangs::withdraw(leading, step, slot, &call.task_id) {
            return;
        }
        return reconcile::one(leading, step, slot, &call.task_id, call.agent_id.as_ref());
    };
    let agent = &leading.agents[leading.tasks[task].agent];
    if let Some(named) = call.agent_id.filter(|named| *named != agent.id) {
        let problem = format!("is {:?}, but the task is on another agent", named.value);
        let rejection = Rejection::new("kill.agent_id", problem, format!("{:?}, or none", agent.id.value));
        return step.effects.answer(request, Answer::Rejected(rejection));
    }
    step.effects.answer(request, Answer::Accepted);
    if tasks::is_terminal(leading.tasks[task].state()) {
        return reconcile::one(leading, step, slot, &call.task_id, None);
    }
    deliver(leading, step, task, call.kill_policy);
}

/// An operator's KILL_TASK.
pub(crate) fn by_operator(
    leading: &mut Leading,
    step: &mut Step<'_>,
    request: RequestId,
    call: v1::master::call::KillTask,
) {
    match find(leading, step, &call) {
        Ok(task) => {
            step.effects.answer(request, Answer::Accepted);
            deliver(leading, step, task, call.kill_policy);
        }
        Err(rejection) => {
            let rejection = rejection.within("kill_task");
            step.effects.answer(request, Answer::Rejected(rejection));
        }
    }
}

fn find(leading: &Leading, step: &Step<'_>, call: &v1::master::call::KillTask) -> Result<TaskSlot, Rejection> {
    check(call.kill_policy.as_ref())?;
    let framework = frameworks::find(leading, step, &call.framework_id)?;
    match leading.frameworks[framework].tasks.get(&call.task_id) {
        Some(task) if !tasks::is_terminal(leading.tasks[*task].state()) => Ok(*task),
        _ => {
            let problem = format!(
                "is {:?}, which names no running task of the framework",
                call.task_id.value
            );
            Err(Rejection::new(
                "task_id",
                problem,
                "the id of a task that has not ended",
            ))
        }
    }
}

fn check(policy: Option<&KillPolicy>) -> Result<(), Rejection> {
    let grace = policy.and_then(|policy| policy.grace_period.as_ref());
    validate::duration(grace, "kill_policy.grace_period.nanoseconds")
}

/// Tells the agent, now or when it is back.
pub(crate) fn deliver(leading: &mut Leading, step: &mut Step<'_>, slot: TaskSlot, kill_policy: Option<KillPolicy>) {
    let task = &mut leading.tasks[slot];
    let Some(connection) = leading.agents[task.agent].connection() else {
        task.kill = Some(Box::new(kill_policy));
        return;
    };
    let kill = link::Kill {
        framework_id: leading.frameworks[task.framework].id.clone(),
        task_id: task.record.id(),
        kill_policy,
        drain: None,
    };
    step.effects
        .send_agent(connection, link::master_message::Body::Kill(kill));
}

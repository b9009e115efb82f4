//! What a status update means to the plan.

use proffer_sdk::proto::v1::task_status::Reason;
use proffer_sdk::proto::v1::{CheckStatusInfo, TaskState, TaskStatus};

use crate::plan::{News, Observed, Verdicts};

/// What a status update means to the plan.
pub(super) fn news(status: TaskStatus) -> News {
    News {
        state: match is_draining(&status) {
            // It is no fault of its own.
            true if status.state() == TaskState::TaskKilled => Observed::Vanished,
            _ => observed(status.state()),
        },
        message: end_message(&status),
        verdicts: Verdicts {
            healthy: status.healthy,
            ready: status.check_status.as_ref().and_then(succeeded),
        },
        task_id: status.task_id.value,
        agent_id: status.agent_id.map(|id| id.value),
    }
}

/// Whether a task ends because its agent is going to be taken away.
pub(super) fn is_draining(status: &TaskStatus) -> bool {
    status.reason.is_some() && status.reason() == Reason::AgentDraining
}

fn observed(state: TaskState) -> Observed {
    use TaskState::*;
    match state {
        TaskStaging | TaskStarting => Observed::Starting,
        TaskRunning | TaskKilling => Observed::Running,
        TaskUnreachable => Observed::Unreachable,
        TaskFinished | TaskFailed | TaskKilled | TaskError => Observed::Ended,
        // The master does not know the agent of an unknown task: nobody will ever hear of it again.
        TaskLost | TaskDropped | TaskGone | TaskGoneByOperator | TaskUnknown => Observed::Vanished,
    }
}

/// Whether a check got the answer that it is for; nothing before its first answer.
fn succeeded(check: &CheckStatusInfo) -> Option<bool> {
    let command = check.command.as_ref().map(|command| command.exit_code == Some(0));
    let http = check.http.as_ref();
    let http = http.map(|http| http.status_code.is_some_and(|status| (200..400).contains(&status)));
    let tcp = check.tcp.as_ref().map(|tcp| tcp.succeeded == Some(true));
    let grpc = check.grpc.as_ref().map(|grpc| grpc.serving == Some(true));
    command.or(http).or(tcp).or(grpc)
}

/// What is shown of the end of a task.
fn end_message(status: &TaskStatus) -> String {
    match status.message.as_deref().filter(|message| !message.is_empty()) {
        Some(message) => format!("{}: {message}", status.state().as_str_name()),
        None => status.state().as_str_name().to_owned(),
    }
}

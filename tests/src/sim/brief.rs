//! Messages in a few words, for the history.

use proffer_master_core::Input;
use proffer_proto::link::{agent_message, master_message};
use proffer_proto::registry::{Change, change};
use proffer_proto::v1::scheduler::Event as SchedulerEvent;

pub(crate) fn brief(body: &master_message::Body) -> String {
    use master_message::Body;
    match body {
        Body::Registered(registered) => format!("registered {}", registered.agent_id),
        Body::Rejected(rejected) => format!("rejected: {}", rejected.message),
        Body::Launch(launch) => {
            let ids: Vec<_> = launch.tasks.iter().map(|task| task.task_id.value.as_str()).collect();
            format!("launch {} of {}", ids.join(" "), launch.framework.name)
        }
        Body::Kill(kill) => format!("kill {} of {}", kill.task_id, kill.framework_id),
        Body::Acknowledge(ack) => format!("acknowledge {} of {}", ack.task_id, ack.framework_id),
        Body::ShutdownFramework(shutdown) => format!("shut down {}", shutdown.framework_id),
        Body::Ping(ping) => format!("ping {}", ping.sequence),
        Body::FrameworkMessage(_) => "message".to_owned(),
        Body::ShutdownExecutor(_) => "shut down an executor".to_owned(),
        Body::UpdateFramework(_) => "update framework".to_owned(),
        Body::Layout(layout) => format!("layout {}", layout.version),
    }
}

pub(crate) fn brief_event(event: &SchedulerEvent) -> String {
    if let Some(update) = &event.update {
        return format!(
            "UPDATE {} {:?} {:?}",
            update.status.task_id,
            update.status.state(),
            update.status.message()
        );
    }
    if let Some(offers) = &event.offers {
        let ids: Vec<_> = offers.offers.iter().map(|offer| offer.id.value.as_str()).collect();
        return format!("OFFERS {}", ids.join(" "));
    }
    if let Some(update) = &event.update_operation_status {
        let id = update.status.operation_id.as_ref().map_or("", |id| &id.value);
        return format!("OPERATION {id} {:?}", update.status.state());
    }
    if let Some(error) = &event.error {
        return format!("ERROR {}", error.message);
    }
    format!("{:?}", event.r#type())
}

pub(crate) fn brief_input(input: &Input) -> String {
    match input {
        Input::AgentRegister {
            connection, register, ..
        } => {
            format!(
                "register {connection} {:?} {} tasks",
                register.agent.id.as_ref().map(|id| &id.value),
                register.tasks.len()
            )
        }
        Input::AgentMessage { connection, message } => match &message.body {
            Some(agent_message::Body::StatusUpdate(update)) => {
                format!(
                    "{connection} update {} {:?}",
                    update.status.task_id,
                    update.status.state()
                )
            }
            Some(agent_message::Body::Freed(freed)) => format!("{connection} freed {}", freed.task_id),
            _ => format!("{connection} message"),
        },
        Input::AgentDisconnected { connection } => format!("{connection} disconnected"),
        Input::SchedulerDisconnected { stream } => format!("{stream} disconnected"),
        Input::Subscribe { stream, call, .. } => {
            format!(
                "subscribe {stream} {:?}",
                call.framework_id.as_ref().map(|id| &id.value)
            )
        }
        Input::Tick => "tick".to_owned(),
        other => format!("{other:?}").chars().take(80).collect(),
    }
}

pub(crate) fn brief_change(change: &Change) -> String {
    match &change.body {
        Some(change::Body::AdmitAgent(admit)) => format!("admit {:?}", admit.agent.id),
        Some(change::Body::UpdateAgent(update)) => format!("update {:?}", update.agent.id),
        Some(change::Body::PutFramework(put)) => format!("put {:?}", put.framework.id),
        other => format!("{other:?}").chars().take(160).collect(),
    }
}

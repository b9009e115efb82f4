//! Delivers a task's states: in order, at least once, one in flight, until acknowledged.

use std::time::Duration;

use proffer_proto::link::{Acknowledge, Freed, StatusUpdate, agent_message};
use proffer_proto::v1;

use super::task::{Delivery, is_terminal};
use super::{Core, Effect, Session, TaskName, Timestamp, send};
use crate::checkpoint::image::remember;
use crate::checkpoint::record::{Fact, Update};

const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What is to be said about a task.
#[derive(Clone)]
pub(super) struct News {
    pub(super) state: v1::TaskState,
    pub(super) source: v1::task_status::Source,
    pub(super) reason: Option<v1::task_status::Reason>,
    pub(super) message: Option<String>,
    pub(super) limitation: Option<v1::TaskResourceLimitation>,
}

impl News {
    pub(super) fn of(state: v1::TaskState) -> Self {
        let source = v1::task_status::Source::Executor;
        Self {
            state,
            source,
            reason: None,
            message: None,
            limitation: None,
        }
    }

    pub(super) fn by_agent(mut self, reason: v1::task_status::Reason) -> Self {
        self.source = v1::task_status::Source::Agent;
        self.reason = Some(reason);
        self
    }

    pub(super) fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

/// Appends an update to the task's queue. A terminal one of a task for which nobody waits forgets the task.
pub(super) fn push(core: &mut Core, now: Timestamp, name: &TaskName, news: News, effects: &mut Vec<Effect>) {
    if hush(core, now, name, news.state, effects) {
        return;
    }
    let Some(task) = core.tasks.get(name) else { return };
    let mut status = status(task, name, news, now, core.ids.update(), &core.settings.agent.hostname);
    core.checks.describe(name, &mut status);
    push_status(core, now, name, status, effects);
}

/// Says that a task's container is gone, which does not depend on what is on disk.
pub(super) fn freed(core: &Core, name: &TaskName, effects: &mut Vec<Effect>) {
    let Session::Registered(session) = core.session else {
        return;
    };
    let freed = Freed {
        framework_id: v1::FrameworkId {
            value: name.framework.clone(),
        },
        task_id: v1::TaskId {
            value: name.task.clone(),
        },
    };
    effects.push(send(session, agent_message::Body::Freed(freed)));
}

/// Whether nobody waits for the task's updates; its end forgets it.
pub(super) fn hush(
    core: &mut Core,
    now: Timestamp,
    name: &TaskName,
    state: v1::TaskState,
    effects: &mut Vec<Effect>,
) -> bool {
    let Some(task) = core.tasks.get_mut(name) else {
        return true;
    };
    task.latest = state;
    let muted = task.muted;
    if muted && is_terminal(state) {
        part(core, now, name, effects);
    }
    muted
}

/// Appends an update that is complete.
pub(super) fn push_status(
    core: &mut Core,
    now: Timestamp,
    name: &TaskName,
    status: v1::TaskStatus,
    effects: &mut Vec<Effect>,
) {
    let Some(task) = core.tasks.get_mut(name) else { return };
    let state = status.state();
    tracing::info!(
        framework_id = name.framework, task_id = name.task, container_id = %task.container,
        state = state.as_str_name(), message = status.message.as_deref(), "task changed"
    );
    let update = Update {
        framework: name.framework.clone(),
        status: status.clone(),
    };
    let record = Fact::Update(update).into();
    effects.push(match is_terminal(state) {
        true => Effect::Checkpoint(record),
        false => Effect::Write(record),
    });
    task.updates.push_back(status);
    // A terminal state frees the task's resources at the master: it rides on the head that is in flight.
    if task.updates.len() == 1 || is_terminal(state) {
        task.delivery = Delivery::default();
        send_head(core, now, name, effects);
    }
    core.set_timer(name);
}

/// Parts with a muted task whose container is gone. A master that has the task in its books, because it sent the end of the
/// framework or heard of the task in Register, is told so once, without waiting for an acknowledgement: until then it keeps
/// the task's resources back. While it has not answered Register the task is kept for [`part_with_ended`].
pub(super) fn part(core: &mut Core, now: Timestamp, name: &TaskName, effects: &mut Vec<Effect>) {
    let session = match core.session {
        Session::Registering(_) => return,
        Session::Registered(session) => Some(session),
        Session::None => None,
    };
    if let (Some(session), Some(task)) = (session, core.tasks.get(name)) {
        let news = News::of(v1::TaskState::TaskKilled)
            .by_agent(v1::task_status::Reason::FrameworkRemoved)
            .saying("framework removed");
        let update = StatusUpdate {
            framework_id: v1::FrameworkId {
                value: name.framework.clone(),
            },
            latest_state: news.state.into(),
            status: status(task, name, news, now, core.ids.update(), &core.settings.agent.hostname),
        };
        effects.push(send(session, agent_message::Body::StatusUpdate(update)));
    }
    core.forget(name, effects);
}

/// Parts with the muted tasks that ended while a master had not answered Register.
pub(super) fn part_with_ended(core: &mut Core, now: Timestamp, effects: &mut Vec<Effect>) {
    let ended = core.tasks.iter().filter(|(_, task)| task.muted && !task.is_alive());
    for name in ended.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
        part(core, now, &name, effects);
    }
}

/// The head of the queue was acknowledged: forget it, send the next, forget a task that is over.
pub(super) fn acknowledge(core: &mut Core, now: Timestamp, acknowledge: Acknowledge, effects: &mut Vec<Effect>) {
    let name = TaskName {
        framework: acknowledge.framework_id.value,
        task: acknowledge.task_id.value,
    };
    let Some(task) = core.tasks.get_mut(&name) else { return };
    let head = task.updates.front().and_then(|status| status.uuid.as_deref());
    if head != Some(&acknowledge.uuid) {
        tracing::debug!(
            framework_id = name.framework,
            task_id = name.task,
            "acknowledgement of another update"
        );
        return;
    }
    let head = task.updates.pop_front();
    let over = head.as_ref().is_some_and(|status| is_terminal(status.state()));
    if let (Some(_), Some(uuid)) = (&task.executor, head.and_then(|status| status.uuid)) {
        remember(&mut task.seen, uuid);
    }
    if over {
        core.forget(&name, effects);
        return;
    }
    effects.push(Effect::Note(Fact::Acknowledged(name.clone()).into()));
    task.delivery = Delivery::default();
    send_head(core, now, &name, effects);
    core.set_timer(&name);
}

/// Sends the head again when it is due.
pub(super) fn retry(core: &mut Core, now: Timestamp, name: &TaskName, effects: &mut Vec<Effect>) {
    let due = |task: &super::Task| task.delivery.retry_at.is_some_and(|at| at <= now);
    if core.tasks.get(name).is_some_and(due) {
        send_head(core, now, name, effects);
    }
}

/// Sends every head: the agent has just registered.
pub(super) fn send_all(core: &mut Core, now: Timestamp, effects: &mut Vec<Effect>) {
    let names: Vec<TaskName> = core.tasks.keys().cloned().collect();
    for name in names {
        if let Some(task) = core.tasks.get_mut(&name) {
            task.delivery = Delivery::default();
        }
        send_head(core, now, &name, effects);
        core.set_timer(&name);
    }
}

fn send_head(core: &mut Core, now: Timestamp, name: &TaskName, effects: &mut Vec<Effect>) {
    let Session::Registered(session) = core.session else {
        return;
    };
    let Some(task) = core.tasks.get_mut(name) else { return };
    let Some(status) = task.updates.front() else { return };
    let update = StatusUpdate {
        framework_id: v1::FrameworkId {
            value: name.framework.clone(),
        },
        status: status.clone(),
        latest_state: task.latest.into(),
    };
    effects.push(send(session, agent_message::Body::StatusUpdate(update)));
    let wait = RETRY_MIN
        .saturating_mul(1 << task.delivery.attempts.min(10))
        .min(RETRY_MAX);
    task.delivery = Delivery {
        attempts: task.delivery.attempts + 1,
        retry_at: Some(now.after(wait)),
    };
}

fn status(
    task: &super::Task,
    name: &TaskName,
    news: News,
    now: Timestamp,
    id: [u8; 16],
    hostname: &str,
) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id: task.info.task_id.clone(),
        state: news.state.into(),
        message: news.message,
        agent_id: Some(task.info.agent_id.clone()),
        timestamp: Some(now.seconds()),
        executor_id: Some(v1::ExecutorId {
            value: task.executor.clone().unwrap_or_else(|| name.task.clone()),
        }),
        source: Some(news.source.into()),
        reason: news.reason.map(Into::into),
        uuid: Some(id.to_vec()),
        container_status: Some(container_status(hostname, task)),
        limitation: news.limitation,
        ..v1::TaskStatus::default()
    }
}

pub(super) fn container_status(hostname: &str, task: &super::Task) -> v1::ContainerStatus {
    // Command tasks share the host's network: their address is the agent's.
    let address = v1::network_info::IpAddress {
        ip_address: Some(hostname.to_owned()),
        ..Default::default()
    };
    let network = hostname.parse::<std::net::IpAddr>().is_ok().then(|| v1::NetworkInfo {
        ip_addresses: vec![address],
        ..Default::default()
    });
    v1::ContainerStatus {
        network_infos: network.into_iter().collect(),
        executor_pid: task.pid(),
        container_id: Some(task.container.to_wire()),
        ..v1::ContainerStatus::default()
    }
}

//! Hears executors, and speaks to them.

use std::time::Duration;

use proffer_proto::link::{ExecutorMessage, FrameworkMessage, agent_message};
use proffer_proto::v1;
use proffer_proto::v1::executor::{Call, Event, call, event};

use super::super::task::{Given, Kill, is_terminal};
use super::super::{Core, Effect, ExecutorName, Phase as TaskPhase, Session, TaskName, Timestamp, run, send, updates};
use super::{Executor, Member, Phase, end, task_name};
use crate::checkpoint::record::Cause;

/// How many bytes the uuid of an update has.
const UUID_BYTES: usize = 16;

/// A call that came over the wire.
#[derive(Debug, Clone)]
pub struct ExecutorCall {
    /// To be answered.
    pub request: u64,
    /// The event stream that a SUBSCRIBE opens.
    pub stream: Option<u64>,
    /// What the caller shows as its secret.
    pub token: String,
    /// The call.
    pub call: Call,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind, on which the status code depends.
    pub kind: RefusalKind,
    /// What is wrong, and what would be accepted.
    pub message: String,
}

/// The kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The caller does not show the token of the executor. HTTP 401.
    Unauthenticated,
    /// The executor is not subscribed. HTTP 403.
    NotSubscribed,
    /// The call is wrong. HTTP 400.
    Invalid,
}

/// An executor called.
pub(in crate::core) fn call(core: &mut Core, now: Timestamp, incoming: ExecutorCall, effects: &mut Vec<Effect>) {
    let request = incoming.request;
    if let Err(refusal) = dispatch(core, now, incoming, effects) {
        effects.push(Effect::Answer(request, Err(refusal)));
    }
}

/// Answers by itself, except where this returns an error.
fn dispatch(core: &mut Core, now: Timestamp, incoming: ExecutorCall, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
    use call::Type;
    let ExecutorCall {
        request,
        stream,
        token,
        call,
    } = incoming;
    let kind = call.r#type();
    let name = ExecutorName {
        framework: call.framework_id.value,
        executor: call.executor_id.value,
    };
    let executor = core.executors.get(&name).filter(|executor| shows(&token, executor));
    let Some(executor) = executor else {
        let message = "`authorization` does not hold the token of this executor; accepted: `Bearer` and the value of \
                       MESOS_EXECUTOR_AUTHENTICATION_TOKEN, while the executor lives";
        return Err(refusal(RefusalKind::Unauthenticated, message));
    };
    if kind != Type::Subscribe && !executor.is_subscribed() {
        let message = "the executor is not subscribed: it must SUBSCRIBE before it calls";
        return Err(refusal(RefusalKind::NotSubscribed, message));
    }
    let missing = |field: &str| {
        invalid(format!(
            "`{field}` is missing; accepted: a value; the field is required"
        ))
    };
    match kind {
        Type::Subscribe => {
            let Some(stream) = stream else {
                return Err(invalid("`type` is SUBSCRIBE, which opens a stream of its own".into()));
            };
            let subscribe = call.subscribe.unwrap_or_default();
            effects.push(Effect::Answer(request, Ok(())));
            subscribed(core, now, &name, stream, subscribe, effects);
        }
        Type::Update => {
            let update = call.update.ok_or_else(|| missing("update"))?;
            take(core, now, &name, update.status, effects)?;
            effects.push(Effect::Answer(request, Ok(())));
        }
        Type::Message => {
            let message = call.message.ok_or_else(|| missing("message"))?;
            effects.push(Effect::Answer(request, Ok(())));
            if let Session::Registered(session) = core.session {
                let message = ExecutorMessage {
                    framework_id: name.framework.into(),
                    executor_id: name.executor.into(),
                    data: message.data,
                };
                effects.push(send(session, agent_message::Body::ExecutorMessage(message)));
            }
        }
        Type::Heartbeat => effects.push(Effect::Answer(request, Ok(()))),
        Type::Unknown => {
            let message = "`type` is missing, or UNKNOWN; accepted: SUBSCRIBE, UPDATE, MESSAGE or HEARTBEAT";
            return Err(invalid(message.into()));
        }
    }
    Ok(())
}

/// In the same time for every wrong token. A pod has none.
fn shows(token: &str, executor: &Executor) -> bool {
    let (shown, own) = (token.as_bytes(), executor.token.as_bytes());
    let differ = shown
        .iter()
        .zip(own)
        .fold(0, |differ, (shown, own)| differ | (shown ^ own));
    !executor.is_pod() && shown.len() == own.len() && differ == 0
}

/// The executor is here, again or for the first time: it hears what it has missed.
fn subscribed(
    core: &mut Core,
    now: Timestamp,
    name: &ExecutorName,
    stream: u64,
    subscribe: call::Subscribe,
    effects: &mut Vec<Effect>,
) {
    let agent_info = core.agent_info();
    let framework_info = core.frameworks.get(&name.framework).cloned().unwrap_or_default();
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    tracing::info!(
        framework_id = name.framework,
        executor_id = name.executor,
        "executor subscribed"
    );
    if let Some(old) = executor.stream.replace(stream) {
        effects.push(Effect::CloseExecutor(old));
    }
    executor.subscribed = true;
    let subscribed = event::Subscribed {
        executor_info: executor.info.clone(),
        framework_info,
        agent_info,
        container_id: Some(executor.container.to_wire()),
    };
    effects.push(tell(
        stream,
        Event {
            subscribed: Some(subscribed),
            ..of(event::Type::Subscribed)
        },
    ));
    for update in subscribe.unacknowledged_updates {
        let status = update.status;
        let (task_id, uuid) = (status.task_id.clone(), status.uuid.clone());
        let known = core.tasks.contains_key(&task_name(name, &task_id.value));
        if let Err(refusal) = take(core, now, name, status, effects) {
            tracing::warn!(executor_id = name.executor, %task_id, message = refusal.message, "an update is passed over");
            if let (false, Some(uuid)) = (known, uuid) {
                // The task was forgotten, and only after its last update was acknowledged.
                effects.push(tell(stream, acknowledged(task_id, uuid)));
            }
        }
    }
    let has: Vec<String> = subscribe
        .unacknowledged_tasks
        .into_iter()
        .map(|task| task.task_id.value)
        .collect();
    settle(core, now, name, &has, effects);
    core.set_executor_timer(name);
    deliver(core, name, effects);
    repeat_kills(core, name, stream, effects);
    if let Some(Phase::Ending(_)) = core.executors.get(name).map(|executor| executor.phase) {
        effects.push(tell(stream, of(event::Type::Shutdown)));
    }
}

/// Finds out which of the tasks that a previous agent process may have given the executor it `has`.
fn settle(core: &mut Core, now: Timestamp, name: &ExecutorName, has: &[String], effects: &mut Vec<Effect>) {
    let mut queue = Vec::new();
    let mut killed = Vec::new();
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    for id in &executor.tasks {
        let task_name = task_name(name, id);
        let Some(task) = core.tasks.get_mut(&task_name) else {
            continue;
        };
        let TaskPhase::Entrusted { given, killed: kill } = &mut task.phase else {
            continue;
        };
        if *given != Given::Maybe {
            continue;
        }
        *given = if has.contains(id) { Given::Yes } else { Given::No };
        match (*given, kill) {
            (Given::Yes, _) => {}
            (_, Some(kill)) => killed.push((task_name, kill.cause)),
            (_, None) => queue.push((task.launched_at, id.clone())),
        }
    }
    queue.sort();
    executor.queue.extend(queue.into_iter().map(|(_, id)| id));
    let less = !killed.is_empty();
    for (name, cause) in killed {
        let news = run::cancelled_news(cause);
        end::entrusted_over(core, now, &name, news, effects);
    }
    if less {
        end::resize(core, name, effects);
    }
}

/// Gives a subscribed executor the tasks that wait for it, groups together.
pub(super) fn deliver(core: &mut Core, name: &ExecutorName, effects: &mut Vec<Effect>) {
    let Some(executor) = core.executors.get_mut(name) else {
        return;
    };
    let Some(stream) = executor.stream else { return };
    let mut group: Option<(String, Vec<v1::TaskInfo>)> = None;
    for id in std::mem::take(&mut executor.queue) {
        let Some(task) = core.tasks.get_mut(&task_name(name, &id)) else {
            continue;
        };
        let TaskPhase::Entrusted { given, .. } = &mut task.phase else {
            continue;
        };
        *given = Given::Yes;
        if group.as_ref().map(|(name, _)| name) != task.group.as_ref() {
            launch_group(stream, group.take(), effects);
        }
        match (&task.group, &mut group) {
            (None, _) => effects.push(tell(
                stream,
                Event {
                    launch: Some(event::Launch {
                        task: task.info.clone(),
                    }),
                    ..of(event::Type::Launch)
                },
            )),
            (Some(_), Some((_, tasks))) => tasks.push(task.info.clone()),
            (Some(name), None) => group = Some((name.clone(), vec![task.info.clone()])),
        }
    }
    launch_group(stream, group, effects);
}

fn launch_group(stream: u64, group: Option<(String, Vec<v1::TaskInfo>)>, effects: &mut Vec<Effect>) {
    if let Some((_, tasks)) = group {
        effects.push(tell(
            stream,
            Event {
                launch_group: Some(event::LaunchGroup {
                    task_group: v1::TaskGroupInfo { tasks },
                }),
                ..of(event::Type::LaunchGroup)
            },
        ));
    }
}

/// It may have missed that tasks of its are to end.
fn repeat_kills(core: &Core, name: &ExecutorName, stream: u64, effects: &mut Vec<Effect>) {
    let tasks = core
        .executors
        .get(name)
        .into_iter()
        .flat_map(|executor| &executor.tasks);
    for task in tasks {
        if let Some(TaskPhase::Entrusted {
            killed: Some(Kill { grace, .. }),
            ..
        }) = core.tasks.get(&task_name(name, task)).map(|task| task.phase)
        {
            effects.push(kill(stream, task, grace));
        }
    }
}

/// An executor says what became of a task.
fn take(
    core: &mut Core,
    now: Timestamp,
    name: &ExecutorName,
    status: v1::TaskStatus,
    effects: &mut Vec<Effect>,
) -> Result<(), Refusal> {
    let task_name = task_name(name, &status.task_id.value);
    let uuid = check(&status)?;
    let Some(task) = core
        .tasks
        .get_mut(&task_name)
        .filter(|task| task.executor.as_ref() == Some(&name.executor))
    else {
        return Err(invalid(format!(
            "`update.status.task_id` is {:?}, which names no task of this executor; accepted: the id of a task that it was given",
            task_name.task
        )));
    };
    let task_id = status.task_id.clone();
    let stream = core.executors.get(name).and_then(|executor| executor.stream);
    let waits = task.updates.iter().any(|update| update.uuid.as_ref() == Some(&uuid));
    if waits || task.seen.contains(&uuid) {
        // It did not hear that it was acknowledged.
        effects.extend(stream.map(|stream| tell(stream, acknowledged(task_id, uuid))));
        return Ok(());
    }
    let TaskPhase::Entrusted { given, .. } = &mut task.phase else {
        return Err(invalid(format!(
            "`update.status.state` is {}, but the task has ended; accepted: no update after a terminal one",
            status.state().as_str_name()
        )));
    };
    *given = Given::Yes;
    let state = status.state();
    let member = Member::of(core, &task_name);
    let status = complete(core, now, &task_name, name, status);
    if is_terminal(state)
        && let Some(task) = core.tasks.get_mut(&task_name)
    {
        task.phase = TaskPhase::Ended;
    }
    if !updates::hush(core, now, &task_name, state, effects) {
        updates::push_status(core, now, &task_name, status, effects);
    }
    effects.extend(stream.map(|stream| tell(stream, acknowledged(task_id, uuid))));
    if let (true, Some(member)) = (is_terminal(state), member) {
        end::task_ended(core, now, &member, true, effects);
    }
    Ok(())
}

/// The update's uuid.
fn check(status: &v1::TaskStatus) -> Result<Vec<u8>, Refusal> {
    use v1::TaskState::{
        TaskError, TaskFailed, TaskFinished, TaskGone, TaskKilled, TaskKilling, TaskLost, TaskRunning, TaskStarting,
    };
    let legal = [
        TaskStarting,
        TaskRunning,
        TaskKilling,
        TaskFinished,
        TaskFailed,
        TaskKilled,
        TaskError,
        TaskLost,
        TaskGone,
    ];
    if v1::TaskState::try_from(status.state).map_or(true, |state| !legal.contains(&state)) {
        let names: Vec<&str> = legal.iter().map(v1::TaskState::as_str_name).collect();
        let is = v1::TaskState::try_from(status.state).map_or("no state", |state| state.as_str_name());
        let accepted = names.join(", ");
        return Err(invalid(format!("`update.status.state` is {is}; accepted: {accepted}")));
    }
    match &status.uuid {
        Some(uuid) if uuid.len() == UUID_BYTES => Ok(uuid.clone()),
        _ => {
            let message =
                "`update.status.uuid` is missing, or of another length; accepted: 16 bytes that no other update has";
            Err(invalid(message.into()))
        }
    }
}

/// Adds what the agent knows.
fn complete(
    core: &Core,
    now: Timestamp,
    name: &TaskName,
    executor: &ExecutorName,
    status: v1::TaskStatus,
) -> v1::TaskStatus {
    let Some(task) = core.tasks.get(name) else {
        return status;
    };
    let hostname = &core.settings.agent.hostname;
    let drained = status.state() == v1::TaskState::TaskKilled && end::killed(task) == Some(Cause::Drained);
    let drained = drained.then(|| v1::task_status::Reason::AgentDraining.into());
    v1::TaskStatus {
        reason: status.reason.or(drained),
        agent_id: Some(task.info.agent_id.clone()),
        executor_id: Some(executor.executor.as_str().into()),
        source: Some(v1::task_status::Source::Executor.into()),
        timestamp: status.timestamp.or_else(|| Some(now.seconds())),
        container_status: status
            .container_status
            .or_else(|| Some(updates::container_status(hostname, task))),
        ..status
    }
}

/// A stream of an executor is over. It may come again.
pub(in crate::core) fn detached(core: &mut Core, now: Timestamp, stream: u64) {
    let found = core
        .executors
        .iter_mut()
        .find(|(_, executor)| executor.stream == Some(stream));
    let Some((name, executor)) = found else { return };
    executor.stream = None;
    executor.subscribe_by = Some(now.after(core.settings.executors.recovery));
    let name = name.clone();
    core.set_executor_timer(&name);
}

/// A framework's message to its executor; at most once.
pub(in crate::core) fn message(core: &Core, message: FrameworkMessage, effects: &mut Vec<Effect>) {
    let name = ExecutorName {
        framework: message.framework_id.value,
        executor: message.executor_id.value,
    };
    let Some(stream) = core.executors.get(&name).and_then(|executor| executor.stream) else {
        tracing::debug!(
            executor_id = name.executor,
            "message for an executor that is not subscribed"
        );
        return;
    };
    effects.push(tell(
        stream,
        Event {
            message: Some(event::Message { data: message.data }),
            ..of(event::Type::Message)
        },
    ));
}

pub(super) fn shut_down(stream: u64) -> Effect {
    tell(stream, of(event::Type::Shutdown))
}

pub(super) fn kill(stream: u64, task: &str, grace: Duration) -> Effect {
    let nanoseconds = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
    tell(
        stream,
        Event {
            kill: Some(event::Kill {
                task_id: task.into(),
                kill_policy: Some(v1::KillPolicy {
                    grace_period: Some(v1::DurationInfo { nanoseconds }),
                }),
            }),
            ..of(event::Type::Kill)
        },
    )
}

fn acknowledged(task_id: v1::TaskId, uuid: Vec<u8>) -> Event {
    Event {
        acknowledged: Some(event::Acknowledged { task_id, uuid }),
        ..of(event::Type::Acknowledged)
    }
}

fn of(kind: event::Type) -> Event {
    Event {
        r#type: Some(kind.into()),
        ..Event::default()
    }
}

fn tell(stream: u64, event: Event) -> Effect {
    Effect::Tell(stream, Box::new(event))
}

fn invalid(message: String) -> Refusal {
    refusal(RefusalKind::Invalid, message)
}

fn refusal(kind: RefusalKind, message: impl Into<String>) -> Refusal {
    Refusal {
        kind,
        message: message.into(),
    }
}

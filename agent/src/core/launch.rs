//! Accepts a task and orders its container, or refuses it with a status that says what would be accepted.

use proffer_proto::link;
use proffer_proto::{secrets, v1};

use super::task::Task;
use super::updates::{self, News};
use super::{Core, Effect, LaunchOrder, Owner, Phase, TaskName, Timestamp, checks, executors, layout};
use crate::checkpoint::layout as paths;
use crate::checkpoint::record::{Fact, Launch};
use crate::containerizer::ContainerId;
use crate::fetcher::Artifact;

/// The master launches tasks of one framework.
pub(super) fn launch(core: &mut Core, now: Timestamp, launch: link::Launch, effects: &mut Vec<Effect>) {
    let Some(framework_id) = launch.framework.id.clone().map(|id| id.value) else {
        tracing::warn!("a launch whose framework has no id is passed over");
        return;
    };
    if core.frameworks.get(&framework_id) != Some(&launch.framework) {
        core.frameworks.insert(framework_id.clone(), launch.framework.clone());
        effects.push(Effect::Checkpoint(Fact::Framework(launch.framework.clone()).into()));
    }
    if launch.executor.is_some() {
        return executors::launch(core, now, &framework_id, launch, effects);
    }
    for task in launch.tasks {
        let name = TaskName {
            framework: framework_id.clone(),
            task: task.task_id.value.clone(),
        };
        if core.tasks.contains_key(&name) {
            // The master repeats itself: a task id is launched at most once.
            tracing::warn!(framework_id, task_id = name.task, "the task is here already");
            continue;
        }
        one(core, now, name, task, &launch.framework, effects);
    }
}

fn one(
    core: &mut Core,
    now: Timestamp,
    name: TaskName,
    task: v1::TaskInfo,
    framework: &v1::FrameworkInfo,
    effects: &mut Vec<Effect>,
) {
    let record = Launch {
        framework: name.framework.clone(),
        task,
        container: core.ids.container(),
        at: now.0,
        ..Launch::default()
    };
    let mut accepted = Task::new(&record);
    let mounts = layout::mounts(core, &record.task);
    let refused = refuse(&name, &record.task).or_else(|| mounts.as_ref().err().cloned());
    let refusal = match (core.leaving, refused) {
        (true, _) => Some(leaving()),
        (false, Some(message)) => Some(
            News::of(v1::TaskState::TaskError)
                .by_agent(v1::task_status::Reason::TaskInvalid)
                .saying(message),
        ),
        (false, None) => None,
    };
    let order = LaunchOrder {
        container: accepted.container.clone(),
        framework: framework.clone(),
        task: record.task.clone(),
        executor: None,
        volumes: mounts.unwrap_or_default(),
    };
    effects.push(Effect::Checkpoint(Fact::Launch(record).into()));
    if refusal.is_some() {
        accepted.phase = Phase::Ended;
    }
    core.containers
        .insert(ContainerId(order.container.0.clone()), Owner::Task(name.clone()));
    core.tasks.insert(name.clone(), accepted);
    match refusal {
        Some(news) => updates::push(core, now, &name, news, effects),
        None => effects.push(Effect::Launch(Box::new(order))),
    }
    core.set_timer(&name);
}

pub(super) fn leaving() -> News {
    News::of(v1::TaskState::TaskKilled)
        .by_agent(v1::task_status::Reason::TaskKilledDuringLaunch)
        .saying("the agent leaves the cluster")
}

/// Why a task of this name cannot be here.
pub(super) fn refuse_name(name: &TaskName) -> Option<String> {
    let framework = paths::component("framework_id", &name.framework);
    let task = framework.and_then(|_| paths::component("task_id", &name.task));
    task.err().map(|error| error.to_string())
}

/// Why a task cannot run here, if it cannot: nothing that a task asks for is left out silently.
pub(super) fn refuse(name: &TaskName, task: &v1::TaskInfo) -> Option<String> {
    if let Some(message) = refuse_name(name) {
        return Some(message);
    }
    if let Some(problem) = checks::refuse(task) {
        return Some(problem);
    }
    if task.max_completion_time.is_some_and(|time| time.nanoseconds < 0) {
        return Some("max_completion_time: must not be negative".into());
    }
    let Some(command) = &task.command else {
        return Some("command: must be set".into());
    };
    refuse_command(command).or_else(|| task.container.as_deref().and_then(refuse_container))
}

pub(super) fn refuse_command(command: &v1::CommandInfo) -> Option<String> {
    let value = command.value.as_deref().unwrap_or_default();
    if command.shell() && value.is_empty() {
        return Some("command.value: must be the shell command when `shell` is true".into());
    }
    if !command.shell() && value.is_empty() && command.arguments.is_empty() {
        return Some("command.value: must be the program when `shell` is false".into());
    }
    if value.contains('\0') || command.arguments.iter().any(|argument| argument.contains('\0')) {
        return Some("command: a NUL character cannot be passed to a program".into());
    }
    for variable in command
        .environment
        .iter()
        .flat_map(|environment| &environment.variables)
    {
        let name = variable.name.escape_debug();
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            return Some(format!("command.environment: `{name}` is not the name of a variable"));
        }
        if let Err(problem) = secrets::variable(variable) {
            return Some(format!("command.environment: `{name}`{problem}"));
        }
    }
    for uri in &command.uris {
        if let Err(problem) = Artifact::parse(uri) {
            return Some(problem);
        }
    }
    None
}

pub(super) fn refuse_container(container: &v1::ContainerInfo) -> Option<String> {
    if container.r#type() != v1::container_info::Type::Mesos || container.docker.is_some() {
        return Some("container.type: only MESOS is supported".into());
    }
    if container.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) {
        return Some("container.mesos.image: images are not supported yet; leave it unset".into());
    }
    if !container.network_infos.is_empty() {
        return Some("container.network_infos: only the host's network is supported yet; leave it empty".into());
    }
    let named = container.hostname.is_some();
    named.then(|| "container.hostname: not supported yet; leave it unset".into())
}

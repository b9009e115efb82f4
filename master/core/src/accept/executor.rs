//! What an executor must be to be launched, and the tasks of a group beside it.

use proffer_proto::resources::Resources;
use proffer_proto::v1::executor_info::Type;
use proffer_proto::v1::{self, ExecutorInfo};
use proffer_proto::{Rejection, ids};

use super::validate::{self, Target};

/// The resources of an executor, without allocation role; none are fine.
///
/// # Errors
/// By the path of the field within the executor.
pub(super) fn check(
    info: &ExecutorInfo,
    framework: &v1::FrameworkId,
    target: &Target<'_>,
) -> Result<Resources, Rejection> {
    ids::check_chosen(&info.executor_id.value, "executor_id.value")?;
    if let Some(other) = info.framework_id.as_ref().filter(|other| *other != framework) {
        let problem = format!("is {:?}, another framework", other.value);
        let accepted = format!("{:?}, or none", framework.value);
        return Err(Rejection::new("framework_id.value", problem, accepted));
    }
    if let Some(command) = &info.command {
        validate::check_command(command).map_err(|rejection| rejection.within("command"))?;
    }
    if let Some(container) = &info.container {
        validate::check_container(container).map_err(|rejection| rejection.within("container"))?;
    }
    let grace = info.shutdown_grace_period.as_ref();
    validate::duration(grace, "shutdown_grace_period.nanoseconds")?;
    let resources = validate::allocated(&info.resources, target.role)?;
    if let Some(entry) = resources.revocable().iter().next() {
        let problem = format!(
            "hold revocable {}, but nobody can say when an executor ends",
            entry.name()
        );
        let accepted = "resources that are not revocable; the executor's tasks may use such";
        return Err(Rejection::new("resources", problem, accepted));
    }
    if !target.left.contains(&resources) {
        let problem = format!("are {resources}, which is more than what is left of the offers");
        return Err(Rejection::new("resources", problem, format!("at most {}", target.left)));
    }
    Ok(resources)
}

/// The executor of a task that is launched by itself.
pub(super) fn of_task(info: &ExecutorInfo) -> Result<(), Rejection> {
    match info.r#type() {
        Type::Unknown | Type::Custom => with_command(info),
        Type::Default => {
            let accepted = "CUSTOM; the default executor runs task groups (LAUNCH_GROUP)";
            Err(Rejection::new("type", "is DEFAULT", accepted))
        }
    }
}

/// The executor of a task group.
pub(super) fn of_group(info: &ExecutorInfo) -> Result<(), Rejection> {
    match info.r#type() {
        Type::Unknown => Err(Rejection::new(
            "type",
            "is missing, or UNKNOWN",
            "DEFAULT for the agent's own executor, or CUSTOM with `command`",
        )),
        Type::Custom => with_command(info),
        Type::Default if info.command.is_some() => {
            let problem = "is set, but the executor is the agent's own (DEFAULT)";
            Err(Rejection::new("command", problem, "no command, or the type CUSTOM"))
        }
        Type::Default => Ok(()),
    }
}

fn with_command(info: &ExecutorInfo) -> Result<(), Rejection> {
    match info.command {
        Some(_) => Ok(()),
        None => Err(Rejection::new("command", "is missing", "what the executor runs")),
    }
}

/// A task of a group, apart from what holds of every task.
pub(super) fn grouped_task(task: &v1::TaskInfo, executor: &ExecutorInfo) -> Result<(), Rejection> {
    if task.executor.as_deref().is_some_and(|own| own != executor) {
        let problem = "is another one than that of the group";
        return Err(Rejection::new("executor", problem, "none: the group names it"));
    }
    if let Some(command) = &task.command {
        validate::check_command(command).map_err(|rejection| rejection.within("command"))?;
    } else if executor.r#type() == Type::Default {
        let problem = "is missing, and the executor is the agent's own (DEFAULT)";
        return Err(Rejection::new("command", problem, "what the task runs"));
    }
    let networks = task
        .container
        .as_ref()
        .map_or(0, |container| container.network_infos.len());
    if networks > 0 {
        let problem = "is set, but the tasks of a group share their executor's network";
        let accepted = "none here; the executor's `container` may name networks";
        return Err(Rejection::new("container.network_infos", problem, accepted));
    }
    Ok(())
}

//! What a task must be to be launched.

use std::collections::BTreeMap;

use proffer_proto::resources::{Resources, Scalar};
use proffer_proto::v1::{self, value};
use proffer_proto::{Rejection, ids};

use super::checks;
use crate::operations;

/// What the task is to be launched on.
pub(super) struct Target<'a> {
    pub(super) agent: &'a v1::AgentId,
    pub(super) role: &'a str,
    /// What is left of the offers, without allocation role.
    pub(super) left: &'a Resources,
}

/// The resources of the task, without allocation role.
///
/// # Errors
/// By the path of the field within the task.
pub(super) fn task(info: &v1::TaskInfo, target: &Target<'_>) -> Result<Resources, Rejection> {
    ids::check_chosen(&info.task_id.value, "task_id.value")?;
    if info.agent_id != *target.agent {
        let problem = format!("is {:?}", info.agent_id.value);
        let accepted = format!("{:?}, the agent of the offers", target.agent.value);
        return Err(Rejection::new("agent_id.value", problem, accepted));
    }
    if let Some(container) = &info.container {
        check_container(container).map_err(|rejection| rejection.within("container"))?;
    }
    durations(info)?;
    if let Some(check) = &info.health_check {
        checks::health_check(check).map_err(|rejection| rejection.within("health_check"))?;
    }
    if let Some(check) = &info.check {
        checks::check(check).map_err(|rejection| rejection.within("check"))?;
    }
    let resources = resources_of(info, target)?;
    limits(&info.limits, &resources)?;
    Ok(resources)
}

/// Checks what a task that is launched by itself runs.
pub(super) fn what_runs(info: &v1::TaskInfo) -> Result<(), Rejection> {
    match (&info.command, &info.executor) {
        (Some(command), None) => check_command(command).map_err(|rejection| rejection.within("command")),
        (None, Some(_)) => Ok(()),
        (Some(_), Some(_)) => {
            let accepted = "either `command` or `executor`";
            Err(Rejection::new("executor", "is set beside `command`", accepted))
        }
        (None, None) => Err(Rejection::new(
            "command",
            "is missing, and so is `executor`",
            "exactly one of them",
        )),
    }
}

pub(super) fn check_command(command: &v1::CommandInfo) -> Result<(), Rejection> {
    let empty = command.value.as_deref().unwrap_or_default().is_empty();
    if empty && command.shell() {
        return Err(Rejection::new("value", "is empty", "the command line for the shell"));
    }
    if empty && command.arguments.is_empty() {
        let accepted = "the path of the program, as `shell` is false";
        return Err(Rejection::new("value", "is empty", accepted));
    }
    let texts = command.value.iter().chain(&command.arguments);
    if texts.into_iter().any(|text| text.contains('\0')) {
        let field = if command.value.as_deref().is_some_and(|value| value.contains('\0')) {
            "value"
        } else {
            "arguments"
        };
        return Err(Rejection::new(field, "holds a NUL character", "text without NUL"));
    }
    let variables = command.environment.as_ref().map_or(&[][..], |list| &list.variables);
    for (index, variable) in variables.iter().enumerate() {
        let field = |part: &str| format!("environment.variables[{index}].{part}");
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            let problem = format!("is {:?}", variable.name);
            let accepted = "a name that is not empty and holds neither `=` nor NUL";
            return Err(Rejection::new(field("name"), problem, accepted));
        }
        if variable.value.as_deref().is_some_and(|value| value.contains('\0')) {
            return Err(Rejection::new(
                field("value"),
                "holds a NUL character",
                "text without NUL",
            ));
        }
        if let Err(problem) = proffer_proto::secrets::variable(variable) {
            let accepted = "a `value`, or the type SECRET with a `secret` of the type VALUE that is text without NUL";
            let field = format!("environment.variables[{index}]");
            return Err(Rejection::new(field, format!("has a problem: `{problem}`"), accepted));
        }
    }
    Ok(())
}

pub(super) fn check_container(container: &v1::ContainerInfo) -> Result<(), Rejection> {
    if container.docker.is_some() || container.r#type() == v1::container_info::Type::Docker {
        let problem = "is DOCKER, but images are not there yet";
        return Err(Rejection::new("type", problem, "MESOS, without an image"));
    }
    if container.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) {
        let problem = "is set, but images are not there yet";
        return Err(Rejection::new("mesos.image", problem, "a container without an image"));
    }
    Ok(())
}

fn durations(info: &v1::TaskInfo) -> Result<(), Rejection> {
    let grace = info
        .kill_policy
        .as_ref()
        .and_then(|policy| policy.grace_period.as_ref());
    duration(grace, "kill_policy.grace_period.nanoseconds")?;
    duration(info.max_completion_time.as_ref(), "max_completion_time.nanoseconds")
}

/// Checks that a duration is not negative.
pub(crate) fn duration(duration: Option<&v1::DurationInfo>, field: &str) -> Result<(), Rejection> {
    match duration {
        Some(duration) if duration.nanoseconds < 0 => {
            let problem = format!("is negative ({})", duration.nanoseconds);
            Err(Rejection::new(field, problem, "nanoseconds, 0 or more"))
        }
        _ => Ok(()),
    }
}

/// Resources that are allocated to no other role, without allocation role.
pub(super) fn allocated(wire: &[v1::Resource], own_role: &str) -> Result<Resources, Rejection> {
    let resources = Resources::from_wire(wire).map_err(|rejection| rejection.within("resources"))?;
    for entry in &resources {
        operations::mounted(entry).map_err(|rejection| rejection.within("resources"))?;
    }
    let foreign = |role: &&str| *role != own_role;
    let roles = resources.iter().filter_map(|entry| entry.key().allocation_role());
    if let Some(role) = roles.into_iter().find(foreign) {
        let problem = format!("are allocated to the role {role:?}");
        let accepted = format!("resources of the offers, which are allocated to {own_role:?}");
        return Err(Rejection::new("resources", problem, accepted));
    }
    Ok(resources.unallocate())
}

fn resources_of(info: &v1::TaskInfo, target: &Target<'_>) -> Result<Resources, Rejection> {
    let resources = allocated(&info.resources, target.role)?;
    if resources.cpus().is_zero() && resources.mem().is_zero() {
        let problem = "hold neither `cpus` nor `mem`";
        return Err(Rejection::new("resources", problem, "more than 0 of one of them"));
    }
    if !target.left.contains(&resources) {
        let problem = format!("are {resources}, which is more than what is left of the offers");
        return Err(Rejection::new("resources", problem, format!("at most {}", target.left)));
    }
    let firm = resources.non_revocable();
    let both = |name: &str| firm.iter().any(|entry| entry.name() == name);
    if let Some(mixed) = resources.revocable().iter().find(|entry| both(entry.name())) {
        let problem = format!("hold both revocable {0} and {0} that is not", mixed.name());
        return Err(Rejection::new("resources", problem, "of each name one or the other"));
    }
    Ok(resources)
}

fn limits(limits: &BTreeMap<String, value::Scalar>, resources: &Resources) -> Result<(), Rejection> {
    for (name, limit) in limits {
        let field = format!("limits[{name:?}]");
        if name != "cpus" && name != "mem" {
            let problem = "is set";
            return Err(Rejection::new(field, problem, "limits of `cpus` and `mem` only"));
        }
        if limit.value == f64::INFINITY {
            continue;
        }
        let amount = Scalar::from_f64(limit.value).map_err(|rejection| rejection.within(format!("{field}.value")))?;
        let requested = resources.scalar(name);
        if amount < requested {
            let problem = format!("is {amount}, less than the {requested} that the task asks for");
            return Err(Rejection::new(
                field,
                problem,
                format!("{requested} or more, or Infinity"),
            ));
        }
    }
    Ok(())
}

//! Turns a task into what its container is made from. Pure: what the host says is an argument.

use std::ops::RangeInclusive;
use std::path::Path;

use proffer_proto::v1;

use crate::containerizer::{
    Confinement, ContainerId, ContainerInput, ContainerSpec, DeviceUnit, Limit, Resources, User, WindowSize,
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many allocated ports get an environment variable of their own.
const PORT_VARIABLES_MAX: usize = 64;

/// What the host adds to the description of a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host<'a> {
    /// The agent's host name.
    pub hostname: &'a str,
    /// The task's sandbox, which exists.
    pub sandbox: &'a Path,
    /// Whom the task runs as.
    pub user: &'a User,
    /// The name of that user.
    pub user_name: &'a str,
    /// Whether tasks may run as root.
    pub root_allowed: bool,
    /// What the task asks for of its privileges, as far as it is allowed.
    pub confinement: &'a Confinement,
    /// The devices that the agent hands out.
    pub devices: &'a [DeviceUnit],
}

/// What the container is made from.
///
/// # Errors
/// A resource that makes no sense, named.
pub(crate) fn container(
    id: &ContainerId,
    framework_id: &str,
    task: &v1::TaskInfo,
    host: Host<'_>,
) -> Result<ContainerSpec, String> {
    let resources = resources(task, host.devices)?;
    let command = task.command.clone().unwrap_or_default();
    Ok(ContainerSpec {
        id: id.clone(),
        argv: argv(&command),
        environment: environment(id, framework_id, task, host, &resources.ports),
        user: host.user.clone(),
        root_allowed: host.root_allowed,
        sandbox: host.sandbox.to_owned(),
        resources,
        confinement: host.confinement.clone(),
        input: task.container.as_ref().map_or(ContainerInput::Empty, input),
    })
}

/// The size of the terminal of somebody who does not say how big theirs is.
const WINDOW: WindowSize = WindowSize { rows: 24, columns: 80 };

fn input(container: &v1::ContainerInfo) -> ContainerInput {
    match &container.tty_info {
        Some(info) => ContainerInput::Terminal(info.window_size.as_ref().map_or(WINDOW, window)),
        None if container.stdin() => ContainerInput::Pipe,
        None => ContainerInput::Empty,
    }
}

/// The size of a terminal from the wire.
pub(crate) fn window(size: &v1::tty_info::WindowSize) -> WindowSize {
    let small = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    WindowSize {
        rows: small(size.rows),
        columns: small(size.columns),
    }
}

/// Through the shell, or the program `value` with `arguments`, of which the first is its own name.
pub(crate) fn argv(command: &v1::CommandInfo) -> Vec<String> {
    let value = command.value().to_owned();
    if command.shell() {
        return vec!["/bin/sh".into(), "-c".into(), value];
    }
    if value.is_empty() {
        return command.arguments.clone();
    }
    std::iter::once(value)
        .chain(command.arguments.iter().skip(1).cloned())
        .collect()
}

fn environment(
    id: &ContainerId,
    framework_id: &str,
    task: &v1::TaskInfo,
    host: Host<'_>,
    ports: &[RangeInclusive<u16>],
) -> Vec<(String, String)> {
    let sandbox = host.sandbox.display().to_string();
    let mut variables: Vec<(String, String)> = [
        ("PATH", PATH),
        ("HOME", &sandbox),
        ("USER", host.user_name),
        ("HOST", host.hostname),
        ("MESOS_SANDBOX", &sandbox),
        ("MESOS_DIRECTORY", &sandbox),
        ("MESOS_AGENT_ID", &task.agent_id.value),
        ("MESOS_FRAMEWORK_ID", framework_id),
        ("MESOS_EXECUTOR_ID", &task.task_id.value),
        ("MESOS_TASK_ID", &task.task_id.value),
        ("MESOS_CONTAINER_ID", id.as_str()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let numbers: Vec<String> = ports
        .iter()
        .cloned()
        .flatten()
        .take(PORT_VARIABLES_MAX)
        .map(|port| port.to_string())
        .collect();
    if let Some(first) = numbers.first() {
        variables.push(("PORT".into(), first.clone()));
        variables.push(("PORTS".into(), numbers.join(",")));
        variables.extend(
            numbers
                .iter()
                .enumerate()
                .map(|(index, port)| (format!("PORT{index}"), port.clone())),
        );
    }
    if let Some(command) = &task.command {
        override_variables(&mut variables, command);
    }
    variables
}

/// Adds the variables of a command, in the place of those of their names.
pub(crate) fn override_variables(variables: &mut Vec<(String, String)>, command: &v1::CommandInfo) {
    for variable in command.environment.iter().flat_map(|own| &own.variables) {
        variables.retain(|(name, _)| *name != variable.name);
        variables.push((variable.name.clone(), variable.value().to_owned()));
    }
}

fn resources(task: &v1::TaskInfo, devices: &[DeviceUnit]) -> Result<Resources, String> {
    let mut resources = Resources::default();
    for resource in &task.resources {
        let scalar = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
        match resource.name.as_str() {
            "cpus" => resources.cpus_thousandths += thousandths("cpus", scalar)?,
            "mem" => resources.memory_bytes += bytes("mem", scalar)?,
            "ports" => {
                for range in resource.ranges.iter().flat_map(|ranges| &ranges.range) {
                    let port = |number: u64| u16::try_from(number).map_err(|_| format!("ports: {number} is no port"));
                    resources.ports.push(port(range.begin)?..=port(range.end)?);
                }
            }
            name if devices.iter().any(|unit| unit.resource == name) => {
                *resources.devices.entry(name.to_owned()).or_default() += whole(name, scalar)?;
            }
            // Disk is looked at below, other names are for the framework's own bookkeeping.
            _ => {}
        }
    }
    resources.disk_bytes = disk_bytes(task)?;
    resources.ports.sort_unstable_by_key(|ports| *ports.start());
    if resources.memory_bytes == 0 {
        return Err("resources: `mem` must be more than 0: no program runs without memory".into());
    }
    for (name, limit) in &task.limits {
        let value = limit.value;
        match name.as_str() {
            "cpus" if value == f64::INFINITY => resources.cpus_limit = Limit::Unlimited,
            "cpus" => resources.cpus_limit = Limit::At(thousandths("limits.cpus", value)?),
            "mem" if value == f64::INFINITY => resources.memory_limit = Limit::Unlimited,
            "mem" => resources.memory_limit = Limit::At(bytes("limits.mem", value)?),
            _ => return Err(format!("limits: `{name}` cannot be limited; cpus and mem are accepted")),
        }
    }
    Ok(resources)
}

/// How much the sandbox of a task may hold; none where it does not say. Volumes of disks do not count.
///
/// # Errors
/// An amount that makes no sense.
pub(crate) fn disk_bytes(task: &v1::TaskInfo) -> Result<Option<u64>, String> {
    let own = task.resources.iter();
    let own = own.filter(|resource| resource.name == "disk" && resource.disk.is_none());
    let mut total: Option<u64> = None;
    for resource in own {
        let bytes = bytes("disk", resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value))?;
        total = Some(total.unwrap_or(0).saturating_add(bytes));
    }
    Ok(total.filter(|bytes| *bytes > 0))
}

/// Devices are handed out whole.
fn whole(name: &str, value: f64) -> Result<u64, String> {
    match in_range(name, value)? {
        value if value.fract() == 0.0 => Ok(value as u64),
        value => Err(format!("{name}: {value} is not a whole number of devices")),
    }
}

fn thousandths(field: &str, value: f64) -> Result<u64, String> {
    in_range(field, value).map(|value| (value * 1000.0).round() as u64)
}

fn bytes(field: &str, mebibytes: f64) -> Result<u64, String> {
    in_range(field, mebibytes).map(|value| ((value * 1000.0).round() as u64).saturating_mul(1 << 20) / 1000)
}

fn in_range(field: &str, value: f64) -> Result<f64, String> {
    if (0.0..=1e12).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{field}: {value} must be from 0 to 1e12"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proffer_proto::v1::value::{Range, Ranges, Scalar, Type};

    use super::*;

    fn spec(task: &v1::TaskInfo) -> Result<ContainerSpec, String> {
        let user = User {
            uid: 1,
            gid: 2,
            groups: vec![],
        };
        let host = Host {
            hostname: "h",
            sandbox: Path::new("/s"),
            user: &user,
            user_name: "ada",
            root_allowed: false,
            confinement: &Confinement::default(),
            devices: &[DeviceUnit {
                resource: "gpus".into(),
                nodes: vec![],
            }],
        };
        container(&ContainerId("c".into()), "f", task, host)
    }

    fn scalar(name: &str, value: f64) -> v1::Resource {
        v1::Resource {
            name: name.into(),
            r#type: Type::Scalar.into(),
            scalar: Some(Scalar { value }),
            ..Default::default()
        }
    }

    #[test]
    fn the_command_runs_through_the_shell_or_as_it_is() {
        let command = |shell, value: &str, arguments: &[&str]| v1::CommandInfo {
            shell: Some(shell),
            value: Some(value.into()),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Default::default()
        };
        assert_eq!(argv(&command(true, "echo a", &[])), ["/bin/sh", "-c", "echo a"]);
        assert_eq!(argv(&command(false, "/bin/echo", &["echo", "a"])), ["/bin/echo", "a"]);
        assert_eq!(argv(&command(false, "", &["echo", "a"])), ["echo", "a"]);
    }

    #[test]
    fn resources_add_up_and_ports_have_variables() {
        let ports = v1::Resource {
            name: "ports".into(),
            r#type: Type::Ranges.into(),
            ranges: Some(Ranges {
                range: vec![
                    Range {
                        begin: 31_005,
                        end: 31_006,
                    },
                    Range {
                        begin: 31_001,
                        end: 31_001,
                    },
                ],
            }),
            ..Default::default()
        };
        let task = v1::TaskInfo {
            resources: vec![scalar("cpus", 0.1), scalar("cpus", 0.2), scalar("mem", 32.5), ports],
            limits: BTreeMap::from([("mem".to_owned(), Scalar { value: f64::INFINITY })]),
            ..Default::default()
        };
        let spec = spec(&task).unwrap();
        assert_eq!(spec.resources.cpus_thousandths, 300);
        assert_eq!(spec.resources.memory_bytes, 34_078_720);
        assert_eq!(spec.resources.memory_limit, Limit::Unlimited);
        let value = |name: &str| {
            spec.environment
                .iter()
                .find(|(own, _)| own == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(value("PORT0"), Some("31001"));
        assert_eq!(value("PORTS"), Some("31001,31005,31006"));
        assert_eq!(value("HOME"), Some("/s"));
    }

    #[test]
    fn devices_are_whole() {
        let task = |gpus| v1::TaskInfo {
            resources: vec![scalar("mem", 32.0), scalar("gpus", gpus), scalar("bananas", 0.5)],
            ..Default::default()
        };
        assert_eq!(
            spec(&task(2.0)).unwrap().resources.devices,
            BTreeMap::from([("gpus".to_owned(), 2)])
        );
        assert!(spec(&task(0.5)).unwrap_err().starts_with("gpus: 0.5 is not a whole"));
    }

    #[test]
    fn a_resource_that_makes_no_sense_is_named() {
        for value in [-1.0, f64::NAN, f64::INFINITY] {
            let task = v1::TaskInfo {
                resources: vec![scalar("mem", value)],
                ..Default::default()
            };
            assert!(spec(&task).unwrap_err().starts_with("mem:"));
        }
    }
}

//! Turns a task into what its container is made from. Pure: what the host says is an argument.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use proffer_proto::{secrets, v1};

use crate::containerizer::{
    Confinement, ContainerId, ContainerInput, ContainerSpec, DeviceUnit, Limit, Resources, User, Volume, WindowSize,
};
use crate::core::Part;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many allocated ports get an environment variable of their own.
const PORT_VARIABLES_MAX: usize = 64;
/// What an executor has at least while its tasks and itself ask for less.
const EXECUTOR_MEMORY_BYTES_MIN: u64 = 32 << 20;
/// The same of a limited sandbox, which has its output.
pub(crate) const EXECUTOR_DISK_BYTES_MIN: u64 = 8 << 20;
const EXECUTOR_CPUS_THOUSANDTHS_MIN: u64 = 10;

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
    /// The executor, where it is not the task itself.
    pub executor_id: Option<&'a str>,
    /// What an executor's container has to hold, where it is not the task's resources.
    pub size: Option<&'a Resources>,
    /// What an executor learns beside; empty for a task.
    pub more: &'a [(&'static str, String)],
    /// What is mounted.
    pub volumes: &'a [Volume],
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
    let resources = match host.size {
        Some(size) => size.clone(),
        None => resources(task, host.devices)?,
    };
    let command = task.command.clone().unwrap_or_default();
    Ok(ContainerSpec {
        id: id.clone(),
        argv: argv(&command),
        environment: environment(id, framework_id, task, host, &resources.ports),
        shared: None,
        user: host.user.clone(),
        root_allowed: host.root_allowed,
        sandbox: host.sandbox.to_owned(),
        resources,
        confinement: host.confinement.clone(),
        input: task.container.as_deref().map_or(ContainerInput::Empty, input),
        volumes: host.volumes.to_vec(),
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
        ("MESOS_EXECUTOR_ID", host.executor_id.unwrap_or(&task.task_id.value)),
        ("MESOS_CONTAINER_ID", id.as_str()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    if host.more.is_empty() {
        variables.push(("MESOS_TASK_ID".into(), task.task_id.value.clone()));
    }
    variables.extend(
        host.more
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
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
        // What is wrong with it was refused before.
        let value = secrets::variable(variable).unwrap_or_default();
        variables.push((variable.name.clone(), value.to_owned()));
    }
}

fn resources(task: &v1::TaskInfo, devices: &[DeviceUnit]) -> Result<Resources, String> {
    let resources = requested(&task.resources, devices)?;
    if resources.memory_bytes == 0 {
        return Err("resources: `mem` must be more than 0: no program runs without memory".into());
    }
    limited(resources, &task.limits)
}

/// What an executor and its tasks may use together. One that cannot be limited makes the sum unlimited.
///
/// # Errors
/// A resource that makes no sense, named.
pub(crate) fn sum(parts: &[Part], pids_max: u64, devices: &[DeviceUnit]) -> Result<Resources, String> {
    let mut sum = Resources::default();
    let mut limits = (Some(0), Some(0));
    for part in parts {
        let own = limited(requested(&part.resources, devices)?, &part.limits)?;
        sum.cpus_thousandths += own.cpus_thousandths;
        sum.cpus_revocable_thousandths += own.cpus_revocable_thousandths;
        sum.memory_bytes += own.memory_bytes;
        sum.ports.extend(own.ports);
        for (name, count) in own.devices {
            *sum.devices.entry(name).or_default() += count;
        }
        limits.0 = add(limits.0, own.cpus_limit, own.cpus_thousandths);
        limits.1 = add(limits.1, own.memory_limit, own.memory_bytes);
    }
    sum.disk_bytes = disk_bytes_of(parts)?;
    sum.memory_bytes = sum.memory_bytes.max(EXECUTOR_MEMORY_BYTES_MIN);
    sum.cpus_thousandths = sum.cpus_thousandths.max(EXECUTOR_CPUS_THOUSANDTHS_MIN);
    let limit = |limit: Option<u64>, least| limit.map_or(Limit::Unlimited, |limit| Limit::At(limit.max(least)));
    sum.cpus_limit = limit(limits.0, EXECUTOR_CPUS_THOUSANDTHS_MIN);
    sum.memory_limit = limit(limits.1, EXECUTOR_MEMORY_BYTES_MIN);
    sum.pids_max = Some(pids_max.saturating_mul(parts.len() as u64));
    sum.ports.sort_unstable_by_key(|ports| *ports.start());
    Ok(sum)
}

fn add(sum: Option<u64>, limit: Limit, requested: u64) -> Option<u64> {
    match limit {
        Limit::Requested => sum.map(|sum| sum + requested),
        Limit::At(limit) => sum.map(|sum| sum + limit),
        Limit::Unlimited => None,
    }
}

fn requested(list: &[v1::Resource], devices: &[DeviceUnit]) -> Result<Resources, String> {
    let mut resources = Resources::default();
    for resource in list {
        let scalar = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
        match resource.name.as_str() {
            "cpus" => {
                let thousandths = thousandths("cpus", scalar)?;
                resources.cpus_thousandths += thousandths;
                if resource.revocable.is_some() {
                    resources.cpus_revocable_thousandths += thousandths;
                }
            }
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
    resources.disk_bytes = disk_bytes(list)?;
    resources.ports.sort_unstable_by_key(|ports| *ports.start());
    Ok(resources)
}

fn limited(mut resources: Resources, limits: &BTreeMap<String, v1::value::Scalar>) -> Result<Resources, String> {
    for (name, limit) in limits {
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
pub(crate) fn disk_bytes(resources: &[v1::Resource]) -> Result<Option<u64>, String> {
    let own = resources
        .iter()
        .filter(|resource| resource.name == "disk" && resource.disk.is_none());
    let mut total: Option<u64> = None;
    for resource in own {
        let bytes = bytes("disk", resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value))?;
        total = Some(total.unwrap_or(0).saturating_add(bytes));
    }
    Ok(total.filter(|bytes| *bytes > 0))
}

/// How much the sandbox of an executor may hold; none where neither it nor a task of it says.
///
/// # Errors
/// An amount that makes no sense.
pub(crate) fn disk_bytes_of(parts: &[Part]) -> Result<Option<u64>, String> {
    let mut total: Option<u64> = None;
    for part in parts {
        if let Some(bytes) = disk_bytes(&part.resources)? {
            total = Some(total.unwrap_or(0).saturating_add(bytes));
        }
    }
    Ok(total.map(|bytes| bytes.max(EXECUTOR_DISK_BYTES_MIN)))
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
            volumes: &[],
            devices: &[DeviceUnit {
                resource: "gpus".into(),
                nodes: vec![],
            }],
            executor_id: None,
            size: None,
            more: &[],
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
    fn an_executor_holds_the_sum_of_its_parts() {
        let part = |cpus, mem, limits| Part {
            resources: vec![scalar("cpus", cpus), scalar("mem", mem)],
            limits,
        };
        let limits = BTreeMap::from([("cpus".to_owned(), Scalar { value: 2.0 })]);
        let parts = [part(0.5, 32.0, BTreeMap::new()), part(1.0, 64.0, limits)];
        let both = sum(&parts, 100, &[]).unwrap();
        assert_eq!((both.cpus_thousandths, both.cpus_limit), (1500, Limit::At(2500)));
        assert_eq!((both.memory_bytes, both.memory_limit), (96 << 20, Limit::At(96 << 20)));
        assert_eq!(both.pids_max, Some(200));
        let unlimited = BTreeMap::from([("mem".to_owned(), Scalar { value: f64::INFINITY })]);
        let both = sum(&[parts[0].clone(), part(0.1, 1.0, unlimited)], 1, &[]).unwrap();
        assert_eq!((both.memory_limit, both.cpus_limit), (Limit::Unlimited, Limit::At(600)));
        let nothing = sum(&[Part::default()], 1, &[]).unwrap();
        assert_eq!(nothing.memory_limit, Limit::At(EXECUTOR_MEMORY_BYTES_MIN));
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

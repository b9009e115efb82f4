//! Builds tasks.

use std::time::Duration;

use proffer_proto::v1::{
    CommandInfo, DiscoveryInfo, DurationInfo, Environment, ExecutorInfo, HealthCheck, KillPolicy, Label, Labels, Port,
    Ports, Resource, TaskId, TaskInfo, command_info, discovery_info, environment, value,
};

use crate::offers::{Constraint, Placement, Strategy, TaskShape, WantedPort};

/// A task to be launched: what it runs, and what it needs.
///
/// Where it is placed, its ports are told to it in the environment: `PORT0`, `PORT1`, ... in the order in which they were
/// asked for, `PORT_<NAME>` for a named one, `PORT` for the first and `PORTS` for all, separated by commas; `HOST` is the
/// host name of its agent.
///
/// ```
/// use std::time::Duration;
/// use proffer_sdk::Task;
///
/// let task = Task::command("web", "exec ./serve --port $PORT_HTTP")
///     .cpus(0.5)
///     .mem(64.0)
///     .port("http")
///     .env("LOG", "info")
///     .user("nobody")
///     .kill_grace(Duration::from_secs(3));
/// assert!(task.id().value.starts_with("web-"));
/// assert_eq!(task.shape().ports.len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    info: TaskInfo,
    shape: TaskShape,
    /// The names of the ports of the shape, empty for a port without a name.
    port_names: Vec<String>,
}

impl Task {
    /// A task that gives a line to `/bin/sh`.
    pub fn command(name: impl Into<String>, line: impl Into<String>) -> Self {
        Task::new(
            name.into(),
            CommandInfo {
                shell: Some(true),
                value: Some(line.into()),
                ..Default::default()
            },
        )
    }

    /// A task that runs a program without a shell.
    ///
    /// ```
    /// let task = proffer_sdk::Task::program("sleep", "/bin/sleep", ["2"]);
    /// ```
    pub fn program(
        name: impl Into<String>,
        path: impl Into<String>,
        arguments: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let path = path.into();
        let mut all = vec![path.clone()];
        all.extend(arguments.into_iter().map(Into::into));
        Task::new(
            name.into(),
            CommandInfo {
                shell: Some(false),
                value: Some(path),
                arguments: all,
                ..Default::default()
            },
        )
    }

    /// A task that a custom executor runs: the [`Executor`](crate::executor::Executor) gets the data, and tells what becomes of it.
    ///
    /// ```
    /// use proffer_sdk::Task;
    /// use proffer_sdk::proto::v1::{CommandInfo, ExecutorInfo, executor_info};
    ///
    /// let executor = ExecutorInfo {
    ///     r#type: Some(executor_info::Type::Custom.into()),
    ///     executor_id: "letters".into(),
    ///     command: Some(CommandInfo { value: Some("exec /opt/letters".into()), ..Default::default() }),
    ///     ..Default::default()
    /// };
    /// let task = Task::on_executor("count", executor, "some text").cpus(0.1).mem(32.0);
    /// ```
    pub fn on_executor(name: impl Into<String>, executor: ExecutorInfo, data: impl Into<Vec<u8>>) -> Self {
        let name = name.into();
        Task::from(TaskInfo {
            task_id: fresh_id(&name),
            name,
            executor: Some(Box::new(executor)),
            data: Some(data.into()),
            ..Default::default()
        })
    }

    fn new(name: String, command: CommandInfo) -> Self {
        let info = TaskInfo {
            task_id: fresh_id(&name),
            name,
            command: Some(command),
            ..Default::default()
        };
        Task::from(info)
    }

    /// Its id: the name and something unique, unless it was given one.
    pub fn id(&self) -> &TaskId {
        &self.info.task_id
    }

    /// Gives it an id, which no task of the framework may have had before.
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.info.task_id = TaskId { value: id.into() };
        self
    }

    /// Gives it another unique id, so that a copy can be launched.
    pub fn with_fresh_id(mut self) -> Self {
        self.info.task_id = fresh_id(&self.info.name);
        self
    }

    /// What it needs.
    pub fn shape(&self) -> &TaskShape {
        &self.shape
    }

    /// Prefers resources that may be taken back: see [`Framework::revocable`](crate::Framework::revocable).
    pub fn revocable(mut self) -> Self {
        self.shape.revocable = true;
        self
    }

    /// Processors.
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.shape = self.shape.cpus(cpus);
        self
    }

    /// Memory in MiB.
    pub fn mem(mut self, mem_mib: f64) -> Self {
        self.shape = self.shape.mem(mem_mib);
        self
    }

    /// Disk in MiB.
    pub fn disk(mut self, disk_mib: f64) -> Self {
        self.shape = self.shape.disk(disk_mib);
        self
    }

    /// Any free port, under this name.
    pub fn port(mut self, name: impl Into<String>) -> Self {
        self.shape = self.shape.any_ports(1);
        self.port_names.push(name.into());
        self
    }

    /// This very port, under this name.
    pub fn fixed_port(mut self, name: impl Into<String>, port: u16) -> Self {
        self.shape = self.shape.fixed_port(port);
        self.port_names.push(name.into());
        self
    }

    /// Runs only where this holds.
    pub fn constraint(mut self, constraint: Constraint) -> Self {
        self.shape = self.shape.constraint(constraint);
        self
    }

    /// How it is placed relative to the other tasks of a group.
    pub fn strategy(mut self, group: impl Into<String>, strategy: Strategy) -> Self {
        self.shape = self.shape.strategy(group, strategy);
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set_env(name.into(), value.into());
        self
    }

    /// The user as whom it runs, instead of the framework's.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.command_mut().user = Some(user.into());
        self
    }

    /// An artifact that is fetched into its sandbox before it starts.
    pub fn artifact(mut self, uri: impl Into<String>) -> Self {
        let value = uri.into();
        self.command_mut().uris.push(command_info::Uri {
            value,
            ..Default::default()
        });
        self
    }

    /// How long it may take to end after a polite request, before it is killed.
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.info.kill_policy = Some(KillPolicy {
            grace_period: Some(duration(grace)),
        });
        self
    }

    /// Fails it where it runs longer than this.
    pub fn max_completion_time(mut self, time: Duration) -> Self {
        self.info.max_completion_time = Some(duration(time));
        self
    }

    /// Lets it use more than it was given of `cpus` or `mem`, up to a limit; `f64::INFINITY` is none.
    pub fn limit(mut self, resource: impl Into<String>, limit: f64) -> Self {
        self.info.limits.insert(resource.into(), value::Scalar { value: limit });
        self
    }

    /// Has its health checked.
    pub fn health_check(mut self, check: HealthCheck) -> Self {
        self.info.health_check = Some(Box::new(check));
        self
    }

    /// A label.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let labels = self.info.labels.get_or_insert_with(Labels::default);
        labels.labels.push(Label {
            key: key.into(),
            value: Some(value.into()),
        });
        self
    }

    /// The message that launches it at a placement.
    ///
    /// ```
    /// use proffer_sdk::{Task, offers::Matcher, testing};
    ///
    /// let offers = [testing::offer("o1", "agent1", 1.0, 128.0, 31000..=31001)];
    /// let task = Task::command("web", "serve").cpus(0.5).mem(64.0).port("http");
    /// let place = Matcher::new(&offers).place(task.shape()).unwrap();
    /// let info = task.at(&place);
    /// assert_eq!(info.agent_id.value, "agent1");
    /// assert_eq!(info.resources.len(), 3);
    /// ```
    pub fn at(mut self, placement: &Placement) -> TaskInfo {
        self.info.agent_id = placement.agent_id.clone();
        if self.info.resources.is_empty() {
            self.info.resources = placement.resources.clone();
        }
        if !placement.ports.is_empty() && self.info.command.is_some() {
            self.announce_ports(&placement.ports);
        }
        if self.info.command.is_some() {
            self.set_env("HOST".into(), placement.hostname.clone());
        }
        self.info
    }

    /// As a member of a gang, for which the master finds the place and the ports.
    pub(crate) fn unplaced(mut self) -> TaskInfo {
        if self.info.resources.is_empty() {
            let any = self.shape.ports.iter().filter(|port| **port == WantedPort::Any).count();
            let fixed = self.shape.ports.iter().filter_map(|port| match port {
                WantedPort::Fixed(port) => Some(value::Range {
                    begin: (*port).into(),
                    end: (*port).into(),
                }),
                WantedPort::Any => None,
            });
            let fixed: Vec<value::Range> = fixed.collect();
            let scalar = |name: &str, value: f64| Resource {
                name: name.to_owned(),
                r#type: value::Type::Scalar.into(),
                scalar: Some(value::Scalar { value }),
                ..Default::default()
            };
            let scalars = self.shape.scalars.iter();
            self.info.resources = scalars.map(|(name, value)| scalar(name, *value)).collect();
            if any > 0 {
                self.info.resources.push(scalar("ports", any as f64));
            }
            if !fixed.is_empty() {
                self.info.resources.push(Resource {
                    name: "ports".to_owned(),
                    r#type: value::Type::Ranges.into(),
                    ranges: Some(value::Ranges { range: fixed }),
                    ..Default::default()
                });
            }
        }
        self.info
    }

    fn announce_ports(&mut self, ports: &[u16]) {
        let all: Vec<_> = ports.iter().map(u16::to_string).collect();
        self.set_env("PORT".into(), all[0].clone());
        self.set_env("PORTS".into(), all.join(","));
        let mut discovered = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            self.set_env(format!("PORT{index}"), port.to_string());
            let name = self.port_names.get(index).filter(|name| !name.is_empty()).cloned();
            if let Some(name) = &name {
                self.set_env(format!("PORT_{}", variable_name(name)), port.to_string());
            }
            discovered.push(Port {
                number: (*port).into(),
                name,
                protocol: Some("tcp".into()),
                ..Default::default()
            });
        }
        let name = self.info.name.clone();
        let discovery = self.info.discovery.get_or_insert_with(|| {
            Box::new(DiscoveryInfo {
                visibility: discovery_info::Visibility::Cluster.into(),
                name: Some(name),
                ..Default::default()
            })
        });
        discovery.ports.get_or_insert(Ports { ports: discovered });
    }

    fn command_mut(&mut self) -> &mut CommandInfo {
        self.info.command.get_or_insert_with(CommandInfo::default)
    }

    fn set_env(&mut self, name: String, value: String) {
        let environment = self.command_mut().environment.get_or_insert_with(Environment::default);
        environment.variables.retain(|variable| variable.name != name);
        environment.variables.push(environment::Variable {
            name,
            value: Some(value),
            ..Default::default()
        });
    }
}

/// A task from a message that was built otherwise. Where it names resources they are kept as they are.
impl From<TaskInfo> for Task {
    fn from(info: TaskInfo) -> Self {
        Task {
            info,
            shape: TaskShape::default(),
            port_names: Vec::new(),
        }
    }
}

fn duration(duration: Duration) -> DurationInfo {
    DurationInfo {
        nanoseconds: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
    }
}

/// An id with the characters that an id may have.
fn fresh_id(name: &str) -> TaskId {
    let safe: String = name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    let unique = uuid::Uuid::new_v4().simple().to_string();
    TaskId {
        value: format!("{safe}-{}", &unique[..12]),
    }
}

fn variable_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offers::Matcher;
    use crate::testing;

    #[test]
    fn ports_are_announced_in_the_environment_and_for_discovery() {
        let offers = [testing::offer("o1", "a1", 1.0, 128.0, 31000..=31009)];
        let task = Task::command("web app", "serve")
            .cpus(0.5)
            .port("http")
            .fixed_port("admin-ui", 31005);
        let place = Matcher::new(&offers).place(task.shape()).unwrap();
        let info = task.at(&place);
        let environment = info.command.unwrap().environment.unwrap();
        let get = |name: &str| {
            let variable = environment.variables.iter().find(|variable| variable.name == name);
            variable.and_then(|variable| variable.value.clone()).unwrap_or_default()
        };
        assert_eq!(get("PORT0"), place.ports[0].to_string());
        assert_eq!(get("PORT_HTTP"), get("PORT0"));
        assert_eq!(get("PORT_ADMIN_UI"), "31005");
        assert_eq!(get("PORTS"), format!("{},31005", place.ports[0]));
        assert_eq!(info.discovery.unwrap().ports.unwrap().ports[1].number, 31005);
        assert!(info.task_id.value.starts_with("web-app-"));
    }
}

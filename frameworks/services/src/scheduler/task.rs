//! Builds the task of an instance from its specification and from where it goes.

use std::time::Duration;

use proffer_proto::v1::{
    CheckInfo, CommandInfo, ContainerInfo, DurationInfo, Environment, HealthCheck, KillPolicy, Label, Labels, Secret,
    TaskInfo, Volume, check_info, command_info, container_info, environment, health_check, secret, volume,
};
use proffer_sdk::Task;
use proffer_sdk::offers::{Placement, TaskShape};

use crate::plan::{InstanceId, PortAssignment};
use crate::spec::{self, Mode, Probe, Run, ServiceSpec, VolumeSource};
use crate::template::{Facts, fill};

/// An id that no task of the instance had before.
pub(crate) fn fresh_id(instance: &InstanceId) -> String {
    instance.task_id(&uuid::Uuid::new_v4().simple().to_string()[..12])
}

/// What an instance needs of an agent.
pub(crate) fn shape(spec: &ServiceSpec) -> TaskShape {
    let mut shape = TaskShape::default().cpus(spec.cpus).mem(spec.mem);
    if let Some(disk) = spec.disk {
        shape = shape.disk(disk);
    }
    for port in &spec.ports {
        shape = match port.port {
            0 => shape.any_ports(1),
            number => shape.fixed_port(number),
        };
    }
    shape
}

/// Which ports a placement gives an instance.
pub(crate) fn ports(spec: &ServiceSpec, placement: &Placement) -> Vec<PortAssignment> {
    let ports = spec.ports.iter().zip(&placement.ports);
    let assigned = ports.map(|(port, number)| PortAssignment {
        name: port.name.clone(),
        port: *number,
    });
    assigned.collect()
}

/// The task of an instance.
pub(crate) fn build(spec: &ServiceSpec, facts: &Facts<'_>) -> Task {
    let instance = InstanceId {
        service: spec.id.clone(),
        index: facts.instance,
    };
    let info = TaskInfo {
        name: spec.id.clone(),
        task_id: facts.task.into(),
        command: Some(command(spec, facts, &instance)),
        container: container(spec, facts).map(Box::new),
        health_check: spec.health.as_ref().map(|check| Box::new(health_check(check, facts))),
        check: spec
            .readiness
            .as_ref()
            .map(|check| Box::new(readiness_check(check, facts))),
        kill_policy: Some(kill_policy(spec.kill_grace_seconds)),
        labels: Some(labels(spec, &instance)),
        ..TaskInfo::default()
    };
    let mut task = Task::from(info).cpus(spec.cpus).mem(spec.mem);
    if let Some(disk) = spec.disk {
        task = task.disk(disk);
    }
    for port in &spec.ports {
        task = match port.port {
            0 => task.port(&port.name),
            number => task.fixed_port(&port.name, number),
        };
    }
    task
}

/// How long an instance may take to end.
pub(crate) fn kill_policy(seconds: f64) -> KillPolicy {
    let grace = Duration::from_secs_f64(seconds);
    let nanoseconds = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
    KillPolicy {
        grace_period: Some(DurationInfo { nanoseconds }),
    }
}

fn command(spec: &ServiceSpec, facts: &Facts<'_>, instance: &InstanceId) -> CommandInfo {
    let own = spec.env.iter().map(|(name, value)| (name.clone(), fill(value, facts)));
    let told = [
        ("SERVICE", spec.id.clone()),
        ("INSTANCE", instance.to_string()),
        ("INSTANCE_INDEX", instance.index.to_string()),
    ];
    let told = told.into_iter().map(|(name, value)| (name.to_owned(), value));
    let variables = own.chain(told).map(|(name, value)| environment::Variable {
        name,
        value: Some(value),
        ..Default::default()
    });
    let uris = spec.artifacts.iter().map(|artifact| command_info::Uri {
        value: artifact.uri.clone(),
        executable: Some(artifact.executable),
        extract: Some(artifact.extract && !artifact.executable),
        cache: Some(artifact.cache),
        output_file: artifact.path.clone(),
        checksum: artifact.checksum.clone(),
    });
    let common = CommandInfo {
        environment: Some(Environment {
            variables: variables.collect(),
        }),
        uris: uris.collect(),
        user: spec.user.clone(),
        ..CommandInfo::default()
    };
    match &spec.run {
        _ if !spec.init.is_empty() => {
            let words = spec.words_with_init(|text| fill(text, facts));
            CommandInfo {
                shell: Some(false),
                value: words.first().cloned(),
                arguments: words,
                ..common
            }
        }
        Run::Command(line) => CommandInfo {
            shell: Some(true),
            value: Some(fill(line, facts)),
            ..common
        },
        Run::Argv(argv) => {
            let arguments: Vec<_> = argv.iter().map(|argument| fill(argument, facts)).collect();
            CommandInfo {
                shell: Some(false),
                value: arguments.first().cloned(),
                arguments,
                ..common
            }
        }
    }
}

/// What is mounted: directories of the host, and files, which travel as the values of secrets.
fn container(spec: &ServiceSpec, facts: &Facts<'_>) -> Option<ContainerInfo> {
    let lent = spec.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Host(host) => Some((volume, host)),
        // Those are among the resources.
        VolumeSource::Persistent(_) => None,
    });
    let lent = lent.map(|(lent, host)| Volume {
        container_path: lent.path.clone(),
        mode: match lent.mode {
            Mode::Ro => volume::Mode::Ro.into(),
            Mode::Rw => volume::Mode::Rw.into(),
        },
        source: Some(volume::Source {
            r#type: Some(volume::source::Type::HostPath.into()),
            host_path: Some(volume::source::HostPath {
                path: host.clone(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    });
    let files = spec.files.iter().map(|file| Volume {
        container_path: file.path.clone(),
        mode: volume::Mode::Ro.into(),
        source: Some(volume::Source {
            r#type: Some(volume::source::Type::Secret.into()),
            secret: Some(Secret {
                r#type: Some(secret::Type::Value.into()),
                value: Some(secret::Value {
                    data: fill(&file.content, facts).into_bytes(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    });
    let volumes: Vec<_> = lent.chain(files).collect();
    (!volumes.is_empty()).then(|| ContainerInfo {
        r#type: container_info::Type::Mesos.into(),
        volumes,
        ..Default::default()
    })
}

fn labels(spec: &ServiceSpec, instance: &InstanceId) -> Labels {
    let label = |key: &str, value: &str| Label {
        key: key.to_owned(),
        value: Some(value.to_owned()),
    };
    let mut labels = vec![
        label("service", &spec.id),
        label("instance", &instance.index.to_string()),
    ];
    labels.extend(spec.labels.iter().map(|(key, value)| label(key, value)));
    Labels { labels }
}

fn health_check(check: &spec::HealthCheck, facts: &Facts<'_>) -> HealthCheck {
    HealthCheck {
        delay_seconds: Some(check.delay_seconds),
        interval_seconds: Some(check.interval_seconds),
        timeout_seconds: Some(check.timeout_seconds),
        grace_period_seconds: Some(check.grace_seconds),
        consecutive_failures: Some(check.failures),
        ..health_probe(&check.probe, facts)
    }
}

fn readiness_check(check: &spec::ReadinessCheck, facts: &Facts<'_>) -> CheckInfo {
    CheckInfo {
        delay_seconds: Some(check.delay_seconds),
        interval_seconds: Some(check.interval_seconds),
        timeout_seconds: Some(check.timeout_seconds),
        ..readiness_probe(&check.probe, facts)
    }
}

fn health_probe(probe: &Probe, facts: &Facts<'_>) -> HealthCheck {
    let r#type = |kind: health_check::Type| Some(kind.into());
    match probe {
        Probe::Command(line) => HealthCheck {
            r#type: r#type(health_check::Type::Command),
            command: Some(check_command(line, facts)),
            ..Default::default()
        },
        Probe::Http { port, path } => HealthCheck {
            r#type: r#type(health_check::Type::Http),
            http: Some(health_check::HttpCheckInfo {
                port: number(facts, port),
                path: Some(path.clone()),
                ..Default::default()
            }),
            ..Default::default()
        },
        Probe::Tcp { port } => HealthCheck {
            r#type: r#type(health_check::Type::Tcp),
            tcp: Some(health_check::TcpCheckInfo {
                port: number(facts, port),
                ..Default::default()
            }),
            ..Default::default()
        },
        Probe::Grpc { port, service } => HealthCheck {
            r#type: r#type(health_check::Type::Grpc),
            grpc: Some(health_check::GrpcCheckInfo {
                port: number(facts, port),
                service: Some(service.clone()),
                ..Default::default()
            }),
            ..Default::default()
        },
    }
}

fn readiness_probe(probe: &Probe, facts: &Facts<'_>) -> CheckInfo {
    let r#type = |kind: check_info::Type| Some(kind.into());
    match probe {
        Probe::Command(line) => CheckInfo {
            r#type: r#type(check_info::Type::Command),
            command: Some(check_info::Command {
                command: check_command(line, facts),
            }),
            ..Default::default()
        },
        Probe::Http { port, path } => CheckInfo {
            r#type: r#type(check_info::Type::Http),
            http: Some(check_info::Http {
                port: number(facts, port),
                path: Some(path.clone()),
            }),
            ..Default::default()
        },
        Probe::Tcp { port } => CheckInfo {
            r#type: r#type(check_info::Type::Tcp),
            tcp: Some(check_info::Tcp {
                port: number(facts, port),
            }),
            ..Default::default()
        },
        Probe::Grpc { port, service } => CheckInfo {
            r#type: r#type(check_info::Type::Grpc),
            grpc: Some(check_info::Grpc {
                port: number(facts, port),
                service: Some(service.clone()),
            }),
            ..Default::default()
        },
    }
}

fn check_command(line: &str, facts: &Facts<'_>) -> CommandInfo {
    CommandInfo {
        shell: Some(true),
        value: Some(fill(line, facts)),
        ..Default::default()
    }
}

/// A valid specification names only ports that it has.
fn number(facts: &Facts<'_>, name: &str) -> u32 {
    let port = facts.ports.iter().find(|port| port.name == name);
    port.map_or(0, |port| port.port.into())
}

//! The messages of sessions: their names, what may be asked for, and what is said.

use std::fmt;
use std::time::Duration;

use proffer_proto::v1;
use proffer_proto::v1::agent::{ProcessIo, process_io};
use tonic::Status;

use crate::containerizer::{ContainerId, Exit, Streams, WindowSize};
use crate::spec::window;

/// The terminal of somebody who does not say how big theirs is.
const WINDOW: WindowSize = WindowSize { rows: 24, columns: 80 };

/// A container within a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NestedName {
    /// The container of the task.
    pub(crate) parent: ContainerId,
    value: String,
}

impl fmt::Display for NestedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} in {}", self.value, self.parent)
    }
}

/// The container that an id names, and the one within it if it names one.
pub(crate) fn names(id: &v1::ContainerId) -> Result<(ContainerId, Option<NestedName>), Status> {
    let name = |field: &str, value: &str| {
        let name = ContainerId(value.to_owned());
        match name.is_valid() {
            true => Ok(name),
            false => Err(Status::invalid_argument(format!(
                "{field}: {value:?} is not 1 to 128 characters of [A-Za-z0-9._-] that begin with no dot"
            ))),
        }
    };
    match &id.parent {
        None => Ok((name("container_id.value", &id.value)?, None)),
        Some(parent) => {
            let value = name("container_id.value", &id.value)?;
            let parent = name("container_id.parent.value", &parent.to_string())?;
            let nested = NestedName {
                parent: parent.clone(),
                value: value.0,
            };
            Ok((parent, Some(nested)))
        }
    }
}

/// Refuses what a program in a container cannot have.
pub(super) fn check_command(command: &v1::CommandInfo, task: &v1::TaskInfo) -> Result<(), Status> {
    let refuse = |field: &str, problem: &str| Err(Status::invalid_argument(format!("command.{field}: {problem}")));
    let value = command.value.as_deref().unwrap_or_default();
    if command.shell() && value.is_empty() {
        return refuse("value", "must be the shell command when `shell` is true");
    }
    if !command.shell() && value.is_empty() && command.arguments.is_empty() {
        return refuse("value", "must be the program when `shell` is false");
    }
    let own = task.command.as_ref().and_then(|command| command.user.as_ref());
    if command.user.as_ref().is_some_and(|user| Some(user) != own) {
        return refuse(
            "user",
            "a program in a container runs as the container's user; leave it unset",
        );
    }
    if !command.uris.is_empty() {
        return refuse(
            "uris",
            "nothing is fetched for a program in a container; leave it empty",
        );
    }
    Ok(())
}

/// Pipes, or a terminal where one is asked for.
pub(super) fn streams(container: Option<&v1::ContainerInfo>) -> Result<Streams, Status> {
    let Some(container) = container else {
        return Ok(Streams::Pipes);
    };
    let plain = v1::ContainerInfo {
        r#type: container.r#type,
        tty_info: container.tty_info,
        ..v1::ContainerInfo::default()
    };
    if *container != plain {
        return Err(Status::invalid_argument(
            "container: only `type` and `tty_info` are accepted here",
        ));
    }
    Ok(match &container.tty_info {
        Some(info) => Streams::Terminal(info.window_size.as_ref().map_or(WINDOW, window)),
        None => Streams::Pipes,
    })
}

/// Bytes that a program wrote.
pub(super) fn data(kind: process_io::data::Type, bytes: &[u8]) -> ProcessIo {
    let mut message = ProcessIo::default();
    message.set_type(process_io::Type::Data);
    let mut data = process_io::Data {
        data: Some(bytes.to_vec()),
        ..Default::default()
    };
    data.set_type(kind);
    message.data = Some(data);
    message
}

/// A sign of life.
pub(super) fn heartbeat(interval: Duration) -> ProcessIo {
    let mut message = ProcessIo::default();
    message.set_type(process_io::Type::Control);
    let interval = Some(v1::DurationInfo {
        nanoseconds: i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX),
    });
    let mut control = process_io::Control {
        heartbeat: Some(process_io::control::Heartbeat { interval }),
        ..Default::default()
    };
    control.set_type(process_io::control::Type::Heartbeat);
    message.control = Some(control);
    message
}

/// As `waitpid` says it; none when nobody knows.
pub(crate) fn exit_status(exit: &Exit) -> Option<i32> {
    match (exit.code, exit.signal) {
        (Some(code), _) => Some(code << 8),
        (None, signal) => signal,
    }
}

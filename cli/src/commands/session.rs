//! What `exec` and `attach` share: the agent with its token, standard input as calls, and the output.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use proffer_proto::v1::agent::call::{self, AttachContainerInput, attach_container_input};
use proffer_proto::v1::agent::process_io::{Control, Data, control, data};
use proffer_proto::v1::agent::{Call, ProcessIo, process_io};
use proffer_proto::v1::{ContainerId, Task, TtyInfo};
use proffer_sdk::CallError;
use proffer_sdk::operator::AgentClient;
use tokio::sync::mpsc;

use super::{ClusterArgs, all_tasks, find_task, is_active, logs, state_name};
use crate::exit::{Failure, FailureKind};

/// How much of standard input is sent at a time.
const CHUNK_BYTES: usize = 16 << 10;

/// Which task, and with what right.
#[derive(Debug, clap::Args)]
pub(crate) struct TargetArgs {
    /// The task's id, or the beginning of one task's id alone.
    pub(crate) task: String,
    /// The framework of the task, where several have one of that id.
    #[arg(long)]
    pub(crate) framework: Option<String>,
    /// The file with the token of the task's agent; by default the one that the agent itself uses, which root can read on its
    /// machine.
    #[arg(long, env = "PROFFER_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl TargetArgs {
    /// The task, its container, and its agent with the token.
    pub(crate) async fn find(&self, cluster: &ClusterArgs) -> Result<(Task, ContainerId, AgentClient), Failure> {
        let mut operator = cluster.operator();
        let tasks = operator.get_tasks().await.map_err(|error| cluster.failure(error))?;
        let task = find_task(&all_tasks(tasks), &self.task, self.framework.as_deref())?;
        if !is_active(&task) {
            let text = format!("task {} has ended already ({})", task.task_id, state_name(task.state()));
            return Err(Failure::new(FailureKind::NotFound, text));
        }
        let mut agent = logs::agent_of(cluster, &mut operator, &task).await?;
        let container = container_of(&mut agent, &task).await?;
        let token = match &self.token_file {
            Some(path) => read_token(path)?,
            None => self.agents_own(&mut agent).await?,
        };
        let agent = agent.token(&token).map_err(|error| rejected(&error))?;
        Ok((task, container, agent))
    }

    async fn agents_own(&self, agent: &mut AgentClient) -> Result<String, Failure> {
        let flags = agent.get_flags().await.map_err(|error| rejected(&error))?;
        let flag = flags.flags.into_iter().find(|flag| flag.name == "token-file");
        let path = flag.and_then(|flag| flag.value).unwrap_or_default();
        read_token(Path::new(&path)).map_err(|failure| {
            let text = format!(
                "{failure}; the agent lets in who knows its token: run this as root on the agent's machine, or copy the file and \
                 name it by --token-file"
            );
            Failure::new(failure.kind, text)
        })
    }
}

/// The token in a file.
pub(crate) fn read_token(path: &Path) -> Result<String, Failure> {
    let read = std::fs::read_to_string(path);
    read.map_err(|error| {
        Failure::new(
            FailureKind::Rejected,
            format!("cannot read the token in {}: {error}", path.display()),
        )
    })
}

/// As the task's own updates name it, or else as its agent does.
async fn container_of(agent: &mut AgentClient, task: &Task) -> Result<ContainerId, Failure> {
    let status = task
        .statuses
        .iter()
        .rev()
        .find_map(|status| status.container_status.as_ref());
    if let Some(id) = status.and_then(|status| status.container_id.clone()) {
        return Ok(id);
    }
    let executor = task.executor_id.as_ref().map_or(&task.task_id.value, |id| &id.value);
    let containers = agent.get_containers().await.map_err(|error| rejected(&error))?;
    let found = containers.containers.into_iter().find(|container| {
        container.executor_id.as_ref().is_some_and(|id| id.value == *executor)
            && container.framework_id.as_ref() == Some(&task.framework_id)
    });
    found.map(|container| container.container_id).ok_or_else(|| {
        let text = format!("task {} does not run ({})", task.task_id, state_name(task.state()));
        Failure::new(FailureKind::NotFound, text)
    })
}

/// The agent refused, or does not answer.
pub(crate) fn rejected(error: &CallError) -> Failure {
    match error {
        CallError::Rejected(text) | CallError::NotSubscribed(text) => Failure::new(FailureKind::Rejected, text),
        other => Failure::new(FailureKind::Unreachable, format!("the agent: {other}")),
    }
}

/// The call that a stream of input begins with.
pub(crate) fn attach(container: ContainerId) -> Call {
    let mut attach = AttachContainerInput {
        container_id: Some(container),
        ..Default::default()
    };
    attach.set_type(attach_container_input::Type::ContainerId);
    input_call(attach)
}

/// What was typed; nothing at all is the end.
pub(crate) fn typed(bytes: &[u8]) -> Call {
    let mut data = Data {
        data: Some(bytes.to_vec()),
        ..Default::default()
    };
    data.set_type(data::Type::Stdin);
    let mut message = ProcessIo {
        data: Some(data),
        ..Default::default()
    };
    message.set_type(process_io::Type::Data);
    process_io_call(message)
}

/// The size of the terminal.
pub(crate) fn resized(size: TtyInfo) -> Call {
    let mut control = Control {
        tty_info: Some(size),
        ..Default::default()
    };
    control.set_type(control::Type::TtyInfo);
    let mut message = ProcessIo {
        control: Some(control),
        ..Default::default()
    };
    message.set_type(process_io::Type::Control);
    process_io_call(message)
}

fn process_io_call(message: ProcessIo) -> Call {
    let mut attach = AttachContainerInput {
        process_io: Some(message),
        ..Default::default()
    };
    attach.set_type(attach_container_input::Type::ProcessIo);
    input_call(attach)
}

fn input_call(attach: AttachContainerInput) -> Call {
    let mut call = Call {
        attach_container_input: Some(attach),
        ..Default::default()
    };
    call.set_type(call::Type::AttachContainerInput);
    call
}

/// Reads standard input on a thread that nobody waits for, until nobody wants it any more. The end is an empty piece.
pub(crate) fn read_input(pieces: mpsc::Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let length = match std::io::stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
                Ok(length) => length,
            };
            if pieces.blocking_send(buffer[..length].to_vec()).is_err() || length == 0 {
                return;
            }
        }
    });
}

/// Writes a message to where it belongs; false when nobody reads it any more.
pub(crate) fn show(message: &ProcessIo) -> bool {
    let Some(data) = &message.data else { return true };
    let bytes = data.data();
    let written = tokio::task::block_in_place(|| match data.r#type() {
        data::Type::Stderr => write_out(&mut std::io::stderr(), bytes),
        _ => write_out(&mut std::io::stdout(), bytes),
    });
    written.is_ok()
}

fn write_out(stream: &mut dyn Write, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

//! `proffer logs`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use proffer_proto::v1::Task;
use proffer_sdk::CallError;
use proffer_sdk::operator::{AgentClient, OperatorClient};

use super::{ClusterArgs, agents, all_tasks, find_task, is_active, session};
use crate::exit::{Failure, FailureKind};

/// How much is read at a time, bytes.
const CHUNK_BYTES: u64 = 64 * 1024;
/// How often a followed file is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// The task's id, or the beginning of one task's id alone.
    task: String,
    /// The framework of the task, where several have one of that id.
    #[arg(long)]
    framework: Option<String>,
    #[command(flatten)]
    part: PartArgs,
}

/// Which part of what a task wrote.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PartArgs {
    /// Go on until the task has ended.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// The standard error instead of the standard output.
    #[arg(long, conflicts_with = "file")]
    stderr: bool,
    /// Another file of the sandbox, by its path in it.
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// Begin with the last bytes only.
    #[arg(long, value_name = "BYTES")]
    pub(crate) tail: Option<u64>,
    /// The file with the token of the task's agent; needed inside containers alone.
    #[arg(long, env = "PROFFER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Whether the sandbox of a task is in that of its pod.
fn is_in_pod(task: &Task) -> bool {
    let mut statuses = task
        .statuses
        .iter()
        .filter_map(|status| status.container_status.as_ref());
    statuses.any(|status| {
        status
            .container_id
            .as_ref()
            .is_some_and(|container| container.parent.is_some())
    })
}

pub(crate) async fn run(cluster: &ClusterArgs, args: &LogsArgs) -> Result<(), Failure> {
    let mut operator = cluster.operator();
    let tasks = operator.get_tasks().await.map_err(|error| cluster.failure(error))?;
    let task = find_task(&all_tasks(tasks), &args.task, args.framework.as_deref())?;
    let print = |bytes: &[u8]| {
        let mut out = std::io::stdout();
        out.write_all(bytes).and_then(|()| out.flush()).is_ok()
    };
    copy(cluster, &task, &args.part, print).await
}

/// Gives what a task wrote to `take`, until that wants no more.
pub(crate) async fn copy(
    cluster: &ClusterArgs,
    task: &Task,
    args: &PartArgs,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(), Failure> {
    let mut operator = cluster.operator();
    let mut agent = agent_of(cluster, &mut operator, task).await?;
    if let Some(path) = &args.token_file {
        agent = agent
            .token(&session::read_token(path)?)
            .map_err(|error| session::rejected(&error))?;
    }
    let name = match (&args.file, args.stderr) {
        (Some(file), _) => file.as_str(),
        (None, true) => "stderr",
        (None, false) => "stdout",
    };
    let executor = task.executor_id.as_ref().map_or(&task.task_id.value, |id| &id.value);
    let within = if is_in_pod(task) {
        format!("tasks/{}/", task.task_id)
    } else {
        String::new()
    };
    let path = format!(
        "/frameworks/{}/executors/{executor}/runs/latest/{within}{name}",
        task.framework_id
    );
    let mut offset = match args.tail {
        Some(bytes) => size(&mut agent, &path).await?.saturating_sub(bytes),
        None => 0,
    };
    loop {
        // Looked at before the file is, so that what was written last is read.
        let ended = !args.follow || has_ended(cluster, &mut operator, task).await?;
        loop {
            let part = agent
                .read_file(&path, offset, Some(CHUNK_BYTES))
                .await
                .map_err(|error| refused(&path, error))?;
            if part.size < offset {
                // Another file in its place: begin again.
                offset = 0;
                continue;
            }
            if part.data.is_empty() {
                break;
            }
            if let Some(kept_from) = part.kept_from {
                // What comes before it was removed.
                offset = kept_from;
                continue;
            }
            offset += part.data.len() as u64;
            if !take(&part.data) {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

pub(crate) async fn agent_of(
    cluster: &ClusterArgs,
    operator: &mut OperatorClient,
    task: &Task,
) -> Result<AgentClient, Failure> {
    let agents = operator.get_agents().await.map_err(|error| cluster.failure(error))?;
    let agent = agents
        .agents
        .iter()
        .find(|agent| agent.agent_info.id.as_ref() == Some(&task.agent_id))
        .ok_or_else(|| {
            Failure::new(
                FailureKind::NotFound,
                format!("agent {} of the task is away", task.agent_id),
            )
        })?;
    let address = agents::address(agent);
    AgentClient::connect(&address).await.map_err(|error| {
        Failure::new(
            FailureKind::Unreachable,
            format!("agent {} does not answer at {address}: {error}", task.agent_id),
        )
    })
}

async fn size(agent: &mut AgentClient, path: &str) -> Result<u64, Failure> {
    Ok(agent
        .read_file(path, 0, Some(0))
        .await
        .map_err(|error| refused(path, error))?
        .size)
}

async fn has_ended(cluster: &ClusterArgs, operator: &mut OperatorClient, task: &Task) -> Result<bool, Failure> {
    let tasks = all_tasks(operator.get_tasks().await.map_err(|error| cluster.failure(error))?);
    let now = tasks
        .iter()
        .find(|other| other.task_id == task.task_id && other.framework_id == task.framework_id);
    Ok(!now.is_some_and(is_active))
}

fn refused(path: &str, error: CallError) -> Failure {
    let kind = if error.is_rejection() {
        FailureKind::NotFound
    } else {
        FailureKind::Unreachable
    };
    Failure::new(kind, format!("cannot read {path}: {error}"))
}

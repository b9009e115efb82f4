//! `proffer kill`.

use std::time::Duration;

use proffer_proto::v1::{DurationInfo, KillPolicy, master};

use super::{ClusterArgs, all_tasks, find_task, is_active, state_name};
use crate::exit::{Failure, FailureKind};

#[derive(Debug, clap::Args)]
pub(crate) struct KillArgs {
    /// The task's id, or the beginning of one task's id alone.
    task: String,
    /// The framework of the task, where several have one of that id.
    #[arg(long)]
    framework: Option<String>,
    /// Seconds between the polite signal and the final one; the task's own policy if unset.
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u32>,
    /// Return at once instead of waiting until the task has ended.
    #[arg(long)]
    no_wait: bool,
}

pub(crate) async fn run(cluster: &ClusterArgs, args: &KillArgs) -> Result<(), Failure> {
    let mut operator = cluster.operator();
    let tasks = operator.get_tasks().await.map_err(|error| cluster.failure(error))?;
    let task = find_task(&all_tasks(tasks), &args.task, args.framework.as_deref())?;
    if !is_active(&task) {
        let text = format!("task {} has ended already ({})", task.task_id, state_name(task.state()));
        return Err(Failure::new(FailureKind::NotFound, text));
    }
    let kill_policy = args.grace.map(|seconds| KillPolicy {
        grace_period: Some(DurationInfo {
            nanoseconds: i64::from(seconds) * 1_000_000_000,
        }),
    });
    let kill = master::call::KillTask {
        framework_id: task.framework_id.clone(),
        task_id: task.task_id.clone(),
        kill_policy,
    };
    let call = master::Call {
        r#type: Some(master::call::Type::KillTask.into()),
        kill_task: Some(kill),
        ..master::Call::default()
    };
    operator.submit(call).await.map_err(|error| cluster.failure(error))?;
    if args.no_wait {
        return Ok(());
    }
    loop {
        let tasks = all_tasks(operator.get_tasks().await.map_err(|error| cluster.failure(error))?);
        let now = tasks
            .iter()
            .find(|other| other.task_id == task.task_id && other.framework_id == task.framework_id);
        match now {
            Some(now) if is_active(now) => tokio::time::sleep(Duration::from_millis(50)).await,
            ended => {
                let state = ended.map_or("ended", |task| state_name(task.state()));
                eprintln!("task {} of {}: {state}", task.task_id, task.framework_id);
                return Ok(());
            }
        }
    }
}

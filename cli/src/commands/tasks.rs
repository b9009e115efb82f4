//! `proffer tasks`.

use proffer_proto::v1::Task;
use serde::Serialize;

use super::{ClusterArgs, OutputArgs, all_tasks, is_active, show, state_name};
use crate::exit::Failure;
use crate::output::{self, Row};

#[derive(Debug, Serialize)]
struct TaskRow {
    id: String,
    name: String,
    framework_id: String,
    agent_id: String,
    state: &'static str,
    resources: String,
    message: String,
}

impl Row for TaskRow {
    const TITLES: &'static [&'static str] = &["ID", "FRAMEWORK", "AGENT", "STATE", "RESOURCES", "MESSAGE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.framework_id.clone(),
            self.agent_id.clone(),
            self.state.to_owned(),
            self.resources.clone(),
            self.message.clone(),
        ]
    }
}

pub(crate) async fn run(cluster: &ClusterArgs, output: &OutputArgs, all: bool) -> Result<(), Failure> {
    let tasks = cluster
        .operator()
        .get_tasks()
        .await
        .map_err(|error| cluster.failure(error))?;
    let rows: Vec<TaskRow> = all_tasks(tasks)
        .iter()
        .filter(|task| all || is_active(task))
        .map(row)
        .collect();
    Ok(output::print(output.output, &rows)?)
}

fn row(task: &Task) -> TaskRow {
    TaskRow {
        id: task.task_id.value.clone(),
        name: task.name.clone(),
        framework_id: task.framework_id.value.clone(),
        agent_id: task.agent_id.value.clone(),
        state: state_name(task.state()),
        resources: show(&task.resources),
        message: task
            .statuses
            .last()
            .map(|status| status.message().to_owned())
            .unwrap_or_default(),
    }
}

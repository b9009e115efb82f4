//! The commands that ask a running cluster, one file each.

pub(crate) mod agents;
pub(crate) mod attach;
pub(crate) mod exec;
pub(crate) mod frameworks;
pub(crate) mod kill;
pub(crate) mod lent;
pub(crate) mod logs;
pub(crate) mod maintenance;
pub(crate) mod masters;
pub(crate) mod offers;
pub(crate) mod quota;
pub(crate) mod reservations;
pub(crate) mod roles;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod stream;
pub(crate) mod tasks;
pub(crate) mod terminal;
pub(crate) mod volumes;
pub(crate) mod weights;
pub(crate) mod why;

use std::time::Duration;

use proffer_proto::resources::Resources;
use proffer_proto::v1::{Resource, Task, TaskState, master};
use proffer_sdk::operator::OperatorClient;
use proffer_sdk::{CallError, Masters};

use crate::exit::{Failure, FailureKind};
use crate::output::Format;

/// How every asking command finds its cluster and prints.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ClusterArgs {
    /// The masters of the cluster, `host:port[,host:port…]`.
    #[arg(
        long,
        short = 'm',
        env = "PROFFER_MASTER",
        default_value = "127.0.0.1:5050",
        value_name = "ADDRESSES"
    )]
    pub(crate) master: Masters,
    /// How long to look for the leading master, in seconds.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    pub(crate) timeout: u64,
}

/// How a listing is printed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OutputArgs {
    /// `table` for people, `json` for programs.
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

impl ClusterArgs {
    pub(crate) fn operator(&self) -> OperatorClient {
        OperatorClient::new(self.master.clone()).timeout(Duration::from_secs(self.timeout))
    }

    /// Turns the error of a call into what a person and a program are told.
    pub(crate) fn failure(&self, error: CallError) -> Failure {
        match error {
            CallError::Rejected(text) => Failure::new(FailureKind::Rejected, text),
            other => self.unreachable(other),
        }
    }

    /// Nobody answered who could.
    pub(crate) fn unreachable(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(
            FailureKind::Unreachable,
            format!(
                "no leading master answered at {} within {} s ({why}); is one running there? `proffer dev` starts one",
                self.master, self.timeout
            ),
        )
    }
}

/// The resources as people read them; text that cannot be read as resources is left out by the master already.
pub(crate) fn show(resources: &[Resource]) -> String {
    match Resources::from_wire(resources) {
        Ok(resources) => resources.unallocate().to_string(),
        Err(rejection) => format!("unreadable: {rejection}"),
    }
}

/// `TASK_RUNNING` as `RUNNING`.
pub(crate) fn state_name(state: TaskState) -> &'static str {
    state.as_str_name().trim_start_matches("TASK_")
}

/// Whether the task has not ended.
pub(crate) fn is_active(task: &Task) -> bool {
    !proffer_sdk::is_terminal(task.state())
}

/// Every task that the master lists, active ones first.
pub(crate) fn all_tasks(tasks: master::response::GetTasks) -> Vec<Task> {
    [tasks.tasks, tasks.unreachable_tasks, tasks.completed_tasks].concat()
}

/// The one task that the text names: its whole id, or the beginning of one id alone; active tasks are preferred.
pub(crate) fn find_task(tasks: &[Task], text: &str, framework: Option<&str>) -> Result<Task, Failure> {
    let in_framework = |task: &&Task| framework.is_none_or(|id| task.framework_id.value == id);
    let exact: Vec<&Task> = tasks
        .iter()
        .filter(in_framework)
        .filter(|task| task.task_id.value == text)
        .collect();
    let begins: Vec<&Task> = tasks
        .iter()
        .filter(in_framework)
        .filter(|task| task.task_id.value.starts_with(text))
        .collect();
    let found = if exact.is_empty() { begins } else { exact };
    let active: Vec<&Task> = found.iter().copied().filter(|task| is_active(task)).collect();
    match (&found[..], &active[..]) {
        ([], _) => Err(Failure::new(
            FailureKind::NotFound,
            format!("no task is named `{text}`; `proffer tasks --all` lists them"),
        )),
        ([one], _) | (_, [one]) => Ok((*one).clone()),
        (several, _) => {
            let names: Vec<String> = several
                .iter()
                .take(8)
                .map(|task| format!("{} of {}", task.task_id, task.framework_id))
                .collect();
            let text = format!(
                "`{text}` names {} tasks: {}; add --framework or more of the id",
                several.len(),
                names.join(", ")
            );
            Err(Failure::new(FailureKind::NotFound, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(framework: &str, id: &str, state: TaskState) -> Task {
        Task {
            framework_id: framework.into(),
            task_id: id.into(),
            state: state.into(),
            ..Task::default()
        }
    }

    #[test]
    fn a_task_is_found_by_its_id_or_a_beginning_that_is_its_alone() {
        let tasks = [
            task("f1", "web.0.a", TaskState::TaskFailed),
            task("f1", "web.0.b", TaskState::TaskRunning),
            task("f1", "web.1", TaskState::TaskRunning),
            task("f2", "web.1", TaskState::TaskRunning),
        ];
        assert_eq!(
            find_task(&tasks, "web.0", None).expect("one is active").task_id.value,
            "web.0.b"
        );
        assert_eq!(
            find_task(&tasks, "web.0.a", None).expect("exact").task_id.value,
            "web.0.a"
        );
        assert_eq!(
            find_task(&tasks, "web.1", Some("f2"))
                .expect("framework")
                .framework_id
                .value,
            "f2"
        );
        assert_eq!(
            find_task(&tasks, "web.1", None).expect_err("two").kind,
            FailureKind::NotFound
        );
        assert_eq!(
            find_task(&tasks, "db", None).expect_err("none").kind,
            FailureKind::NotFound
        );
    }
}

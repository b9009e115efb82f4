//! The tasks of a service's instances, as the masters know them: what ended has a log, too.

use std::collections::BTreeMap;
use std::str::FromStr;

use proffer_proto::v1::Task;
use proffer_services::plan::InstanceId;

use super::ServicesArgs;
use crate::commands::{all_tasks, is_active};
use crate::exit::{Failure, FailureKind};

/// A service, or one instance of it: `web`, `web.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(super) service: String,
    pub(super) index: Option<u32>,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (service, index) = match text.split_once('.') {
            Some((service, index)) => (service, Some(index.parse().map_err(|_| "accepted: web, web.2")?)),
            None => (text, None),
        };
        Ok(Self {
            service: service.to_owned(),
            index,
        })
    }
}

/// The tasks of the instances that are named, by index: the one that has not ended, or else the last one.
pub(super) async fn tasks(services: &ServicesArgs, named: &Named) -> Result<BTreeMap<u32, Task>, Failure> {
    let cluster = &services.cluster;
    let mut operator = cluster.operator();
    let frameworks = operator
        .get_frameworks()
        .await
        .map_err(|error| cluster.failure(error))?
        .frameworks;
    let ids: Vec<_> = frameworks
        .into_iter()
        .filter(|framework| framework.framework_info.name == services.framework)
        .filter_map(|framework| framework.framework_info.id)
        .collect();
    let known = all_tasks(operator.get_tasks().await.map_err(|error| cluster.failure(error))?);
    let known = known.into_iter().filter(|task| ids.contains(&task.framework_id));
    let found = latest(named, known);
    if found.is_empty() {
        let what = match named.index {
            Some(index) => format!("instance {index} of the service `{}`", named.service),
            None => format!("the service `{}`", named.service),
        };
        let text = format!("no master knows a task of {what}; `proffer service ls` lists the services");
        return Err(Failure::new(FailureKind::NotFound, text));
    }
    Ok(found)
}

fn latest(named: &Named, tasks: impl Iterator<Item = Task>) -> BTreeMap<u32, Task> {
    let mut found: BTreeMap<u32, Task> = BTreeMap::new();
    let rank = |task: &Task| {
        let last = task
            .statuses
            .iter()
            .filter_map(|status| status.timestamp)
            .max_by(f64::total_cmp);
        (is_active(task), last.unwrap_or_default())
    };
    for task in tasks {
        let Some(instance) = InstanceId::of_task(&task.task_id.value) else {
            continue;
        };
        if instance.service != named.service || named.index.is_some_and(|index| index != instance.index) {
            continue;
        }
        match found.get(&instance.index) {
            Some(known) if rank(known) >= rank(&task) => {}
            _ => drop(found.insert(instance.index, task)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proffer_proto::v1::{TaskState, TaskStatus};

    use super::*;

    fn task(id: &str, state: TaskState, timestamp: f64) -> Task {
        let status = TaskStatus {
            timestamp: Some(timestamp),
            ..TaskStatus::default()
        };
        Task {
            task_id: id.into(),
            state: state.into(),
            statuses: vec![status],
            ..Task::default()
        }
    }

    #[test]
    fn of_an_instance_the_task_that_runs_is_meant_or_else_the_last_one() {
        let tasks = [
            task("web.0.a", TaskState::TaskFailed, 1.0),
            task("web.0.b", TaskState::TaskRunning, 2.0),
            task("web.0.c", TaskState::TaskFailed, 3.0),
            task("web.1.a", TaskState::TaskFailed, 9.0),
            task("web.1.b", TaskState::TaskFailed, 8.0),
            task("web-2.0.a", TaskState::TaskRunning, 1.0),
            task("web", TaskState::TaskRunning, 1.0),
        ];
        let found = |text: &str| {
            let named: Named = text.parse().unwrap();
            let found = latest(&named, tasks.iter().cloned());
            found
                .values()
                .map(|task| task.task_id.value.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("web"), ["web.0.b", "web.1.a"]);
        assert_eq!(found("web.1"), ["web.1.a"]);
        assert!(found("web.2").is_empty() && found("db").is_empty());
        assert!("web.x".parse::<Named>().is_err() && "web.0.a".parse::<Named>().is_err());
    }
}

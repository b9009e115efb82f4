//! What the records of a journal amount to: the state from which the agent recovers, and what compaction keeps.

use std::collections::{BTreeMap, VecDeque};

use proffer_proto::v1;

use super::record::{
    Agent, Boot, Cause, Checked, Ending, ExecutorEnding, ExecutorLaunch, ExecutorName, Fact, Launch, Record, TaskName,
    Update, Volumes,
};

/// How many acknowledged updates of an executor's task are remembered.
pub const SEEN_MAX: usize = 64;

/// The state of an agent on disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    /// The agent's identity.
    pub agent: Agent,
    /// The boot in which the agent last ran.
    pub boot: Option<String>,
    /// The frameworks, by id.
    pub frameworks: BTreeMap<String, v1::FrameworkInfo>,
    /// The tasks that are not forgotten.
    pub tasks: BTreeMap<TaskName, TaskImage>,
    /// The executors that have not ended.
    pub executors: BTreeMap<ExecutorName, ExecutorImage>,
    /// The persistent volumes; none before the first.
    pub volumes: Option<Volumes>,
}

/// The state of an executor on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutorImage {
    /// The executor and its container.
    pub launch: ExecutorLaunch,
    /// Set when it is being ended: when by force, and why.
    pub ending: Option<(u64, Cause)>,
}

/// The state of a task on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskImage {
    /// The task and its container.
    pub launch: Launch,
    /// The updates that are not acknowledged, oldest first.
    pub updates: VecDeque<v1::TaskStatus>,
    /// Set when the task is being ended: when by force, and why.
    pub ending: Option<(u64, Cause)>,
    /// Whether nobody waits for its updates.
    pub muted: bool,
    /// What its checks said last; none before it ran, and of a task without checks.
    pub checked: Option<Checked>,
}

impl TaskImage {
    /// The newest state on disk; `None` before the first update.
    pub fn latest(&self) -> Option<v1::TaskState> {
        match self.updates.back() {
            Some(status) => Some(status.state()),
            None => self
                .launch
                .acknowledged
                .and_then(|state| v1::TaskState::try_from(state).ok()),
        }
    }
}

impl Image {
    /// Adds one record. A record about a task that is not known is passed over: it was forgotten meanwhile.
    pub fn apply(&mut self, record: Record) {
        match record.fact {
            Some(Fact::Agent(agent)) => self.agent = agent,
            Some(Fact::Boot(boot)) => self.boot = Some(boot.id),
            Some(Fact::Framework(framework)) => {
                let id = framework.id.clone().unwrap_or_default().value;
                self.frameworks.insert(id, framework);
            }
            Some(Fact::Launch(launch)) => {
                let task = TaskImage {
                    launch,
                    updates: VecDeque::new(),
                    ending: None,
                    muted: false,
                    checked: None,
                };
                self.tasks.insert(task.name(), task);
            }
            Some(Fact::Update(update)) => {
                let task = update.status.task_id.value.clone();
                if let Some(task) = self.tasks.get_mut(&TaskName {
                    framework: update.framework,
                    task,
                }) {
                    task.updates.push_back(update.status);
                }
            }
            Some(Fact::Acknowledged(name)) => {
                if let Some(task) = self.tasks.get_mut(&name)
                    && let Some(status) = task.updates.pop_front()
                {
                    task.launch.acknowledged = Some(status.state);
                    if let (Some(_), Some(uuid)) = (&task.launch.executor, status.uuid) {
                        remember(&mut task.launch.seen, uuid);
                    }
                }
            }
            Some(Fact::Ending(ending)) => {
                let cause = ending.cause();
                if let Some(task) = self.tasks.get_mut(&ending.task) {
                    task.ending = Some((ending.force_at, cause));
                }
            }
            Some(Fact::Muted(name)) => {
                if let Some(task) = self.tasks.get_mut(&name) {
                    task.muted = true;
                    task.updates.clear();
                }
            }
            Some(Fact::Checked(checked)) => {
                if let Some(task) = self.tasks.get_mut(&checked.task) {
                    task.checked = Some(checked);
                }
            }
            Some(Fact::Forgotten(name)) => {
                self.tasks.remove(&name);
                self.forget_framework(&name.framework);
            }
            Some(Fact::Executor(launch)) => {
                let name = ExecutorName {
                    framework: launch.framework.clone(),
                    executor: launch.info.executor_id.value.clone(),
                };
                self.executors.insert(name, ExecutorImage { launch, ending: None });
            }
            Some(Fact::ExecutorEnding(ending)) => {
                let cause = ending.cause();
                if let Some(executor) = self.executors.get_mut(&ending.executor) {
                    executor.ending = Some((ending.force_at, cause));
                }
            }
            Some(Fact::Volumes(volumes)) => self.volumes = Some(volumes),
            Some(Fact::ExecutorForgotten(name)) => {
                self.executors.remove(&name);
                self.forget_framework(&name.framework);
            }
            None => {}
        }
    }

    /// The fewest records that amount to this image.
    pub fn records(&self) -> Vec<Record> {
        let mut facts = vec![Fact::Agent(self.agent.clone())];
        facts.extend(self.boot.clone().map(|id| Fact::Boot(Boot { id })));
        facts.extend(self.volumes.clone().map(Fact::Volumes));
        facts.extend(self.frameworks.values().cloned().map(Fact::Framework));
        for (name, executor) in &self.executors {
            facts.push(Fact::Executor(executor.launch.clone()));
            facts.extend(executor.ending.map(|(force_at, cause)| {
                Fact::ExecutorEnding(ExecutorEnding {
                    executor: name.clone(),
                    force_at,
                    cause: cause.into(),
                })
            }));
        }
        for (name, task) in &self.tasks {
            facts.push(Fact::Launch(task.launch.clone()));
            for status in &task.updates {
                facts.push(Fact::Update(Update {
                    framework: name.framework.clone(),
                    status: status.clone(),
                }));
            }
            if let Some((force_at, cause)) = task.ending {
                facts.push(Fact::Ending(Ending {
                    task: name.clone(),
                    force_at,
                    cause: cause.into(),
                }));
            }
            facts.extend(task.checked.clone().map(Fact::Checked));
            if task.muted {
                facts.push(Fact::Muted(name.clone()));
            }
        }
        facts.into_iter().map(Record::from).collect()
    }

    /// Forgets a framework of which nothing is left.
    fn forget_framework(&mut self, framework: &str) {
        if !has_any(framework, &self.tasks, &self.executors) {
            self.frameworks.remove(framework);
        }
    }
}

/// Whether one of the tasks, or of the executors, is the framework's.
pub(crate) fn has_any<T, E>(
    framework: &str,
    tasks: &BTreeMap<TaskName, T>,
    executors: &BTreeMap<ExecutorName, E>,
) -> bool {
    // What none of its tasks, and none of its executors, comes before.
    let task = TaskName {
        framework: framework.to_owned(),
        task: String::new(),
    };
    let executor = ExecutorName {
        framework: framework.to_owned(),
        executor: String::new(),
    };
    let task = tasks.range(task..).next();
    let executor = executors.range(executor..).next();
    task.is_some_and(|(name, _)| name.framework == framework)
        || executor.is_some_and(|(name, _)| name.framework == framework)
}

/// Adds the latest, and drops the oldest of more than [`SEEN_MAX`].
pub(crate) fn remember(seen: &mut Vec<Vec<u8>>, uuid: Vec<u8>) {
    if seen.len() >= SEEN_MAX {
        seen.remove(0);
    }
    seen.push(uuid);
}

impl TaskImage {
    fn name(&self) -> TaskName {
        TaskName {
            framework: self.launch.framework.clone(),
            task: self.launch.task.task_id.value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compaction_keeps_the_image() {
        let name = TaskName {
            framework: "f".into(),
            task: "t".into(),
        };
        let mut image = Image::default();
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: "t".into() },
            state: v1::TaskState::TaskRunning.into(),
            ..Default::default()
        };
        let facts = [
            Fact::Agent(Agent {
                id: Some(v1::AgentId { value: "a".into() }),
                cluster: Some("c".into()),
            }),
            Fact::Boot(Boot { id: "b".into() }),
            Fact::Framework(v1::FrameworkInfo {
                id: Some(v1::FrameworkId { value: "f".into() }),
                ..Default::default()
            }),
            Fact::Launch(Launch {
                framework: "f".into(),
                task: v1::TaskInfo {
                    task_id: v1::TaskId { value: "t".into() },
                    ..Default::default()
                },
                container: "c".into(),
                ..Default::default()
            }),
            Fact::Update(Update {
                framework: "f".into(),
                status: status.clone(),
            }),
            Fact::Acknowledged(name.clone()),
            Fact::Update(Update {
                framework: "f".into(),
                status: v1::TaskStatus {
                    state: v1::TaskState::TaskKilling.into(),
                    ..status
                },
            }),
            Fact::Ending(Ending {
                task: name.clone(),
                force_at: 7,
                cause: Cause::CompletionTime.into(),
            }),
        ];
        for fact in facts {
            image.apply(fact.into());
            let mut again = Image::default();
            image.records().into_iter().for_each(|record| again.apply(record));
            assert_eq!(image, again);
        }
        assert_eq!(
            image.tasks[&name].launch.acknowledged,
            Some(v1::TaskState::TaskRunning.into())
        );
        let executor = ExecutorName {
            framework: "f".into(),
            executor: "e".into(),
        };
        let facts = [
            Fact::Executor(ExecutorLaunch {
                framework: "f".into(),
                info: v1::ExecutorInfo {
                    executor_id: "e".into(),
                    ..Default::default()
                },
                container: "c".into(),
                token: "secret".into(),
            }),
            Fact::ExecutorEnding(ExecutorEnding {
                executor: executor.clone(),
                force_at: 8,
                cause: Cause::NotSubscribed.into(),
            }),
        ];
        for fact in facts {
            image.apply(fact.into());
            let mut again = Image::default();
            image.records().into_iter().for_each(|record| again.apply(record));
            assert_eq!(image, again);
        }
        image.apply(Fact::Forgotten(name).into());
        assert!(image.tasks.is_empty() && !image.frameworks.is_empty());
        image.apply(Fact::ExecutorForgotten(executor).into());
        assert!(image.tasks.is_empty() && image.frameworks.is_empty());
    }
}

//! Executors: what runs tasks that are no command of their own.
//!
//! A *custom executor* is a program of the framework's in a container of its own. It subscribes with the agent, is given tasks, and
//! says what becomes of them; what it says is acknowledged once it is in the journal. The *default executor* is the agent itself:
//! the tasks of a group run in containers of their own within one *pod*, which lasts as long as they do. When one of them fails or
//! is killed, the others of its group are killed.
//!
//! ```text
//! custom:   Launching --started--> Running --SHUTDOWN, deadline--> Ending --container ended--> (forgotten)
//!           Recovering (of a previous agent process) --found--> Running, which has to subscribe again
//! default:  Pod --last task ended--> (forgotten)
//! ```
//! Whether an executor is subscribed is apart from that: its stream may end and come again at any time. One file each: `launch`
//! takes tasks, `call` hears executors, `run` follows their containers, `end` ends them and the groups.

mod call;
mod end;
mod launch;
mod run;

use std::collections::BTreeSet;
use std::time::Duration;

use proffer_proto::v1;
use proffer_proto::v1::executor_info::Type;

use super::task::Ending;
use super::{Core, ExecutorName, Owner, Part, ResizeOrder, TaskName, Timestamp};
use crate::checkpoint::image::ExecutorImage;
use crate::checkpoint::record::Cause;
use crate::containerizer::ContainerId;

pub use call::{ExecutorCall, Refusal, RefusalKind};

pub(super) use call::{call, detached, message};
pub(super) use end::{disk_exceeded, end_group, end_task, expire, shut_all_down, shutdown, task_ended};
pub(super) use launch::launch;
pub(super) use run::{exited, found, launched};

/// How long executors may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To subscribe after they were started.
    pub registration: Duration,
    /// To subscribe again after the agent was restarted.
    pub reregistration: Duration,
    /// To subscribe again after their stream broke; they give up after the same time.
    pub recovery: Duration,
    /// To end after they were asked to, unless they say otherwise.
    pub shutdown_grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            registration: Duration::from_secs(60),
            reregistration: Duration::from_secs(15),
            recovery: Duration::from_secs(900),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// An executor that has not ended.
#[derive(Debug, Clone)]
pub struct Executor {
    /// The executor as the framework described it.
    pub info: v1::ExecutorInfo,
    /// Its container, or its pod.
    pub container: ContainerId,
    /// Where it stands.
    pub phase: Phase,
    /// Its tasks that have not ended.
    pub tasks: BTreeSet<String>,
    /// Those of them that it is to be given when it subscribes, oldest first.
    queue: Vec<String>,
    /// The secret by which it shows that it is the one.
    token: String,
    /// The event stream, while it is subscribed.
    stream: Option<u64>,
    /// Whether it ever was.
    subscribed: bool,
    /// When it is too late to subscribe.
    subscribe_by: Option<Timestamp>,
    timer: Option<Timestamp>,
}

/// Where an executor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is the agent's own, without a process.
    Pod,
    /// A previous agent process accepted it; its container is being looked for.
    Recovering {
        /// Set when it was being ended.
        ending: Option<Ending>,
    },
    /// Its container is being started.
    Launching {
        /// Set when it is not to start after all.
        cancelled: Option<Cause>,
    },
    /// Its program runs.
    Running {
        /// The main process.
        pid: u32,
    },
    /// Its program was asked to end.
    Ending(Ending),
}

impl Executor {
    fn new(info: v1::ExecutorInfo, container: String, token: String) -> Self {
        let phase = match info.r#type() {
            Type::Default => Phase::Pod,
            Type::Unknown | Type::Custom => Phase::Launching { cancelled: None },
        };
        Self {
            info,
            container: ContainerId(container),
            phase,
            tasks: BTreeSet::new(),
            queue: Vec::new(),
            token,
            stream: None,
            subscribed: false,
            subscribe_by: None,
            timer: None,
        }
    }

    pub(super) fn restore(image: ExecutorImage) -> Self {
        let mut executor = Self::new(image.launch.info, image.launch.container, image.launch.token);
        executor.subscribed = true;
        if !executor.is_pod() {
            let ending = image.ending.map(|(at, cause)| Ending {
                pid: 0,
                cause,
                force_at: Some(Timestamp(at)),
            });
            executor.phase = Phase::Recovering { ending };
        }
        executor
    }

    /// Whether it is the agent's own.
    pub fn is_pod(&self) -> bool {
        self.phase == Phase::Pod
    }

    /// Whether it may speak, and is listened to.
    pub fn is_subscribed(&self) -> bool {
        self.stream.is_some()
    }

    /// The main process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Running { pid } | Phase::Ending(Ending { pid, .. }) => Some(pid),
            _ => None,
        }
    }

    /// Whether no task can be launched on it any more.
    fn is_ending(&self) -> bool {
        matches!(
            self.phase,
            Phase::Ending(_) | Phase::Launching { cancelled: Some(_) } | Phase::Recovering { ending: Some(_) }
        )
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Ending(ending) => ending.force_at,
            Phase::Running { .. } if self.stream.is_none() => self.subscribe_by,
            _ => None,
        }
    }
}

/// A task's place among those of its executor.
#[derive(Debug, Clone)]
pub(super) struct Member {
    executor: ExecutorName,
    task: String,
    group: Option<String>,
}

impl Member {
    /// None for a command of its own.
    pub(super) fn of(core: &Core, name: &TaskName) -> Option<Self> {
        let task = core.tasks.get(name)?;
        Some(Self {
            executor: ExecutorName {
                framework: name.framework.clone(),
                executor: task.executor.clone()?,
            },
            task: name.task.clone(),
            group: task.group.clone(),
        })
    }
}

/// Brings recovered tasks and their executors together.
pub(super) fn reunite(core: &mut Core, effects: &mut Vec<super::Effect>) {
    for (name, task) in &core.tasks {
        let Some(executor) = task.executor.clone().filter(|_| task.is_alive()) else {
            continue;
        };
        let executor = ExecutorName {
            framework: name.framework.clone(),
            executor,
        };
        if let Some(executor) = core.executors.get_mut(&executor) {
            executor.tasks.insert(name.task.clone());
        }
    }
    let empty = core.executors.iter();
    let empty = empty.filter(|(_, executor)| executor.is_pod() && executor.tasks.is_empty());
    for name in empty.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
        end::forget(core, &name, effects);
    }
}

impl Core {
    fn set_executor_timer(&mut self, name: &ExecutorName) {
        let Some(executor) = self.executors.get_mut(name) else {
            return;
        };
        let next = executor.next_deadline();
        if next == executor.timer {
            return;
        }
        if let Some(old) = executor.timer.take() {
            self.timers.remove(&(old, Owner::Executor(name.clone())));
        }
        if let Some(new) = next {
            self.timers.insert((new, Owner::Executor(name.clone())));
        }
        executor.timer = next;
    }

    /// The custom executor whose program runs in a container, with a task that stands for it and what its container has to hold.
    pub fn executor_of(&self, container: &ContainerId) -> Option<(&ExecutorName, v1::TaskInfo, Vec<Part>)> {
        let Some(Owner::Executor(name)) = self.containers.get(container) else {
            return None;
        };
        let (name, executor) = self.executors.get_key_value(name)?;
        executor.pid()?;
        Some((name, self.stand_in(name, executor), self.size(name)?.parts))
    }

    /// A task that is what an executor's program needs.
    fn stand_in(&self, name: &ExecutorName, executor: &Executor) -> v1::TaskInfo {
        v1::TaskInfo {
            name: executor.info.name.clone().unwrap_or_else(|| name.executor.clone()),
            task_id: name.executor.as_str().into(),
            agent_id: self.id.clone().unwrap_or_default(),
            command: executor.info.command.clone(),
            container: executor.info.container.clone(),
            ..v1::TaskInfo::default()
        }
    }

    /// What an executor's container or pod has to hold.
    pub(crate) fn size(&self, name: &ExecutorName) -> Option<ResizeOrder> {
        let executor = self.executors.get(name)?;
        let mut parts = vec![Part {
            resources: executor.info.resources.clone(),
            ..Part::default()
        }];
        for task in &executor.tasks {
            if let Some(task) = self.tasks.get(&task_name(name, task)) {
                parts.push(Part {
                    resources: task.info.resources.clone(),
                    limits: task.info.limits.clone(),
                });
            }
        }
        Some(ResizeOrder {
            executor: name.clone(),
            container: executor.container.clone(),
            parts,
        })
    }
}

fn task_name(executor: &ExecutorName, task: &str) -> TaskName {
    TaskName {
        framework: executor.framework.clone(),
        task: task.to_owned(),
    }
}

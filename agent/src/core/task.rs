//! One task: its container, its phase, and its queue of updates.

use std::collections::VecDeque;
use std::time::Duration;

use proffer_proto::{secrets, v1};

use super::{TaskName, Timestamp};
use crate::checkpoint::record::{Cause, Launch};
use crate::containerizer::ContainerId;

/// A task that the agent has not forgotten.
#[derive(Debug, Clone)]
pub struct Task {
    /// The task as the framework described it.
    pub info: v1::TaskInfo,
    /// Its container.
    pub container: ContainerId,
    /// Where it stands.
    pub phase: Phase,
    /// When it was accepted.
    pub launched_at: Timestamp,
    /// The updates that are not acknowledged, oldest first; the first is in flight.
    pub updates: VecDeque<v1::TaskStatus>,
    /// The newest state, acknowledged or not.
    pub latest: v1::TaskState,
    /// The executor that runs it, where it is no command of its own.
    pub executor: Option<String>,
    /// The first task of its group.
    pub group: Option<String>,
    /// The latest updates of its executor that were acknowledged.
    pub(super) seen: Vec<Vec<u8>>,
    /// Whether nobody waits for its updates: none are kept, and it is forgotten when it has ended.
    pub muted: bool,
    pub(super) delivery: Delivery,
    pub(super) timer: Option<Timestamp>,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
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
    /// A custom executor runs it, in its own container.
    Entrusted {
        /// Whether the executor has it.
        given: Given,
        /// Set when it is to end.
        killed: Option<Kill>,
    },
    /// Its container, or the part that an executor plays in its life, has ended.
    Ended,
}

/// Whether an executor has a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// It waits until the executor subscribes.
    No,
    /// A previous agent process may have given it; the executor will say.
    Maybe,
    /// The executor has it.
    Yes,
}

/// What an executor was asked about the end of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    /// How long it may take.
    pub grace: Duration,
    /// Why.
    pub cause: Cause,
}

/// How a task is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The main process.
    pub pid: u32,
    /// Why.
    pub cause: Cause,
    /// When its processes are killed; `None` when they were.
    pub force_at: Option<Timestamp>,
}

/// How often the head of the queue was sent, and when it is sent again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Delivery {
    pub(super) attempts: u32,
    pub(super) retry_at: Option<Timestamp>,
}

impl Task {
    pub(super) fn new(launch: &Launch) -> Self {
        Self {
            info: launch.task.clone(),
            container: ContainerId(launch.container.clone()),
            phase: Phase::Launching { cancelled: None },
            launched_at: Timestamp(launch.at),
            updates: VecDeque::new(),
            latest: v1::TaskState::TaskStaging,
            executor: launch.executor.clone(),
            group: launch.group.clone(),
            seen: launch.seen.clone(),
            muted: false,
            delivery: Delivery::default(),
            timer: None,
        }
    }

    /// The main process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Running { pid } | Phase::Ending(Ending { pid, .. }) => Some(pid),
            Phase::Recovering { .. } | Phase::Launching { .. } | Phase::Entrusted { .. } | Phase::Ended => None,
        }
    }

    /// Whether a custom executor runs it; its container is that of the executor then.
    pub fn is_entrusted(&self) -> bool {
        self.executor.is_some() && self.container.pod().is_none()
    }

    /// Whether its container may still have processes.
    pub fn is_alive(&self) -> bool {
        self.phase != Phase::Ended
    }

    /// The task as the v1 API shows it.
    pub fn wire(&self, name: &TaskName, user: Option<String>) -> v1::Task {
        let head = self.updates.front();
        v1::Task {
            name: self.info.name.clone(),
            task_id: self.info.task_id.clone(),
            framework_id: v1::FrameworkId {
                value: name.framework.clone(),
            },
            executor_id: self.executor.clone().map(|value| v1::ExecutorId { value }),
            agent_id: self.info.agent_id.clone(),
            // Nobody hears how a muted task fares; what matters is that it still holds its resources.
            state: if self.muted {
                v1::TaskState::TaskKilling
            } else {
                self.latest
            }
            .into(),
            resources: self.info.resources.clone(),
            statuses: self.updates.back().cloned().into_iter().collect(),
            status_update_state: head.map(|status| status.state),
            status_update_uuid: head.and_then(|status| status.uuid.clone()),
            labels: self.info.labels.clone(),
            discovery: self.info.discovery.clone(),
            container: self
                .info
                .container
                .as_deref()
                .cloned()
                .map(secrets::hidden)
                .map(Box::new),
            user,
            health_check: self.info.health_check.clone(),
            kill_policy: self.info.kill_policy,
            limits: self.info.limits.clone(),
        }
    }

    /// When the task may run no longer.
    pub(super) fn completion_deadline(&self) -> Option<Timestamp> {
        let span = self.info.max_completion_time?.nanoseconds;
        Some(
            self.launched_at
                .after(Duration::from_nanos(u64::try_from(span).unwrap_or(0))),
        )
    }

    /// The earliest time at which something is to be done about the task.
    pub(super) fn next_deadline(&self, registered: bool) -> Option<Timestamp> {
        let phase = match self.phase {
            Phase::Running { .. } | Phase::Launching { cancelled: None } => self.completion_deadline(),
            Phase::Ending(ending) => ending.force_at,
            Phase::Recovering { .. }
            | Phase::Launching { cancelled: Some(_) }
            | Phase::Entrusted { .. }
            | Phase::Ended => None,
        };
        let retry = self.delivery.retry_at.filter(|_| registered);
        phase.into_iter().chain(retry).min()
    }
}

/// Whether a task in this state is over.
pub(super) fn is_terminal(state: v1::TaskState) -> bool {
    state.is_terminal()
}

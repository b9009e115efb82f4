//! Gangs: tasks that are launched whole or not at all.

use std::time::Duration;

use proffer_proto::v1::scheduler::call::accept;
use proffer_proto::v1::{DurationInfo, Offer, TaskInfo};

use crate::task::Task;

/// Tasks on one or many agents that are launched whole, in one step of the master, or not at all.
///
/// Given to [`Context::launch_gang`](crate::Context::launch_gang) or [`Calls::launch_gang`](crate::Calls::launch_gang). The master finds the
/// places, on the offers and on whatever else is free for the role. What comes of it is told by the updates of the members: as of any
/// task that is launched, or `TASK_DROPPED` with a reason such as `REASON_GANG_DEADLINE`.
///
/// ```
/// use std::time::Duration;
/// use proffer_sdk::{Gang, Task};
///
/// let worker = |index: u32| Task::command(format!("worker-{index}"), "exec ./worker").cpus(4.0).mem(1024.0).port("data");
/// let gang = Gang::new("solve-17")
///     .members((0..64).map(worker))
///     .minimum(48)
///     .max_wait(Duration::from_secs(600))
///     .together();
/// assert_eq!(gang.build().members.len(), 64);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Gang {
    wire: accept::Gang,
}

impl Gang {
    /// A gang without members. The id is to be new among the framework's gangs that wait.
    pub fn new(id: impl Into<String>) -> Self {
        Gang {
            wire: accept::Gang {
                id: id.into(),
                ..Default::default()
            },
        }
    }

    /// One more task. Its constraints and its strategy are not looked at: the master places it where there is room. It finds its ports, from
    /// the lowest, in `PORT0`, `PORT1` and so on.
    pub fn member(mut self, task: impl Into<Task>) -> Self {
        self.wire.members.push(task.into().unplaced());
        self
    }

    /// More tasks.
    pub fn members(self, tasks: impl IntoIterator<Item = impl Into<Task>>) -> Self {
        tasks.into_iter().fold(self, Gang::member)
    }

    /// A member that is complete: on the agent that it names, or on any where its `agent_id` is empty.
    pub fn info(mut self, info: TaskInfo) -> Self {
        self.wire.members.push(info);
        self
    }

    /// At least so many are launched, instead of all.
    pub fn minimum(mut self, minimum: u32) -> Self {
        self.wire.minimum = Some(minimum);
        self
    }

    /// Waits so long until there is room for enough members, instead of not at all.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        let nanoseconds = i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX);
        self.wire.max_wait = Some(DurationInfo { nanoseconds });
        self
    }

    /// The role whose share it is; only needed where the framework has several and no offer is given with it.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.wire.role = Some(role.into());
        self
    }

    /// Ends all members where one ends before all are running.
    pub fn together(mut self) -> Self {
        self.wire.together = Some(true);
        self
    }

    /// The message.
    pub fn build(self) -> accept::Gang {
        self.wire
    }
}

impl From<Gang> for accept::Gang {
    fn from(gang: Gang) -> Self {
        gang.build()
    }
}

/// Whether an offer is of what a gang lends while it waits: only tasks with a [`max_completion_time`](Task::max_completion_time) that ends
/// before `lent_until` are launched on it. Only frameworks that said [`backfill`](crate::Framework::backfill) get such offers, and accept
/// them apart from others.
///
/// ```
/// let offer = proffer_sdk::testing::offer("o1", "agent1", 1.0, 64.0, 31000..=31000);
/// assert!(!proffer_sdk::gang::is_lent(&offer));
/// ```
pub fn is_lent(offer: &Offer) -> bool {
    offer.lent_until.is_some()
}

//! How instances and their tasks are called.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since the epoch.
pub type Millis = u64;

/// One instance of a service, shown as `web.2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The id of the service.
    pub service: String,
    /// From 0 to one less than the number of instances.
    pub index: u32,
}

impl InstanceId {
    /// The instance of a task id such as `web.2.1f3a`.
    pub fn of_task(task_id: &str) -> Option<Self> {
        let mut parts = task_id.split('.');
        let (service, index, unique) = (parts.next()?, parts.next()?, parts.next()?);
        if service.is_empty() || unique.is_empty() || parts.next().is_some() {
            return None;
        }
        Some(Self {
            service: service.to_owned(),
            index: index.parse().ok()?,
        })
    }

    /// The id of a task of this instance; `unique` tells it from its other tasks.
    pub fn task_id(&self, unique: &str) -> String {
        format!("{self}.{unique}")
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.index)
    }
}

/// A port that an instance got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortAssignment {
    /// Its name in the specification.
    pub name: String,
    /// The port on the agent.
    pub port: u16,
}

/// The launch of one task; what is written down before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The task.
    pub task_id: String,
    /// Whose task it is.
    pub instance: InstanceId,
    /// The version of the specification that it has.
    pub version: u64,
    /// The agent on which it is launched.
    pub agent_id: Option<String>,
    /// The host of the agent.
    pub host: String,
    /// Its ports, in the order of the specification.
    pub ports: Vec<PortAssignment>,
}

impl Launch {
    /// What can be said of a task of which only the id is known.
    pub(super) fn unknown(task_id: &str, instance: InstanceId, version: u64, agent_id: Option<String>) -> Self {
        Self {
            task_id: task_id.to_owned(),
            instance,
            version,
            agent_id,
            host: String::new(),
            ports: Vec::new(),
        }
    }
}

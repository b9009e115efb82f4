//! How instances and their tasks are called.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::placement::Machine;
use crate::spec::ServiceSpec;

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
    #[serde(default)]
    pub machine: Machine,
    /// What has to be heard of it before it takes requests.
    #[serde(default)]
    pub gates: Gates,
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
            machine: Machine {
                agent_id: agent_id.unwrap_or_default(),
                ..Machine::default()
            },
            gates: Gates::default(),
            ports: Vec::new(),
        }
    }

    /// Its agent, where that is known.
    pub fn agent_id(&self) -> Option<&str> {
        Some(self.machine.agent_id.as_str()).filter(|id| !id.is_empty())
    }
}

/// What has to be heard of an instance, beside that it runs, before it takes requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gates {
    /// That its health check succeeded.
    pub health: bool,
    /// That its readiness check succeeded.
    pub readiness: bool,
}

impl Gates {
    /// Those of a specification.
    pub fn of(spec: &ServiceSpec) -> Self {
        Self {
            health: spec.health.is_some(),
            readiness: spec.readiness.is_some(),
        }
    }

    /// Whether an instance with these verdicts takes requests.
    pub fn open(self, verdicts: Verdicts) -> bool {
        (!self.health || verdicts.healthy == Some(true)) && (!self.readiness || verdicts.ready == Some(true))
    }
}

/// What the checks of an instance said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// The health check.
    pub healthy: Option<bool>,
    /// The readiness check.
    pub ready: Option<bool>,
}

impl Verdicts {
    /// What is known after more was heard.
    pub(super) fn and_then(self, later: Self) -> Self {
        Self {
            healthy: later.healthy.or(self.healthy),
            ready: later.ready.or(self.ready),
        }
    }
}

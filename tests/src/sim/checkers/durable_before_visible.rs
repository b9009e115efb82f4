//! Nobody hears of a registry change that is not on the master's disk.

use std::collections::BTreeSet;

use proffer_master_core::Master;
use proffer_proto::v1::{AgentId, FrameworkId};

use super::Violation;

const NAME: &str = "durable_before_visible";

/// Looks at the disk, and only when something was told.
#[derive(Debug, Default)]
pub(crate) struct DurableBeforeVisible {
    agents: BTreeSet<AgentId>,
    frameworks: BTreeSet<FrameworkId>,
}

impl DurableBeforeVisible {
    /// The disk changed.
    pub(crate) fn read(&mut self, disk: &Master) {
        let registry = disk.registry();
        self.agents = registry.agents.into_iter().filter_map(|agent| agent.info.id).collect();
        self.frameworks = registry
            .frameworks
            .into_iter()
            .filter_map(|framework| framework.info.id)
            .collect();
    }

    pub(crate) fn agent_told(&self, id: &AgentId) -> Result<(), Violation> {
        if self.agents.contains(id) {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!("agent {id} was told that it is registered, the disk does not have it"),
        ))
    }

    pub(crate) fn framework_told(&self, id: &FrameworkId) -> Result<(), Violation> {
        if self.frameworks.contains(id) {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!("framework {id} was told that it is subscribed, the disk does not have it"),
        ))
    }

    pub(crate) fn framework_shut_down(&self, id: &FrameworkId) -> Result<(), Violation> {
        if !self.frameworks.contains(id) {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!("the tasks of {id} are killed while the disk still has the framework"),
        ))
    }
}

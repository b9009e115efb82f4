//! Nobody hears of a registry change that is not committed.

use std::collections::BTreeSet;

use proffer_proto::registry::Change;
use proffer_proto::registry::change::Body;
use proffer_proto::v1::{AgentId, FrameworkId};

use super::Violation;

const NAME: &str = "durable_before_visible";

/// Reads the committed changes as they are told for the first time.
#[derive(Debug, Default)]
pub(crate) struct DurableBeforeVisible {
    agents: BTreeSet<AgentId>,
    frameworks: BTreeSet<FrameworkId>,
    removed: BTreeSet<FrameworkId>,
}

impl DurableBeforeVisible {
    /// A change is committed.
    pub(crate) fn committed(&mut self, change: &Change) {
        match &change.body {
            Some(Body::AdmitAgent(admit)) => self.agents.extend(admit.agent.id.clone()),
            Some(Body::PutFramework(put)) => self.frameworks.extend(put.framework.id.clone()),
            Some(Body::RemoveFramework(remove)) => {
                self.removed.insert(remove.framework_id.clone());
            }
            _ => {}
        }
    }

    pub(crate) fn agent_told(&self, id: &AgentId) -> Result<(), Violation> {
        if self.agents.contains(id) {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!("agent {id} was told that it is registered, which is not committed"),
        ))
    }

    pub(crate) fn framework_told(&self, id: &FrameworkId) -> Result<(), Violation> {
        if self.frameworks.contains(id) {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!("framework {id} was told that it is subscribed, which is not committed"),
        ))
    }

    pub(crate) fn framework_shut_down(&self, id: &FrameworkId) -> Result<(), Violation> {
        if self.removed.contains(id) {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!("the tasks of {id} are killed, and its removal is not committed"),
        ))
    }
}

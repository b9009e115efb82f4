//! What agents say of themselves.

use std::ops::Deref;
use std::sync::Arc;

use proffer_proto::{registry as wire, v1};

use crate::master::Step;

/// What an agent says of itself; had once where the registry says the same.
#[derive(Debug)]
pub(crate) struct Known(Arc<wire::Agent>);

impl Known {
    pub(crate) fn of(step: &Step<'_>, info: v1::AgentInfo) -> Self {
        let known = info.id.as_ref().and_then(|id| step.registry.agents.get(id));
        if let Some(known) = known.filter(|known| known.info == info) {
            return Self(known.clone());
        }
        Self(Arc::new(wire::Agent {
            info,
            ..wire::Agent::default()
        }))
    }
}

impl Deref for Known {
    type Target = v1::AgentInfo;

    fn deref(&self) -> &v1::AgentInfo {
        &self.0.info
    }
}

impl From<Arc<wire::Agent>> for Known {
    fn from(agent: Arc<wire::Agent>) -> Self {
        Self(agent)
    }
}

//! The registry as it was at one moment.
//!
//! Making one costs next to nothing, however large the registry is, because it shares everything with it. To encode it takes
//! its time, and is done by whoever has it: the master goes on meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use proffer_proto::registry as wire;
use proffer_proto::v1;

use super::{Entries, Members, Roles, SharedMap};

/// The registry as it was at one moment.
#[derive(Debug, Clone)]
pub struct Image {
    pub(super) agents: SharedMap<v1::AgentId, Arc<wire::Agent>>,
    pub(super) frameworks: SharedMap<v1::FrameworkId, Arc<wire::Framework>>,
    pub(super) completed: Arc<VecDeque<wire::Completed>>,
    pub(super) gone: Arc<VecDeque<wire::Gone>>,
    pub(super) members: Members,
    pub(super) level: Option<u32>,
    pub(super) state: Entries,
    pub(super) roles: Roles,
    pub(super) maintenance: Option<wire::Maintenance>,
}

impl Image {
    /// As a message.
    pub fn to_wire(&self) -> wire::Registry {
        wire::Registry {
            agents: self.agents.values().map(|agent| (**agent).clone()).collect(),
            frameworks: self
                .frameworks
                .values()
                .map(|framework| (**framework).clone())
                .collect(),
            quotas: self.roles.quotas().cloned().collect(),
            weights: self.roles.weights().collect(),
            state: self.state.to_wire().collect(),
            ..self.small()
        }
    }

    /// The message in pieces of one entry each, so that it is never in memory as a whole. Encoded one after the other they are
    /// the encoded message.
    pub fn pieces(&self) -> impl Iterator<Item = wire::Registry> {
        let agents = self.agents.values().map(|agent| wire::Registry {
            agents: vec![(**agent).clone()],
            ..wire::Registry::default()
        });
        let frameworks = self.frameworks.values().map(|framework| wire::Registry {
            frameworks: vec![(**framework).clone()],
            ..wire::Registry::default()
        });
        let state = self.state.to_wire().map(|entry| wire::Registry {
            state: vec![entry],
            ..wire::Registry::default()
        });
        let quotas = self.roles.quotas().map(|quota| wire::Registry {
            quotas: vec![quota.clone()],
            ..wire::Registry::default()
        });
        let weights = self.roles.weights().map(|weight| wire::Registry {
            weights: vec![weight],
            ..wire::Registry::default()
        });
        agents
            .chain(frameworks)
            .chain([self.small()])
            .chain(state)
            .chain(quotas)
            .chain(weights)
    }

    /// About as many bytes as the frameworks' state has when it is encoded.
    pub fn state_bytes(&self) -> u64 {
        self.state.bytes()
    }

    /// What never is large.
    fn small(&self) -> wire::Registry {
        wire::Registry {
            completed_frameworks: self.completed.iter().cloned().collect(),
            gone_agents: self.gone.iter().cloned().collect(),
            members: self.members.present().values().cloned().collect(),
            removed_members: self.members.removed().iter().copied().collect(),
            level: self.level,
            maintenance: self.maintenance.clone(),
            ..wire::Registry::default()
        }
    }
}

//! The replicated facts: agents, frameworks with their failover deadlines, the ids that never come back, the masters
//! of the group, the quotas and weights of roles, and the frameworks' own state.
//!
//! Changed by committed changes only, on leaders and followers alike, and by nothing else than the change itself: two
//! registries that applied the same changes are equal. A change that names what is not there changes nothing.

mod entries;
mod image;
mod members;
mod roles;
mod shared;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use proffer_proto::registry as wire;
use proffer_proto::registry::change::Body;
use proffer_proto::v1;

pub(crate) use entries::{Entries, Entry, Written, cost};
pub use image::Image;
pub(crate) use members::Members;
pub use members::REMOVED_MEMBERS_MAX;
pub(crate) use roles::Roles;
pub use roles::WEIGHT_DEFAULT;
pub(crate) use shared::SharedMap;

/// The level of a registry that says nothing of it.
const LEVEL_FIRST: u32 = 1;
/// What the namespaces of the state that belong to frameworks begin with; the framework's id follows.
pub const OWNED_PREFIX: &str = "framework/";

/// The registry as it is after the changes so far.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) agents: SharedMap<v1::AgentId, Arc<wire::Agent>>,
    pub(crate) frameworks: SharedMap<v1::FrameworkId, Arc<wire::Framework>>,
    completed: Arc<VecDeque<wire::Completed>>,
    completed_ids: BTreeSet<v1::FrameworkId>,
    gone: Arc<VecDeque<wire::Gone>>,
    gone_ids: BTreeSet<v1::AgentId>,
    pub(crate) members: Members,
    /// 0 where nothing was said of it.
    level: u32,
    pub(crate) maintenance: wire::Maintenance,
    pub(crate) roles: Roles,
    pub(crate) state: Entries,
}

/// What a change of the frameworks' state did.
#[derive(Debug)]
pub(crate) enum Applied {
    /// It changed something else.
    Other,
    Written(Written),
    /// The namespace of the write belongs to a framework that is not registered.
    Refused,
    /// A framework was removed, and these keys of its namespace with it.
    Cleared {
        namespace: String,
        keys: Vec<String>,
    },
}

impl Registry {
    /// The registry of a snapshot.
    pub(crate) fn from_wire(snapshot: wire::Registry) -> Self {
        let mut registry = Registry::default();
        for agent in snapshot.agents {
            if let Some(id) = agent.info.id.clone() {
                registry.agents.insert(id, Arc::new(agent));
            }
        }
        for framework in snapshot.frameworks {
            if let Some(id) = framework.info.id.clone() {
                registry.frameworks.insert(id, Arc::new(framework));
            }
        }
        for completed in snapshot.completed_frameworks {
            registry.remember_completed(completed);
        }
        for gone in snapshot.gone_agents {
            registry.remember_gone(gone);
        }
        registry.members = Members::from_wire(snapshot.members, snapshot.removed_members);
        registry.level = snapshot.level.unwrap_or_default();
        registry.maintenance = snapshot.maintenance.unwrap_or_default();
        registry.roles = Roles::from_wire(snapshot.quotas, snapshot.weights);
        registry.state = Entries::from_wire(snapshot.state);
        registry
    }

    /// As it is now, for a snapshot.
    pub(crate) fn image(&self) -> Image {
        Image {
            agents: self.agents.clone(),
            frameworks: self.frameworks.clone(),
            completed: self.completed.clone(),
            gone: self.gone.clone(),
            members: self.members.clone(),
            level: (self.level > 0).then_some(self.level),
            state: self.state.clone(),
            roles: self.roles.clone(),
            maintenance: (self.maintenance != wire::Maintenance::default()).then(|| self.maintenance.clone()),
        }
    }

    /// Changes that a later level introduced must not be proposed.
    pub(crate) fn level(&self) -> u32 {
        self.level.max(LEVEL_FIRST)
    }

    /// Whether a namespace may be used: one that belongs to a framework, only while that is registered.
    pub(crate) fn is_open(&self, namespace: &str) -> bool {
        let owner = namespace.strip_prefix(OWNED_PREFIX);
        owner.is_none_or(|id| self.frameworks.contains_key(&v1::FrameworkId::from(id)))
    }

    pub(crate) fn is_gone(&self, agent: &v1::AgentId) -> bool {
        self.gone_ids.contains(agent)
    }

    pub(crate) fn is_completed(&self, framework: &v1::FrameworkId) -> bool {
        self.completed_ids.contains(framework)
    }

    /// Oldest first.
    pub(crate) fn completed(&self) -> impl Iterator<Item = &wire::Completed> {
        self.completed.iter()
    }

    /// What has to be forgotten so that the bounds hold; `None` when they do.
    pub(crate) fn excess(&self, completed_max: usize, gone_max: usize) -> Option<wire::ForgetCompleted> {
        let completed = self.completed.len().saturating_sub(completed_max);
        let gone = self.gone.len().saturating_sub(gone_max);
        if completed == 0 && gone == 0 {
            return None;
        }
        Some(wire::ForgetCompleted {
            framework_ids: self
                .completed
                .iter()
                .take(completed)
                .filter_map(|c| c.info.id.clone())
                .collect(),
            gone_agent_ids: self.gone.iter().take(gone).map(|g| g.agent_id.clone()).collect(),
        })
    }

    /// Applies the committed change of the log entry `index`.
    pub(crate) fn apply(&mut self, index: u64, change: &wire::Change) -> Applied {
        match &change.body {
            Some(Body::WriteState(write)) if self.is_open(&write.namespace) => {
                return Applied::Written(self.state.write(index, write));
            }
            Some(Body::WriteState(_)) => return Applied::Refused,
            Some(Body::RemoveFramework(remove)) => return self.remove_framework(remove),
            Some(Body::PutMember(put)) => self.members.put(&put.member),
            Some(Body::RemoveMember(remove)) => self.members.remove(remove.id),
            Some(Body::RaiseLevel(raise)) => self.level = self.level.max(raise.level),
            Some(Body::AdmitAgent(admit)) => self.admit_agent(admit),
            Some(Body::UpdateAgent(update)) => {
                let agent = update.agent.id.as_ref().and_then(|id| self.agents.get_mut(id));
                if let Some(agent) = agent.map(Arc::make_mut) {
                    agent.info = update.agent.clone();
                }
            }
            Some(Body::MarkUnreachable(mark)) => {
                if let Some(agent) = self.agents.get_mut(&mark.agent_id).map(Arc::make_mut) {
                    agent.unreachable_ms = Some(mark.at_ms);
                }
            }
            Some(Body::MarkReachable(mark)) => {
                if let Some(agent) = self.agents.get_mut(&mark.agent_id).map(Arc::make_mut) {
                    agent.unreachable_ms = None;
                }
            }
            Some(Body::SetStanding(set)) => {
                if let Some(agent) = self.agents.get_mut(&set.agent_id).map(Arc::make_mut) {
                    agent.standing = Some(set.standing);
                }
            }
            Some(Body::SetLayout(set)) => {
                if let Some(agent) = self.agents.get_mut(&set.agent_id).map(Arc::make_mut) {
                    let mut layout = set.layout.clone();
                    for operation in &mut layout.operations {
                        // A decoded one may be a small part of a large buffer, which it would keep.
                        operation.uuid = Bytes::copy_from_slice(&operation.uuid);
                    }
                    agent.layout = Some(layout);
                }
            }
            Some(Body::SetMaintenance(set)) => self.maintenance = set.maintenance.clone(),
            Some(Body::SetQuotas(set)) => self.roles.set_quotas(&set.quotas),
            Some(Body::SetWeights(set)) => self.roles.set_weights(&set.weights),
            Some(Body::MarkGone(mark)) => {
                self.agents.remove(&mark.agent_id);
                self.remember_gone(wire::Gone {
                    agent_id: mark.agent_id.clone(),
                    at_ms: mark.at_ms,
                });
            }
            Some(Body::RemoveAgent(remove)) => {
                self.agents.remove(&remove.agent_id);
            }
            Some(Body::PutFramework(put)) => self.put_framework(put),
            Some(Body::FrameworkDisconnected(disconnected)) => {
                let framework = self.frameworks.get_mut(&disconnected.framework_id);
                if let Some(framework) = framework.map(Arc::make_mut) {
                    framework.failover_deadline_ms = Some(disconnected.deadline_ms);
                }
            }
            Some(Body::FrameworkConnected(connected)) => {
                let framework = self.frameworks.get_mut(&connected.framework_id);
                if let Some(framework) = framework.map(Arc::make_mut) {
                    framework.failover_deadline_ms = None;
                }
            }
            Some(Body::ForgetCompleted(forget)) => self.forget(forget),
            None => {}
        }
        Applied::Other
    }

    /// A framework's namespace goes with it.
    fn remove_framework(&mut self, remove: &wire::RemoveFramework) -> Applied {
        let Some(framework) = self.frameworks.remove(&remove.framework_id) else {
            return Applied::Other;
        };
        self.remember_completed(wire::Completed {
            info: framework.info.clone(),
            removed_ms: remove.at_ms,
        });
        let namespace = format!("{OWNED_PREFIX}{}", remove.framework_id);
        let keys = self.state.clear(&namespace);
        Applied::Cleared { namespace, keys }
    }

    fn admit_agent(&mut self, admit: &wire::AdmitAgent) {
        let Some(id) = admit.agent.id.clone() else { return };
        if self.gone_ids.contains(&id) || self.agents.contains_key(&id) {
            return;
        }
        let agent = wire::Agent {
            info: admit.agent.clone(),
            admitted_ms: admit.at_ms,
            unreachable_ms: None,
            standing: None,
            layout: None,
        };
        self.agents.insert(id, Arc::new(agent));
    }

    /// Only a connected framework puts, so its deadline ends.
    fn put_framework(&mut self, put: &wire::PutFramework) {
        let Some(id) = put.framework.id.clone() else { return };
        if self.completed_ids.contains(&id) {
            return;
        }
        let registered_ms = self.frameworks.get(&id).map_or(put.at_ms, |known| known.registered_ms);
        let framework = wire::Framework {
            info: put.framework.clone(),
            registered_ms,
            failover_deadline_ms: None,
        };
        self.frameworks.insert(id, Arc::new(framework));
    }

    fn remember_completed(&mut self, completed: wire::Completed) {
        let Some(id) = completed.info.id.clone() else { return };
        if self.completed_ids.insert(id) {
            Arc::make_mut(&mut self.completed).push_back(completed);
        }
    }

    fn remember_gone(&mut self, gone: wire::Gone) {
        if self.gone_ids.insert(gone.agent_id.clone()) {
            Arc::make_mut(&mut self.gone).push_back(gone);
        }
    }

    fn forget(&mut self, forget: &wire::ForgetCompleted) {
        for id in &forget.framework_ids {
            self.completed_ids.remove(id);
        }
        for id in &forget.gone_agent_ids {
            self.gone_ids.remove(id);
        }
        let completed_ids = &self.completed_ids;
        Arc::make_mut(&mut self.completed)
            .retain(|completed| completed.info.id.as_ref().is_some_and(|id| completed_ids.contains(id)));
        let gone_ids = &self.gone_ids;
        Arc::make_mut(&mut self.gone).retain(|gone| gone_ids.contains(&gone.agent_id));
    }
}

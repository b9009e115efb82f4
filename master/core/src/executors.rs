//! Executors: what each holds on its agent beside its tasks, counted once however many tasks it runs.
//!
//! An executor is known from the first task that is launched on it, or from an agent that lists it, until its agent says that it
//! has ended. It outlives its framework here as it does on the agent: until its container is gone its resources are in use, and
//! nobody's.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::link;
use proffer_proto::resources::Resources;
use proffer_proto::v1;

use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};
use crate::{books, events, frameworks, tasks};

/// An executor on an agent.
#[derive(Debug)]
pub(crate) struct Executor {
    /// With its framework's id, and its resources allocated to a role.
    pub(crate) info: v1::ExecutorInfo,
    /// Whose share its resources count in; none where its framework is removed.
    pub(crate) claim: Option<ClaimSlot>,
    pub(crate) role: String,
    /// Without allocation role.
    pub(crate) resources: Resources,
}

/// The executors on one agent.
pub(crate) type Executors = BTreeMap<Key, Executor>;

/// Names an executor on an agent.
pub(crate) type Key = (v1::FrameworkId, v1::ExecutorId);

/// The first task of an executor is launched on an agent. Its resources are no longer the offer's.
pub(crate) fn launch(
    leading: &mut Leading,
    agent: AgentSlot,
    claim: ClaimSlot,
    framework: v1::FrameworkId,
    info: v1::ExecutorInfo,
) {
    let resources = Resources::from_wire(&info.resources).unwrap_or_default().unallocate();
    let role = leading.claims[claim].role.clone();
    let key = (framework, info.executor_id.clone());
    let executor = Executor {
        info,
        claim: Some(claim),
        role,
        resources,
    };
    insert(leading, agent, key, executor);
}

fn insert(leading: &mut Leading, agent: AgentSlot, key: Key, executor: Executor) {
    if let Some(claim) = executor.claim {
        leading.allocator.charge(claim, &executor.resources);
    }
    books::hold(leading, agent, &executor.resources);
    leading.agents[agent].executors.insert(key, executor);
}

fn remove(leading: &mut Leading, agent: AgentSlot, key: &Key) {
    let Some(executor) = leading.agents[agent].executors.remove(key) else {
        return;
    };
    if let Some(claim) = executor.claim {
        leading.allocator.credit(claim, &executor.resources);
    }
    books::unhold(leading, agent, &executor.resources);
}

/// Its agent says that an executor has ended.
pub(crate) fn exited(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot, exited: link::ExecutorExited) {
    let key = (exited.framework_id, exited.executor_id);
    remove(leading, agent, &key);
    let (framework_id, executor_id) = key;
    let event = events::failure(leading.agents[agent].id.clone(), Some((executor_id, exited.status)));
    if let Some(framework) = leading.framework_ids.get(&framework_id) {
        frameworks::send(leading, step, *framework, event);
    }
}

/// An agent listed its executors: the whole truth about them. Returns the frameworks of some that are not known here.
pub(crate) fn relist(
    leading: &mut Leading,
    agent: AgentSlot,
    listed: Vec<v1::ExecutorInfo>,
) -> BTreeSet<v1::FrameworkId> {
    forget(leading, agent);
    let mut unknown = BTreeSet::new();
    for info in listed {
        let Some(framework_id) = info.framework_id.clone() else {
            continue;
        };
        let resources = Resources::from_wire(&info.resources).unwrap_or_default();
        let framework = leading.framework_ids.get(&framework_id).copied();
        let allocated = tasks::allocation_role(&resources);
        let role = match framework {
            Some(framework) => tasks::role_of(leading, framework, allocated),
            None => {
                unknown.insert(framework_id.clone());
                allocated.unwrap_or_else(|| proffer_proto::roles::ANY.to_owned())
            }
        };
        let claim = framework.map(|framework| frameworks::claim(leading, framework, &role));
        let key = (framework_id, info.executor_id.clone());
        if leading.agents[agent].executors.contains_key(&key) {
            continue;
        }
        let resources = resources.unallocate();
        let executor = Executor {
            info,
            claim,
            role,
            resources,
        };
        insert(leading, agent, key, executor);
    }
    unknown
}

/// Forgets the executors of an agent: it lists them anew, or is not counted on any more.
pub(crate) fn forget(leading: &mut Leading, agent: AgentSlot) {
    let keys: Vec<Key> = leading.agents[agent].executors.keys().cloned().collect();
    for key in keys {
        remove(leading, agent, &key);
    }
}

/// The executors of a framework, on whatever agents.
pub(crate) fn of<'a>(leading: &'a Leading, framework: &'a v1::FrameworkId) -> impl Iterator<Item = &'a Executor> {
    let all = leading.agents.iter().flat_map(|(_, agent)| agent.executors.iter());
    all.filter(move |((of, _), _)| of == framework)
        .map(|(_, executor)| executor)
}

/// The agents on which a framework has executors.
pub(crate) fn agents_of(leading: &Leading, framework: FrameworkSlot) -> impl Iterator<Item = AgentSlot> {
    let id = &leading.frameworks[framework].id;
    let has = move |agent: &crate::agents::Agent| agent.executors.keys().any(|(framework, _)| framework == id);
    leading
        .agents
        .iter()
        .filter(move |(_, agent)| has(agent))
        .map(|(slot, _)| slot)
}

/// A framework is removed. What its executors hold stays in use until they have ended.
pub(crate) fn forget_framework(leading: &mut Leading, framework: FrameworkSlot) {
    let agents: Vec<AgentSlot> = agents_of(leading, framework).collect();
    let id = leading.frameworks[framework].id.clone();
    for agent in agents {
        let executors = &mut leading.agents[agent].executors;
        for (_, executor) in executors.iter_mut().filter(|((framework, _), _)| *framework == id) {
            if let Some(claim) = executor.claim.take() {
                leading.allocator.credit(claim, &executor.resources);
            }
        }
    }
}

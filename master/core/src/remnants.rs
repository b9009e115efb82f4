//! Remnants: what tasks still hold on an agent although no framework has them there any more.
//!
//! A task is killed with its framework, but it keeps its ports and memory until its container is gone. Until then its
//! resources are in use on its agent, and nobody's. The same holds of a task that a returning agent lists although it is
//! known on another agent, or was launched when the agent had another id.
//!
//! A remnant ends with the terminal update of its task, with the agent's next list of tasks, and with the agent.

use std::collections::BTreeMap;

use proffer_proto::link::{self, master_message};
use proffer_proto::resources::Resources;
use proffer_proto::v1;

use crate::books;
use crate::master::{Leading, Step};
use crate::slots::AgentSlot;
use crate::tasks::{self, Task};

/// What one task still holds.
#[derive(Debug)]
pub(crate) struct Remnant {
    /// Without allocation role; empty once the task has ended.
    pub(crate) resources: Resources,
    /// Which role it was allocated to.
    pub(crate) role: String,
}

/// The remnants on one agent.
pub(crate) type Remnants = BTreeMap<(v1::FrameworkId, v1::TaskId), Remnant>;

/// The framework of a task is removed. What the task held on its agent stays in use.
pub(crate) fn leave(leading: &mut Leading, task: Task) {
    if !task.held {
        return;
    }
    leading.allocator.credit(task.claim, &task.resources);
    let role = leading.claims[task.claim].role.clone();
    let remnant = Remnant {
        resources: task.resources,
        role,
    };
    let key = (leading.frameworks[task.framework].id.clone(), task.record.id());
    leading.agents[task.agent].remnants.insert(key, remnant);
}

/// An agent listed a task that no framework has there.
pub(crate) fn list(leading: &mut Leading, agent: AgentSlot, task: v1::Task) {
    if tasks::is_terminal(task.state()) {
        return;
    }
    let resources = Resources::from_wire(&task.resources).unwrap_or_default();
    let role = tasks::allocation_role(&resources).unwrap_or_else(|| proffer_proto::roles::ANY.to_owned());
    let resources = resources.unallocate();
    let key = (task.framework_id, task.task_id);
    if leading.agents[agent].remnants.contains_key(&key) {
        return;
    }
    books::hold(leading, agent, &resources);
    leading.agents[agent].remnants.insert(key, Remnant { resources, role });
}

/// Forgets the remnants of an agent: it lists its tasks anew, or is not counted on any more.
pub(crate) fn forget(leading: &mut Leading, agent: AgentSlot) {
    for remnant in std::mem::take(&mut leading.agents[agent].remnants).into_values() {
        books::unhold(leading, agent, &remnant.resources);
    }
}

/// Takes an update if it is of a remnant: `None` then. Nobody but the master could acknowledge it; where the framework is
/// removed, the agent expects no acknowledgement.
pub(crate) fn update(
    leading: &mut Leading,
    step: &mut Step<'_>,
    agent: AgentSlot,
    update: link::StatusUpdate,
) -> Option<link::StatusUpdate> {
    if leading.agents[agent].remnants.is_empty() {
        return Some(update);
    }
    let key = (update.framework_id.clone(), update.status.task_id.clone());
    let known = leading.framework_ids.contains_key(&update.framework_id);
    let state = &mut leading.agents[agent];
    let connection = state.connection();
    let Some(remnant) = state.remnants.get_mut(&key) else {
        return Some(update);
    };
    let ended = tasks::is_terminal(update.latest_state());
    let last = tasks::is_terminal(update.status.state());
    if ended {
        let resources = std::mem::take(&mut remnant.resources);
        if last || !known {
            state.remnants.remove(&key);
        }
        books::unhold(leading, agent, &resources);
    }
    if let (true, Some(connection), Some(uuid)) = (known, connection, update.status.uuid) {
        let (framework_id, task_id) = key;
        let acknowledge = link::Acknowledge {
            framework_id,
            task_id,
            uuid,
        };
        step.effects
            .send_agent(connection, master_message::Body::Acknowledge(acknowledge));
    }
    None
}

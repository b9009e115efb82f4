//! What operations have made of an agent's resources: how much of the agent there is, and the next layout.
//!
//! The layout holds what is reserved dynamically and the persistent volumes, whole; the agent declares the rest. So an agent
//! that comes back with other resources changes nothing here: what it has too little of for the layout is not there for
//! the time being, and is again when the agent has it again.

use proffer_proto::registry as wire;
use proffer_proto::resources::Resources;
use proffer_proto::v1;

use super::convert::Conversion;
use crate::agents::{self, Agent, Phase};
use crate::master::{Leading, Step};
use crate::slots::AgentSlot;
use crate::{books, roles};

/// What there is of an agent that declares so much, with what operations made of it.
pub(crate) fn total(declared: &Resources, converted: &Resources) -> Resources {
    if let Some(rest) = declared.checked_sub(&converted.clone().to_declared()) {
        return rest + converted;
    }
    let (mut rest, mut made) = (declared.clone(), Resources::new());
    // Data counts more than claims.
    let volumes = converted.iter().filter(|entry| entry.key().volume_id().is_some());
    let others = converted.iter().filter(|entry| entry.key().volume_id().is_none());
    for entry in volumes.chain(others) {
        let one = converted.filter(|other| other.key() == entry.key());
        let origin = one.clone().to_declared();
        let there = rest.common(&origin);
        let volume = entry.key().volume_id().is_some();
        if volume && there != origin {
            continue;
        }
        rest = rest.checked_sub(&there).unwrap_or_default();
        made += if there == origin {
            one
        } else {
            let layers = entry.key().reservations().iter().filter(|layer| layer.dynamic);
            layers.fold(there, Resources::reserve)
        };
    }
    rest + made
}

/// The layout after these conversions, which are of the agent's resources.
pub(super) fn after(agent: &Agent, step: &Step<'_>, conversions: &[&Conversion]) -> Option<wire::Layout> {
    let mut converted = agent.converted.clone();
    let version = agent.layout.version + 1;
    let mut destroyed: Vec<_> = agent.layout.destroyed.clone();
    destroyed.retain(|destroyed| destroyed.version > agent.applied);
    for conversion in conversions {
        converted = converted.checked_sub(&conversion.consumed.converted())? + conversion.produced.converted();
        let volumes = conversion.destroyed.to_wire().into_iter();
        destroyed.extend(volumes.map(|volume| wire::Destroyed { volume, version }));
    }
    Some(wire::Layout {
        version,
        resources: converted.to_wire(),
        destroyed,
        operations: open(agent, step).cloned().collect(),
    })
}

/// The operations of frameworks that may still acknowledge them.
fn open<'a>(agent: &'a Agent, step: &'a Step<'_>) -> impl Iterator<Item = &'a wire::Operation> {
    let operations = agent.layout.operations.iter();
    operations.filter(|operation| step.registry.frameworks.contains_key(&operation.framework_id))
}

/// The layout without an operation whose final status is acknowledged.
pub(super) fn without(agent: &Agent, step: &Step<'_>, uuid: &[u8]) -> wire::Layout {
    wire::Layout {
        operations: open(agent, step)
            .filter(|operation| operation.uuid != uuid)
            .cloned()
            .collect(),
        ..agent.layout.clone()
    }
}

/// Takes the layout over that the registry has.
pub(super) fn take(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let agent = &mut leading.agents[slot];
    let known = step.registry.agents.get(&agent.id);
    agent.set_layout(known.and_then(|known| known.layout.as_ref()));
    if !matches!(agent.phase, Phase::Unreachable { .. }) {
        agents::describe(leading, slot);
    }
    books::refresh(leading, slot);
    roles::weigh(leading, step, slot);
}

impl Agent {
    /// Takes a layout over, and counts what there is of the agent.
    pub(crate) fn set_layout(&mut self, layout: Option<&wire::Layout>) {
        self.layout = layout.cloned().unwrap_or_default();
        self.converted = Resources::from_wire(&self.layout.resources).unwrap_or_default();
        self.count_total();
    }

    /// Counts what there is of the agent.
    pub(crate) fn count_total(&mut self) {
        let declared = Resources::from_wire(&self.info.resources).unwrap_or_default();
        self.total = total(&declared.unallocate(), &self.converted);
    }

    /// Whether it can make volumes, and says what became of them.
    pub(super) fn follows_layouts(&self) -> bool {
        let wanted = v1::agent_info::capability::Type::AgentOperationFeedback as i32;
        self.capabilities.iter().any(|own| own.r#type == Some(wanted))
    }
}

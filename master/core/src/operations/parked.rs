//! Resources that are held while an operation on them is on its way to the registry.

use proffer_proto::resources::Resources;
use proffer_proto::v1;

use crate::books;
use crate::master::Leading;
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};

/// Numbers what is parked in one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ParkedNumber(u64);

/// What nobody else may have meanwhile.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) agent: AgentSlot,
    /// Whose it is; nobody's where an operator asked, or where the framework was removed meanwhile.
    pub(crate) owner: Option<(FrameworkSlot, ClaimSlot)>,
    /// Without allocation role.
    pub(crate) resources: Resources,
    /// The ids of the operations on their way.
    pub(crate) operations: Vec<v1::OperationId>,
}

impl Parked {
    pub(crate) fn is_of(&self, framework: FrameworkSlot) -> bool {
        self.owner.is_some_and(|(owner, _)| owner == framework)
    }
}

/// Holds resources that are free.
pub(crate) fn park(leading: &mut Leading, parked: Parked) -> ParkedNumber {
    leading.made.parked += 1;
    let number = ParkedNumber(leading.made.parked);
    if let Some((_, claim)) = parked.owner {
        leading.allocator.charge(claim, &parked.resources);
    }
    leading.agents[parked.agent].parked.insert(number);
    let (agent, resources) = (parked.agent, parked.resources.clone());
    leading.parked.insert(number, parked);
    books::hold(leading, agent, &resources);
    number
}

/// Counts what was held as free, and says whose it was.
pub(crate) fn unpark(leading: &mut Leading, number: ParkedNumber) -> Option<FrameworkSlot> {
    let parked = leading.parked.remove(&number)?;
    leading.agents[parked.agent].parked.remove(&number);
    if let Some((_, claim)) = parked.owner {
        leading.allocator.credit(claim, &parked.resources);
    }
    books::unhold(leading, parked.agent, &parked.resources);
    parked.owner.map(|(framework, _)| framework)
}

/// A framework is removed: what is held for it is nobody's until it is free.
pub(crate) fn disown(leading: &mut Leading, framework: FrameworkSlot) {
    for parked in leading.parked.values_mut() {
        if let Some((_, claim)) = parked.owner.filter(|(owner, _)| *owner == framework) {
            leading.allocator.credit(claim, &parked.resources);
            parked.owner = None;
            parked.operations.clear();
        }
    }
}

//! Resources that are held while an operation on them is on its way to the registry, and the tasks that wait for it; or while a gang
//! waits for the rest of its places.
//!
//! A task that waits is staging: a framework that asks hears so, and one that kills it hears that it never was launched.

use std::collections::BTreeSet;

use proffer_proto::resources::Resources;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, TaskState, TaskStatus};

use crate::accept::Acceptance;
use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};
use crate::{books, events, frameworks, updates};

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
    /// The tasks that wait, those together that are launched together or not at all.
    pub(crate) waiting: Vec<Vec<v1::TaskId>>,
    /// Those that were killed meanwhile.
    pub(crate) killed: BTreeSet<v1::TaskId>,
    /// It waits for no operation, but for the other members of a gang.
    pub(crate) is_for_gang: bool,
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

/// Counts what was held as free, and says whose it was. The tasks that were killed meanwhile are not launched any more.
pub(crate) fn unpark(
    leading: &mut Leading,
    number: ParkedNumber,
    acceptance: Option<&mut Acceptance>,
) -> Option<FrameworkSlot> {
    let parked = leading.parked.remove(&number)?;
    leading.agents[parked.agent].parked.remove(&number);
    if let Some((_, claim)) = parked.owner {
        leading.allocator.credit(claim, &parked.resources);
    }
    books::unhold(leading, parked.agent, &parked.resources);
    if let Some(acceptance) = acceptance {
        acceptance.forget(&parked.killed);
    }
    parked.owner.map(|(framework, _)| framework)
}

/// A framework is removed: what is held for it is nobody's until it is free.
pub(crate) fn disown(leading: &mut Leading, framework: FrameworkSlot) {
    for parked in leading.parked.values_mut() {
        if let Some((_, claim)) = parked.owner.filter(|(owner, _)| *owner == framework) {
            leading.allocator.credit(claim, &parked.resources);
            parked.owner = None;
            parked.operations.clear();
            parked.waiting.clear();
        }
    }
}

/// Kills a task that waits, with those that are launched only together with it; whether there was one.
pub(crate) fn kill(leading: &mut Leading, step: &mut Step<'_>, framework: FrameworkSlot, task: &v1::TaskId) -> bool {
    let mut killed = Vec::new();
    for parked in leading.parked.values_mut().filter(|parked| parked.is_of(framework)) {
        let (together, others) = parked.waiting.drain(..).partition(|tasks| tasks.contains(task));
        parked.waiting = others;
        let together: Vec<Vec<v1::TaskId>> = together;
        for id in together.into_iter().flatten() {
            parked.killed.insert(id.clone());
            killed.push((parked.agent, id));
        }
    }
    for (agent, id) in &killed {
        let reason = Some(Reason::TaskKilledDuringLaunch);
        let message = "the task was killed before it was launched";
        let status = TaskStatus {
            agent_id: Some(leading.agents[*agent].id.clone()),
            ..updates::by_master(step.now, id, TaskState::TaskKilled, reason, message)
        };
        frameworks::send(leading, step, framework, events::update(status));
    }
    !killed.is_empty()
}

/// The tasks of a framework that wait, with their agents.
pub(crate) fn waiting(leading: &Leading, framework: FrameworkSlot) -> impl Iterator<Item = (&v1::TaskId, AgentSlot)> {
    let own = leading.parked.values().filter(move |parked| parked.is_of(framework));
    own.flat_map(|parked| parked.waiting.iter().flatten().map(|task| (task, parked.agent)))
}

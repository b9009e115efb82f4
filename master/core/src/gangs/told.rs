//! What is told of gangs that wait: to their frameworks, and to who asks why it is not offered more.

use proffer_proto::resources::Resources;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, TaskState, TaskStatus};

use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};
use crate::updates;

/// What a framework hears that asks for a member of a gang that waits.
pub(crate) fn status(
    leading: &Leading,
    step: &Step<'_>,
    framework: FrameworkSlot,
    task: &v1::TaskId,
) -> Option<TaskStatus> {
    let number = leading.gangs.with_member(framework, task)?;
    let gang = &leading.gangs.waiting[&number];
    let message = format!(
        "the task waits in the gang {:?}: there is room for {} of its {} members, and it needs {}",
        gang.id,
        gang.placed().0,
        gang.members.len(),
        gang.minimum
    );
    let state = TaskState::TaskStaging;
    Some(updates::by_master(
        step.now,
        task,
        state,
        Some(Reason::Reconciliation),
        &message,
    ))
}

/// What is held on an agent for gangs, and whose they are.
pub(crate) fn holders(leading: &Leading, agent: AgentSlot) -> Vec<(ClaimSlot, Resources)> {
    let gangs = leading.gangs.waiting.values();
    let held = gangs.filter_map(|gang| Some((gang.claim, leading.parked.get(gang.parked.get(&agent)?)?)));
    held.map(|(claim, parked)| (claim, parked.resources.clone())).collect()
}

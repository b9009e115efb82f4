//! ACCEPT: offers become tasks; what is left over is declined.
//!
//! A call that is malformed is rejected whole and changes nothing. In a call that is well-formed the operations are carried out
//! in their order, and each finds what the one before has left. Every task stands for itself: one that is invalid gets
//! TASK_ERROR, and the others are launched. A task group is launched whole or not at all. An operation that makes other
//! resources has to be in the registry before the next one: the ACCEPT waits for it, and what is left of the offers is
//! held meanwhile. An ACCEPT with a gang is another thing: see [`crate::gangs`].

mod checks;
mod executor;
mod launcher;
pub(crate) mod validate;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proffer_proto::v1::offer::{Operation, operation};
use proffer_proto::v1::scheduler::call::Accept;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, OperationState, TaskState};
use proffer_proto::{Rejection, ids};

use crate::effect::Answer;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::offers::{self, Found, Offer, OfferNumber};
use crate::operations::{self, feedback};
use crate::slots::FrameworkSlot;
use crate::{events, frameworks, gangs, hoarding, optimistic, revocable, tasks, updates};

pub(crate) use launcher::{Launcher, check_member};

const OPERATIONS: &str = "LAUNCH, LAUNCH_GROUP, RESERVE, UNRESERVE, CREATE, DESTROY, GROW_VOLUME or SHRINK_VOLUME";

/// What a well-formed ACCEPT is about.
struct Checked {
    refusal: Duration,
    offers: Vec<OfferNumber>,
    /// The first offer that is not open, if there is one: then nothing is launched.
    stale: Option<String>,
}

/// An ACCEPT that is being carried out.
#[derive(Debug)]
pub(crate) struct Acceptance {
    pub(crate) launcher: Launcher,
    refusal: Duration,
    /// What is left to do, each with its place in the call.
    pub(crate) operations: VecDeque<(usize, Operation)>,
}

impl Acceptance {
    /// The operation that is next, where it makes other resources.
    pub(crate) fn next_conversion(&mut self) -> Option<(usize, Operation)> {
        let (_, next) = self.operations.front()?;
        operations::is_conversion(next)
            .then(|| self.operations.pop_front())
            .flatten()
    }

    /// The tasks that are left to launch, those together that are launched together or not at all.
    pub(crate) fn waiting(&self) -> Vec<Vec<v1::TaskId>> {
        let mut waiting = Vec::new();
        for (_, operation) in &self.operations {
            let tasks = tasks_of(operation).iter().map(|info| info.task_id.clone());
            match operation.launch_group {
                Some(_) => waiting.push(tasks.collect()),
                None => waiting.extend(tasks.map(|task| vec![task])),
            }
        }
        waiting
    }

    /// Some of its tasks were killed before they were launched.
    pub(crate) fn forget(&mut self, killed: &BTreeSet<v1::TaskId>) {
        for (_, operation) in &mut self.operations {
            if let Some(launch) = &mut operation.launch {
                launch.task_infos.retain(|info| !killed.contains(&info.task_id));
            }
        }
        self.operations.retain(|(_, operation)| {
            let mut group = operation.launch_group.iter().flat_map(|group| &group.task_group.tasks);
            !group.any(|info| killed.contains(&info.task_id))
        });
    }

    /// The ids of the operations that are left to do.
    pub(crate) fn ids(&self) -> Vec<v1::OperationId> {
        self.operations.iter().filter_map(|(_, next)| next.id.clone()).collect()
    }
}

/// A scheduler's ACCEPT.
pub(crate) fn accept(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    mut call: Accept,
) {
    let redeemed = optimistic::redeem(leading, step, slot, &mut call);
    if let Some(gang) = call.gang.take() {
        return gangs::accept(leading, step, slot, request, &call, &gang, redeemed);
    }
    let checked = match check(leading, slot, &call) {
        Ok(checked) => checked,
        Err(rejection) => {
            offers::give_all_back(leading, redeemed);
            let rejection = rejection.within("accept");
            return step.effects.answer(request, Answer::Rejected(rejection));
        }
    };
    step.effects.answer(request, Answer::Accepted);
    let taken: Vec<Offer> = checked
        .offers
        .iter()
        .filter_map(|number| offers::take(leading, *number))
        .collect();
    for (number, offer) in checked.offers.iter().zip(&taken) {
        offers::give_back(leading, offer);
        hoarding::answered(leading, step, *number, offer);
    }
    if let Some(stale) = checked.stale {
        let conflict = optimistic::has_lost(leading, slot, &call.offer_ids);
        let (reason, stale) = if conflict {
            let message = format!("{stale}: another framework accepted first what it was of");
            (Reason::OfferConflict, message)
        } else {
            (Reason::InvalidOffers, stale)
        };
        drop_tasks(leading, step, slot, &call.operations, reason, &stale);
        for operation in &call.operations {
            let state = OperationState::OperationDropped;
            feedback::undone(leading, step, slot, None, operation, state, stale.clone());
        }
        let until = step.now.plus(checked.refusal);
        // Who lost is offered what there is at once.
        for offer in taken.into_iter().filter(|_| !conflict) {
            leading
                .allocator
                .refuse(offer.claim, offer.agent, offer.resources, until);
        }
        return;
    }
    let Some(first) = taken.first() else { return };
    let left = taken.iter().map(|offer| &offer.resources).sum();
    let acceptance = Acceptance {
        launcher: Launcher {
            loan: first.loan.map(|loan| (loan, step.now)),
            ..Launcher::new(leading, slot, first.agent, first.claim, left)
        },
        refusal: checked.refusal,
        operations: call.operations.into_iter().enumerate().collect(),
    };
    go_on(leading, step, Box::new(acceptance));
}

/// Carries out what is left of an ACCEPT, whose resources are free, up to what has to wait.
pub(crate) fn go_on(leading: &mut Leading, step: &mut Step<'_>, mut acceptance: Box<Acceptance>) {
    if leading.agents[acceptance.launcher.agent].connection().is_none() {
        return abandon(leading, step, &acceptance, "the agent has gone away meanwhile");
    }
    while let Some((index, operation)) = acceptance.operations.pop_front() {
        if operations::is_conversion(&operation) {
            acceptance.operations.push_front((index, operation));
            match operations::begin(leading, step, acceptance) {
                Some(back) => acceptance = back,
                None => return,
            }
        } else if let Some(launch) = operation.launch {
            acceptance.launcher.launch(leading, step, index, launch);
        } else if let Some(group) = operation.launch_group {
            acceptance.launcher.launch_group(leading, step, index, *group);
        }
    }
    let Acceptance { launcher, refusal, .. } = *acceptance;
    revocable::answered(leading, step, launcher.claim, launcher.agent, launcher.launched);
    // Who launched nothing has declined, and is not asked again at once.
    let refusal = if launcher.launched {
        refusal
    } else {
        refusal.max(step.config.decline_pause)
    };
    if !launcher.left.is_empty() && !refusal.is_zero() {
        let until = step.now.plus(refusal);
        leading
            .allocator
            .refuse(launcher.claim, launcher.agent, launcher.left, until);
    }
}

/// What is left of an ACCEPT will not be done.
pub(crate) fn abandon(leading: &Leading, step: &mut Step<'_>, acceptance: &Acceptance, message: &str) {
    let (slot, agent) = (acceptance.launcher.framework, acceptance.launcher.agent);
    for (_, operation) in &acceptance.operations {
        let (reason, state) = (Reason::AgentDisconnected, OperationState::OperationDropped);
        drop_tasks(leading, step, slot, std::slice::from_ref(operation), reason, message);
        feedback::undone(leading, step, slot, Some(agent), operation, state, message.to_owned());
    }
}

fn check(leading: &Leading, slot: FrameworkSlot, call: &Accept) -> Result<Checked, Rejection> {
    let refusal = offers::refusal(call.filters.as_ref())?;
    if call.offer_ids.is_empty() {
        return Err(Rejection::new("offer_ids", "is empty", "the ids of one or more offers"));
    }
    for (index, operation) in call.operations.iter().enumerate() {
        check_operation(operation).map_err(|rejection| rejection.at(index).within("operations"))?;
    }
    let tasks = call
        .operations
        .iter()
        .map(|operation| tasks_of(operation).len())
        .sum::<usize>();
    let conversions = call.operations.iter().any(operations::is_conversion);
    let mut open = Vec::new();
    let mut stale = None;
    for (index, id) in call.offer_ids.iter().enumerate() {
        match offers::find(leading, slot, id) {
            Found::Open(number) if open.contains(&number) => {
                let problem = format!("is {:?} again", id.value);
                return Err(Rejection::new(
                    format!("offer_ids[{index}]"),
                    problem,
                    "each offer once",
                ));
            }
            Found::Open(number) => open.push(number),
            Found::Unknown if tasks == 0 && !conversions => return Err(offers::unknown(index, id)),
            Found::Stale | Found::Unknown => {
                stale.get_or_insert_with(|| {
                    format!("`accept.offer_ids[{index}]` is {:?}, which is no open offer", id.value)
                });
            }
        }
    }
    for (index, number) in open.iter().enumerate() {
        let (first, offer) = (&leading.offers[&open[0]], &leading.offers[number]);
        if first.agent != offer.agent || first.claim != offer.claim {
            let field = format!("offer_ids[{index}]");
            let problem = "is an offer of another agent, or to another role, than the first";
            return Err(Rejection::new(field, problem, "offers of one agent to one role"));
        }
        if first.loan != offer.loan {
            let field = format!("offer_ids[{index}]");
            let problem = "is lent and the first is not, or by another gang, or the first is and it is not";
            return Err(Rejection::new(
                field,
                problem,
                "offers that are all free, or all lent by one gang",
            ));
        }
    }
    let lent = open.first().is_some_and(|number| leading.offers[number].loan.is_some());
    let launches = |operation: &Operation| operation.launch.is_some();
    if let Some(index) = call
        .operations
        .iter()
        .position(|operation| lent && !launches(operation))
    {
        let problem = "is not LAUNCH, but the offer is lent";
        return Err(Rejection::new(format!("operations[{index}].type"), problem, "LAUNCH"));
    }
    Ok(Checked {
        refusal,
        offers: open,
        stale,
    })
}

fn check_operation(operation: &Operation) -> Result<(), Rejection> {
    use operation::Type;
    let Some(kind) = operation.r#type else {
        return Err(Rejection::missing("type"));
    };
    match Type::try_from(kind) {
        Ok(Type::Launch) if operation.launch.is_none() => Err(Rejection::missing("launch")),
        Ok(Type::LaunchGroup) if operation.launch_group.is_none() => Err(Rejection::missing("launch_group")),
        Ok(launch @ (Type::Launch | Type::LaunchGroup)) if operation.id.is_some() => {
            let problem = format!("is set for {}", launch.as_str_name());
            Err(Rejection::new(
                "id",
                problem,
                "no id: a launch is answered by task updates",
            ))
        }
        Ok(Type::Launch) => Ok(()),
        Ok(Type::LaunchGroup) if tasks_of(operation).is_empty() => {
            let field = "launch_group.task_group.tasks";
            Err(Rejection::new(field, "is empty", "one or more tasks"))
        }
        Ok(Type::LaunchGroup) => Ok(()),
        Ok(Type::Unknown) | Err(_) => {
            let problem = format!("is {kind}, which is no operation");
            Err(Rejection::new("type", problem, OPERATIONS))
        }
        Ok(Type::Reserve) if operation.reserve.is_none() => Err(Rejection::missing("reserve")),
        Ok(Type::Unreserve) if operation.unreserve.is_none() => Err(Rejection::missing("unreserve")),
        Ok(Type::Create) if operation.create.is_none() => Err(Rejection::missing("create")),
        Ok(Type::Destroy) if operation.destroy.is_none() => Err(Rejection::missing("destroy")),
        Ok(Type::GrowVolume) if operation.grow_volume.is_none() => Err(Rejection::missing("grow_volume")),
        Ok(Type::ShrinkVolume) if operation.shrink_volume.is_none() => Err(Rejection::missing("shrink_volume")),
        Ok(_) if operations::is_conversion(operation) => match &operation.id {
            Some(id) => ids::check_chosen(&id.value, "id.value"),
            None => Ok(()),
        },
        Ok(other) => {
            let problem = format!("is {}, which is not there yet", other.as_str_name());
            Err(Rejection::new("type", problem, OPERATIONS))
        }
    }
}

/// The tasks that an operation is to launch.
fn tasks_of(operation: &Operation) -> &[v1::TaskInfo] {
    match (&operation.launch, &operation.launch_group) {
        (Some(launch), _) => &launch.task_infos,
        (None, Some(group)) => &group.task_group.tasks,
        (None, None) => &[],
    }
}

/// Nothing of it was launched.
fn drop_tasks(
    leading: &Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    operations: &[Operation],
    reason: Reason,
    message: &str,
) {
    let state = tasks::told(TaskState::TaskDropped, leading.frameworks[slot].partition_aware());
    for info in operations.iter().flat_map(tasks_of) {
        let mut status = updates::by_master(step.now, &info.task_id, state, Some(reason), message);
        status.agent_id = Some(info.agent_id.clone());
        frameworks::send(leading, step, slot, events::update(status));
    }
}

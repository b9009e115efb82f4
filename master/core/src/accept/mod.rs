//! ACCEPT: offers become tasks; what is left over is declined.
//!
//! A call that is malformed is rejected whole and changes nothing. In a call that is well-formed every task stands for
//! itself: one that is invalid gets TASK_ERROR, and the others are launched. A task group is launched whole or not at all.

mod checks;
mod executor;
mod launcher;
pub(crate) mod validate;

use proffer_proto::Rejection;
use proffer_proto::v1::offer::{Operation, operation};
use proffer_proto::v1::scheduler::call::Accept;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, TaskState};

use crate::effect::Answer;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::offers::{self, Found, Offer, OfferNumber};
use crate::slots::FrameworkSlot;
use crate::{events, frameworks, tasks, updates};

use launcher::Launcher;

/// What a well-formed ACCEPT is about.
struct Checked {
    refusal: std::time::Duration,
    offers: Vec<OfferNumber>,
    /// The first offer that is not open, if there is one: then nothing is launched.
    stale: Option<String>,
}

/// A scheduler's ACCEPT.
pub(crate) fn accept(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    call: Accept,
) {
    let checked = match check(leading, slot, &call) {
        Ok(checked) => checked,
        Err(rejection) => {
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
    for offer in &taken {
        offers::give_back(leading, offer);
    }
    if let Some(stale) = checked.stale {
        drop_tasks(leading, step, slot, &call.operations, &stale);
        let until = step.now.plus(checked.refusal);
        for offer in taken {
            leading
                .allocator
                .refuse(offer.claim, offer.agent, offer.resources, until);
        }
        return;
    }
    let Some(first) = taken.first() else { return };
    let left = taken.iter().map(|offer| &offer.resources).sum();
    let mut launcher = Launcher::new(leading, slot, first.agent, first.claim, left);
    for (index, operation) in call.operations.into_iter().enumerate() {
        if let Some(launch) = operation.launch {
            launcher.launch(leading, step, index, launch);
        } else if let Some(group) = operation.launch_group {
            launcher.launch_group(leading, step, index, group);
        }
    }
    // Who launched nothing has declined, and is not asked again at once.
    let refusal = if launcher.launched {
        checked.refusal
    } else {
        checked.refusal.max(step.config.decline_pause)
    };
    if !launcher.left.is_empty() && !refusal.is_zero() {
        let until = step.now.plus(refusal);
        leading
            .allocator
            .refuse(launcher.claim, launcher.agent, launcher.left, until);
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
            Found::Unknown if tasks == 0 => return Err(offers::unknown(index, id)),
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
            Err(Rejection::new("type", problem, "LAUNCH or LAUNCH_GROUP"))
        }
        Ok(other) => {
            let problem = format!("is {}, which is not there yet", other.as_str_name());
            Err(Rejection::new("type", problem, "LAUNCH or LAUNCH_GROUP"))
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

/// The offers are not open any more: nothing was launched.
fn drop_tasks(leading: &Leading, step: &mut Step<'_>, slot: FrameworkSlot, operations: &[Operation], message: &str) {
    let state = tasks::told(TaskState::TaskDropped, leading.frameworks[slot].partition_aware());
    for info in operations.iter().flat_map(tasks_of) {
        let mut status = updates::by_master(step.now, &info.task_id, state, Some(Reason::InvalidOffers), message);
        status.agent_id = Some(info.agent_id.clone());
        frameworks::send(leading, step, slot, events::update(status));
    }
}

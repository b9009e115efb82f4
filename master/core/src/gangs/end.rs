//! Gangs that are not launched: the deadline comes, a member is killed, the framework goes away.

use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, TaskState};

use super::{GangNumber, launch};
use crate::master::{Leading, Step};
use crate::slots::FrameworkSlot;
use crate::{events, frameworks, updates};

/// The gang has waited for as long as it may.
pub(crate) fn deadline(leading: &mut Leading, step: &mut Step<'_>, number: GangNumber) {
    give_up(leading, step, number);
}

/// Tells of each member that none is launched.
pub(super) fn give_up(leading: &mut Leading, step: &mut Step<'_>, number: GangNumber) {
    let Some(gang) = leading.gangs.waiting.get(&number) else {
        return;
    };
    let waited = step.now.since(gang.arrived).as_secs_f64();
    let message = format!(
        "none of the gang {:?} was launched: in {waited} s there was room for {} of its {} members at most, and it needs {}",
        gang.id,
        gang.best,
        gang.members.len(),
        gang.minimum
    );
    finish(leading, step, number, Reason::GangDeadline, &message);
}

/// Ends a gang without launching it. What it held in vain, others may have for as long.
fn finish(leading: &mut Leading, step: &mut Step<'_>, number: GangNumber, reason: Reason, message: &str) {
    let Some(gang) = launch::take(leading, step, number) else {
        return;
    };
    if gang.has_held {
        let rest = step.now.plus(step.now.since(gang.arrived));
        let rests = &mut leading.gangs.rests;
        rests.retain(|_, until| *until > step.now);
        let until = rests.entry(gang.framework).or_insert(rest);
        *until = rest.max(*until);
    }
    let infos: Vec<v1::TaskInfo> = gang.members.into_iter().map(|member| member.info).collect();
    launch::tell(leading, step, gang.framework, &infos, reason, message);
    // What it held may be what another one waits for.
    leading.gangs.everywhere = true;
}

/// A framework has no scheduler any more, or another one, that could not know of them.
pub(crate) fn end_framework(leading: &mut Leading, step: &mut Step<'_>, framework: FrameworkSlot) {
    for number in leading.gangs.of(framework) {
        let message = "the framework's subscription ended before the gang was launched";
        finish(leading, step, number, Reason::GangCancelled, message);
    }
}

/// A framework has other roles.
pub(crate) fn leave_roles(leading: &mut Leading, step: &mut Step<'_>, framework: FrameworkSlot) {
    for number in leading.gangs.of(framework) {
        let claim = leading.gangs.waiting[&number].claim;
        if !leading.claims[claim].subscribed {
            let message = "the framework left the role of the gang before it was launched";
            finish(leading, step, number, Reason::GangCancelled, message);
        }
    }
}

/// A KILL of a task that may be a member of a gang that waits. The others go on if they are enough; says whether it is one.
pub(crate) fn withdraw(
    leading: &mut Leading,
    step: &mut Step<'_>,
    framework: FrameworkSlot,
    task: &v1::TaskId,
) -> bool {
    let Some(number) = leading.gangs.with_member(framework, task) else {
        return false;
    };
    let Some(gang) = leading.gangs.waiting.get_mut(&number) else {
        return false;
    };
    if gang.members.len() == gang.minimum {
        let message = format!("{task} was killed, and without it the gang {:?} is too small", gang.id);
        finish(leading, step, number, Reason::GangCancelled, &message);
        return true;
    }
    if let Some(at) = gang.members.iter().position(|member| member.info.task_id == *task) {
        let member = gang.members.remove(at);
        leading.gangs.forget(framework, task);
        leading.gangs.changed.extend(member.place.map(|place| place.agent));
        leading.gangs.changed.extend(member.gathers);
        let message = "the task was killed while its gang waited";
        let status = updates::by_master(
            step.now,
            task,
            TaskState::TaskKilled,
            Some(Reason::GangCancelled),
            message,
        );
        frameworks::send(leading, step, framework, events::update(status));
    }
    true
}

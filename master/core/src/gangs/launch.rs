//! Launches a gang: every member that has a place, in one step.

use std::collections::BTreeMap;

use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, TaskState};

use super::{Gang, GangNumber, lend, place, starting};
use crate::accept::Launcher;
use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, FrameworkSlot};
use crate::timers::Timer;
use crate::{events, frameworks, tasks, updates};

/// Launches the members of which the places are held, and tells the others.
pub(super) fn launch(leading: &mut Leading, step: &mut Step<'_>, number: GangNumber) {
    let Some(gang) = take(leading, step, number) else {
        return;
    };
    let (framework, claim) = (gang.framework, gang.claim);
    let mut launched: BTreeMap<AgentSlot, Vec<v1::TaskInfo>> = BTreeMap::new();
    let mut surplus = Vec::new();
    for member in gang.members {
        let mut info = member.info;
        match member.place.filter(|place| place.held) {
            Some(place) => {
                info.agent_id = leading.agents[place.agent].id.clone();
                info.resources = place.resources.to_wire();
                launched.entry(place.agent).or_default().push(info);
            }
            None => surplus.push(info),
        }
    }
    let ids: Vec<v1::TaskId> = launched.values().flatten().map(|info| info.task_id.clone()).collect();
    for (agent, infos) in launched {
        Launcher::launch_members(leading, step, (framework, agent, claim), infos);
    }
    let message = format!("the gang {:?} was launched without it", gang.id);
    tell(leading, step, framework, &surplus, Reason::GangSurplus, &message);
    if gang.together {
        starting::watch(leading, number, framework, ids);
    }
}

/// Takes a gang out: it holds nothing any more, and what it lent to nobody's use is free.
pub(super) fn take(leading: &mut Leading, step: &mut Step<'_>, number: GangNumber) -> Option<Gang> {
    let gang = leading.gangs.waiting.get(&number)?;
    let agents: Vec<AgentSlot> = gang.parked.keys().copied().collect();
    for agent in agents {
        place::let_go(leading, number, agent);
    }
    leading.timers.cancel(Timer::Gang(number));
    let gang = leading.gangs.remove(number);
    lend::rescind_of(leading, step, number);
    gang
}

/// Tells of tasks that they will not be launched.
pub(super) fn tell(
    leading: &Leading,
    step: &mut Step<'_>,
    framework: FrameworkSlot,
    infos: &[v1::TaskInfo],
    reason: Reason,
    message: &str,
) {
    let state = tasks::told(TaskState::TaskDropped, leading.frameworks[framework].partition_aware());
    for info in infos {
        let mut status = updates::by_master(step.now, &info.task_id, state, Some(reason), message);
        status.agent_id = Some(info.agent_id.clone()).filter(|id| !id.value.is_empty());
        frameworks::send(leading, step, framework, events::update(status));
    }
}

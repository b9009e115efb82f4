//! Who is asked to leave an agent before its machine goes: everybody who has tasks there, once, and again after a refusal.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::v1;

use crate::inverse::{self, About};
use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, FrameworkSlot};
use crate::{events, frameworks};

/// Tasks of an agent came or went.
pub(crate) fn touch(leading: &mut Leading, agent: AgentSlot) {
    if leading.maintenance.windows.contains_key(&agent) {
        leading.maintenance.dirty.insert(agent);
    }
}

/// A framework is to be asked again.
pub(crate) fn expired(leading: &mut Leading, agent: AgentSlot, framework: FrameworkSlot) {
    inverse::forget(leading, (agent, framework, About::Maintenance));
    touch(leading, agent);
}

/// Everybody is to be looked at again: a framework's stream ended, or is new.
pub(crate) fn touch_all(leading: &mut Leading) {
    let windows = leading.maintenance.windows.keys();
    leading.maintenance.dirty.extend(windows);
}

/// Asks who has not been asked, and takes back what nobody needs to answer any more.
pub(crate) fn review(leading: &mut Leading, step: &mut Step<'_>) {
    if leading.maintenance.dirty.is_empty() {
        return;
    }
    let mut made: BTreeMap<FrameworkSlot, Vec<v1::InverseOffer>> = BTreeMap::new();
    for agent in std::mem::take(&mut leading.maintenance.dirty) {
        let Some(window) = leading.maintenance.window(agent) else {
            continue;
        };
        let tasks = leading.agents[agent].tasks.iter().map(|task| &leading.tasks[*task]);
        let users: BTreeSet<FrameworkSlot> = tasks.filter(|task| task.held).map(|task| task.framework).collect();
        for framework in inverse::asked_on(leading, agent, About::Maintenance) {
            if !users.contains(&framework) {
                inverse::rescind(leading, step, (agent, framework, About::Maintenance));
            }
        }
        for framework in users {
            let key = (agent, framework, About::Maintenance);
            let connected = leading.frameworks[framework].stream().is_some();
            if connected && !inverse::is_asked(leading, key) {
                let offer = inverse::ask(leading, step.now, key, window, Vec::new());
                made.entry(framework).or_default().push(offer);
            }
        }
    }
    for (framework, offers) in made {
        frameworks::send(leading, step, framework, events::inverse_offers(offers));
    }
}

/// An agent is removed.
pub(crate) fn forget_agent(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot) {
    inverse::rescind_agent(leading, step, agent, About::Maintenance);
    leading.maintenance.windows.remove(&agent);
    leading.maintenance.dirty.remove(&agent);
}

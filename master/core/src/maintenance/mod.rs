//! Maintenance: operators say when machines will not be available, and frameworks are asked to leave them before.
//!
//! ```text
//! (up) --UPDATE_MAINTENANCE_SCHEDULE--> draining: offers of its agents carry the window, inverse offers ask for what runs there
//! draining --START_MAINTENANCE--> down: its agents are gone, none may register from there
//! down --STOP_MAINTENANCE--> (up)
//! ```
//!
//! The plan is one document in the registry. Nothing is forced before START_MAINTENANCE; to end tasks, drain the agents.

mod ask;
mod machines;
mod plan;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proffer_proto::registry as wire;
use proffer_proto::v1;

use crate::agents;
use crate::input::RequestId;
use crate::inverse::{self, About};
use crate::master::{Leading, Step};
use crate::offers;
use crate::slots::AgentSlot;

pub(crate) use ask::{expired, forget_agent, review, touch, touch_all};
pub(crate) use plan::{Order, committed, dropped, order, status};

/// What a leader knows beside the plan.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    /// A change of the plan is proposed; what comes meanwhile waits in the queue.
    in_flight: bool,
    queue: VecDeque<(Order, RequestId)>,
    /// The agents on machines of the plan, and when they will not be there.
    windows: BTreeMap<AgentSlot, v1::Unavailability>,
    /// Agents at which it is not known who has to be asked.
    dirty: BTreeSet<AgentSlot>,
}

impl Maintenance {
    /// When an agent will not be available.
    pub(crate) fn window(&self, agent: AgentSlot) -> Option<v1::Unavailability> {
        self.windows.get(&agent).copied()
    }

    /// Every request that waits for a change of the plan.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = RequestId> {
        self.queue.iter().map(|(_, request)| *request)
    }
}

/// Whether an agent's machine is down: no agent may register from there.
pub(crate) fn is_down(plan: &wire::Maintenance, hostname: &str, address: &str) -> bool {
    let mut down = plan.down.iter();
    down.any(|machine| machines::matches(machine, hostname, address))
}

/// Compares all agents with the plan.
pub(crate) fn replan(leading: &mut Leading, step: &mut Step<'_>) {
    let slots: Vec<AgentSlot> = leading.agents.iter().map(|(slot, _)| slot).collect();
    for slot in slots {
        place(leading, step, slot);
    }
}

/// Compares an agent with the plan: the plan is new, or the agent's address is.
pub(crate) fn place(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let plan = &step.registry.maintenance;
    if plan.schedule.is_none() && leading.maintenance.windows.is_empty() {
        return;
    }
    let agent = &leading.agents[slot];
    if is_down(plan, &agent.info.hostname, &agent.address) {
        let id = agent.id.clone();
        return agents::mark_gone(leading, step, &id, None);
    }
    let window = plan::window_of(plan, &agent.info.hostname, &agent.address);
    if window == leading.maintenance.window(slot) {
        return;
    }
    // Offers say when their agent goes; what they said is not true any more.
    offers::rescind_agent(leading, step, slot);
    inverse::rescind_agent(leading, step, slot, About::Maintenance);
    match window {
        Some(window) => leading.maintenance.windows.insert(slot, window),
        None => leading.maintenance.windows.remove(&slot),
    };
    touch(leading, slot);
}

//! What of each agent is in use. For every agent: offered + allocated + free = total, where what executors and what
//! remnants of tasks still hold counts as allocated, and what is held for an operation on its way, or for a gang that waits, counts as offered.
//! Of what is revocable the agent has nothing: what stands behind it counts instead, see [`crate::revocable::backing`].
//!
//! An agent may come back with less than is in use there, or with two tasks on one port; such an agent is *tangled*, its
//! sums are counted anew at each change, and of a resource that is overdrawn nothing is free.

use proffer_proto::resources::Resources;

use crate::agents::Agent;
use crate::master::Leading;
use crate::revocable;
use crate::slots::AgentSlot;

/// Counts resources of the agent as in use.
pub(crate) fn hold(leading: &mut Leading, slot: AgentSlot, resources: &Resources) {
    leading.agents[slot].hold(resources);
    refresh(leading, slot);
}

/// Counts them as free again. The task, remnant or offer that used them must not be listed with the agent any more.
pub(crate) fn unhold(leading: &mut Leading, slot: AgentSlot, resources: &Resources) {
    let agent = &mut leading.agents[slot];
    if agent.tangled || !agent.used.try_subtract(resources) {
        let (used, tangled) = count(leading, slot);
        let agent = &mut leading.agents[slot];
        agent.used = used;
        agent.tangled = tangled;
    }
    refresh(leading, slot);
}

/// Tells the allocator what is free on the agent.
pub(crate) fn refresh(leading: &mut Leading, slot: AgentSlot) {
    let agent = &mut leading.agents[slot];
    if agent.lends() {
        agent.back();
        leading.allocator.set_lent(slot, &agent.backing);
        leading.revocable.lending.insert(slot);
    }
    leading.allocator.set_free(slot, agent.free());
    leading.gangs.touch(slot);
    revocable::touch(leading, slot);
}

/// The sum of what is in use, and whether something is used twice.
pub(crate) fn count(leading: &Leading, slot: AgentSlot) -> (Resources, bool) {
    let mut used = Resources::new();
    let mut tangled = false;
    let mut add = |resources: &Resources| {
        tangled |= used.overlaps(resources);
        used += resources;
    };
    let agent = &leading.agents[slot];
    for task in &agent.tasks {
        let task = &leading.tasks[*task];
        if task.held {
            add(&task.resources);
        }
    }
    for executor in agent.executors.values() {
        add(&executor.resources);
    }
    for remnant in agent.remnants.values() {
        add(&remnant.resources);
    }
    for offer in &agent.offers {
        if let Some(offer) = leading.offers.get(offer) {
            add(&offer.resources);
        }
    }
    for parked in &agent.parked {
        if let Some(parked) = leading.parked.get(parked) {
            add(&parked.resources);
        }
    }
    (used, tangled)
}

impl Agent {
    /// Counts resources as in use. The allocator is to be told.
    pub(crate) fn hold(&mut self, resources: &Resources) {
        self.tangled |= self.used.overlaps(resources);
        self.used += resources;
    }

    /// What is neither offered, nor allocated, nor stands behind what is.
    pub(crate) fn free(&self) -> Resources {
        if self.lends() {
            return self.less(&(self.used.non_revocable() + &self.backing));
        }
        self.less(&self.used)
    }

    /// What the agent has beside this; of what is overdrawn it has nothing.
    pub(crate) fn less(&self, used: &Resources) -> Resources {
        if let Some(free) = self.total.checked_sub(used) {
            return free;
        }
        let of = |list: &Resources, key| list.filter(|entry| entry.key() == key);
        self.total
            .iter()
            .filter_map(|entry| of(&self.total, entry.key()).checked_sub(&of(used, entry.key())))
            .sum()
    }
}

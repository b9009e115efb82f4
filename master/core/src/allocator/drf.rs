//! Hierarchical weighted dominant resource fairness, driven by events.
//!
//! An agent is *dirty* when a decision about it may have changed: its free resources grew, a refusal about it ended, or
//! it became active. When a claim becomes active, the agents with something free become dirty. `allocate` visits the
//! dirty agents in the order of their slots and gives all that is free on each to the claim with the lowest share that
//! may have it.
//!
//! After Ghodsi et al., "Dominant Resource Fairness" (NSDI 2011). Shares are fixed-point numbers, so that they are the
//! same on every machine.

use std::collections::BTreeSet;

use proffer_proto::resources::Resources;

use super::filters::{Filters, OfAgent};
use super::roles::Roles;
use super::{Allocator, Decision, Quantities, Wishes};
use crate::slots::{AgentSlot, ClaimSlot, Slot};
use crate::time::Timestamp;

/// The least that is offered: this many thousandths of a processor...
const CPUS_MIN: u64 = 10;
/// ...or this many thousandths of a megabyte.
const MEM_MIN: u64 = 32_000;

#[derive(Debug, Default)]
struct Agent {
    total: Resources,
    free: Resources,
    active: bool,
    gpus: bool,
}

/// The default policy.
#[derive(Debug, Default)]
pub(crate) struct Drf {
    agents: Vec<Option<Agent>>,
    /// The sum of the agents' totals.
    total: Quantities,
    claims: Vec<Option<Wishes>>,
    roles: Roles,
    filters: Filters,
    dirty: BTreeSet<AgentSlot>,
    /// Agents with something free that is worth offering.
    idle: BTreeSet<AgentSlot>,
}

impl Drf {
    fn agent(&mut self, agent: AgentSlot) -> Option<&mut Agent> {
        self.agents.get_mut(agent.index())?.as_mut()
    }

    /// How many agents the next call of `allocate` looks at.
    #[cfg(test)]
    pub(super) fn looked_at(&self) -> usize {
        self.dirty.len()
    }

    /// Puts an agent among the idle ones if it belongs there.
    fn sort_in(&mut self, agent: AgentSlot) {
        let idle = self
            .agents
            .get(agent.index())
            .and_then(Option::as_ref)
            .is_some_and(|state| state.active && !state.free.is_empty());
        if idle {
            self.idle.insert(agent);
        } else {
            self.idle.remove(&agent);
            self.dirty.remove(&agent);
        }
    }

    /// What the claim would be offered of the agent; `None` where it may not or does not want it.
    fn offer(&self, claim: ClaimSlot, agent: &Agent, refused: OfAgent<'_>) -> Option<Resources> {
        let wishes = self.claims.get(claim.index())?.as_ref()?;
        if agent.gpus && !wishes.gpus {
            return None;
        }
        // Who refused all that is free refused every part of it. Most claims of a busy cluster end here.
        if refused.refuses(claim, &agent.free) {
            return None;
        }
        let resources = agent.free.available_to(&wishes.role);
        let enough = match &wishes.minimum {
            None => resources.cpus().thousandths() >= CPUS_MIN || resources.mem().thousandths() >= MEM_MIN,
            Some(minimum) => {
                !resources.is_empty() && (minimum.is_empty() || minimum.iter().any(|least| least.within(&resources)))
            }
        };
        (enough && !refused.refuses(claim, &resources)).then_some(resources)
    }

    /// The next decision about an agent.
    fn decide(&self, slot: AgentSlot) -> Option<Decision> {
        let agent = self.agents.get(slot.index())?.as_ref()?;
        if !agent.active || agent.free.is_empty() {
            return None;
        }
        let refused = self.filters.of_agent(slot);
        let mut offered = None;
        let claim = self.roles.first(|claim| {
            offered = self.offer(claim, agent, refused);
            offered.is_some()
        })?;
        Some(Decision {
            agent: slot,
            claim,
            resources: offered?,
        })
    }
}

fn put<T>(list: &mut Vec<Option<T>>, index: usize, entry: T) -> Option<T> {
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    list[index].replace(entry)
}

impl Allocator for Drf {
    fn put_agent(&mut self, slot: AgentSlot, total: &Resources) {
        if let Some(agent) = self.agent(slot)
            && agent.total == *total
        {
            return;
        }
        let known = self.agents.get_mut(slot.index()).and_then(Option::take);
        if let Some(known) = &known {
            self.total.subtract(&known.total);
        }
        self.total.add(total);
        let agent = Agent {
            total: total.clone(),
            gpus: !total.gpus().is_zero(),
            ..known.unwrap_or_default()
        };
        put(&mut self.agents, slot.index(), agent);
        self.roles.set_total(self.total.clone());
    }

    fn remove_agent(&mut self, slot: AgentSlot) {
        let known = self.agents.get_mut(slot.index()).and_then(Option::take);
        if let Some(known) = known {
            self.total.subtract(&known.total);
            self.roles.set_total(self.total.clone());
        }
        self.filters.forget_agent(slot);
        self.sort_in(slot);
    }

    fn set_agent_active(&mut self, slot: AgentSlot, active: bool) {
        if let Some(agent) = self.agent(slot) {
            agent.active = active;
            if active {
                self.dirty.insert(slot);
            }
        }
        self.sort_in(slot);
    }

    fn set_free(&mut self, slot: AgentSlot, free: Resources) {
        let Some(agent) = self.agent(slot) else { return };
        let grew = !agent.free.contains(&free);
        agent.free = free;
        if grew {
            self.dirty.insert(slot);
        }
        self.sort_in(slot);
    }

    fn put_claim(&mut self, claim: ClaimSlot, wishes: Wishes) {
        let role = wishes.role.clone();
        let before = put(&mut self.claims, claim.index(), wishes.clone());
        match before {
            None => self.roles.insert(claim, &role),
            Some(before) if before != wishes && self.roles.is_active(claim) => self.dirty.extend(&self.idle),
            Some(_) => {}
        }
    }

    fn remove_claim(&mut self, claim: ClaimSlot) {
        if let Some(entry) = self.claims.get_mut(claim.index()) {
            *entry = None;
        }
        self.roles.remove(claim);
        self.filters.forget_claim(claim);
    }

    fn set_claim_active(&mut self, claim: ClaimSlot, active: bool) {
        if self.roles.set_active(claim, active) && active {
            self.dirty.extend(&self.idle);
        }
    }

    fn charge(&mut self, claim: ClaimSlot, resources: &Resources) {
        self.roles.charge(claim, resources);
    }

    fn credit(&mut self, claim: ClaimSlot, resources: &Resources) {
        self.roles.credit(claim, resources);
    }

    fn held(&self, claim: ClaimSlot) -> Quantities {
        self.roles.held(claim)
    }

    fn refuse(&mut self, claim: ClaimSlot, agent: AgentSlot, resources: Resources, until: Timestamp) {
        self.filters.refuse(claim, agent, resources, until);
    }

    fn revive(&mut self, claim: ClaimSlot) {
        let agents = self.filters.forget_claim(claim);
        if self.roles.is_active(claim) {
            self.dirty.extend(agents);
        }
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.filters.next_end()
    }

    fn expire(&mut self, now: Timestamp) {
        let agents = self.filters.expire(now);
        self.dirty.extend(agents);
    }

    fn allocate(&mut self, decisions: &mut Vec<Decision>) {
        while let Some(slot) = self.dirty.pop_first() {
            // Reserved parts may go to other claims than the rest, so one decision may leave something for the next.
            while let Some(decision) = self.decide(slot) {
                self.roles.charge(decision.claim, &decision.resources);
                if let Some(agent) = self.agent(slot) {
                    agent.free = agent.free.checked_sub(&decision.resources).unwrap_or_default();
                }
                decisions.push(decision);
            }
            self.sort_in(slot);
        }
    }

    fn free(&self, agent: AgentSlot) -> Option<&Resources> {
        Some(&self.agents.get(agent.index())?.as_ref()?.free)
    }

    fn check(&self) -> Result<(), String> {
        for (index, agent) in self.agents.iter().enumerate() {
            let slot = AgentSlot::from_index(index as u32);
            let idle = agent
                .as_ref()
                .is_some_and(|agent| agent.active && !agent.free.is_empty());
            if idle != self.idle.contains(&slot) {
                return Err(format!("{slot:?} is idle: {idle}, but is not counted so"));
            }
        }
        self.roles.check()
    }
}

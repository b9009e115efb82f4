//! Refusals: which claim does not want which resources of which agent, and until when.
//!
//! Kept by agent, because an agent is what decisions are about, and in the order in which they end, so that looking for
//! ended ones costs nothing when there are none.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::resources::Resources;

use crate::slots::{AgentSlot, ClaimSlot};
use crate::time::Timestamp;

/// How many different refusals are kept of one claim and agent; beyond that the one that ends first is dropped.
const KEPT_MAX: usize = 8;

#[derive(Debug)]
struct Refusal {
    resources: Resources,
    until: Timestamp,
}

/// All refusals that are in force.
#[derive(Debug, Default)]
pub(super) struct Filters {
    by_agent: BTreeMap<AgentSlot, BTreeMap<ClaimSlot, Vec<Refusal>>>,
    /// When each refusal ends; refusals of one claim and agent that end together have one entry.
    ends: BTreeSet<(Timestamp, AgentSlot, ClaimSlot)>,
}

/// The refusals of one agent, looked up once for all claims.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfAgent<'a>(Option<&'a BTreeMap<ClaimSlot, Vec<Refusal>>>);

impl OfAgent<'_> {
    /// True when the claim refused these resources, or more.
    pub(super) fn refuses(self, claim: ClaimSlot, resources: &Resources) -> bool {
        let refusals = self.0.and_then(|claims| claims.get(&claim));
        let mut refusals = refusals.into_iter().flatten();
        refusals.any(|refusal| refusal.resources.contains(resources))
    }
}

impl Filters {
    pub(super) fn refuse(&mut self, claim: ClaimSlot, agent: AgentSlot, resources: Resources, until: Timestamp) {
        let refusals = self.by_agent.entry(agent).or_default().entry(claim).or_default();
        if refusals
            .iter()
            .any(|old| old.until >= until && old.resources.contains(&resources))
        {
            return;
        }
        let mut ended: Vec<Timestamp> = Vec::new();
        refusals.retain(|old| {
            let covered = old.until <= until && resources.contains(&old.resources);
            if covered {
                ended.push(old.until);
            }
            !covered
        });
        if refusals.len() >= KEPT_MAX {
            let first = refusals.iter().enumerate().min_by_key(|(_, old)| old.until);
            if let Some((first, _)) = first {
                ended.push(refusals.swap_remove(first).until);
            }
        }
        refusals.push(Refusal { resources, until });
        for end in ended {
            if refusals.iter().all(|kept| kept.until != end) {
                self.ends.remove(&(end, agent, claim));
            }
        }
        self.ends.insert((until, agent, claim));
    }

    #[cfg(test)]
    pub(super) fn refuses(&self, claim: ClaimSlot, agent: AgentSlot, resources: &Resources) -> bool {
        self.of_agent(agent).refuses(claim, resources)
    }

    /// Who refused what of an agent.
    pub(super) fn of_agent(&self, agent: AgentSlot) -> OfAgent<'_> {
        OfAgent(self.by_agent.get(&agent))
    }

    /// Forgets the refusals of a claim, and gives the agents that they were about.
    pub(super) fn forget_claim(&mut self, claim: ClaimSlot) -> Vec<AgentSlot> {
        let mut agents = Vec::new();
        self.by_agent.retain(|agent, claims| {
            if let Some(refusals) = claims.remove(&claim) {
                for refusal in refusals {
                    self.ends.remove(&(refusal.until, *agent, claim));
                }
                agents.push(*agent);
            }
            !claims.is_empty()
        });
        agents
    }

    pub(super) fn forget_agent(&mut self, agent: AgentSlot) {
        for (claim, refusals) in self.by_agent.remove(&agent).unwrap_or_default() {
            for refusal in refusals {
                self.ends.remove(&(refusal.until, agent, claim));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _, _)| *until)
    }

    /// Ends what is over, and gives the agents that it was about.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<AgentSlot> {
        let mut agents = Vec::new();
        while let Some(&(until, agent, claim)) = self.ends.first()
            && until <= now
        {
            self.ends.pop_first();
            let Some(claims) = self.by_agent.get_mut(&agent) else {
                continue;
            };
            let Some(refusals) = claims.get_mut(&claim) else {
                continue;
            };
            let before = refusals.len();
            refusals.retain(|refusal| refusal.until > now);
            if refusals.len() < before {
                agents.push(agent);
            }
            if refusals.is_empty() {
                claims.remove(&claim);
            }
            if claims.is_empty() {
                self.by_agent.remove(&agent);
            }
        }
        agents
    }
}

//! Refusals: which claim does not want which resources of which agent, and until when.
//!
//! Kept by agent and by what was refused there: most claims refuse the same, because they were offered the same. What a
//! refusal means for the resources that are free now is then asked once for all of them.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use proffer_proto::resources::Resources;

use super::bits::Bits;
use crate::slots::{AgentSlot, ClaimSlot, Slot};
use crate::time::Timestamp;

/// How many different refusals are kept of one claim and agent; beyond that the one that ends first is dropped.
const KEPT_MAX: usize = 8;

/// The same resources of one agent, refused by some claims.
#[derive(Debug)]
struct Refused {
    resources: Resources,
    /// To tell different resources apart at a glance.
    hash: u64,
    claims: Bits,
    /// Until when, by claim, in the order of the claims.
    until: Vec<(ClaimSlot, Timestamp)>,
}

/// The refusals of one agent.
#[derive(Debug, Default)]
pub(super) struct OfAgent {
    refused: Vec<Refused>,
    /// No refusal ends before this.
    soonest: Option<Timestamp>,
}

/// All refusals that are in force.
#[derive(Debug, Default)]
pub(super) struct Filters {
    agents: Vec<OfAgent>,
    /// The agents with refusals, by when the first of them may end.
    ends: BTreeSet<(Timestamp, AgentSlot)>,
    /// How many refusals there are of each claim.
    counts: Vec<u32>,
}

static NOTHING: OfAgent = OfAgent {
    refused: Vec::new(),
    soonest: None,
};

fn hash(resources: &Resources) -> u64 {
    // Its keys are fixed, and nothing depends on the value but how fast a difference is seen.
    let mut hasher = DefaultHasher::new();
    resources.hash(&mut hasher);
    hasher.finish()
}

impl Refused {
    fn position(&self, claim: ClaimSlot) -> Option<usize> {
        if !self.claims.contains(claim.index()) {
            return None;
        }
        self.until.binary_search_by_key(&claim, |entry| entry.0).ok()
    }

    fn until(&self, claim: ClaimSlot) -> Option<Timestamp> {
        self.position(claim).map(|position| self.until[position].1)
    }

    fn put(&mut self, claim: ClaimSlot, until: Timestamp) {
        match self.until.binary_search_by_key(&claim, |entry| entry.0) {
            Ok(position) => self.until[position].1 = until,
            Err(position) => self.until.insert(position, (claim, until)),
        }
        self.claims.insert(claim.index());
    }

    /// Says whether there was one.
    fn drop_claim(&mut self, claim: ClaimSlot) -> bool {
        let Some(position) = self.position(claim) else {
            return false;
        };
        self.until.remove(position);
        self.claims.remove(claim.index());
        true
    }
}

impl OfAgent {
    /// True when the claim refused these resources, or more.
    pub(super) fn refuses(&self, claim: ClaimSlot, resources: &Resources) -> bool {
        let mut by_claim = self
            .refused
            .iter()
            .filter(|refused| refused.claims.contains(claim.index()));
        by_claim.any(|refused| refused.resources.contains(resources))
    }

    /// Until when the claim refuses these resources.
    pub(super) fn until(&self, claim: ClaimSlot, resources: &Resources) -> Option<Timestamp> {
        let covering = self
            .refused
            .iter()
            .filter(|refused| refused.resources.contains(resources));
        covering.filter_map(|refused| refused.until(claim)).max()
    }

    /// The claims of which a refusal ends before then.
    pub(super) fn ending_before(&self, until: Timestamp) -> Vec<ClaimSlot> {
        if self.soonest.is_none_or(|soonest| soonest >= until) {
            return Vec::new();
        }
        let all = self.refused.iter().flat_map(|refused| &refused.until);
        all.filter(|(_, end)| *end < until).map(|(claim, _)| *claim).collect()
    }

    /// Puts in the claims that refuse these resources.
    pub(super) fn refusing(&self, resources: &Resources, claims: &mut Bits) {
        claims.clear();
        for refused in &self.refused {
            if refused.resources.contains(resources) {
                claims.extend(&refused.claims);
            }
        }
    }

    fn end_of_first(&self) -> Option<Timestamp> {
        let ends = self.refused.iter().flat_map(|refused| &refused.until);
        ends.map(|entry| entry.1).min()
    }
}

impl Filters {
    /// Says whether an earlier refusal of other resources was dropped for it, so that these may be offered again.
    pub(super) fn refuse(
        &mut self,
        claim: ClaimSlot,
        agent: AgentSlot,
        resources: Resources,
        until: Timestamp,
    ) -> bool {
        if self.agents.len() <= agent.index() {
            self.agents.resize_with(agent.index() + 1, OfAgent::default);
        }
        let of_agent = &mut self.agents[agent.index()];
        let covers = |old: &Refused| {
            let covered = old.until(claim).is_some_and(|end| end >= until);
            covered && old.resources.contains(&resources)
        };
        if of_agent.refused.iter().any(covers) {
            return false;
        }
        let (mut dropped, mut kept, mut first) = (0, 0, None);
        for (index, old) in of_agent.refused.iter_mut().enumerate() {
            let Some(end) = old.until(claim) else { continue };
            if end <= until && resources.contains(&old.resources) {
                old.drop_claim(claim);
                dropped += 1;
                continue;
            }
            kept += 1;
            if first.is_none_or(|(_, least)| end < least) {
                first = Some((index, end));
            }
        }
        let evicted = first.filter(|_| kept >= KEPT_MAX);
        if let Some((first, _)) = evicted {
            of_agent.refused[first].drop_claim(claim);
            dropped += 1;
        }
        if dropped > 0 {
            of_agent.refused.retain(|refused| !refused.until.is_empty());
        }
        let hash = hash(&resources);
        let mut same = of_agent.refused.iter_mut();
        match same.find(|refused| refused.hash == hash && refused.resources == resources) {
            Some(refused) => refused.put(claim, until),
            None => {
                let mut refused = Refused {
                    resources,
                    hash,
                    claims: Bits::default(),
                    until: Vec::new(),
                };
                refused.put(claim, until);
                of_agent.refused.push(refused);
            }
        }
        if self.counts.len() <= claim.index() {
            self.counts.resize(claim.index() + 1, 0);
        }
        self.counts[claim.index()] = self.counts[claim.index()] + 1 - dropped;
        // What was dropped may have been the first to end; only then are all looked at.
        let soonest = of_agent.soonest;
        if dropped > 0 {
            let first = of_agent.end_of_first();
            self.set_soonest(agent, first);
        } else if soonest.is_none_or(|soonest| until < soonest) {
            self.set_soonest(agent, Some(until));
        }
        evicted.is_some()
    }

    fn set_soonest(&mut self, agent: AgentSlot, soonest: Option<Timestamp>) {
        let of_agent = &mut self.agents[agent.index()];
        if of_agent.soonest == soonest {
            return;
        }
        if let Some(before) = std::mem::replace(&mut of_agent.soonest, soonest) {
            self.ends.remove(&(before, agent));
        }
        if let Some(soonest) = soonest {
            self.ends.insert((soonest, agent));
        }
    }

    /// Who refused what of an agent.
    pub(super) fn of_agent(&self, agent: AgentSlot) -> &OfAgent {
        self.agents.get(agent.index()).unwrap_or(&NOTHING)
    }

    /// Forgets the refusals of a claim, and gives the agents that they were about.
    pub(super) fn forget_claim(&mut self, claim: ClaimSlot) -> Vec<AgentSlot> {
        let mut agents = Vec::new();
        let Some(count) = self.counts.get_mut(claim.index()) else {
            return agents;
        };
        if std::mem::take(count) == 0 {
            return agents;
        }
        for index in 0..self.agents.len() {
            let of_agent = &mut self.agents[index];
            let mut found = false;
            for refused in &mut of_agent.refused {
                found |= refused.drop_claim(claim);
            }
            if !found {
                continue;
            }
            of_agent.refused.retain(|refused| !refused.until.is_empty());
            let agent = AgentSlot::from_index(index as u32);
            agents.push(agent);
            if self.agents[index].refused.is_empty() {
                self.set_soonest(agent, None);
            }
        }
        agents
    }

    pub(super) fn forget_agent(&mut self, agent: AgentSlot) {
        let Some(of_agent) = self.agents.get_mut(agent.index()) else {
            return;
        };
        for (claim, _) in of_agent.refused.drain(..).flat_map(|refused| refused.until) {
            self.counts[claim.index()] -= 1;
        }
        self.set_soonest(agent, None);
    }

    #[cfg(test)]
    pub(super) fn refuses(&self, claim: ClaimSlot, agent: AgentSlot, resources: &Resources) -> bool {
        self.of_agent(agent).refuses(claim, resources)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counts.iter().sum::<u32>() as usize
    }

    /// No refusal ends before this.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Ends what is over, and gives the agents that it was about.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<AgentSlot> {
        let mut agents = Vec::new();
        while let Some(&(until, agent)) = self.ends.first()
            && until <= now
        {
            let of_agent = &mut self.agents[agent.index()];
            let mut ended = false;
            for refused in &mut of_agent.refused {
                let (claims, counts) = (&mut refused.claims, &mut self.counts);
                refused.until.retain(|(claim, until)| {
                    let over = *until <= now;
                    if over {
                        claims.remove(claim.index());
                        counts[claim.index()] -= 1;
                        ended = true;
                    }
                    !over
                });
            }
            of_agent.refused.retain(|refused| !refused.until.is_empty());
            let first = of_agent.end_of_first();
            self.set_soonest(agent, first);
            if ended {
                agents.push(agent);
            }
        }
        agents
    }

    /// Says what does not add up.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut counts = vec![0; self.counts.len()];
        for (index, of_agent) in self.agents.iter().enumerate() {
            let agent = AgentSlot::from_index(index as u32);
            let first = of_agent.end_of_first();
            if first.is_some() != of_agent.soonest.is_some() || first < of_agent.soonest {
                return Err(format!("refusals of {agent:?} end before they are looked at"));
            }
            if of_agent
                .soonest
                .is_some_and(|soonest| !self.ends.contains(&(soonest, agent)))
            {
                return Err(format!("refusals of {agent:?} never end"));
            }
            for refused in &of_agent.refused {
                if refused.claims.len() != refused.until.len() {
                    return Err(format!("refusals of {agent:?} are counted wrong"));
                }
                for (claim, _) in &refused.until {
                    counts[claim.index()] += 1;
                }
            }
        }
        if counts != self.counts {
            return Err("refusals are counted wrong".to_owned());
        }
        Ok(())
    }
}

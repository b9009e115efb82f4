//! The allocator that divides by a tree of roles, driven by events.
//!
//! An agent is *dirty* when a decision about it may have changed for any claim: its free resources grew, a refusal about
//! it ended, or it became active. A claim is *awake* when decisions about it may have changed for any agent that has
//! something free: it became active, its wishes changed, or a limit has more room. `allocate` visits the dirty agents
//! with all claims and the idle ones with the claims that are awake, and gives what is free on each to the claim that
//! comes first and may have it.
//!
//! Which claims may have something of an agent is found by words of 64: activity, refusals, GPUs, regions, constraints,
//! exhausted limits and unmet guarantees are rows of bits. Only of what is left is the order of roles asked.

use proffer_proto::resources::{Kind, Resources};
use proffer_proto::v1;

use super::amounts::{Amounts, CPUS, Kinds, MEM, is_plain};
use super::bits::Bits;
use super::decide::{Claim, Grant, Stage, is_worth_offering};
use super::filters::Filters;
use super::patience::Among;
use super::roles::Roles;
use super::{
    AgentOrder, AgentSlot, Allocator, CPUS_MIN, ClaimSlot, Decision, Description, MEM_MIN, Policy, Quantities, Quota,
    Reason, Slot, Turn, Wishes,
};
use crate::time::Timestamp;

/// What a caller said of an agent.
#[derive(Debug, Default, PartialEq)]
struct Facts {
    total: Resources,
    hostname: String,
    attributes: Vec<v1::Attribute>,
    domain: Option<v1::DomainInfo>,
}

impl Facts {
    fn describe(&self) -> Description<'_> {
        Description {
            total: &self.total,
            hostname: &self.hostname,
            attributes: &self.attributes,
            domain: self.domain.as_ref(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Agent {
    facts: Facts,
    /// The amounts of its total.
    scalars: Amounts,
    /// What of its total is reserved, by role.
    reserved: Vec<(String, Amounts)>,
    pub(super) active: bool,
    pub(super) gpus: bool,
    /// In another region than the masters.
    pub(super) remote: bool,
    /// Claims whose constraints do not accept it.
    pub(super) unfit: Bits,
    pub(super) free: Resources,
    /// All that is free.
    pub(super) all: Amounts,
    /// What of it is neither reserved nor revocable...
    pub(super) plain: Amounts,
    /// ...and whether that is all.
    pub(super) is_plain: bool,
    /// What was plain and is lent, so that it can be had back.
    pub(super) lent: Amounts,
    /// Claims that refused all that is free, or more.
    refused: Bits,
    /// The row above is true for what is free now.
    refused_known: bool,
}

impl Agent {
    /// An agent of which nothing is known but what is free.
    pub(super) fn of_free(free: Resources, all: Amounts, plain: Amounts) -> Self {
        Agent {
            is_plain: free.iter().all(is_plain),
            free,
            all,
            plain,
            ..Agent::default()
        }
    }
}

/// The allocator of a master.
#[derive(Debug)]
pub struct Hierarchical {
    order: AgentOrder,
    region: Option<String>,
    pub(super) kinds: Kinds,
    pub(super) agents: Vec<Option<Agent>>,
    /// The sum of the agents' amounts.
    total: Amounts,
    /// What is free and plain on active agents.
    pub(super) available: Amounts,
    /// What was plain and is lent on active agents.
    pub(super) lent: Amounts,
    pub(super) claims: Vec<Option<Claim>>,
    pub(super) active: Bits,
    /// Claims that take what may be taken back.
    pub(super) borrowers: Bits,
    gpus: Bits,
    regions: Bits,
    constrained: Bits,
    /// Claims with a minimum of their own.
    choosy: Bits,
    pub(super) roles: Roles,
    pub(super) filters: Filters,
    dirty: Bits,
    /// Active agents with something free.
    idle: Bits,
    pub(super) awake: Bits,
    /// Claims that come after all others...
    pub(super) last: Bits,
    /// ...and those that do so from their next grant on.
    pub(super) once: Bits,
    /// Somebody may want more than when this was asked last.
    pub(super) stirred: bool,
    /// Something was kept free for guarantees that a claim could have had...
    kept_free: bool,
    /// ...when so much need not be kept free.
    surplus_then: Amounts,
    /// Reused.
    candidates: Bits,
    visited: Vec<(u64, AgentSlot, bool)>,
    #[cfg(test)]
    pub(super) grants: Vec<(Stage, Decision)>,
}

impl Default for Hierarchical {
    fn default() -> Self {
        Hierarchical::new(Policy::default(), AgentOrder::default())
    }
}

impl Hierarchical {
    /// An allocator that knows nobody.
    pub fn new(policy: Policy, order: AgentOrder) -> Self {
        Hierarchical {
            order,
            region: None,
            kinds: Kinds::default(),
            agents: Vec::new(),
            total: Amounts::default(),
            available: Amounts::default(),
            lent: Amounts::default(),
            claims: Vec::new(),
            active: Bits::default(),
            borrowers: Bits::default(),
            gpus: Bits::default(),
            regions: Bits::default(),
            constrained: Bits::default(),
            choosy: Bits::default(),
            roles: Roles::new(policy),
            filters: Filters::default(),
            dirty: Bits::default(),
            idle: Bits::default(),
            awake: Bits::default(),
            last: Bits::default(),
            once: Bits::default(),
            stirred: false,
            kept_free: false,
            surplus_then: Amounts::default(),
            candidates: Bits::default(),
            visited: Vec::new(),
            #[cfg(test)]
            grants: Vec::new(),
        }
    }

    pub(super) fn agent(&self, agent: AgentSlot) -> Option<&Agent> {
        self.agents.get(agent.index())?.as_ref()
    }

    /// What all agents have.
    pub(super) fn total(&self) -> &Amounts {
        &self.total
    }

    /// How many agents the next call of `allocate` looks at.
    #[cfg(test)]
    pub(super) fn looked_at(&mut self) -> usize {
        self.prepare();
        let count = self.visits();
        self.visited.clear();
        count
    }

    /// Everything that is to be looked at again: all idle agents, with all claims.
    pub fn touch(&mut self) {
        self.dirty.extend(&self.idle);
    }

    /// Puts an agent among the idle ones if it belongs there.
    fn sort_in(&mut self, slot: AgentSlot) {
        let idle = self
            .agent(slot)
            .is_some_and(|agent| agent.active && !agent.free.is_empty());
        self.idle.set(slot.index(), idle);
        if !idle {
            self.dirty.remove(slot.index());
        }
    }

    fn is_remote(&self, description: &Description<'_>) -> bool {
        match (&self.region, description.region()) {
            (Some(home), Some(region)) => home != region,
            _ => false,
        }
    }

    /// Takes what an agent has from the sums.
    fn forget(&mut self, agent: &Agent) {
        self.total.subtract(&agent.scalars);
        if agent.active {
            self.available.subtract(&agent.plain);
            self.lent.subtract(&agent.lent);
        }
        for (role, amounts) in &agent.reserved {
            self.roles.unreserve(role, amounts);
        }
    }

    fn is_unfit(&self, claim: usize, description: &Description<'_>) -> bool {
        let claim = self.claims.get(claim).and_then(Option::as_ref);
        let constraints = claim.and_then(|claim| claim.wishes.constraints.as_ref());
        constraints.is_some_and(|constraints| !constraints.accept(description))
    }

    /// Asks a claim's constraints about every agent.
    fn constrain(&mut self, claim: ClaimSlot) {
        let index = claim.index();
        let known = self.claims.get(index).and_then(Option::as_ref);
        let constraints = known.and_then(|claim| claim.wishes.constraints.clone());
        let before = self.constrained.contains(index);
        self.constrained.set(index, constraints.is_some());
        if !before && constraints.is_none() {
            return;
        }
        for agent in self.agents.iter_mut().flatten() {
            let unfit = (constraints.as_ref()).is_some_and(|constraints| !constraints.accept(&agent.facts.describe()));
            agent.unfit.set(index, unfit);
        }
    }

    /// Brings what decisions rest on up to date.
    fn prepare(&mut self) {
        self.roles.refresh();
        self.stirred |= self.roles.take_eased(&mut self.awake);
        let needs_grew = self.roles.take_needs_grew();
        if self.kept_free && (needs_grew || self.surplus_grew()) {
            self.kept_free = false;
            self.dirty.extend(&self.idle);
        }
    }

    fn surplus_grew(&self) -> bool {
        (0..self.kinds.len()).any(|kind| self.surplus(kind) > self.surplus_then.get(kind))
    }

    /// Lists the agents to be looked at, in order, each with whether all claims are, and counts them.
    fn visits(&mut self) -> usize {
        let (active, awake) = (&self.active, &self.awake);
        let anyone = (0..awake.words()).any(|index| awake.word(index) & active.word(index) != 0);
        let slot = |index: usize| AgentSlot::from_index(index as u32);
        if anyone {
            let dirty = &self.dirty;
            let both = self.idle.iter();
            self.visited
                .extend(both.map(|index| (0, slot(index), dirty.contains(index))));
        } else {
            self.visited
                .extend(self.dirty.iter().map(|index| (0, slot(index), true)));
        }
        if self.order != AgentOrder::Slot && self.visited.len() > 1 {
            for visit in &mut self.visited {
                let Some(agent) = self.agents[visit.1.index()].as_ref() else {
                    continue;
                };
                let mut used = agent.scalars.clone();
                used.subtract(&agent.all);
                let used = used.dominant_share(&agent.scalars);
                visit.0 = if self.order == AgentOrder::Pack {
                    u64::MAX - used
                } else {
                    used
                };
            }
            self.visited.sort_unstable();
        }
        self.visited.len()
    }

    /// Gives away what is free on an agent.
    fn settle(&mut self, slot: AgentSlot, all: bool, decisions: &mut Vec<Decision>) {
        let first = decisions.len();
        let mut all = all;
        // Reserved parts may go to other claims than the rest, and quota may cut an agent, so one decision may leave
        // something for the next.
        while let Some((stage, claim, grant)) = self.choose(slot, all) {
            // What others are cut to may be other numbers and strings now, which they did not refuse.
            all |= self.roles.has_quota();
            let used_up = self.uses_up(slot, claim, all);
            let decision = Decision {
                used_up,
                ..self.grant(slot, claim, grant)
            };
            self.note(stage, &decision);
            match decisions[first..].iter_mut().find(|made| made.claim == claim) {
                Some(made) => {
                    made.resources += decision.resources;
                    made.used_up |= decision.used_up;
                }
                None => decisions.push(decision),
            }
        }
    }

    /// Tests look at every grant.
    #[cfg_attr(not(test), allow(unused_variables, clippy::unused_self))]
    fn note(&mut self, stage: Stage, decision: &Decision) {
        #[cfg(test)]
        self.grants.push((stage, decision.clone()));
    }

    /// Who is next, and what of: who comes last only if nobody else takes it.
    pub(super) fn choose(&mut self, slot: AgentSlot, all: bool) -> Option<(Stage, ClaimSlot, Grant)> {
        let chosen = self.choose_among(slot, all, &Among::Regular);
        if chosen.is_some() || self.last.is_empty() {
            return chosen;
        }
        self.choose_among(slot, all, &Among::Last)
    }

    /// Who of some is next: guarantees first.
    pub(super) fn choose_among(
        &mut self,
        slot: AgentSlot,
        all: bool,
        among: &Among,
    ) -> Option<(Stage, ClaimSlot, Grant)> {
        let guaranteed = if self.roles.needy().is_empty() {
            None
        } else {
            self.choose_in(slot, Stage::Guaranteed, all, among)
        };
        let stage = if guaranteed.is_some() {
            Stage::Guaranteed
        } else {
            Stage::Fair
        };
        let (claim, grant) = guaranteed.or_else(|| self.choose_in(slot, Stage::Fair, all, among))?;
        Some((stage, claim, grant))
    }

    fn choose_in(&mut self, slot: AgentSlot, stage: Stage, all: bool, among: &Among) -> Option<(ClaimSlot, Grant)> {
        let mut candidates = std::mem::take(&mut self.candidates);
        let count = self.find_candidates(slot, stage, all, among, &mut candidates);
        let mut chosen = None;
        if count > 0 {
            let mut limited = Vec::new();
            let mut kept_free = false;
            let agent = self.agents[slot.index()].as_ref()?;
            let claim = self.roles.first(&candidates, count, |at| {
                let Some(claim) = &self.claims[at.index()] else {
                    return false;
                };
                let outcome = self.offerable(at, claim, slot, agent, stage);
                if outcome.by_limit {
                    limited.push(at);
                }
                kept_free |= outcome.by_headroom;
                chosen = outcome.grant.ok();
                chosen.is_some()
            });
            for claim in limited {
                self.roles.keep_back(claim);
            }
            self.kept_free |= kept_free;
            self.candidates = candidates;
            return Some((claim?, chosen?));
        }
        self.candidates = candidates;
        None
    }

    /// Fills in the claims that may want something of the agent, and counts them.
    fn find_candidates(
        &mut self,
        slot: AgentSlot,
        stage: Stage,
        all: bool,
        among: &Among,
        candidates: &mut Bits,
    ) -> usize {
        let short = self.roles.has_quota() && self.surplus(CPUS) < CPUS_MIN && self.surplus(MEM) < MEM_MIN;
        let Some(agent) = self.agents.get_mut(slot.index()).and_then(Option::as_mut) else {
            return 0;
        };
        if !agent.active || agent.free.is_empty() {
            return 0;
        }
        if !agent.refused_known {
            let refusals = self.filters.of_agent(slot);
            refusals.refusing(&agent.free, &mut agent.refused);
            agent.refused_known = true;
        }
        let (gpus, remote, is_plain) = (agent.gpus, agent.remote, agent.is_plain);
        let small = !is_worth_offering(&agent.all);
        let lent = !is_plain && agent.free.iter().all(|entry| entry.key().is_revocable());
        let (needy, exhausted) = (self.roles.needy(), self.roles.exhausted());
        let quota = self.roles.has_quota();
        let mut count = 0;
        let mut kept_free = false;
        candidates.fill(self.active.words(), |index| {
            let mut word = self.active.word(index) & !agent.refused.word(index) & among.word(&self.last, index);
            if word == 0 {
                return 0;
            }
            word &= !agent.unfit.word(index);
            if !all {
                word &= self.awake.word(index);
            }
            if gpus {
                word &= self.gpus.word(index);
            }
            if remote {
                word &= self.regions.word(index);
            }
            if lent {
                word &= self.borrowers.word(index);
            }
            if stage == Stage::Guaranteed {
                word &= needy.word(index);
            }
            if small {
                word &= self.choosy.word(index);
            }
            if quota && is_plain {
                let choosy = self.choosy.word(index);
                word &= !exhausted.word(index) | choosy;
                if short {
                    let open = needy.word(index) | choosy;
                    kept_free |= word & !open != 0;
                    word &= open;
                }
            }
            count += word.count_ones() as usize;
            word
        });
        self.kept_free |= kept_free;
        count
    }

    pub(super) fn grant(&mut self, slot: AgentSlot, claim: ClaimSlot, grant: Grant) -> Decision {
        let agent = self.agents[slot.index()].as_mut().expect("it was chosen for");
        let (resources, all, plain) = match grant {
            Grant::Whole => (
                std::mem::take(&mut agent.free),
                std::mem::take(&mut agent.all),
                std::mem::take(&mut agent.plain),
            ),
            Grant::Part(part) => {
                let (all, plain) = self.kinds.both(&part);
                agent.free = agent.free.checked_sub(&part).expect("it is a part of what is free");
                agent.all.subtract(&all);
                agent.plain.subtract(&plain);
                agent.is_plain = agent.free.iter().all(is_plain);
                (part, all, plain)
            }
        };
        agent.refused_known = false;
        self.available.subtract(&plain);
        self.roles.charge(claim, &all, &plain);
        Decision {
            agent: slot,
            claim,
            resources,
            used_up: false,
        }
    }
}

fn put<T>(list: &mut Vec<Option<T>>, index: usize, entry: T) -> Option<T> {
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    list[index].replace(entry)
}

impl Allocator for Hierarchical {
    fn set_region(&mut self, region: Option<&str>) {
        self.region = region.map(str::to_owned);
        for index in 0..self.agents.len() {
            let Some(agent) = &self.agents[index] else { continue };
            let remote = self.is_remote(&agent.facts.describe());
            if let Some(agent) = &mut self.agents[index] {
                agent.remote = remote;
            }
        }
        self.dirty.extend(&self.idle);
    }

    fn put_agent(&mut self, slot: AgentSlot, description: &Description<'_>) {
        let facts = Facts {
            total: description.total.clone(),
            hostname: description.hostname.to_owned(),
            attributes: description.attributes.to_vec(),
            domain: description.domain.cloned(),
        };
        if self.agent(slot).is_some_and(|agent| agent.facts == facts) {
            return;
        }
        let known = self.agents.get_mut(slot.index()).and_then(Option::take);
        if let Some(known) = &known {
            self.forget(known);
        }
        let total = description.total;
        let mut agent = known.unwrap_or_else(|| Agent {
            is_plain: true,
            ..Agent::default()
        });
        agent.scalars = self.kinds.sum(total, |entry| entry.key().kind() == Kind::Scalar);
        agent.reserved.clear();
        for entry in total {
            let Some(role) = entry.key().reservation_role() else {
                continue;
            };
            if entry.key().is_revocable() || agent.reserved.iter().any(|(known, _)| known == role) {
                continue;
            }
            let of_role = |entry: &proffer_proto::resources::Entry| {
                entry.key().reservation_role() == Some(role) && !entry.key().is_revocable()
            };
            agent.reserved.push((role.to_owned(), self.kinds.sum(total, of_role)));
        }
        agent.gpus = !total.gpus().is_zero();
        agent.remote = self.is_remote(description);
        agent.unfit.clear();
        for claim in self.constrained.iter() {
            if self.is_unfit(claim, description) {
                agent.unfit.insert(claim);
            }
        }
        agent.facts = facts;
        self.total.add(&agent.scalars);
        if agent.active {
            self.available.add(&agent.plain);
            self.lent.add(&agent.lent);
        }
        for (role, amounts) in &agent.reserved {
            self.roles.reserve(role, amounts);
        }
        put(&mut self.agents, slot.index(), agent);
        self.stirred = true;
        self.roles.set_total(self.total.clone());
        self.dirty.insert(slot.index());
        self.sort_in(slot);
    }

    fn remove_agent(&mut self, slot: AgentSlot) {
        let known = self.agents.get_mut(slot.index()).and_then(Option::take);
        if let Some(known) = known {
            self.forget(&known);
            self.roles.set_total(self.total.clone());
        }
        self.filters.forget_agent(slot);
        self.sort_in(slot);
    }

    fn set_agent_active(&mut self, slot: AgentSlot, active: bool) {
        if let Some(agent) = self.agents.get_mut(slot.index()).and_then(Option::as_mut) {
            match (agent.active, active) {
                (false, true) => {
                    self.available.add(&agent.plain);
                    self.lent.add(&agent.lent);
                }
                (true, false) => {
                    self.available.subtract(&agent.plain);
                    self.lent.subtract(&agent.lent);
                }
                _ => {}
            }
            agent.active = active;
            if active {
                self.dirty.insert(slot.index());
            }
        }
        self.sort_in(slot);
    }

    fn set_free(&mut self, slot: AgentSlot, free: Resources) {
        let Some(agent) = self.agents.get_mut(slot.index()).and_then(Option::as_mut) else {
            return;
        };
        if agent.free == free {
            return;
        }
        // Where there is quota, what a claim is cut to may be other numbers of what is left, which it did not refuse.
        if self.roles.has_quota() || !agent.free.contains(&free) {
            self.dirty.insert(slot.index());
        }
        self.put_free(slot, free);
        self.sort_in(slot);
    }

    fn put_claim(&mut self, claim: ClaimSlot, wishes: Wishes) {
        let index = claim.index();
        let before = self.claims.get(index).and_then(Option::as_ref);
        if before.is_some_and(|before| before.wishes == wishes) {
            return;
        }
        self.gpus.set(index, wishes.gpus);
        self.regions.set(index, wishes.regions);
        self.borrowers.set(index, wishes.revocable);
        self.choosy.set(index, wishes.minimum.is_some());
        let role = wishes.role.clone();
        let ready = Claim::new(wishes, &mut self.kinds);
        match put(&mut self.claims, index, ready) {
            None => self.roles.insert(claim, &role),
            Some(_) => self.awake.insert(index),
        }
        self.stirred = true;
        self.constrain(claim);
    }

    fn remove_claim(&mut self, claim: ClaimSlot) {
        self.set_claim_active(claim, false);
        self.revive(claim);
        if let Some(entry) = self.claims.get_mut(claim.index()) {
            *entry = None;
        }
        self.constrain(claim);
        self.roles.remove(claim);
        let wishes = [&mut self.gpus, &mut self.regions, &mut self.choosy, &mut self.awake];
        for row in wishes
            .into_iter()
            .chain([&mut self.last, &mut self.once, &mut self.borrowers])
        {
            row.remove(claim.index());
        }
    }

    fn set_claim_active(&mut self, claim: ClaimSlot, active: bool) {
        if self.roles.set_active(claim, active) {
            self.active.set(claim.index(), active);
            self.awake.set(claim.index(), active);
            self.stirred |= active;
        }
    }

    fn set_turn(&mut self, claim: ClaimSlot, turn: Turn) {
        self.stirred |= turn != Turn::Last && self.last.contains(claim.index());
        self.last.set(claim.index(), turn == Turn::Last);
        self.once.set(claim.index(), turn == Turn::Once);
    }

    fn active_claims(&self) -> usize {
        self.roles.active()
    }

    fn take_stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }

    fn view(
        &mut self,
        claim: ClaimSlot,
        agent: AgentSlot,
        held: Option<ClaimSlot>,
        resources: &Resources,
    ) -> Option<Resources> {
        let held = held.map(|holder| (holder, resources));
        self.as_if_free(agent, held.as_slice(), resources.clone(), |allocator| {
            allocator.judge(claim, agent).ok()
        })
    }

    fn is_wanted(&mut self, agent: AgentSlot, offers: &[(ClaimSlot, &Resources)], except: &[ClaimSlot]) -> bool {
        self.would_be_taken(agent, offers, except)
    }

    fn set_lent(&mut self, agent: AgentSlot, lent: &Resources) {
        let (_, plain) = self.kinds.both(lent);
        self.put_lent(agent, plain);
    }

    fn has_borrowers(&self) -> bool {
        self.any_borrower()
    }

    fn lendable(&self, agent: AgentSlot, until: Timestamp, returning: &[ClaimSlot]) -> Resources {
        self.idle_on(agent, until, returning)
    }

    fn borrower(&mut self, agent: AgentSlot, resources: &Resources) -> Option<(ClaimSlot, Resources)> {
        self.first_borrower(agent, resources)
    }

    fn reclaim(&mut self, agent: AgentSlot, lent: &Resources) -> Vec<(ClaimSlot, Resources)> {
        self.wanted_back(agent, lent)
    }

    fn charge(&mut self, claim: ClaimSlot, resources: &Resources) {
        let (all, plain) = self.kinds.both(resources);
        self.roles.charge(claim, &all, &plain);
    }

    fn credit(&mut self, claim: ClaimSlot, resources: &Resources) {
        let (all, plain) = self.kinds.both(resources);
        self.roles.credit(claim, &all, &plain);
    }

    fn held(&self, claim: ClaimSlot) -> Quantities {
        self.named(&self.roles.held(claim))
    }

    fn set_weight(&mut self, role: &str, weight: Option<u64>) {
        self.roles.set_weight(role, weight);
    }

    fn set_quota(&mut self, role: &str, quota: Option<Quota>) {
        let quota = quota.map(|quota| {
            let mut guarantees = Amounts::default();
            for (name, amount) in &quota.guarantees {
                guarantees.raise(self.kinds.intern(name), amount.thousandths());
            }
            let limits = quota.limits.iter();
            let limits = limits.map(|(name, amount)| (self.kinds.intern(name), amount.thousandths()));
            (guarantees, limits.collect())
        });
        self.roles.set_quota(role, quota);
    }

    fn consumed(&self, role: &str) -> Quantities {
        self.named(&self.roles.consumed(role))
    }

    fn refuse(&mut self, claim: ClaimSlot, agent: AgentSlot, resources: Resources, until: Timestamp) {
        let state = self.agents.get_mut(agent.index()).and_then(Option::as_mut);
        if let Some(state) = state
            && resources.contains(&state.free)
        {
            state.refused.insert(claim.index());
        }
        if self.filters.refuse(claim, agent, resources, until) {
            // What was refused before it may be offered again.
            self.ask_again(agent);
        }
    }

    fn revive(&mut self, claim: ClaimSlot) {
        let agents = self.filters.forget_claim(claim);
        for agent in &agents {
            if let Some(agent) = self.agents.get_mut(agent.index()).and_then(Option::as_mut) {
                agent.refused.remove(claim.index());
            }
        }
        if !agents.is_empty() {
            self.awake.insert(claim.index());
            self.stirred = true;
        }
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.filters.next_end()
    }

    fn expire(&mut self, now: Timestamp) {
        for agent in self.filters.expire(now) {
            self.ask_again(agent);
        }
    }

    fn allocate(&mut self, decisions: &mut Vec<Decision>) {
        self.prepare();
        self.visits();
        if !self.visited.is_empty() {
            self.stirred = true;
            let visited = std::mem::take(&mut self.visited);
            for (_, slot, all) in &visited {
                self.settle(*slot, *all, decisions);
                self.sort_in(*slot);
                self.dirty.remove(slot.index());
            }
            self.visited = visited;
            self.visited.clear();
        }
        self.awake.clear();
        if self.kept_free {
            for kind in 0..self.kinds.len() {
                *self.surplus_then.at(kind) = self.surplus(kind);
            }
        }
    }

    fn free(&self, agent: AgentSlot) -> Option<&Resources> {
        Some(&self.agent(agent)?.free)
    }

    fn verdict(&self, claim: ClaimSlot, agent: AgentSlot) -> Result<Resources, Reason> {
        self.judge(claim, agent)
    }

    fn suffices(&self, claim: ClaimSlot, resources: &Resources) -> bool {
        self.would_suffice(claim, resources)
    }

    fn is_content(&self, claim: ClaimSlot) -> bool {
        self.has_all(claim)
    }

    fn room(&self, claim: ClaimSlot, agent: AgentSlot, resources: &Resources) -> Resources {
        self.room_of(claim, agent, resources)
    }

    fn is_open(&self, claim: ClaimSlot, agent: AgentSlot) -> bool {
        self.open(claim, agent).is_some()
    }

    fn refuses(&self, claim: ClaimSlot, agent: AgentSlot, resources: &Resources) -> bool {
        self.filters.of_agent(agent).refuses(claim, resources)
    }

    fn in_order(&mut self, claims: &[ClaimSlot]) -> Vec<ClaimSlot> {
        self.order_of(claims)
    }

    fn share(&self, resources: &Resources) -> u64 {
        self.share_of(resources)
    }

    fn check(&self) -> Result<(), String> {
        let (mut available, mut lent) = (Amounts::default(), Amounts::default());
        for (index, agent) in self.agents.iter().enumerate() {
            let slot = AgentSlot::from_index(index as u32);
            let idle = agent
                .as_ref()
                .is_some_and(|agent| agent.active && !agent.free.is_empty());
            if idle != self.idle.contains(index) {
                return Err(format!("{slot:?} is idle: {idle}, but is not counted so"));
            }
            let Some(agent) = agent else { continue };
            if agent.active {
                available.add(&agent.plain);
                lent.add(&agent.lent);
            }
            let mut refused = Bits::default();
            self.filters.of_agent(slot).refusing(&agent.free, &mut refused);
            if agent.refused_known && !refused.iter().eq(agent.refused.iter()) {
                return Err(format!("who refused {slot:?} is out of date"));
            }
        }
        if available != self.available {
            return Err("what is free is out of date".to_owned());
        }
        if lent != self.lent {
            return Err("what is lent is out of date".to_owned());
        }
        self.filters.check()?;
        self.roles.check()
    }
}

impl Hierarchical {
    /// Takes over what is free on an agent, and nothing else.
    pub(super) fn put_free(&mut self, slot: AgentSlot, free: Resources) {
        let Some(agent) = self.agents.get_mut(slot.index()).and_then(Option::as_mut) else {
            return;
        };
        let (all, plain) = self.kinds.both(&free);
        if agent.active {
            self.available.subtract(&agent.plain);
            self.available.add(&plain);
        }
        (agent.all, agent.plain) = (all, plain);
        agent.is_plain = free.iter().all(is_plain);
        agent.free = free;
        agent.refused_known = false;
    }

    /// Refusals about an agent ended.
    fn ask_again(&mut self, slot: AgentSlot) {
        self.stirred = true;
        if let Some(agent) = self.agents.get_mut(slot.index()).and_then(Option::as_mut) {
            agent.refused_known = false;
            self.dirty.insert(slot.index());
            self.sort_in(slot);
        }
    }

    fn named(&self, amounts: &Amounts) -> Quantities {
        let mut named = Quantities::default();
        for (kind, amount) in amounts.iter() {
            named.raise(self.kinds.name(kind), amount);
        }
        named
    }
}

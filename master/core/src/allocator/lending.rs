//! What is idle although it is kept for somebody, who may borrow it, and who wants it back.
//!
//! As with offers that are held too long, the code that decides answers: what is lent is counted as free, claims are chosen,
//! and all is put back as it was.

use proffer_proto::resources::{Entry, Resources};
use proffer_proto::roles::is_below;

use super::amounts::{Amounts, is_plain};
use super::decide::Grant;
use super::hierarchical::Hierarchical;
use super::patience::Among;
use super::{AgentSlot, ClaimSlot, Slot};
use crate::time::Timestamp;

/// Whether an entry can be lent at all: data on a disk cannot be taken back.
fn can_be_lent(entry: &Entry) -> bool {
    let key = entry.key();
    !key.is_revocable() && !key.is_shared() && key.disk().is_none()
}

impl Hierarchical {
    /// As [`Allocator::has_borrowers`](super::Allocator::has_borrowers).
    pub(super) fn any_borrower(&self) -> bool {
        (0..self.active.words()).any(|index| self.active.word(index) & self.borrowers.word(index) != 0)
    }

    /// What has to be kept free of a kind and is not lent already.
    fn kept(&self, kind: usize) -> u64 {
        let required = self.roles.required().map_or(0, |required| required.get(kind));
        required.saturating_sub(self.lent.get(kind))
    }

    /// As [`Allocator::lendable`](super::Allocator::lendable).
    pub(super) fn idle_on(&self, at: AgentSlot, until: Timestamp, returning: &[ClaimSlot]) -> Resources {
        let Some(agent) = self.agent(at).filter(|agent| agent.active) else {
            return Resources::new();
        };
        let mut soon = self.filters.of_agent(at).ending_before(until);
        soon.retain(|claim| self.roles.is_active(*claim));
        soon.extend(returning);
        let wanted = soon.iter().any(|claim| !self.roles.entitled(*claim).is_zero());
        let owns = |claim: &ClaimSlot, role: &str| {
            let claim = self.claims.get(claim.index()).and_then(Option::as_ref);
            claim.is_some_and(|claim| claim.wishes.role == role || is_below(&claim.wishes.role, role))
        };
        let mut used = Amounts::default();
        agent.free.bounded(|entry| {
            if !can_be_lent(entry) {
                return Some(0);
            }
            if let Some(role) = entry.key().reservation_role() {
                return soon.iter().any(|claim| owns(claim, role)).then_some(0);
            }
            let kind = self.kinds.find(entry.name()).filter(|_| !wanted && is_plain(entry));
            let Some(kind) = kind else { return Some(0) };
            let left = self.kept(kind).saturating_sub(used.get(kind));
            used.raise(kind, entry.thousandths().min(left));
            Some(left)
        })
    }

    /// As [`Allocator::borrower`](super::Allocator::borrower).
    pub(super) fn first_borrower(&mut self, at: AgentSlot, resources: &Resources) -> Option<(ClaimSlot, Resources)> {
        self.agent(at).filter(|agent| agent.active)?;
        self.as_if_free(at, &[], resources.clone(), |allocator| {
            let (_, claim, grant) = allocator.choose(at, true)?;
            let part = match grant {
                Grant::Whole => resources.clone(),
                Grant::Part(part) => part,
            };
            Some((claim, part))
        })
    }

    /// As [`Allocator::reclaim`](super::Allocator::reclaim).
    pub(super) fn wanted_back(&mut self, at: AgentSlot, lent: &Resources) -> Vec<(ClaimSlot, Resources)> {
        let Some(agent) = self.agent(at).filter(|agent| agent.active) else {
            return Vec::new();
        };
        let free = agent.free.clone() + lent;
        let before = agent.lent.clone();
        self.put_lent(at, Amounts::default());
        let grants = self.as_if_free(at, &[], free, |allocator| {
            let mut grants = Vec::new();
            while let Some((_, claim, grant)) = allocator.choose_among(at, true, &Among::Regular) {
                let decision = allocator.grant(at, claim, grant);
                grants.push((claim, decision.resources));
            }
            for (claim, resources) in &grants {
                let (all, plain) = allocator.kinds.both(resources);
                allocator.roles.credit(*claim, &all, &plain);
            }
            grants
        });
        self.put_lent(at, before);
        grants
    }

    /// So much of what is plain is lent on the agent.
    pub(super) fn put_lent(&mut self, at: AgentSlot, lent: Amounts) {
        let Some(agent) = self.agents.get_mut(at.index()).and_then(Option::as_mut) else {
            return;
        };
        if agent.active {
            self.lent.subtract(&agent.lent);
            self.lent.add(&lent);
        }
        agent.lent = lent;
    }
}

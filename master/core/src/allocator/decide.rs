//! What one claim may be offered of one agent: the same question for decisions and for explanations.

use proffer_proto::resources::{Entry, Resources};
use proffer_proto::roles::is_below;

use super::amounts::{Amounts, CPUS, Kinds, MEM, is_plain};
use super::hierarchical::{Agent, Hierarchical};
use super::{AgentSlot, CPUS_MIN, ClaimSlot, MEM_MIN, Quantities, Reason, Shape, Slot, Wishes};
use crate::time::Timestamp;

/// Who is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Claims below guarantees that are not met, up to these.
    Guaranteed,
    /// All, within what need not be kept free.
    Fair,
}

/// What a claim may have of what is free on an agent.
#[derive(Debug)]
pub(super) enum Grant {
    Whole,
    Part(Resources),
}

/// Why it may have nothing; see [`Reason`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Lack {
    Reserved,
    Refused(Timestamp),
    TooSmall,
    NoShapeFits,
    Limit,
    Headroom,
}

/// A claim's wishes, made ready.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) wishes: Wishes,
    minimum: Option<Vec<Amounts>>,
    pub(super) shapes: Option<Vec<(Option<AgentSlot>, Amounts)>>,
}

/// What may be offered, and what kept more from being offered.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) grant: Result<Grant, Lack>,
    pub(super) by_limit: bool,
    pub(super) by_headroom: bool,
}

impl Claim {
    pub(super) fn new(wishes: Wishes, kinds: &mut Kinds) -> Self {
        let mut dense = |quantities: &Quantities| {
            let mut amounts = Amounts::default();
            for (name, amount) in quantities.iter() {
                amounts.raise(kinds.intern(name), amount);
            }
            amounts
        };
        let minimum = wishes.minimum.as_ref();
        let minimum = minimum.map(|list| list.iter().map(&mut dense).collect());
        let mut ready = |shape: &Shape| (shape.agent, dense(&shape.resources));
        let shapes = wishes.demand.as_ref().map(|shapes| {
            let wanted = shapes.iter().filter(|shape| shape.count > 0);
            wanted.map(&mut ready).collect()
        });
        Claim {
            wishes,
            minimum,
            shapes,
        }
    }

    /// Whether this much is worth offering.
    pub(super) fn is_enough(&self, amounts: &Amounts) -> bool {
        match &self.minimum {
            None => is_worth_offering(amounts),
            Some(minimum) => {
                !amounts.is_zero() && (minimum.is_empty() || minimum.iter().any(|least| amounts.contains(least)))
            }
        }
    }

    fn fits(&self, agent: AgentSlot, amounts: &Amounts) -> bool {
        let Some(shapes) = &self.shapes else { return true };
        let mut here = shapes.iter().filter(|(at, _)| at.is_none_or(|at| at == agent));
        here.any(|(_, shape)| amounts.contains(shape))
    }

    /// Whether an entry that is not plain is open to the claim.
    fn may_have(&self, entry: &Entry) -> bool {
        let key = entry.key();
        let role = key.reservation_role();
        (self.wishes.revocable || !key.is_revocable())
            && role.is_none_or(|reserved| reserved == self.wishes.role || is_below(&self.wishes.role, reserved))
    }
}

/// To who asks for no minimum of its own.
pub(super) fn is_worth_offering(amounts: &Amounts) -> bool {
    amounts.get(CPUS) >= CPUS_MIN || amounts.get(MEM) >= MEM_MIN
}

impl Hierarchical {
    /// What is free of a kind and need not be kept free for guarantees.
    pub(super) fn surplus(&self, kind: usize) -> u64 {
        let required = self.roles.required().map_or(0, |required| required.get(kind));
        // What is lent comes back to whom it is kept for.
        let kept = required.saturating_sub(self.lent.get(kind));
        self.available.get(kind).saturating_sub(kept)
    }

    /// What the claim may be offered of the agent, its wishes about agents and its refusal of all that is free aside.
    pub(super) fn offerable(
        &self,
        slot: ClaimSlot,
        claim: &Claim,
        at: AgentSlot,
        agent: &Agent,
        stage: Stage,
    ) -> Outcome {
        let mut outcome = Outcome {
            grant: Ok(Grant::Whole),
            by_limit: false,
            by_headroom: false,
        };
        let bound = self.bound(slot, agent, stage, &mut outcome);
        if outcome.grant.is_err() {
            return outcome;
        }
        if agent.is_plain {
            let most = match &bound {
                None => &agent.all,
                Some(bound) => &agent.plain.lesser(bound),
            };
            if let Err(reason) = Self::suffices(claim, at, agent, most, &outcome) {
                outcome.grant = Err(reason);
                return outcome;
            }
            if bound.is_none() {
                return outcome;
            }
        }
        let part = self.part(claim, agent, bound);
        outcome.grant = self.accepts(slot, claim, at, agent, part, &outcome);
        outcome
    }

    /// How much of each kind of what is plain may be had; `None` for all of it.
    pub(super) fn bound(
        &self,
        claim: ClaimSlot,
        agent: &Agent,
        stage: Stage,
        outcome: &mut Outcome,
    ) -> Option<Amounts> {
        if !self.roles.has_quota() {
            return None;
        }
        let mut bound = self.roles.left(claim, self.kinds.len());
        let entitled = if self.roles.needy().contains(claim.index()) {
            self.roles.entitled(claim)
        } else {
            Amounts::default()
        };
        let (mut cut, mut serves) = (false, false);
        for (kind, free) in agent.plain.iter() {
            let room = if stage == Stage::Guaranteed && self.roles.is_guaranteed(claim, kind) {
                entitled.get(kind)
            } else {
                entitled.get(kind).saturating_add(self.surplus(kind))
            };
            let bound = bound.at(kind);
            outcome.by_limit |= *bound < free;
            outcome.by_headroom |= room < free && stage == Stage::Fair;
            *bound = (*bound).min(room);
            cut |= *bound < free;
            serves |= *bound > 0 && entitled.get(kind) > 0;
        }
        if stage == Stage::Guaranteed && !serves {
            outcome.grant = Err(Lack::Headroom);
        }
        cut.then_some(bound)
    }

    /// The entries of what is free that the claim may have, cut to the bound.
    pub(super) fn part(&self, claim: &Claim, agent: &Agent, mut bound: Option<Amounts>) -> Resources {
        agent.free.bounded(|entry| {
            if !is_plain(entry) {
                return (!claim.may_have(entry)).then_some(0);
            }
            let left = bound.as_mut()?;
            let kind = self.kinds.find(entry.name())?;
            let (bound, amount) = (left.get(kind), entry.thousandths());
            if amount <= bound || !entry.is_whole() {
                left.lower(kind, amount.min(bound));
            }
            Some(bound)
        })
    }

    /// Whether so much is worth offering and of use.
    fn suffices(claim: &Claim, at: AgentSlot, agent: &Agent, amounts: &Amounts, outcome: &Outcome) -> Result<(), Lack> {
        let lacking = if !claim.is_enough(amounts) {
            Lack::TooSmall
        } else if !claim.fits(at, amounts) {
            Lack::NoShapeFits
        } else {
            return Ok(());
        };
        // Was it quota that made it too small?
        let whole = claim.is_enough(&agent.all) && claim.fits(at, &agent.all);
        Err(match whole {
            true if outcome.by_limit => Lack::Limit,
            true if outcome.by_headroom => Lack::Headroom,
            _ => lacking,
        })
    }

    fn accepts(
        &self,
        slot: ClaimSlot,
        claim: &Claim,
        at: AgentSlot,
        agent: &Agent,
        part: Resources,
        outcome: &Outcome,
    ) -> Result<Grant, Lack> {
        if part.is_empty() && !outcome.by_limit && !outcome.by_headroom {
            return Err(Lack::Reserved);
        }
        let mut amounts = Amounts::default();
        for entry in &part {
            if let Some(kind) = self.kinds.find(entry.name()) {
                amounts.raise(kind, entry.thousandths());
            }
        }
        Self::suffices(claim, at, agent, &amounts, outcome)?;
        let refused = self.filters.of_agent(at);
        if refused.refuses(slot, &part) {
            return Err(Lack::Refused(refused.until(slot, &part).unwrap_or_default()));
        }
        Ok(Grant::Part(part))
    }

    /// The limit that leaves the least of what is free.
    fn limit(&self, claim: ClaimSlot, agent: &Agent) -> Option<Reason> {
        let left = self.roles.left(claim, self.kinds.len());
        let short = agent.plain.iter().filter(|(kind, free)| left.get(*kind) < *free);
        let (kind, _) = short.min_by_key(|(kind, _)| (left.get(*kind), *kind))?;
        Some(Reason::Limit {
            role: self.roles.tightest(claim, kind)?,
            resource: self.kinds.name(kind).to_owned(),
        })
    }

    /// As [`Allocator::verdict`](super::Allocator::verdict).
    pub(super) fn judge(&self, slot: ClaimSlot, at: AgentSlot) -> Result<Resources, Reason> {
        let agent = self
            .agent(at)
            .filter(|agent| agent.active)
            .ok_or(Reason::AgentInactive)?;
        let claim = self.claims.get(slot.index()).and_then(Option::as_ref);
        let claim = claim
            .filter(|_| self.roles.is_active(slot))
            .ok_or(Reason::ClaimInactive)?;
        if agent.free.is_empty() {
            return Err(Reason::NothingFree);
        }
        if agent.gpus && !claim.wishes.gpus {
            return Err(Reason::Gpus);
        }
        if agent.remote && !claim.wishes.regions {
            return Err(Reason::Region);
        }
        if agent.unfit.contains(slot.index()) {
            return Err(Reason::Constraints);
        }
        if let Some(until) = self.filters.of_agent(at).until(slot, &agent.free) {
            return Err(Reason::Refused(until));
        }
        match self.offerable(slot, claim, at, agent, Stage::Fair).grant {
            Ok(Grant::Whole) => Ok(agent.free.clone()),
            Ok(Grant::Part(part)) => Ok(part),
            Err(Lack::Reserved) => Err(Reason::Reserved),
            Err(Lack::Refused(until)) => Err(Reason::Refused(until)),
            Err(Lack::TooSmall) => Err(Reason::TooSmall),
            Err(Lack::NoShapeFits) => Err(Reason::NoShapeFits),
            Err(Lack::Headroom) => Err(Reason::Headroom),
            Err(Lack::Limit) => Err(self.limit(slot, agent).unwrap_or(Reason::TooSmall)),
        }
    }
}

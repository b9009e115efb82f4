//! Who is offered what.
//!
//! The allocator knows agents (what they are, their total and free resources), claims (one role of one framework, with
//! what it wants and holds), roles (their weight and quota) and refusals. It is told of every change and remembers what
//! a decision may have changed for; `allocate` looks at that only, so that a step in which nothing changed costs
//! nothing. What it decides counts as held by the claim from then on.
//!
//! What is public here is so for the benchmark and for whoever wants to replay decisions: a master is driven by
//! [`Master::step`](crate::Master::step).
//!
//! # What may be offered
//!
//! A claim is offered all of an agent that is free and open to it: what is reserved for its role or one above, and what
//! is not reserved. It is offered nothing at all of an agent that its wishes rule out (GPUs, region, constraints), that
//! is too small, on which no shape of its declared demand fits, or of which it refused as much or more.
//!
//! # Quota
//!
//! A role *consumes* what claims of it and of the roles below hold unreserved, and what is reserved for these roles,
//! used or not; what is revocable does not count. All kinds of resources can have guarantees and limits; one port or one
//! string of a set counts as 1.
//!
//! - *Limit*: nothing is offered by which a role would consume more than its limit. An agent is cut to fit.
//! - *Guarantee*: as much as guarantees have over what is consumed is kept free for the roles that have them. A claim
//!   below an unmet guarantee is served before all others, but of the guaranteed kinds only as much as is guaranteed;
//!   then fair sharing goes on with the rest.

mod amounts;
mod bits;
mod constraints;
mod decide;
mod explain;
mod filters;
mod hierarchical;
mod lending;
mod patience;
mod quantities;
mod roles;
mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use proffer_proto::resources::{Resources, Scalar};
use proffer_proto::{domain, v1};

pub use crate::slots::{AgentSlot, ClaimSlot, Slot};
pub use constraints::Constraints;
pub use hierarchical::Hierarchical;
pub use quantities::Quantities;

use crate::time::Timestamp;

/// The least that is offered to who asks for no other minimum: this many thousandths of a processor...
const CPUS_MIN: u64 = 10;
/// ...or this many thousandths of a megabyte.
const MEM_MIN: u64 = 32_000;

/// In which order roles and frameworks are served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Hierarchical weighted dominant resource fairness: the lowest share, divided by its weight, comes first.
    ///
    /// After Ghodsi et al., "Dominant Resource Fairness" (NSDI 2011). Shares are fixed-point numbers, so that they are
    /// the same on every machine.
    #[default]
    Drf,
    /// Of the roles beside each other the one with the largest weight comes first, whatever it holds; among equal
    /// weights, and among the frameworks of a role, the lowest share does.
    Priority,
}

/// In which order agents are given away, where several are free at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AgentOrder {
    /// In the order of their slots.
    #[default]
    Slot,
    /// The fullest first, so that work is packed on few agents.
    Pack,
    /// The emptiest first, so that work is spread over many.
    Spread,
}

/// These free resources of the agent go to the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Where they are.
    pub agent: AgentSlot,
    /// Who is to be offered them.
    pub claim: ClaimSlot,
    /// Without allocation role.
    pub resources: Resources,
    /// It uses up the claim's `Once`: another would have taken some of it.
    pub used_up: bool,
}

/// What an agent is.
#[derive(Debug, Clone, Copy)]
pub struct Description<'a> {
    /// All it has, free or not.
    pub total: &'a Resources,
    /// Its name, for constraints.
    pub hostname: &'a str,
    /// Its attributes, for constraints.
    pub attributes: &'a [v1::Attribute],
    /// Where it is.
    pub domain: Option<&'a v1::DomainInfo>,
}

impl<'a> Description<'a> {
    /// Its region, if it told.
    pub fn region(&self) -> Option<&'a str> {
        domain::region(self.domain?)
    }

    /// Its zone, if it told.
    pub fn zone(&self) -> Option<&'a str> {
        domain::zone(self.domain?)
    }
}

/// What a claim may be offered at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The role; a path such as `ads/batch`.
    pub role: String,
    /// Nothing below all of these is offered; the allocator's default where there is none.
    pub minimum: Option<Vec<Quantities>>,
    /// Agents with GPUs are only offered to claims that know what to do with them.
    pub gpus: bool,
    /// Agents in another region than the masters are only offered to claims that know of regions.
    pub regions: bool,
    /// What may be taken back is only offered to claims that know of that.
    pub revocable: bool,
    /// Only agents that these accept are offered.
    pub constraints: Option<Arc<Constraints>>,
    /// Declared demand: only agents on which one of these shapes fits are offered; with an empty list nothing is. `None`
    /// where nothing was declared. It is for the caller to lower the counts as demand is met.
    pub demand: Option<Vec<Shape>>,
}

/// When a claim is served, beside its share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Turn {
    /// In the order of the policy.
    #[default]
    Regular,
    /// In the order of the policy for one agent that another wants, too; from then on as `Last`.
    Once,
    /// After all claims whose turn is another.
    Last,
}

/// Some resources that a claim waits for, so many times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Of this agent only.
    pub agent: Option<AgentSlot>,
    /// What is wanted at least.
    pub resources: Quantities,
    /// How often; a shape that is wanted zero times is not looked at.
    pub count: u32,
}

/// What a role may have and is to have. A kind without guarantee has none, a kind without limit has no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quota {
    /// By kind of resource, what is kept free for the role until it has it.
    pub guarantees: BTreeMap<String, Scalar>,
    /// By kind of resource, the most that the role may have.
    pub limits: BTreeMap<String, Scalar>,
}

/// Why a claim is not offered an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The claim is suppressed, or its framework is away.
    ClaimInactive,
    /// Nothing of the agent is offered to anybody.
    AgentInactive,
    /// Everything is in use, or in offers.
    NothingFree,
    /// All that is free is reserved for other roles, or may be taken back while the claim does not want such resources.
    Reserved,
    /// The agent has GPUs and the claim does not know of them.
    Gpus,
    /// The agent is in another region and the claim does not know of regions.
    Region,
    /// The claim's constraints do not accept the agent.
    Constraints,
    /// The claim refused it, until then.
    Refused(Timestamp),
    /// What is free is less than the claim's minimum.
    TooSmall,
    /// No shape of the declared demand fits.
    NoShapeFits,
    /// What the limit of a role leaves is not worth offering.
    Limit {
        /// The role that has the limit.
        role: String,
        /// The kind of resource that is limited.
        resource: String,
    },
    /// What is not kept free for the guarantees of others is not worth offering.
    Headroom,
}

/// A policy. Resources are without allocation roles.
///
/// The caller's part: every agent and claim is put before anything else is said of it; what is free on an agent is
/// told after every change (`set_free`), also after decisions, and what a claim holds by `charge` and `credit`: a
/// decision is charged already, so an offer that ends is credited, and what was launched from it charged anew. Quotas
/// and weights are told when the registry has them, for roles of which there may be no claim yet.
pub trait Allocator: fmt::Debug + Send {
    /// The region of the masters; agents elsewhere are for claims that know of regions. Without it all agents are near.
    fn set_region(&mut self, region: Option<&str>);
    /// An agent came, or its total (with reservations), its attributes or its domain changed.
    fn put_agent(&mut self, agent: AgentSlot, description: &Description<'_>);
    /// An agent left. What was held there has been credited.
    fn remove_agent(&mut self, agent: AgentSlot);
    /// Nothing of an inactive agent is offered, nor kept free for guarantees.
    fn set_agent_active(&mut self, agent: AgentSlot, active: bool);
    /// What is free on an agent now.
    fn set_free(&mut self, agent: AgentSlot, free: Resources);

    /// A claim came, or its wishes changed; the role stays.
    fn put_claim(&mut self, claim: ClaimSlot, wishes: Wishes);
    /// A claim left. What it held has been credited.
    fn remove_claim(&mut self, claim: ClaimSlot);
    /// Nothing is offered to an inactive claim (suppressed, or its framework is away).
    fn set_claim_active(&mut self, claim: ClaimSlot, active: bool);
    /// When the claim is served; `Regular` for a new one.
    fn set_turn(&mut self, claim: ClaimSlot, turn: Turn);
    /// How many claims are active.
    fn active_claims(&self) -> usize;
    /// Whether somebody may want more than when this was asked last.
    fn take_stirred(&mut self) -> bool;
    /// Whether a claim that is not one of these, and not to be served last, would be given something of the agent if these
    /// offers were taken back.
    fn is_wanted(&mut self, agent: AgentSlot, offers: &[(ClaimSlot, &Resources)], except: &[ClaimSlot]) -> bool;
    /// What the claim could have of these resources of the agent if they were free and nobody came before it; `held` where a
    /// claim is charged for them.
    fn view(
        &mut self,
        claim: ClaimSlot,
        agent: AgentSlot,
        held: Option<ClaimSlot>,
        resources: &Resources,
    ) -> Option<Resources>;
    /// These resources of the agent, which are not free, are lent: unreserved ones can be had back for guarantees.
    fn set_lent(&mut self, agent: AgentSlot, lent: &Resources);
    /// Whether an active claim takes what may be taken back.
    fn has_borrowers(&self) -> bool;
    /// What is free on the agent although it is kept for somebody, who does not want it: what is reserved, and what is kept free
    /// for guarantees. Who refused something there wants it if the refusal ends before `until`, and so do those that are
    /// `returning`.
    fn lendable(&self, agent: AgentSlot, until: Timestamp, returning: &[ClaimSlot]) -> Resources;
    /// The claim that comes first of those that would take these revocable resources of the agent, and what of them.
    fn borrower(&mut self, agent: AgentSlot, resources: &Resources) -> Option<(ClaimSlot, Resources)>;
    /// Who would be given what of the agent, one after the other, if what is lent there were free.
    fn reclaim(&mut self, agent: AgentSlot, lent: &Resources) -> Vec<(ClaimSlot, Resources)>;
    /// The claim holds more than was decided here, for example a task that a returning agent told of.
    fn charge(&mut self, claim: ClaimSlot, resources: &Resources);
    /// The claim holds less.
    fn credit(&mut self, claim: ClaimSlot, resources: &Resources);
    /// How much the claim holds.
    fn held(&self, claim: ClaimSlot) -> Quantities;

    /// Gives a role a weight in thousandths, at least 1; `None` for the default, 1000.
    fn set_weight(&mut self, role: &str, weight: Option<u64>);
    /// Gives a role a quota, or takes it away. What is consumed already stays, even where it is more than the limit.
    fn set_quota(&mut self, role: &str, quota: Option<Quota>);
    /// What of its quota a role consumes; also of roles without quota, which count for those above them.
    fn consumed(&self, role: &str) -> Quantities;

    /// Until then the claim is not to be offered these resources of the agent, nor a part of them.
    fn refuse(&mut self, claim: ClaimSlot, agent: AgentSlot, resources: Resources, until: Timestamp);
    /// Forgets what the claim refused.
    fn revive(&mut self, claim: ClaimSlot);
    /// No refusal ends before this.
    fn next_expiry(&self) -> Option<Timestamp>;
    /// Ends the refusals that are over.
    fn expire(&mut self, now: Timestamp);

    /// Decides about everything that may have changed since the last call; one decision for each claim and agent.
    fn allocate(&mut self, decisions: &mut Vec<Decision>);

    /// What is free on an agent.
    fn free(&self, agent: AgentSlot) -> Option<&Resources>;
    /// What the claim would be offered of what is free on the agent if no other came before it, or why nothing.
    ///
    /// # Errors
    /// The first reason in the order of [`Reason`]'s variants that holds, but refusals and sizes after limits.
    fn verdict(&self, claim: ClaimSlot, agent: AgentSlot) -> Result<Resources, Reason>;
    /// Whether these resources would be worth offering to the claim, were they free on some agent; quota aside.
    fn suffices(&self, claim: ClaimSlot, resources: &Resources) -> bool;
    /// Whether the claim declared demand of which nothing is left.
    fn is_content(&self, claim: ClaimSlot) -> bool;
    /// What of these resources of the agent, which are free, the claim may hold, wherever they would come too little or were refused: all
    /// that quota, reservations and the wishes about agents leave it.
    fn room(&self, claim: ClaimSlot, agent: AgentSlot, resources: &Resources) -> Resources;
    /// Whether the claim may hold anything of the agent: that is active, and as its wishes ask.
    fn is_open(&self, claim: ClaimSlot, agent: AgentSlot) -> bool;
    /// Whether the claim refused these resources of the agent.
    fn refuses(&self, claim: ClaimSlot, agent: AgentSlot, resources: &Resources) -> bool;
    /// Those of the claims that are active, in the order in which they are served now.
    fn in_order(&mut self, claims: &[ClaimSlot]) -> Vec<ClaimSlot>;
    /// The largest part that these resources are of what the cluster has of any kind, as a fraction of 2^32.
    fn share(&self, resources: &Resources) -> u64;
    /// Says what is inconsistent inside.
    ///
    /// # Errors
    /// A sentence about the first thing that does not hold.
    fn check(&self) -> Result<(), String>;
}

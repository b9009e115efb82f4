//! Who is offered what.
//!
//! The allocator knows agents (their total and free resources), claims (one role of one framework, with what it holds)
//! and refusals. It is told of every change and remembers which agents a decision may have changed for; `allocate`
//! looks at these only, so that a step in which nothing changed costs nothing. What it decides counts as held by the
//! claim from then on.

mod drf;
mod filters;
mod quantities;
mod roles;
#[cfg(test)]
mod tests;

use std::fmt;

use proffer_proto::resources::Resources;

pub(crate) use drf::Drf;
pub(crate) use quantities::Quantities;

use crate::slots::{AgentSlot, ClaimSlot};
use crate::time::Timestamp;

/// These free resources of the agent go to the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) agent: AgentSlot,
    pub(crate) claim: ClaimSlot,
    pub(crate) resources: Resources,
}

/// What a claim may be offered at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// The role; a path such as `ads/batch`.
    pub(crate) role: String,
    /// Nothing below all of these is offered; the allocator's default where there is none.
    pub(crate) minimum: Option<Vec<Quantities>>,
    /// Agents with GPUs are only offered to claims that know what to do with them.
    pub(crate) gpus: bool,
}

/// A policy. Resources are without allocation roles.
pub(crate) trait Allocator: fmt::Debug + Send {
    /// An agent came, or its total changed.
    fn put_agent(&mut self, agent: AgentSlot, total: &Resources);
    /// An agent left. What was held there has been credited.
    fn remove_agent(&mut self, agent: AgentSlot);
    /// Nothing of an inactive agent is offered.
    fn set_agent_active(&mut self, agent: AgentSlot, active: bool);
    /// What is free on an agent now.
    fn set_free(&mut self, agent: AgentSlot, free: Resources);

    /// A claim came, or its wishes changed; the role stays.
    fn put_claim(&mut self, claim: ClaimSlot, wishes: Wishes);
    /// A claim left. What it held has been credited.
    fn remove_claim(&mut self, claim: ClaimSlot);
    /// Nothing is offered to an inactive claim (suppressed, or its framework is away).
    fn set_claim_active(&mut self, claim: ClaimSlot, active: bool);
    /// The claim holds more than was decided here, for example a task that a returning agent told of.
    fn charge(&mut self, claim: ClaimSlot, resources: &Resources);
    /// The claim holds less.
    fn credit(&mut self, claim: ClaimSlot, resources: &Resources);
    /// How much the claim holds.
    fn held(&self, claim: ClaimSlot) -> Quantities;

    /// Until then the claim is not to be offered these resources of the agent, nor a part of them.
    fn refuse(&mut self, claim: ClaimSlot, agent: AgentSlot, resources: Resources, until: Timestamp);
    /// Forgets what the claim refused.
    fn revive(&mut self, claim: ClaimSlot);
    /// When the first refusal ends.
    fn next_expiry(&self) -> Option<Timestamp>;
    /// Ends the refusals that are over.
    fn expire(&mut self, now: Timestamp);

    /// Decides about everything that may have changed since the last call.
    fn allocate(&mut self, decisions: &mut Vec<Decision>);

    /// What is free on an agent.
    fn free(&self, agent: AgentSlot) -> Option<&Resources>;
    /// Says what is inconsistent inside.
    fn check(&self) -> Result<(), String>;
}

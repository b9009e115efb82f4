//! What a claim may hold beside what it is offered: the questions of gangs.

use proffer_proto::resources::Resources;

use super::amounts::{Amounts, is_plain};
use super::bits::Bits;
use super::decide::{Claim, Grant, Outcome, Stage};
use super::hierarchical::{Agent, Hierarchical};
use super::{AgentSlot, ClaimSlot, Slot};

impl Hierarchical {
    /// Both, where the claim may hold something of the agent.
    pub(super) fn open(&self, slot: ClaimSlot, at: AgentSlot) -> Option<(&Claim, &Agent)> {
        let agent = self.agent(at).filter(|agent| agent.active)?;
        let claim = self.claims.get(slot.index()).and_then(Option::as_ref)?;
        let fit = (!agent.gpus || claim.wishes.gpus)
            && (!agent.remote || claim.wishes.regions)
            && !agent.unfit.contains(slot.index());
        fit.then_some((claim, agent))
    }

    pub(super) fn room_of(&self, slot: ClaimSlot, at: AgentSlot, resources: &Resources) -> Resources {
        let Some((claim, _)) = self.open(slot, at) else {
            return Resources::new();
        };
        let (mut all, mut plain) = (Amounts::default(), Amounts::default());
        for entry in resources {
            // What was told to be free is of kinds that are known.
            let Some(kind) = self.kinds.find(entry.name()) else {
                continue;
            };
            all.raise(kind, entry.thousandths());
            if is_plain(entry) {
                plain.raise(kind, entry.thousandths());
            }
        }
        let free = Agent::of_free(resources.clone(), all, plain);
        let mut outcome = Outcome {
            grant: Ok(Grant::Whole),
            by_limit: false,
            by_headroom: false,
        };
        let bound = self.bound(slot, &free, Stage::Fair, &mut outcome);
        if bound.is_none() && free.is_plain {
            return free.free;
        }
        self.part(claim, &free, bound)
    }

    pub(super) fn order_of(&mut self, claims: &[ClaimSlot]) -> Vec<ClaimSlot> {
        self.roles.refresh();
        let mut candidates = Bits::default();
        let active = claims.iter().filter(|claim| self.roles.is_active(**claim));
        for claim in active {
            candidates.insert(claim.index());
        }
        let mut order = Vec::new();
        self.roles.first(&candidates, candidates.len(), |claim| {
            order.push(claim);
            false
        });
        order
    }
}

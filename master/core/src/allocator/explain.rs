//! What explanations ask beside the verdict.

use proffer_proto::resources::Resources;

use super::amounts::Amounts;
use super::hierarchical::Hierarchical;
use super::{ClaimSlot, Slot};

impl Hierarchical {
    fn amounts(&self, resources: &Resources) -> Amounts {
        let mut amounts = Amounts::default();
        for entry in resources {
            // A kind that was never seen is in no wish.
            if let Some(kind) = self.kinds.find(entry.name()) {
                amounts.raise(kind, entry.thousandths());
            }
        }
        amounts
    }

    pub(super) fn would_suffice(&self, claim: ClaimSlot, resources: &Resources) -> bool {
        let Some(claim) = self.claims.get(claim.index()).and_then(Option::as_ref) else {
            return false;
        };
        let amounts = self.amounts(resources);
        let shapes = claim.shapes.as_ref();
        claim.is_enough(&amounts) && shapes.is_none_or(|shapes| shapes.iter().any(|(_, shape)| amounts.contains(shape)))
    }

    pub(super) fn has_all(&self, claim: ClaimSlot) -> bool {
        let claim = self.claims.get(claim.index()).and_then(Option::as_ref);
        let shapes = claim.and_then(|claim| claim.shapes.as_ref());
        shapes.is_some_and(Vec::is_empty)
    }

    pub(super) fn share_of(&self, resources: &Resources) -> u64 {
        self.amounts(resources).dominant_share(self.total())
    }
}

//! Who waits for what is in offers that are held too long.
//!
//! The question is answered by the code that decides: the offers are counted as free, a claim is chosen, and all is put
//! back as it was. Nothing is decided by it.

use proffer_proto::resources::Resources;

use super::bits::Bits;
use super::hierarchical::Hierarchical;
use super::{AgentSlot, Allocator, ClaimSlot, Slot};

/// Which claims are asked.
#[derive(Debug)]
pub(super) enum Among {
    /// Those that are served in the order of the policy.
    Regular,
    /// Those that come after all others.
    Last,
    /// The first, without these.
    RegularBut(Bits),
}

impl Among {
    /// Claims 64 x `index` and on, where `last` are those that come last.
    #[inline]
    pub(super) fn word(&self, last: &Bits, index: usize) -> u64 {
        match self {
            Among::Regular => !last.word(index),
            Among::Last => last.word(index),
            Among::RegularBut(others) => !last.word(index) & !others.word(index),
        }
    }
}

impl Hierarchical {
    /// The claim was chosen for the agent: if it was so once only, and another would take something too, it comes last from now on.
    pub(super) fn uses_up(&mut self, slot: AgentSlot, claim: ClaimSlot, all: bool) -> bool {
        if !self.once.contains(claim.index()) {
            return false;
        }
        let mut own = Bits::default();
        own.insert(claim.index());
        let others = Among::RegularBut(own);
        let used_up = self.choose_among(slot, all, &others).is_some();
        if used_up {
            self.once.remove(claim.index());
            self.last.insert(claim.index());
        }
        used_up
    }

    /// As [`Allocator::is_wanted`].
    pub(super) fn would_be_taken(
        &mut self,
        slot: AgentSlot,
        offers: &[(ClaimSlot, &Resources)],
        except: &[ClaimSlot],
    ) -> bool {
        let mut others = Bits::default();
        for claim in except {
            others.insert(claim.index());
        }
        let among = Among::RegularBut(others);
        if (0..self.active.words()).all(|index| self.active.word(index) & among.word(&self.last, index) == 0) {
            return false;
        }
        let Some(agent) = self.agent(slot).filter(|agent| agent.active) else {
            return false;
        };
        let mut free = agent.free.clone();
        for (_, resources) in offers {
            free += *resources;
        }
        self.as_if_free(slot, offers, free, |allocator| {
            allocator.choose_among(slot, true, &among).is_some()
        })
    }

    /// Answers a question about an agent of which this much is free, because these offers do not hold it.
    pub(super) fn as_if_free<T>(
        &mut self,
        slot: AgentSlot,
        offers: &[(ClaimSlot, &Resources)],
        free: Resources,
        ask: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let before = self.agent(slot).map(|agent| agent.free.clone()).unwrap_or_default();
        self.stirred |= self.roles.take_eased(&mut self.awake);
        let needs_grew = self.roles.take_needs_grew();
        for (claim, resources) in offers {
            self.credit(*claim, resources);
        }
        self.put_free(slot, free);
        let answer = ask(self);
        self.put_free(slot, before);
        for (claim, resources) in offers {
            self.charge(*claim, resources);
        }
        // Whom a limit was eased for meanwhile is asked again, and finds it as before.
        self.roles.take_eased(&mut self.awake);
        self.roles.set_needs_grew(needs_grew);
        answer
    }
}

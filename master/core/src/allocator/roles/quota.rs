//! What guarantees and limits mean for the tree.
//!
//! A role *needs* what its guarantee has over what is consumed below it, and at least what the roles below it need
//! together; the part that no role below needs is its *own*. So the sum of all that is own is what has to stay free for
//! guarantees, and a claim is *entitled* to what is own on its path: taking that much lowers what has to stay free by
//! as much. A claim below something own is *needy*.
//!
//! What a limit leaves is reckoned for every role on the path; the least counts.

use super::{Amounts, Bits, Node, NodeSlot, Roles};
use crate::allocator::amounts::{CPUS, MEM};
use crate::allocator::{CPUS_MIN, MEM_MIN};
use crate::slots::{ClaimSlot, Slot};

/// How a role stands with its quota.
#[derive(Debug, Default)]
pub(super) struct Standing {
    set: bool,
    guarantees: Amounts,
    limits: Vec<(usize, u64)>,
    /// What the roles below it need together.
    inner: Amounts,
    need: Amounts,
    own: Amounts,
    has_own: bool,
    exhausted: bool,
    /// A limit kept something from a claim below.
    kept_back: bool,
}

impl Standing {
    fn left(&self, consumed: &Amounts, kind: usize) -> Option<u64> {
        let (_, limit) = self.limits.iter().find(|(limited, _)| *limited == kind)?;
        Some(limit.saturating_sub(consumed.get(kind)))
    }

    /// No claim with the default minimum can be offered anything of what is not reserved.
    fn is_exhausted(&self, consumed: &Amounts) -> bool {
        let less = |kind, least| self.left(consumed, kind).is_some_and(|left| left < least);
        !self.limits.is_empty() && less(CPUS, CPUS_MIN) && less(MEM, MEM_MIN)
    }

    fn reckon(&self, consumed: &Amounts) -> (Amounts, Amounts) {
        let (mut need, mut own) = (self.inner.clone(), Amounts::default());
        for (kind, guarantee) in self.guarantees.iter() {
            let missing = guarantee.saturating_sub(consumed.get(kind));
            let inner = self.inner.get(kind);
            *own.at(kind) = missing.saturating_sub(inner);
            *need.at(kind) = missing.max(inner);
        }
        (need, own)
    }
}

impl Roles {
    /// Gives a role quota, or takes it away: guarantees, and limits by kind.
    pub(in crate::allocator) fn set_quota(&mut self, role: &str, quota: Option<(Amounts, Vec<(usize, u64)>)>) {
        let node = match (self.find(role), &quota) {
            (Some(node), _) => node,
            (None, Some(_)) => self.role(role),
            (None, None) => return,
        };
        let had = self.nodes[node].standing.as_ref().is_some_and(|standing| standing.set);
        if quota.is_none() && !had {
            return;
        }
        if quota.is_some() && !had {
            self.quotas += 1;
            self.keep(node);
        }
        // Needs are told upwards, so all above have to listen.
        self.up(node, |node| {
            node.standing.get_or_insert_default();
        });
        let set = quota.is_some();
        if let Some(standing) = &mut self.nodes[node].standing {
            standing.set = set;
            (standing.guarantees, standing.limits) = quota.unwrap_or_default();
        }
        self.consumed_changed(node, true);
        self.ease(node);
        if !set {
            self.quotas -= 1;
            self.let_go(node);
        }
    }

    /// An agent has this much reserved for the role.
    pub(in crate::allocator) fn reserve(&mut self, role: &str, amounts: &Amounts) {
        let node = self.role(role);
        self.keep(node);
        self.up(node, |node| node.consumed.add(amounts));
        self.consumed_changed(node, false);
    }

    /// An agent no longer has that reserved.
    pub(in crate::allocator) fn unreserve(&mut self, role: &str, amounts: &Amounts) {
        let Some(node) = self.find(role) else { return };
        self.up(node, |node| node.consumed.subtract(amounts));
        self.consumed_changed(node, true);
        self.let_go(node);
    }

    pub(in crate::allocator) fn has_quota(&self) -> bool {
        self.quotas > 0
    }

    /// What of its quota a role consumes.
    pub(in crate::allocator) fn consumed(&self, role: &str) -> Amounts {
        let node = self.find(role);
        node.map(|node| self.nodes[node].consumed.clone()).unwrap_or_default()
    }

    /// What has to stay free so that every guarantee can be met.
    pub(in crate::allocator) fn required(&self) -> Option<&Amounts> {
        self.nodes[self.root].standing.as_ref().map(|standing| &standing.need)
    }

    /// Active claims below a guarantee that is not met.
    pub(in crate::allocator) fn needy(&self) -> &Bits {
        &self.needy
    }

    /// Active claims below a limit that leaves nothing worth offering to who asks for no minimum of its own.
    pub(in crate::allocator) fn exhausted(&self) -> &Bits {
        &self.exhausted
    }

    /// What the claim is entitled to by guarantees.
    pub(in crate::allocator) fn entitled(&self, claim: ClaimSlot) -> Amounts {
        let mut entitled = Amounts::default();
        for standing in self.standings(claim).filter(|(_, standing)| standing.has_own) {
            entitled.add(&standing.1.own);
        }
        entitled
    }

    /// Whether a role on the claim's path has a guarantee of that kind.
    pub(in crate::allocator) fn is_guaranteed(&self, claim: ClaimSlot, kind: usize) -> bool {
        self.standings(claim)
            .any(|(_, standing)| standing.guarantees.get(kind) > 0)
    }

    /// What limits leave of each of so many kinds.
    pub(in crate::allocator) fn left(&self, claim: ClaimSlot, kinds: usize) -> Amounts {
        let mut left = Amounts::filled(kinds, u64::MAX);
        for (node, standing) in self.standings(claim) {
            for (kind, limit) in &standing.limits {
                let amount = left.at(*kind);
                *amount = (*amount).min(limit.saturating_sub(node.consumed.get(*kind)));
            }
        }
        left
    }

    /// The role on the claim's path of which a limit leaves the least of a kind; the outermost of several.
    pub(in crate::allocator) fn tightest(&self, claim: ClaimSlot, kind: usize) -> Option<String> {
        let left = |(node, standing): &(&Node, &Standing)| standing.left(&node.consumed, kind);
        let limited = self.standings(claim).filter(|entry| left(entry).is_some());
        let tightest = limited.min_by_key(|entry| (left(entry), entry.0.depth))?;
        let mut names: Vec<&str> = self.names(tightest.0).collect();
        names.reverse();
        Some(names.join("/"))
    }

    fn names<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a str> {
        let above = |node: &&'a Node| node.parent.map(|parent| &self.nodes[parent]);
        let path = std::iter::successors(Some(node), above);
        path.take_while(|node| node.parent.is_some())
            .map(|node| node.name.as_str())
    }

    fn standings(&self, claim: ClaimSlot) -> impl Iterator<Item = (&Node, &Standing)> {
        let path = self.leaf(claim).into_iter().flat_map(|leaf| self.path(leaf));
        path.filter_map(|node| Some((node, node.standing.as_deref()?)))
    }

    /// A limit on the claim's path kept something from it: when there is more room, the claim is to hear of it.
    pub(in crate::allocator) fn keep_back(&mut self, claim: ClaimSlot) {
        let Some(leaf) = self.leaf(claim) else { return };
        self.up(leaf, |node| {
            if let Some(standing) = node.standing.as_deref_mut() {
                standing.kept_back |= !standing.limits.is_empty();
            }
        });
    }

    /// Claims for which there is more room than when something was kept from them. They are told once.
    /// Says whether there are any.
    pub(in crate::allocator) fn take_eased(&mut self, into: &mut Bits) -> bool {
        let any = !self.eased.is_empty();
        if any {
            into.extend(&self.eased);
            self.eased.clear();
        }
        any
    }

    /// Whether guarantees need more than when this was asked last.
    pub(in crate::allocator) fn take_needs_grew(&mut self) -> bool {
        std::mem::take(&mut self.needs_grew)
    }

    /// As it was when that was asked.
    pub(in crate::allocator) fn set_needs_grew(&mut self, grew: bool) {
        self.needs_grew = grew;
    }

    /// What is consumed below a node and all above it changed.
    pub(super) fn consumed_changed(&mut self, node: NodeSlot, fell: bool) {
        let mut at = Some(node);
        while let Some(slot) = at {
            at = self.nodes[slot].parent;
            if self.nodes[slot].standing.is_some() {
                self.reckon(slot, fell);
            }
        }
    }

    fn reckon(&mut self, slot: NodeSlot, fell: bool) {
        let node = &mut self.nodes[slot];
        let Some(standing) = node.standing.as_deref_mut() else {
            return;
        };
        let (need, own) = standing.reckon(&node.consumed);
        let exhausted = standing.is_exhausted(&node.consumed);
        let ease = fell && (standing.kept_back || standing.exhausted);
        let has_own = !own.is_zero();
        let remark = has_own != standing.has_own || exhausted != standing.exhausted;
        self.needs_grew |= own.iter().any(|(kind, amount)| amount > standing.own.get(kind));
        standing.has_own = has_own;
        standing.exhausted = exhausted;
        standing.own = own;
        let parent = node.parent;
        if standing.need != need {
            let before = std::mem::replace(&mut standing.need, need.clone());
            if let Some(above) = parent.and_then(|parent| self.nodes[parent].standing.as_deref_mut()) {
                above.inner.add(&need);
                above.inner.subtract(&before);
            }
        }
        if remark {
            let mut claims = Bits::default();
            self.active_below(slot, &mut claims);
            for claim in claims.iter() {
                self.mark(ClaimSlot::from_index(claim as u32), true);
            }
        }
        if ease {
            self.ease(slot);
        }
    }

    fn ease(&mut self, slot: NodeSlot) {
        if let Some(standing) = self.nodes[slot].standing.as_deref_mut() {
            standing.kept_back = false;
        }
        let mut claims = std::mem::take(&mut self.eased);
        self.active_below(slot, &mut claims);
        self.eased = claims;
    }

    fn active_below(&self, at: NodeSlot, claims: &mut Bits) {
        if let Some(claim) = self.nodes[at].claim {
            claims.set(claim.index(), self.nodes[at].active > 0);
        }
        for (_, child) in &self.nodes[at].order {
            self.active_below(*child, claims);
        }
    }

    /// Whether an active claim is needy and exhausted is remembered; of others nothing is.
    pub(super) fn mark(&mut self, claim: ClaimSlot, active: bool) {
        if self.quotas == 0 {
            return;
        }
        let any = |of: fn(&Standing) -> bool| active && self.standings(claim).any(|(_, standing)| of(standing));
        let (needy, exhausted) = (any(|standing| standing.has_own), any(|standing| standing.exhausted));
        self.needy.set(claim.index(), needy);
        self.exhausted.set(claim.index(), exhausted);
    }

    pub(super) fn check_quota(&self) -> Result<(), String> {
        for (slot, node) in self.nodes.iter() {
            let Some(standing) = node.standing.as_deref() else {
                continue;
            };
            let mut inner = Amounts::default();
            for child in node.children.values() {
                if let Some(child) = self.nodes[*child].standing.as_deref() {
                    inner.add(&child.need);
                }
            }
            if inner != standing.inner {
                return Err(format!("what the roles below {slot:?} need is out of date"));
            }
            if standing.reckon(&node.consumed) != (standing.need.clone(), standing.own.clone()) {
                return Err(format!("what {slot:?} needs is out of date"));
            }
            if standing.exhausted != standing.is_exhausted(&node.consumed) {
                return Err(format!("whether {slot:?} is exhausted is out of date"));
            }
        }
        for leaf in self.leaves.iter().flatten() {
            let Some(claim) = self.nodes[*leaf].claim else { continue };
            let active = self.nodes[*leaf].active > 0;
            let any = |of: fn(&Standing) -> bool| active && self.standings(claim).any(|(_, standing)| of(standing));
            if self.needy.contains(claim.index()) != any(|standing| standing.has_own) {
                return Err(format!("whether {claim:?} is needy is out of date"));
            }
            if self.exhausted.contains(claim.index()) != any(|standing| standing.exhausted) {
                return Err(format!("whether {claim:?} is exhausted is out of date"));
            }
        }
        Ok(())
    }
}

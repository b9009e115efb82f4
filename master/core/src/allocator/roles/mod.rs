//! The tree of roles with what is held below each.
//!
//! Every node but the root has a rank among its siblings. Under fair sharing it is what is held below it, as the
//! dominant part of the cluster, divided by its weight; under strict priority the weight comes first. The leaves are
//! claims. The frameworks of a role that has roles below it stand together beside these, in a node of their own. Each
//! node keeps its active children in the order of their ranks, so that the claim that is next is found by walking down,
//! and a change of one claim moves one node on each level.
//!
//! What quota asks of the tree is in [`quota`].

mod quota;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::Policy;
use super::amounts::Amounts;
use super::bits::Bits;
use crate::slots::{ClaimSlot, Slot, Slots};
use quota::Standing;

/// The weight of a role that nobody gave one, in thousandths.
const WEIGHT_DEFAULT: u64 = 1000;
/// In place of the only active claim below a node.
const NONE_OR_MANY: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct NodeSlot(u32);

impl Slot for NodeSlot {
    fn from_index(index: u32) -> Self {
        NodeSlot(index)
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who comes first among siblings: the lower tier, then the lower share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    tier: u64,
    share: u64,
}

#[derive(Debug, Default)]
struct Node {
    parent: Option<NodeSlot>,
    /// How far from the root.
    depth: u32,
    rank: Rank,
    weight: u64,
    /// Somebody gave it the weight.
    weighted: bool,
    /// How many claims below it are active; a node without one is not in its parent's order.
    active: u32,
    /// The exclusive or of their indices: the index itself where it is one.
    active_mix: u32,
    /// All that is held below it.
    held: Amounts,
    /// What of quota is consumed below it: what is held and neither reserved nor revocable, and what is reserved.
    consumed: Amounts,
    /// Set where it or a role below it has quota.
    standing: Option<Box<Standing>>,
    order: BTreeSet<(Rank, NodeSlot)>,
    /// Set for leaves.
    claim: Option<ClaimSlot>,
    /// How many claims are below it, and how many other things that concern it or roles below it (a weight, a quota,
    /// agents' reservations); a node without any is removed.
    kept: u32,
    /// How it is called among its parent's children; empty for the node of a role's own frameworks.
    name: String,
    children: BTreeMap<String, NodeSlot>,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Roles {
    policy: Policy,
    nodes: Slots<NodeSlot, Node>,
    root: NodeSlot,
    leaves: Vec<Option<NodeSlot>>,
    /// By node, the only active claim below it.
    sole: Vec<u32>,
    /// What shares are parts of.
    total: Amounts,
    /// Shares are those of an earlier total.
    stale: bool,
    /// How many roles have quota.
    quotas: usize,
    /// Active claims below a guarantee that is not met.
    needy: Bits,
    /// Active claims below a limit that leaves nothing worth offering.
    exhausted: Bits,
    /// Claims for which a limit has more room than when it kept something from them.
    eased: Bits,
    /// A guarantee grew since this was asked.
    needs_grew: bool,
}

impl Roles {
    pub(super) fn new(policy: Policy) -> Self {
        let mut nodes = Slots::default();
        let root = nodes.insert(Node {
            weight: WEIGHT_DEFAULT,
            ..Node::default()
        });
        Roles {
            policy,
            nodes,
            root,
            leaves: Vec::new(),
            sole: vec![NONE_OR_MANY],
            total: Amounts::default(),
            stale: false,
            quotas: 0,
            needy: Bits::default(),
            exhausted: Bits::default(),
            eased: Bits::default(),
            needs_grew: false,
        }
    }

    fn leaf(&self, claim: ClaimSlot) -> Option<NodeSlot> {
        *self.leaves.get(claim.index())?
    }

    /// Adds an inactive claim that holds nothing.
    pub(super) fn insert(&mut self, claim: ClaimSlot, role: &str) {
        let at = self.role(role);
        let at = self.child(at, "");
        let leaf = self.add(
            at,
            Node {
                claim: Some(claim),
                ..Node::default()
            },
        );
        if self.leaves.len() <= claim.index() {
            self.leaves.resize(claim.index() + 1, None);
        }
        self.leaves[claim.index()] = Some(leaf);
        self.keep(leaf);
    }

    /// The node of a role, which is made if there is none.
    fn role(&mut self, role: &str) -> NodeSlot {
        let mut at = self.root;
        for name in role.split('/') {
            at = self.child(at, name);
        }
        at
    }

    fn find(&self, role: &str) -> Option<NodeSlot> {
        let mut names = role.split('/');
        names.try_fold(self.root, |at, name| self.nodes[at].children.get(name).copied())
    }

    fn child(&mut self, parent: NodeSlot, name: &str) -> NodeSlot {
        if let Some(child) = self.nodes[parent].children.get(name) {
            return *child;
        }
        let child = self.add(
            parent,
            Node {
                name: name.to_owned(),
                ..Node::default()
            },
        );
        self.nodes[parent].children.insert(name.to_owned(), child);
        child
    }

    fn add(&mut self, parent: NodeSlot, node: Node) -> NodeSlot {
        let slot = self.nodes.insert(Node {
            parent: Some(parent),
            depth: self.nodes[parent].depth + 1,
            weight: WEIGHT_DEFAULT,
            ..node
        });
        if self.sole.len() <= slot.index() {
            self.sole.resize(slot.index() + 1, NONE_OR_MANY);
        }
        self.sole[slot.index()] = NONE_OR_MANY;
        self.nodes[slot].rank = self.rank(slot);
        slot
    }

    /// One more reason to keep a node and all above it.
    fn keep(&mut self, node: NodeSlot) {
        self.up(node, |node| node.kept += 1);
    }

    /// One reason less; nodes without any are removed.
    fn let_go(&mut self, node: NodeSlot) {
        self.up(node, |node| node.kept -= 1);
        let mut at = Some(node);
        while let Some(node) = at {
            let parent = self.nodes[node].parent;
            if let Some(parent) = parent
                && self.nodes[node].kept == 0
                && let Some(removed) = self.nodes.remove(node)
                && removed.claim.is_none()
            {
                self.nodes[parent].children.remove(&removed.name);
            }
            at = parent;
        }
    }

    /// Removes a claim, and the roles that are empty without it.
    pub(super) fn remove(&mut self, claim: ClaimSlot) {
        self.set_active(claim, false);
        let Some(leaf) = self.leaf(claim) else { return };
        // Nothing is held any more, unless the caller forgot some of it: that must not stay with the roles.
        let node = &self.nodes[leaf];
        let (held, consumed) = (node.held.clone(), node.consumed.clone());
        self.credit(claim, &held, &consumed);
        self.leaves[claim.index()] = None;
        self.let_go(leaf);
    }

    pub(super) fn is_active(&self, claim: ClaimSlot) -> bool {
        self.leaf(claim).is_some_and(|leaf| self.nodes[leaf].active > 0)
    }

    /// How many claims are active.
    pub(super) fn active(&self) -> usize {
        self.nodes[self.root].active as usize
    }

    /// Says whether it changed.
    pub(super) fn set_active(&mut self, claim: ClaimSlot, active: bool) -> bool {
        let Some(leaf) = self.leaf(claim) else {
            return false;
        };
        if (self.nodes[leaf].active > 0) == active {
            return false;
        }
        let index = claim.index() as u32;
        let mut at = Some(leaf);
        while let Some(slot) = at {
            let node = &mut self.nodes[slot];
            node.active_mix ^= index;
            if active {
                node.active += 1;
            } else {
                node.active -= 1;
            }
            self.sole[slot.index()] = match node.active {
                1 => node.active_mix,
                _ => NONE_OR_MANY,
            };
            let (parent, entry, listed) = (node.parent, (node.rank, slot), node.active > 0);
            if let Some(parent) = parent {
                let order = &mut self.nodes[parent].order;
                if listed {
                    order.insert(entry);
                } else {
                    order.remove(&entry);
                }
            }
            at = parent;
        }
        self.mark(claim, active);
        true
    }

    /// The claim holds more: in all, and of what quota decides about.
    pub(super) fn charge(&mut self, claim: ClaimSlot, all: &Amounts, plain: &Amounts) {
        if let Some(leaf) = self.leaf(claim) {
            self.each_up(leaf, |node| {
                node.held.add(all);
                node.consumed.add(plain);
            });
            self.consumed_changed(leaf, false);
        }
    }

    /// The claim holds less.
    pub(super) fn credit(&mut self, claim: ClaimSlot, all: &Amounts, plain: &Amounts) {
        if let Some(leaf) = self.leaf(claim) {
            self.each_up(leaf, |node| {
                node.held.subtract(all);
                node.consumed.subtract(plain);
            });
            self.consumed_changed(leaf, !plain.is_zero());
        }
    }

    pub(super) fn held(&self, claim: ClaimSlot) -> Amounts {
        let leaf = self.leaf(claim);
        leaf.map(|leaf| self.nodes[leaf].held.clone()).unwrap_or_default()
    }

    /// The weight in thousandths; the default where there is none.
    pub(super) fn set_weight(&mut self, role: &str, weight: Option<u64>) {
        let node = match (self.find(role), weight) {
            (Some(node), _) => node,
            (None, Some(_)) => self.role(role),
            (None, None) => return,
        };
        let had = std::mem::replace(&mut self.nodes[node].weighted, weight.is_some());
        self.nodes[node].weight = weight.unwrap_or(WEIGHT_DEFAULT).max(1);
        self.reorder(node);
        match (had, weight) {
            (false, Some(_)) => self.keep(node),
            (true, None) => self.let_go(node),
            _ => {}
        }
    }

    /// The cluster changed, and every share with it.
    pub(super) fn set_total(&mut self, total: Amounts) {
        self.total = total;
        self.stale = true;
    }

    /// Reckons shares anew if the cluster changed. Who holds nothing stays where it is.
    pub(super) fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        for slot in self.nodes.keys() {
            if self.nodes[slot].rank.share > 0 || !self.nodes[slot].held.is_zero() {
                self.reorder(slot);
            }
        }
    }

    /// The first of the candidates, in the order of ranks on the way down, that is wanted. It is asked of each at most
    /// once. `count` is how many candidates there are.
    pub(super) fn first(
        &self,
        candidates: &Bits,
        count: usize,
        mut wanted: impl FnMut(ClaimSlot) -> bool,
    ) -> Option<ClaimSlot> {
        // Few of many: comparing them with each other costs less than to walk past all the rest.
        if count * count <= self.nodes[self.root].active as usize {
            let claims = candidates.iter().map(|index| ClaimSlot::from_index(index as u32));
            let mut leaves: Vec<NodeSlot> = claims.filter_map(|claim| self.leaf(claim)).collect();
            leaves.sort_unstable_by(|a, b| self.compare(*a, *b));
            let mut claims = leaves.into_iter().filter_map(|leaf| self.nodes[leaf].claim);
            return claims.find(|claim| wanted(*claim));
        }
        self.walk(self.root, candidates, &mut wanted)
    }

    fn walk(&self, at: NodeSlot, candidates: &Bits, wanted: &mut impl FnMut(ClaimSlot) -> bool) -> Option<ClaimSlot> {
        self.nodes[at].order.iter().find_map(|(_, child)| {
            let sole = self.sole[child.index()];
            if sole == NONE_OR_MANY {
                return self.walk(*child, candidates, wanted);
            }
            let claim = ClaimSlot::from_index(sole);
            (candidates.contains(sole as usize) && wanted(claim)).then_some(claim)
        })
    }

    /// Which of two leaves a walk meets first.
    fn compare(&self, mut a: NodeSlot, mut b: NodeSlot) -> Ordering {
        let parent = |slot: NodeSlot| self.nodes[slot].parent.unwrap_or(self.root);
        while self.nodes[a].depth > self.nodes[b].depth {
            a = parent(a);
        }
        while self.nodes[b].depth > self.nodes[a].depth {
            b = parent(b);
        }
        while parent(a) != parent(b) {
            (a, b) = (parent(a), parent(b));
        }
        (self.nodes[a].rank, a).cmp(&(self.nodes[b].rank, b))
    }

    fn rank(&self, slot: NodeSlot) -> Rank {
        let node = &self.nodes[slot];
        let share = node.held.dominant_share(&self.total);
        match self.policy {
            Policy::Priority => Rank {
                tier: u64::MAX - node.weight,
                share,
            },
            Policy::Drf if node.weight == WEIGHT_DEFAULT => Rank { tier: 0, share },
            Policy::Drf => {
                let share = u128::from(share) * u128::from(WEIGHT_DEFAULT) / u128::from(node.weight.max(1));
                let share = u64::try_from(share).unwrap_or(u64::MAX);
                Rank { tier: 0, share }
            }
        }
    }

    /// Puts a node where it now belongs.
    fn reorder(&mut self, slot: NodeSlot) {
        let rank = self.rank(slot);
        let node = &mut self.nodes[slot];
        let before = std::mem::replace(&mut node.rank, rank);
        if before == rank || node.active == 0 {
            return;
        }
        if let Some(parent) = node.parent {
            let order = &mut self.nodes[parent].order;
            order.remove(&(before, slot));
            order.insert((rank, slot));
        }
    }

    /// Changes what a node and all above it hold, and puts each where it now belongs.
    fn each_up(&mut self, node: NodeSlot, mut change: impl FnMut(&mut Node)) {
        let mut at = Some(node);
        while let Some(slot) = at {
            change(&mut self.nodes[slot]);
            at = self.nodes[slot].parent;
            if at.is_some() {
                self.reorder(slot);
            }
        }
    }

    /// Changes what no order depends on.
    fn up(&mut self, node: NodeSlot, mut change: impl FnMut(&mut Node)) {
        let mut at = Some(node);
        while let Some(slot) = at {
            let node = &mut self.nodes[slot];
            change(node);
            at = node.parent;
        }
    }

    /// The node and all above it, without the root.
    fn path(&self, node: NodeSlot) -> impl Iterator<Item = &Node> {
        let above = |node: &&Node| node.parent.map(|parent| &self.nodes[parent]);
        let path = std::iter::successors(Some(&self.nodes[node]), above);
        path.take_while(|node| node.parent.is_some())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.iter().count()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (slot, node) in self.nodes.iter() {
            if !self.stale && node.parent.is_some() && node.rank != self.rank(slot) {
                return Err(format!("the rank of {slot:?} is out of date"));
            }
            if let Some(parent) = node.parent {
                let listed = self.nodes[parent].order.contains(&(node.rank, slot));
                if listed != (node.active > 0) {
                    return Err(format!("{slot:?} is in the wrong place in its parent's order"));
                }
            }
            for (_, child) in &node.order {
                if self.nodes.get(*child).is_none_or(|child| child.parent != Some(slot)) {
                    return Err(format!("{slot:?} orders {child:?}, which is not its child"));
                }
            }
            if (node.active == 1) != (self.sole[slot.index()] != NONE_OR_MANY) {
                return Err(format!(
                    "{slot:?} has {} active claims, but tells of another number",
                    node.active
                ));
            }
        }
        self.check_quota()
    }
}

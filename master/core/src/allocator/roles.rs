//! The tree of roles with the shares of what is held below each.
//!
//! Every node but the root has a share: what is held below it, as the dominant part of the cluster, divided by its
//! weight. The leaves are claims. The frameworks of a role that has roles below it stand together beside these, in a
//! node of their own. Each node keeps its active children in the order of their shares, so that the claim that is next
//! is found by walking down, and a change of one claim moves one node on each level.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::resources::Resources;

use super::Quantities;
use crate::slots::{ClaimSlot, Slot, Slots};

/// The weight of a role that nobody gave one, in thousandths.
const WEIGHT_DEFAULT: u64 = 1000;

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

#[derive(Debug, Default)]
struct Node {
    parent: Option<NodeSlot>,
    /// How it is called among its parent's children; empty for the node of a role's own frameworks.
    name: String,
    children: BTreeMap<String, NodeSlot>,
    /// Set for leaves.
    claim: Option<ClaimSlot>,
    weight: u64,
    held: Quantities,
    share: u64,
    /// How many claims below it are active; a node without one is not in its parent's order.
    active: u32,
    /// How many claims are below it; a node without one is removed.
    claims: u32,
    order: BTreeSet<(u64, NodeSlot)>,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Roles {
    nodes: Slots<NodeSlot, Node>,
    root: NodeSlot,
    leaves: BTreeMap<ClaimSlot, NodeSlot>,
    total: Quantities,
}

impl Default for Roles {
    fn default() -> Self {
        let mut nodes = Slots::default();
        let root = nodes.insert(Node {
            weight: WEIGHT_DEFAULT,
            ..Node::default()
        });
        Roles {
            nodes,
            root,
            leaves: BTreeMap::new(),
            total: Quantities::default(),
        }
    }
}

impl Roles {
    /// Adds an inactive claim that holds nothing.
    pub(super) fn insert(&mut self, claim: ClaimSlot, role: &str) {
        let mut at = self.root;
        for name in role.split('/') {
            at = self.child(at, name);
        }
        at = self.child(at, "");
        let leaf = self.nodes.insert(Node {
            parent: Some(at),
            claim: Some(claim),
            weight: WEIGHT_DEFAULT,
            ..Node::default()
        });
        self.leaves.insert(claim, leaf);
        self.up(leaf, |node| node.claims += 1);
    }

    fn child(&mut self, parent: NodeSlot, name: &str) -> NodeSlot {
        if let Some(child) = self.nodes[parent].children.get(name) {
            return *child;
        }
        let child = self.nodes.insert(Node {
            parent: Some(parent),
            name: name.to_owned(),
            weight: WEIGHT_DEFAULT,
            ..Node::default()
        });
        self.nodes[parent].children.insert(name.to_owned(), child);
        child
    }

    /// Removes a claim, and the roles that are empty without it.
    pub(super) fn remove(&mut self, claim: ClaimSlot) {
        self.set_active(claim, false);
        let Some(leaf) = self.leaves.remove(&claim) else { return };
        self.up(leaf, |node| node.claims -= 1);
        let mut at = Some(leaf);
        while let Some(node) = at {
            let parent = self.nodes[node].parent;
            if let Some(parent) = parent
                && self.nodes[node].claims == 0
            {
                let removed = self.nodes.remove(node);
                if let Some(removed) = removed.filter(|removed| removed.claim.is_none()) {
                    self.nodes[parent].children.remove(&removed.name);
                }
            }
            at = parent;
        }
    }

    pub(super) fn is_active(&self, claim: ClaimSlot) -> bool {
        self.leaves.get(&claim).is_some_and(|leaf| self.nodes[*leaf].active > 0)
    }

    /// Says whether it changed.
    pub(super) fn set_active(&mut self, claim: ClaimSlot, active: bool) -> bool {
        let Some(&leaf) = self.leaves.get(&claim) else {
            return false;
        };
        if (self.nodes[leaf].active > 0) == active {
            return false;
        }
        self.each_up(leaf, |node| {
            if active {
                node.active += 1;
            } else {
                node.active -= 1;
            }
        });
        true
    }

    pub(super) fn charge(&mut self, claim: ClaimSlot, resources: &Resources) {
        if let Some(&leaf) = self.leaves.get(&claim) {
            self.each_up(leaf, |node| node.held.add(resources));
        }
    }

    pub(super) fn credit(&mut self, claim: ClaimSlot, resources: &Resources) {
        if let Some(&leaf) = self.leaves.get(&claim) {
            self.each_up(leaf, |node| node.held.subtract(resources));
        }
    }

    pub(super) fn held(&self, claim: ClaimSlot) -> Quantities {
        let leaf = self.leaves.get(&claim);
        leaf.map(|leaf| self.nodes[*leaf].held.clone()).unwrap_or_default()
    }

    /// The cluster changed, and every share with it.
    pub(super) fn set_total(&mut self, total: Quantities) {
        self.total = total;
        for slot in self.nodes.keys() {
            self.nodes[slot].order.clear();
        }
        for slot in self.nodes.keys() {
            let share = self.share(slot);
            let node = &mut self.nodes[slot];
            node.share = share;
            if let Some(parent) = node.parent
                && node.active > 0
            {
                self.nodes[parent].order.insert((share, slot));
            }
        }
    }

    /// The active claim with the lowest share on the way down that is wanted.
    pub(super) fn first(&self, mut wanted: impl FnMut(ClaimSlot) -> bool) -> Option<ClaimSlot> {
        self.first_below(self.root, &mut wanted)
    }

    fn first_below(&self, at: NodeSlot, wanted: &mut impl FnMut(ClaimSlot) -> bool) -> Option<ClaimSlot> {
        let node = &self.nodes[at];
        if let Some(claim) = node.claim {
            return wanted(claim).then_some(claim);
        }
        node.order
            .iter()
            .find_map(|(_, child)| self.first_below(*child, wanted))
    }

    fn share(&self, slot: NodeSlot) -> u64 {
        let node = &self.nodes[slot];
        let share = u128::from(node.held.dominant_share(&self.total)) * 1000 / u128::from(node.weight.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Changes a node and all above it, and puts each where it now belongs.
    fn each_up(&mut self, leaf: NodeSlot, mut change: impl FnMut(&mut Node)) {
        let mut at = Some(leaf);
        while let Some(slot) = at {
            let before = self.nodes[slot].share;
            change(&mut self.nodes[slot]);
            let share = self.share(slot);
            let node = &mut self.nodes[slot];
            node.share = share;
            let (parent, active) = (node.parent, node.active > 0);
            if let Some(parent) = parent {
                let order = &mut self.nodes[parent].order;
                order.remove(&(before, slot));
                if active {
                    order.insert((share, slot));
                }
            }
            at = parent;
        }
    }

    /// Changes what no order depends on.
    fn up(&mut self, leaf: NodeSlot, mut change: impl FnMut(&mut Node)) {
        let mut at = Some(leaf);
        while let Some(slot) = at {
            let node = &mut self.nodes[slot];
            change(node);
            at = node.parent;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.iter().count()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (slot, node) in self.nodes.iter() {
            if node.share != self.share(slot) {
                return Err(format!("the share of {slot:?} is out of date"));
            }
            if let Some(parent) = node.parent {
                let listed = self.nodes[parent].order.contains(&(node.share, slot));
                if listed != (node.active > 0) {
                    return Err(format!("{slot:?} is in the wrong place in its parent's order"));
                }
            }
            for (_, child) in &node.order {
                if self.nodes.get(*child).is_none_or(|child| child.parent != Some(slot)) {
                    return Err(format!("{slot:?} orders {child:?}, which is not its child"));
                }
            }
        }
        Ok(())
    }
}

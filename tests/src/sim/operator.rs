//! The model operator, who changes the group while it runs.
//!
//! It repairs what is broken (a member whose disk is lost is replaced by a new one), and by whim adds, replaces and removes
//! masters and hands the leadership over, also to one who is about to leave. It never leaves fewer voters than the
//! group began with, and never replaces two at once.

use proffer_replication::{GroupChange, Status};

use super::rng::Rng;

/// What an operator is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Lets the group be.
    Idle,
    /// Adds, replaces, removes, hands over.
    Restless,
    /// Replaces members whose disks are lost.
    Repairs,
}

/// What an operator does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    Nothing,
    /// A new master is started and asks to join.
    StartNewcomer,
    Change(GroupChange),
    /// The member is removed, and in the same moment the leadership is handed to it, or the leader is lost: it may come to
    /// lead with its own removal in its log.
    RemoveAtABadTime(u64),
    Transfer(Option<u64>),
}

/// An operator.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) policy: Policy,
    /// How many voters the group is to have.
    size: usize,
}

impl Operator {
    pub(crate) fn new(policy: Policy, size: usize) -> Self {
        Operator { policy, size }
    }

    /// Decides, from what the leader says of the group. `lost` are members that never come back; `joining` says whether a
    /// newcomer is on its way in; `calm` that only repairs are wanted.
    pub(crate) fn decide(&self, status: &Status, lost: &[u64], joining: bool, calm: bool, rng: &mut Rng) -> Deed {
        if !status.voters_outgoing.is_empty() {
            return Deed::Nothing;
        }
        let is_lost = |id: &u64| lost.contains(id);
        if let Some(learner) = status.learners.iter().copied().find(|id| !is_lost(id)) {
            let broken = status.voters.iter().copied().find(is_lost);
            let grows = status.voters.len() < self.size || (!calm && rng.one_in(2));
            let by_whim = || if grows { None } else { self.someone_else(status, rng) };
            let replaces = broken.or_else(by_whim);
            return Deed::Change(GroupChange::Promote { id: learner, replaces });
        }
        if let Some(learner) = status.learners.first() {
            return Deed::Change(GroupChange::Remove(*learner));
        }
        if joining {
            return Deed::Nothing;
        }
        if status.voters.iter().any(is_lost) {
            return Deed::StartNewcomer;
        }
        if status.voters.len() > self.size {
            return self.remove(status, calm, rng);
        }
        if calm || self.policy != Policy::Restless {
            return Deed::Nothing;
        }
        match rng.range(0, 3) {
            0 => Deed::Transfer(None),
            1 => Deed::Transfer(self.someone_else(status, rng)),
            _ => Deed::StartNewcomer,
        }
    }

    fn remove(&self, status: &Status, calm: bool, rng: &mut Rng) -> Deed {
        match self.someone_else(status, rng) {
            Some(id) if !calm && !rng.one_in(3) => Deed::RemoveAtABadTime(id),
            Some(id) => Deed::Change(GroupChange::Remove(id)),
            None => Deed::Nothing,
        }
    }

    fn someone_else(&self, status: &Status, rng: &mut Rng) -> Option<u64> {
        let others: Vec<u64> = status.voters.iter().copied().filter(|id| *id != status.id).collect();
        rng.pick(&others)
    }
}

//! The masters of the group, as the registry knows them: where each is reached and what it understands.

use std::collections::{BTreeMap, VecDeque};

use proffer_proto::registry as wire;

/// How many masters that left are remembered; beyond that the one that left first is forgotten. A part of what is
/// replicated: every master forgets alike.
pub const REMOVED_MEMBERS_MAX: usize = 1000;

/// Members and former members.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members {
    present: BTreeMap<u64, wire::Member>,
    removed: VecDeque<u64>,
}

impl Members {
    pub(crate) fn from_wire(present: Vec<wire::Member>, removed: Vec<u64>) -> Self {
        Members {
            present: present.into_iter().map(|member| (member.id, member)).collect(),
            removed: removed.into(),
        }
    }

    pub(crate) fn present(&self) -> &BTreeMap<u64, wire::Member> {
        &self.present
    }

    /// Oldest first.
    pub(crate) fn removed(&self) -> &VecDeque<u64> {
        &self.removed
    }

    /// Who left never comes back under its id.
    pub(crate) fn put(&mut self, member: &wire::Member) {
        if !self.removed.contains(&member.id) {
            self.present.insert(member.id, member.clone());
        }
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.present.remove(&id);
        if self.removed.contains(&id) {
            return;
        }
        if self.removed.len() >= REMOVED_MEMBERS_MAX {
            self.removed.pop_front();
        }
        self.removed.push_back(id);
    }
}

//! Proposals of this member that are in its log and not committed. Raft tells no index for a proposal, and an entry at the
//! right index may be another leader's: they are matched by index and term, and dropped when the term ends.

use std::collections::VecDeque;

/// Proposals of one term, by index.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    term: u64,
    waiting: VecDeque<(u64, u64)>,
}

impl Proposals {
    /// A proposal is at an index, after every earlier one.
    pub(crate) fn add(&mut self, term: u64, index: u64, proposal: u64) {
        self.term = term;
        self.waiting.push_back((index, proposal));
    }

    /// The proposal that the entry is.
    pub(crate) fn take(&mut self, term: u64, index: u64) -> Option<u64> {
        let (at, proposal) = *self.waiting.front()?;
        if (at, self.term) != (index, term) {
            return None;
        }
        self.waiting.pop_front();
        Some(proposal)
    }

    /// Everything that waits, which waits no more.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = u64> {
        self.waiting.drain(..).map(|(_, proposal)| proposal)
    }
}

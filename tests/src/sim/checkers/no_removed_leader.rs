//! A member that has applied its own removal does not lead any more.

use std::collections::BTreeSet;

use proffer_replication::eraftpb::Message;

use super::one_leader_a_term::is_of_leader;
use super::{Configuration, Violation};

#[derive(Debug, Default)]
pub(crate) struct NoRemovedLeader {
    gone: BTreeSet<u64>,
}

impl NoRemovedLeader {
    /// A member has applied a configuration.
    pub(crate) fn applied(&mut self, member: u64, configuration: &Configuration) {
        if configuration.contains(member) {
            self.gone.remove(&member);
        } else {
            self.gone.insert(member);
        }
    }

    /// A message is sent.
    pub(crate) fn sent(&self, message: &Message) -> Result<(), Violation> {
        if !is_of_leader(message) || !self.gone.contains(&message.from) {
            return Ok(());
        }
        let what = format!("member {} leads after it has applied its own removal", message.from);
        Err(Violation::new("no_removed_leader", what))
    }
}

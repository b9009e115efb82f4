//! A term has one leader: of all members, one only speaks as a leader in it.

use std::collections::BTreeMap;

use proffer_replication::eraftpb::{Message, MessageType};

use super::Violation;

#[derive(Debug, Default)]
pub(crate) struct OneLeaderATerm {
    terms: BTreeMap<u64, u64>,
}

impl OneLeaderATerm {
    /// A member says that it leads.
    pub(crate) fn leads(&mut self, term: u64, member: u64) -> Result<(), Violation> {
        let leader = *self.terms.entry(term).or_insert(member);
        if leader == member {
            return Ok(());
        }
        let what = format!("term {term} is led by member {leader} and by member {member}");
        Err(Violation::new("one_leader_a_term", what))
    }

    /// A message is sent. Some only a leader sends.
    pub(crate) fn sent(&mut self, message: &Message) -> Result<(), Violation> {
        if is_of_leader(message) {
            return self.leads(message.term, message.from);
        }
        Ok(())
    }

    /// How many terms had a leader.
    pub(crate) fn count(&self) -> u64 {
        self.terms.len() as u64
    }
}

/// Whether only a leader sends it.
pub(super) fn is_of_leader(message: &Message) -> bool {
    use MessageType::{MsgAppend, MsgHeartbeat, MsgSnapshot};
    matches!(message.get_msg_type(), MsgAppend | MsgHeartbeat | MsgSnapshot)
}

//! How a change of the group goes on: proposed by the leader, applied when committed, and, where a voter is replaced, left by
//! whoever leads then.

use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, Entry};

use crate::group::{GroupChange, GroupRefusal};
use crate::member::Member;
use crate::outcome::Outcome;

/// A change that was asked for here and is not complete.
#[derive(Debug)]
pub(crate) struct Change {
    number: u64,
    index: u64,
    term: u64,
    /// Whether its joint configuration is in force.
    joint: bool,
}

impl Member {
    pub(crate) fn begin_change(&mut self, number: u64, what: GroupChange) -> Result<(), GroupRefusal> {
        if !self.reigns() {
            return Err(GroupRefusal::NotLeader);
        }
        let change = self.planned(what)?;
        let raft = &self.node.raft;
        // Raft would put an empty entry into the log instead, and say nothing.
        let busy = raft.has_pending_conf() || raft.lead_transferee.is_some() || self.node.store().is_joint();
        if busy || self.change.is_some() || self.node.propose_conf_change(Vec::new(), change).is_err() {
            return Err(GroupRefusal::Busy);
        }
        self.change = Some(Change {
            number,
            index: self.node.raft.raft_log.last_index(),
            term: self.node.raft.term,
            joint: false,
        });
        Ok(())
    }

    /// The change as raft has it, if it is sound.
    fn planned(&self, what: GroupChange) -> Result<ConfChangeV2, GroupRefusal> {
        let state = self.node.store().conf_state();
        let votes = |id: u64| state.voters.contains(&id) || state.voters_outgoing.contains(&id);
        let learns = |id: u64| state.learners.contains(&id);
        match what {
            GroupChange::AddLearner(0) => Err(GroupRefusal::Unknown(0)),
            GroupChange::AddLearner(id) if votes(id) || learns(id) => Err(GroupRefusal::Present(id)),
            GroupChange::AddLearner(id) => Ok(simple(ConfChangeType::AddLearnerNode, id)),
            GroupChange::Promote { id, .. } if votes(id) => Err(GroupRefusal::Votes(id)),
            GroupChange::Promote { id, .. } if !learns(id) => Err(GroupRefusal::Unknown(id)),
            GroupChange::Promote {
                replaces: Some(old), ..
            } if !votes(old) => Err(GroupRefusal::Unknown(old)),
            GroupChange::Promote {
                replaces: Some(old), ..
            } if old == self.settings.id => Err(GroupRefusal::IsLeader(old)),
            GroupChange::Promote { id, replaces } => {
                self.check_caught_up(id)?;
                Ok(match replaces {
                    None => simple(ConfChangeType::AddNode, id),
                    Some(old) => replacement(id, old),
                })
            }
            GroupChange::Remove(id) if state.voters == [id] => Err(GroupRefusal::Last(id)),
            GroupChange::Remove(id) if id == self.settings.id => Err(GroupRefusal::IsLeader(id)),
            GroupChange::Remove(id) if !votes(id) && !learns(id) => Err(GroupRefusal::Unknown(id)),
            GroupChange::Remove(id) => Ok(simple(ConfChangeType::RemoveNode, id)),
        }
    }

    fn check_caught_up(&self, id: u64) -> Result<(), GroupRefusal> {
        let raft = &self.node.raft;
        let matched = raft.prs().get(id).map_or(0, |progress| progress.matched);
        let behind = raft.raft_log.last_index().saturating_sub(matched);
        if matched == 0 || behind > self.settings.behind_entries_max {
            return Err(GroupRefusal::Behind { id, behind });
        }
        Ok(())
    }

    /// Ends a joint configuration, whoever began it. A leader that would not vote any more then hands over first: if it
    /// stopped and the others had not heard that the end is committed, they would need its vote.
    pub(crate) fn leave_joint(&mut self) {
        let raft = &self.node.raft;
        if !self.node.store().is_joint() || raft.has_pending_conf() || raft.lead_transferee.is_some() {
            return;
        }
        if self.node.store().conf_state().voters.contains(&self.settings.id) {
            // Refused only while the leadership is handed over; whoever leads then does it.
            let _ = self.node.propose_conf_change(Vec::new(), ConfChangeV2::default());
        } else if let Some(to) = self.successor(None) {
            self.node.transfer_leader(to);
        }
    }

    /// A configuration is in force.
    pub(crate) fn change_applied(&mut self, entry: &Entry, outcomes: &mut Vec<Outcome>) {
        let joint = self.node.store().is_joint();
        let Some(change) = &mut self.change else { return };
        if (change.index, change.term) == (entry.index, entry.term) {
            change.joint = joint;
        } else if !change.joint {
            return;
        }
        if !joint {
            let change = change.number;
            self.change = None;
            outcomes.push(Outcome::ChangeDone { change });
        }
    }

    /// An entry is told that changes nothing; it may stand where a change should.
    pub(crate) fn change_lost_at(&mut self, entry: &Entry, outcomes: &mut Vec<Outcome>) {
        let here = |change: &Change| !change.joint && change.index == entry.index;
        if self.change.as_ref().is_some_and(here) {
            self.drop_change(outcomes);
        }
    }

    /// The change that is under way will not be told.
    pub(crate) fn drop_change(&mut self, outcomes: &mut Vec<Outcome>) {
        let change = self.change.take();
        outcomes.extend(change.map(|Change { number: change, .. }| Outcome::ChangeDropped { change }));
    }

    /// Who leads when this member hands over: a voter that stays one.
    pub(crate) fn successor(&self, wanted: Option<u64>) -> Option<u64> {
        let state = self.node.store().conf_state();
        let others = state.voters.iter().filter(|id| **id != self.settings.id);
        let matched = |id: u64| {
            let progress = self.node.raft.prs().get(id);
            progress.map(|progress| (progress.recent_active, progress.matched))
        };
        match wanted {
            Some(wanted) => others.copied().find(|id| *id == wanted),
            None => others.copied().max_by_key(|id| (matched(*id), std::cmp::Reverse(*id))),
        }
    }
}

fn single(kind: ConfChangeType, id: u64) -> ConfChangeSingle {
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = id;
    single
}

fn simple(kind: ConfChangeType, id: u64) -> ConfChangeV2 {
    let mut change = ConfChangeV2::default();
    change.mut_changes().push(single(kind, id));
    change
}

/// Left explicitly: raft's own way out of a joint configuration may never be taken where the leader changes.
fn replacement(id: u64, old: u64) -> ConfChangeV2 {
    let mut change = ConfChangeV2::default();
    change.set_transition(ConfChangeTransition::Explicit);
    change.mut_changes().push(single(ConfChangeType::AddNode, id));
    change.mut_changes().push(single(ConfChangeType::RemoveNode, old));
    change
}

/// Whether raft can decode the change of an entry.
pub(crate) fn is_decodable(entry: &Entry) -> bool {
    ConfChangeV2::parse_from_bytes(&entry.data).is_ok()
}

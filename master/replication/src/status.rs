//! What a member knows of itself and of the others.

use raft::eraftpb::ConfState;
use raft::{ProgressState, StateRole};

use crate::member::Member;

/// What a member does in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Gets the log and does not vote.
    Learner,
    /// Was removed.
    Removed,
}

/// A member's view of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: u64,
    /// What it does.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// The index up to which it knows that entries are committed.
    pub committed: u64,
    /// The index up to which entries were told.
    pub applied: u64,
    /// The last entry of its log.
    pub last: u64,
    /// Who votes, sorted.
    pub voters: Vec<u64>,
    /// Who voted before the joint change that is under way, sorted; empty where there is none.
    pub voters_outgoing: Vec<u64>,
    /// Who gets the log and does not vote, sorted.
    pub learners: Vec<u64>,
    /// What the leader knows of each member, itself included, sorted by id; empty elsewhere.
    pub progress: Vec<Progress>,
}

impl Status {
    /// Everyone in the group, voting or not; during a joint change some twice.
    pub fn members(&self) -> impl Iterator<Item = u64> {
        let ids = [&self.voters, &self.voters_outgoing, &self.learners];
        ids.into_iter().flatten().copied()
    }
}

/// What the leader knows of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The member.
    pub id: u64,
    /// It is known to hold the log up to here.
    pub matched: u64,
    /// It was heard of within the last election timeout.
    pub active: bool,
    /// A snapshot is on its way to it.
    pub snapshot: bool,
}

/// The view of a member.
pub(crate) fn of(member: &Member) -> Status {
    let raft = &member.node.raft;
    let state = member.node.store().conf_state();
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    Status {
        id: member.settings.id,
        role: role(member, state),
        term: raft.term,
        leader: (raft.leader_id != 0 && !member.removed).then_some(raft.leader_id),
        committed: raft.raft_log.committed,
        applied: member.applied,
        last: raft.raft_log.last_index(),
        voters: sorted(&state.voters),
        voters_outgoing: sorted(&state.voters_outgoing),
        learners: sorted(&state.learners),
        progress: progress(member),
    }
}

fn role(member: &Member, state: &ConfState) -> Role {
    let id = member.settings.id;
    match member.node.raft.state {
        _ if member.removed => Role::Removed,
        StateRole::Leader => Role::Leader,
        StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        StateRole::Follower if state.voters.contains(&id) || state.voters_outgoing.contains(&id) => Role::Follower,
        StateRole::Follower => Role::Learner,
    }
}

fn progress(member: &Member) -> Vec<Progress> {
    if !member.leads() {
        return Vec::new();
    }
    let all = member.node.raft.prs().iter().map(|(id, progress)| Progress {
        id: *id,
        matched: progress.matched,
        active: *id == member.settings.id || progress.recent_active,
        snapshot: progress.state == ProgressState::Snapshot,
    });
    let mut all: Vec<Progress> = all.collect();
    all.sort_unstable_by_key(|progress| progress.id);
    all
}

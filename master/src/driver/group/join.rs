//! A new master becomes a learner.

use proffer_proto::raft::{Introduction, JoinAnswer, Joined, join_answer};
use proffer_proto::registry::change::Body;
use proffer_proto::registry::{Member, PutMember};
use proffer_replication::{GroupChange, GroupRefusal};
use tokio::sync::oneshot;

use super::{CHANGE_MAX, Goal, Reached, Waits};
use crate::driver::Driver;
use crate::faults;

/// The level that introduced members.
const MEMBERS_LEVEL: u32 = 2;

impl Driver {
    /// A new master asks to join.
    pub(in crate::driver) fn join(&mut self, newcomer: Introduction, reply: oneshot::Sender<JoinAnswer>) {
        if let Some(answer) = self.join_refusal(&newcomer) {
            // Whoever did not wait does not need the answer; so everywhere here.
            let _ = reply.send(answer);
            return;
        }
        let newcomer = member_of(newcomer);
        self.begin_operation(Goal::Join { newcomer, reply }, CHANGE_MAX);
    }

    fn join_refusal(&self, newcomer: &Introduction) -> Option<JoinAnswer> {
        if !self.master.is_leader() {
            let leader = self.leader_address.borrow().clone();
            return Some(leader.map_or_else(
                || refusal("no master leads at the moment; try again".to_owned()),
                |address| JoinAnswer {
                    body: Some(join_answer::Body::Leader(address)),
                },
            ));
        }
        let level = self.master.level();
        let problem = if newcomer.member == 0 || newcomer.address.is_empty() {
            "the new master does not say who it is".to_owned()
        } else if newcomer.cluster_id.as_ref().is_some_and(|id| *id != self.me.cluster_id) {
            "the new master belongs to another cluster; to join this one it needs an empty work directory".to_owned()
        } else if self.master.removed_members().contains(&newcomer.member) {
            format!(
                "member {} was removed from this group; with an empty work directory it joins as another member",
                newcomer.member
            )
        } else if level < MEMBERS_LEVEL {
            "the registry is held at level 1, which knows one master only; see --compatibility".to_owned()
        } else if newcomer.level < level {
            format!(
                "the registry is at level {level}, and the new master understands levels up to {}: start a newer version",
                newcomer.level
            )
        } else {
            return None;
        };
        Some(refusal(problem))
    }

    pub(super) fn advance_join(
        &mut self,
        newcomer: Member,
        reply: oneshot::Sender<JoinAnswer>,
        reached: Reached,
    ) -> Option<(Goal, Waits)> {
        let id = newcomer.id;
        let waits = match reached {
            Reached::Attempt if self.master.members().get(&id) != Some(&newcomer) => {
                let member = newcomer.clone();
                match self.propose_own(Body::PutMember(PutMember { member })) {
                    Some(number) => Some(Waits::Proposal(number)),
                    None => Some(Waits::Attempt(
                        "the leader takes no changes at the moment; try again".to_owned(),
                    )),
                }
            }
            Reached::Attempt | Reached::Committed => {
                if reached == Reached::Committed {
                    faults::JOIN_RECORDED.pass();
                }
                let number = self.group.next_number();
                match self.member.change_group(number, GroupChange::AddLearner(id)) {
                    Ok(()) => Some(Waits::Change(number)),
                    Err(GroupRefusal::Present(_)) => None,
                    Err(reason @ (GroupRefusal::Busy | GroupRefusal::NotLeader)) => {
                        Some(Waits::Attempt(reason.to_string()))
                    }
                    Err(reason) => {
                        let _ = reply.send(refusal(reason.to_string()));
                        return None;
                    }
                }
            }
            Reached::Changed => None,
        };
        if let Some(waits) = waits {
            return Some((Goal::Join { newcomer, reply }, waits));
        }
        tracing::info!(
            member = id,
            address = newcomer.address,
            "a master has joined as a learner"
        );
        faults::JOIN_BEFORE_ANSWER.pass();
        let joined = Joined {
            cluster_id: self.me.cluster_id.clone(),
            cluster: self.me.cluster.clone(),
            members: self.master.members().values().cloned().collect(),
        };
        let _ = reply.send(JoinAnswer {
            body: Some(join_answer::Body::Joined(joined)),
        });
        None
    }
}

/// The record of a master that introduced itself.
pub(super) fn member_of(introduction: Introduction) -> Member {
    Member {
        id: introduction.member,
        address: introduction.address,
        level: introduction.level,
        version: introduction.version,
    }
}

pub(super) fn refusal(reason: String) -> JoinAnswer {
    JoinAnswer {
        body: Some(join_answer::Body::Refusal(reason)),
    }
}

//! Learners become voters, and members leave.

use proffer_proto::masters::{AddMaster, RemoveMaster};
use proffer_proto::registry::RemoveMember;
use proffer_proto::registry::change::Body;
use proffer_replication::{GroupChange, GroupRefusal, Status};

use super::{CATCH_UP_MAX, CHANGE_MAX, Goal, MastersReply, Reached, TRANSFER_MAX, Waits};
use crate::driver::{Driver, MastersError};
use crate::faults;
use std::time::Duration;

/// What makes a goal of the caller's reply, and how long it may take.
pub(super) type Begun = (Box<dyn FnOnce(MastersReply) -> Goal>, Duration);

impl Driver {
    pub(super) fn add_goal(&mut self, add: &AddMaster) -> Result<Begun, MastersError> {
        let id = self.resolve(&add.master, |status, id| status.learners.contains(&id))?;
        let replaces = add
            .replaces
            .as_deref()
            .map(|name| self.resolve(name, votes))
            .transpose()?;
        if replaces == Some(self.me.member) {
            return Err(MastersError::Refused(
                GroupRefusal::IsLeader(self.me.member).to_string(),
            ));
        }
        Ok((Box::new(move |reply| Goal::Add { id, replaces, reply }), CATCH_UP_MAX))
    }

    pub(super) fn remove_goal(&mut self, remove: &RemoveMaster) -> Result<Begun, MastersError> {
        let id = self.resolve(&remove.master, votes)?;
        if id != self.me.member {
            return Ok((Box::new(move |reply| Goal::Remove { id, reply }), CHANGE_MAX));
        }
        if !self.member.transfer_leadership(None) {
            return Err(MastersError::Refused(
                "this master leads, and there is no other that could lead instead of it".to_owned(),
            ));
        }
        Ok((Box::new(|reply| Goal::HandOver { reply }), TRANSFER_MAX))
    }

    pub(super) fn advance_add(
        &mut self,
        id: u64,
        replaces: Option<u64>,
        reply: MastersReply,
        reached: Reached,
    ) -> Option<(Goal, Waits)> {
        if reached == Reached::Attempt {
            faults::ADD_BEFORE_CHANGE.pass();
            let number = self.group.next_number();
            let waits = match self.member.change_group(number, GroupChange::Promote { id, replaces }) {
                Ok(()) => Waits::Change(number),
                Err(reason @ (GroupRefusal::Behind { .. } | GroupRefusal::Busy)) => Waits::Attempt(reason.to_string()),
                // A newcomer is recorded before it becomes a learner.
                Err(reason @ GroupRefusal::Unknown(unknown)) if unknown == id && self.is_only_recorded(id) => {
                    Waits::Attempt(reason.to_string())
                }
                // Only the other's record is left, by a leader that stopped between the two steps.
                Err(GroupRefusal::Votes(_)) if replaces.is_some_and(|old| self.is_only_recorded(old)) => {
                    let goal = |reply| Goal::Add { id, replaces, reply };
                    return replaces.and_then(|old| self.forget_member(old, reply, goal));
                }
                Err(reason) => return refuse(reply, reason),
            };
            return Some((Goal::Add { id, replaces, reply }, waits));
        }
        match replaces {
            Some(replaced) if reached == Reached::Changed => {
                faults::REPLACED_BEFORE_FORGOTTEN.pass();
                let goal = |reply| Goal::Add { id, replaces, reply };
                self.forget_member(replaced, reply, goal)
            }
            _ => self.finish(reply),
        }
    }

    pub(super) fn advance_remove(&mut self, id: u64, reply: MastersReply, reached: Reached) -> Option<(Goal, Waits)> {
        let goal = |reply| Goal::Remove { id, reply };
        match reached {
            Reached::Committed => self.finish(reply),
            Reached::Changed => {
                faults::REMOVED_BEFORE_FORGOTTEN.pass();
                self.forget_member(id, reply, goal)
            }
            Reached::Attempt => {
                let number = self.group.next_number();
                match self.member.change_group(number, GroupChange::Remove(id)) {
                    Ok(()) => Some((goal(reply), Waits::Change(number))),
                    Err(reason @ GroupRefusal::Busy) => Some((goal(reply), Waits::Attempt(reason.to_string()))),
                    // Only its record is left, by a leader that stopped between the two steps.
                    Err(GroupRefusal::Unknown(_)) if self.master.members().contains_key(&id) => {
                        self.forget_member(id, reply, goal)
                    }
                    Err(reason) => refuse(reply, reason),
                }
            }
        }
    }

    fn is_only_recorded(&self, id: u64) -> bool {
        self.master.members().contains_key(&id) && !self.member.status().members().any(|member| member == id)
    }

    fn forget_member(
        &mut self,
        id: u64,
        reply: MastersReply,
        goal: impl Fn(MastersReply) -> Goal,
    ) -> Option<(Goal, Waits)> {
        match self.propose_own(Body::RemoveMember(RemoveMember { id })) {
            Some(number) => Some((goal(reply), Waits::Proposal(number))),
            None => {
                goal(reply).interrupted();
                None
            }
        }
    }

    fn finish(&mut self, reply: MastersReply) -> Option<(Goal, Waits)> {
        // Whoever did not wait does not need the answer.
        let _ = reply.send(Ok(self.masters_list()));
        None
    }

    /// The member of an id or an address. Where several have the address, because one came back with a new disk, `prefer`
    /// decides.
    pub(super) fn resolve(&self, name: &str, prefer: impl Fn(&Status, u64) -> bool) -> Result<u64, MastersError> {
        if let Some(id) = name.parse().ok().filter(|id| self.is_known(*id)) {
            return Ok(id);
        }
        let members = self.master.members().values();
        let mut found: Vec<u64> = members
            .filter(|member| member.address == name)
            .map(|member| member.id)
            .collect();
        if found.len() > 1 {
            let status = self.member.status();
            found.retain(|id| prefer(&status, *id));
        }
        match found.as_slice() {
            [id] => Ok(*id),
            [] => {
                let known: Vec<&str> = self.master.members().values().map(|m| m.address.as_str()).collect();
                let known = known.join(", ");
                Err(MastersError::Wrong(format!(
                    "there is no master {name:?} here; there are {known}"
                )))
            }
            _ => Err(MastersError::Wrong(format!(
                "several masters have the address {name}; name the id of the one that is meant"
            ))),
        }
    }
}

pub(super) fn votes(status: &Status, id: u64) -> bool {
    status.voters.contains(&id)
}

fn refuse(reply: MastersReply, reason: GroupRefusal) -> Option<(Goal, Waits)> {
    let error = match reason {
        GroupRefusal::NotLeader => MastersError::NotLeader,
        reason => MastersError::Refused(reason.to_string()),
    };
    let _ = reply.send(Err(error));
    None
}

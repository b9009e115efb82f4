//! What happened in the group, and what the member asks for.

use bytes::Bytes;
use proffer_master_core::{Input, ProposalId, ReadId};
use proffer_proto::registry::change::Body;
use proffer_replication::Outcome;

use super::{Driver, Error, entry, group};
use crate::faults;

impl Driver {
    /// Carries one outcome out.
    pub(super) fn replicated(&mut self, outcome: Outcome) -> Result<(), Error> {
        match outcome {
            Outcome::Send(message) => self.peers.send(*message),
            Outcome::Write(write) => self.writer.write(write),
            Outcome::Compact(snapshot) => self.writer.compact(snapshot),
            Outcome::SnapshotWanted => self.snapshots.is_wanted = true,
            Outcome::Committed { index, proposal, data } => self.committed(index, proposal, data)?,
            Outcome::Dropped { proposal } => match group::own(proposal) {
                Some(number) => self.group_proposal_dropped(number),
                None => {
                    let proposal = ProposalId(proposal);
                    self.inputs.push_back(Input::ProposalDropped { proposal });
                }
            },
            Outcome::Led { term } => {
                tracing::info!(term, "this master leads");
                // One term has one leader, so no two masters of the cluster make the same ids.
                let cluster = self.me.cluster_id.split('-').next().unwrap_or_default();
                let incarnation = format!("{cluster}-{term}");
                self.step(Input::BecameLeader { incarnation });
                self.tell_leader();
                self.tend_group();
            }
            Outcome::LostLeadership => {
                tracing::info!("this master leads no more");
                self.step(Input::LostLeadership);
                // Their callers have been answered.
                self.proposals.clear();
                self.tell_leader();
            }
            Outcome::Leader { id } => {
                self.leader = id;
                self.peers.leader(id);
                self.tell_leader();
                self.group_leader_changed();
            }
            Outcome::Restored { index, data } => self.restored(index, data)?,
            Outcome::Readable { read } => self.inputs.push_back(Input::Readable { read: ReadId(read) }),
            Outcome::Unreadable { read } => self.inputs.push_back(Input::Unreadable { read: ReadId(read) }),
            Outcome::GroupChanged { index, joint } => {
                tracing::info!(index, joint, "the group of masters has changed");
                if joint {
                    faults::GROUP_JOINT.pass();
                }
                self.tend_group();
            }
            Outcome::ChangeDone { change } => self.group_change_done(change),
            Outcome::ChangeDropped { change } => self.group_change_dropped(change),
            Outcome::Removed => {
                let member = self.me.member;
                return Err(Error::Removed { member });
            }
        }
        Ok(())
    }

    fn committed(&mut self, index: u64, proposal: Option<u64>, data: Bytes) -> Result<(), Error> {
        let change = entry::decode(index, &data)?;
        faults::COMMITTED.pass();
        if index <= self.restored {
            return Ok(());
        }
        self.keeper.apply(index, data);
        let own = proposal.and_then(group::own);
        let proposal = proposal.filter(|_| own.is_none()).map(ProposalId);
        let is_of_group = matches!(
            change.body,
            Some(Body::PutMember(_) | Body::RemoveMember(_) | Body::RaiseLevel(_))
        );
        // At once, and not with the inputs that wait: a snapshot may replace the registry in the next outcome.
        self.step(Input::Committed {
            index,
            proposal,
            change,
        });
        if is_of_group {
            self.check_level()?;
            self.group_changed();
        }
        if let Some(number) = own {
            self.group_proposal_committed(number);
        }
        if is_of_group {
            self.tend_group();
        }
        Ok(())
    }

    fn restored(&mut self, index: u64, data: Bytes) -> Result<(), Error> {
        tracing::info!(
            index,
            bytes = data.len(),
            "the registry is replaced by the leader's snapshot"
        );
        self.snapshots.last_bytes = data.len() as u64;
        let registry = entry::decode_registry(data)?;
        self.restored = index;
        self.master.restore(registry);
        self.keeper.rebuild(index, self.master.image());
        self.check_level()?;
        self.group_changed();
        Ok(())
    }

    /// Refuses to go on with a registry that this version does not understand, or that this master does not belong to.
    pub(super) fn check_level(&self) -> Result<(), Error> {
        let (level, understood) = (self.master.level(), self.me.level);
        if level > understood {
            return Err(Error::Level { level, understood });
        }
        let member = self.me.member;
        if self.master.removed_members().contains(&member) {
            return Err(Error::Removed { member });
        }
        Ok(())
    }

    /// Tells the callers of this master where the leader is. This master itself is named once it takes calls.
    pub(super) fn tell_leader(&self) {
        let address = match self.leader {
            Some(id) if id == self.me.member => self.master.is_leader().then(|| self.me.address.clone()),
            Some(id) => self.master.members().get(&id).map(|member| member.address.clone()),
            None => None,
        };
        self.leader_address.send_if_modified(|told| {
            let is_other = *told != address;
            *told = address;
            is_other
        });
    }
}

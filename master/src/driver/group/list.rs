//! The group as this master knows it.

use std::collections::BTreeSet;

use proffer_proto::masters::master::Role;
use proffer_proto::masters::{Master, MastersList};
use proffer_proto::registry::Member;
use proffer_replication::Status;

use crate::driver::Driver;

impl Driver {
    pub(in crate::driver) fn masters_list(&self) -> MastersList {
        let status = self.member.status();
        let members = self.master.members();
        let ids: BTreeSet<u64> = status.members().chain(members.keys().copied()).collect();
        MastersList {
            cluster_id: self.me.cluster_id.clone(),
            cluster: self.me.cluster.clone(),
            term: status.term,
            leader: status.leader,
            level: self.master.level(),
            masters: ids
                .into_iter()
                .map(|id| self.listed(id, members.get(&id), &status))
                .collect(),
        }
    }

    fn listed(&self, id: u64, record: Option<&Member>, status: &Status) -> Master {
        let is_this = id == self.me.member;
        let (address, version, level) = match record {
            Some(member) => (member.address.clone(), member.version.clone(), member.level),
            None if is_this => (self.me.address.clone(), self.me.version.clone(), self.me.level),
            None => (String::new(), String::new(), 1),
        };
        let progress = status.progress.iter().find(|progress| progress.id == id);
        Master {
            id,
            address,
            version,
            level,
            role: role(id, status) as i32,
            leads: status.leader == Some(id),
            reachable: progress.map(|progress| is_this || progress.active),
            behind_entries: progress.map(|progress| status.last.saturating_sub(progress.matched)),
            receives_snapshot: progress.map(|progress| progress.snapshot),
        }
    }
}

fn role(id: u64, status: &Status) -> Role {
    if status.voters.contains(&id) {
        Role::Voter
    } else if status.voters_outgoing.contains(&id) {
        Role::Leaving
    } else if status.learners.contains(&id) {
        Role::Learner
    } else {
        Role::Unknown
    }
}

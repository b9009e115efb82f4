//! What a leader keeps up by itself: the members' records, and the registry's level.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::raft::Introduction;
use proffer_proto::registry::change::Body;
use proffer_proto::registry::{Member, PutMember, RaiseLevel};

use super::join::member_of;
use crate::driver::Driver;

/// Version of the protocol among masters.
const PROTOCOL: u32 = 1;
/// The first level has no records of members.
const LEVEL_MIN: u32 = 1;

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// What members last said of themselves.
    announced: BTreeMap<u64, Member>,
    /// The proposals that are not yet committed.
    proposed: BTreeSet<u64>,
    is_due: bool,
}

impl Upkeep {
    /// True if the proposal is one of these; it is not waited for any more.
    pub(super) fn has_ended(&mut self, number: u64) -> bool {
        self.proposed.remove(&number)
    }

    pub(super) fn try_again(&mut self) {
        self.is_due = true;
    }

    /// True where something is to be tried again at the next tick.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.proposed.is_empty()
    }
}

impl Driver {
    /// Another master says who it is, and is told who this one is.
    pub(in crate::driver) fn introduced(&mut self, who: Introduction) -> Introduction {
        let is_ours = who.cluster_id.as_ref() == Some(&self.me.cluster_id) && who.member != self.me.member;
        if is_ours && self.master.is_leader() && self.is_known(who.member) {
            let member = member_of(who);
            self.group.upkeep.announced.insert(member.id, member);
            self.tend_group();
        }
        Introduction {
            protocol: PROTOCOL,
            member: self.me.member,
            address: self.me.address.clone(),
            level: self.me.level,
            version: self.me.version.clone(),
            cluster_id: Some(self.me.cluster_id.clone()),
            cluster: Some(self.me.cluster.clone()),
            leader: self.leader_address.borrow().clone(),
            peers: Vec::new(),
        }
    }

    /// Proposes what the registry should say of the members and does not. One round at a time.
    pub(in crate::driver) fn tend_group(&mut self) {
        self.group.upkeep.is_due = false;
        if !self.master.is_leader() {
            self.group.upkeep.announced.clear();
            return;
        }
        if !self.group.upkeep.proposed.is_empty() {
            return;
        }
        let mut wanted = Vec::new();
        let level = self.level_of_all().max(self.master.level());
        if level > self.master.level() {
            wanted.push(Body::RaiseLevel(RaiseLevel { level }));
        }
        if level > LEVEL_MIN {
            let me = Member {
                id: self.me.member,
                address: self.me.address.clone(),
                level: self.me.level,
                version: self.me.version.clone(),
            };
            let records = self.master.members();
            let differing = std::iter::once(&me)
                .chain(self.group.upkeep.announced.values())
                .filter(|member| records.get(&member.id) != Some(member))
                .map(|member| Body::PutMember(PutMember { member: member.clone() }));
            wanted.extend(differing);
        }
        for body in wanted {
            match self.propose_own(body) {
                Some(number) => {
                    self.group.upkeep.proposed.insert(number);
                }
                None => self.group.upkeep.is_due = true,
            }
        }
    }

    /// The newest level that every member understands.
    fn level_of_all(&self) -> u32 {
        let status = self.member.status();
        let records = self.master.members();
        // At the first level nothing that a member says of itself is recorded: what it said last counts.
        let announced = &self.group.upkeep.announced;
        let level_of = |id: u64| match announced.get(&id).or_else(|| records.get(&id)) {
            _ if id == self.me.member => self.me.level,
            Some(member) => member.level,
            None => LEVEL_MIN,
        };
        status
            .members()
            .chain(records.keys().copied())
            .map(level_of)
            .min()
            .unwrap_or(LEVEL_MIN)
    }

    /// Tells everyone who must know it who is in the group.
    pub(in crate::driver) fn group_changed(&mut self) {
        let members = self.master.members();
        let addresses = members
            .iter()
            .map(|(id, member)| (*id, member.address.clone()))
            .collect();
        self.peers.set(addresses);
        self.peers
            .set_removed(self.master.removed_members().iter().copied().collect());
        let known = |id: &u64| self.master.members().contains_key(id);
        self.group.upkeep.announced.retain(|id, _| known(id));
        self.tell_leader();
    }
}

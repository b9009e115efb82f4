//! What committed changes make of the records: for each key, what the last of them leaves there. The rules are those of the
//! core's registry.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proffer_master_core::{OWNED_PREFIX, REMOVED_MEMBERS_MAX, WEIGHT_DEFAULT};
use proffer_proto::registry::change::Body;
use proffer_proto::registry::{
    AdmitAgent, Agent, Change, Completed, Framework, Gone, Maintenance, MarkGone, Member, PutFramework, Quota,
    RaiseLevel, RemoveFramework, Weight, WriteState,
};
use proffer_proto::v1;
use prost::Message;

use super::{Error, keys, ordered, values};

/// What a key is to hold.
#[derive(Debug)]
pub(super) enum Write {
    Record(Vec<u8>),
    /// A value of the frameworks' state, with its version.
    Value(u64, Bytes),
    Delete,
}

/// Changes that are written together.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    db: &'a sled::Db,
    writes: BTreeMap<Vec<u8>, Write>,
}

impl<'a> Batch<'a> {
    pub(super) fn on(db: &'a sled::Db) -> Self {
        let writes = BTreeMap::new();
        Self { db, writes }
    }

    pub(super) fn into_writes(self) -> BTreeMap<Vec<u8>, Write> {
        self.writes
    }

    /// Applies the change of the log entry `index`.
    pub(super) fn apply(&mut self, index: u64, change: &Change) -> Result<(), Error> {
        match &change.body {
            Some(Body::AdmitAgent(admit)) => self.admit_agent(admit),
            Some(Body::UpdateAgent(update)) => match &update.agent.id {
                Some(id) => self.change_agent(id, |agent| agent.info = update.agent.clone()),
                None => Ok(()),
            },
            Some(Body::MarkUnreachable(mark)) => {
                self.change_agent(&mark.agent_id, |agent| agent.unreachable_ms = Some(mark.at_ms))
            }
            Some(Body::MarkReachable(mark)) => self.change_agent(&mark.agent_id, |agent| agent.unreachable_ms = None),
            Some(Body::SetStanding(set)) => {
                self.change_agent(&set.agent_id, |agent| agent.standing = Some(set.standing))
            }
            Some(Body::SetLayout(set)) => {
                self.change_agent(&set.agent_id, |agent| agent.layout = Some(set.layout.clone()))
            }
            Some(Body::SetMaintenance(set)) => {
                self.set_maintenance(&set.maintenance);
                Ok(())
            }
            Some(Body::SetQuotas(set)) => {
                set.quotas.iter().for_each(|quota| self.set_quota(quota));
                Ok(())
            }
            Some(Body::SetWeights(set)) => {
                set.weights.iter().for_each(|weight| self.set_weight(weight));
                Ok(())
            }
            Some(Body::MarkGone(mark)) => self.mark_gone(index, mark),
            Some(Body::RemoveAgent(remove)) => {
                self.delete(keys::agent(&remove.agent_id));
                Ok(())
            }
            Some(Body::PutFramework(put)) => self.put_framework(put),
            Some(Body::FrameworkDisconnected(away)) => self.set_deadline(&away.framework_id, Some(away.deadline_ms)),
            Some(Body::FrameworkConnected(back)) => self.set_deadline(&back.framework_id, None),
            Some(Body::RemoveFramework(remove)) => self.remove_framework(index, remove),
            Some(Body::ForgetCompleted(forget)) => {
                forget
                    .framework_ids
                    .iter()
                    .for_each(|id| self.delete(keys::completed(id)));
                forget.gone_agent_ids.iter().for_each(|id| self.delete(keys::gone(id)));
                Ok(())
            }
            Some(Body::PutMember(put)) => self.put_member(&put.member),
            Some(Body::RemoveMember(remove)) => self.remove_member(index, remove.id),
            Some(Body::RaiseLevel(raise)) => self.raise_level(raise),
            Some(Body::WriteState(write)) => self.write_state(index, write),
            None => Ok(()),
        }
    }

    fn admit_agent(&mut self, admit: &AdmitAgent) -> Result<(), Error> {
        if let Some(id) = &admit.agent.id
            && !self.has(&keys::gone(id))?
            && !self.has(&keys::agent(id))?
        {
            let agent = Agent {
                info: admit.agent.clone(),
                admitted_ms: admit.at_ms,
                unreachable_ms: None,
                standing: None,
                layout: None,
            };
            self.put(keys::agent(id), &agent);
        }
        Ok(())
    }

    fn change_agent(&mut self, id: &v1::AgentId, change: impl FnOnce(&mut Agent)) -> Result<(), Error> {
        let key = keys::agent(id);
        if let Some(mut agent) = self.get::<Agent>(&key)? {
            change(&mut agent);
            self.put(key, &agent);
        }
        Ok(())
    }

    fn mark_gone(&mut self, index: u64, mark: &MarkGone) -> Result<(), Error> {
        self.delete(keys::agent(&mark.agent_id));
        let key = keys::gone(&mark.agent_id);
        if !self.has(&key)? {
            let gone = Gone {
                agent_id: mark.agent_id.clone(),
                at_ms: mark.at_ms,
            };
            self.put_ordered(key, index, &gone);
        }
        Ok(())
    }

    fn set_maintenance(&mut self, maintenance: &Maintenance) {
        if *maintenance == Maintenance::default() {
            self.delete(keys::MAINTENANCE.to_vec());
        } else {
            self.put(keys::MAINTENANCE.to_vec(), maintenance);
        }
    }

    fn set_quota(&mut self, quota: &Quota) {
        let key = keys::quota(&quota.role);
        if quota.guarantees.is_empty() && quota.limits.is_empty() {
            self.delete(key);
        } else {
            self.put(key, quota);
        }
    }

    fn set_weight(&mut self, weight: &Weight) {
        let key = keys::weight(&weight.role);
        if weight.thousandths == WEIGHT_DEFAULT {
            self.delete(key);
        } else {
            self.put(key, weight);
        }
    }

    fn put_framework(&mut self, put: &PutFramework) -> Result<(), Error> {
        if let Some(id) = &put.framework.id
            && !self.has(&keys::completed(id))?
        {
            let key = keys::framework(id);
            let known = self.get::<Framework>(&key)?;
            let framework = Framework {
                info: put.framework.clone(),
                registered_ms: known.map_or(put.at_ms, |known| known.registered_ms),
                failover_deadline_ms: None,
            };
            self.put(key, &framework);
        }
        Ok(())
    }

    fn set_deadline(&mut self, id: &v1::FrameworkId, deadline: Option<i64>) -> Result<(), Error> {
        let key = keys::framework(id);
        if let Some(mut framework) = self.get::<Framework>(&key)? {
            framework.failover_deadline_ms = deadline;
            self.put(key, &framework);
        }
        Ok(())
    }

    fn remove_framework(&mut self, index: u64, remove: &RemoveFramework) -> Result<(), Error> {
        let id = &remove.framework_id;
        let key = keys::framework(id);
        let Some(framework) = self.get::<Framework>(&key)? else {
            return Ok(());
        };
        self.delete(key);
        let completed = Completed {
            info: framework.info,
            removed_ms: remove.at_ms,
        };
        self.put_ordered(keys::completed(id), index, &completed);
        for key in self.with_prefix(&keys::namespace_prefix(&format!("{OWNED_PREFIX}{id}")))? {
            self.delete(key);
        }
        Ok(())
    }

    fn put_member(&mut self, member: &Member) -> Result<(), Error> {
        if !self.has(&keys::removed(member.id))? {
            self.put(keys::member(member.id), member);
        }
        Ok(())
    }

    fn remove_member(&mut self, index: u64, id: u64) -> Result<(), Error> {
        self.delete(keys::member(id));
        let key = keys::removed(id);
        if self.has(&key)? {
            return Ok(());
        }
        let mut removed = Vec::new();
        for key in self.with_prefix(&[keys::REMOVED])? {
            if let Some(record) = self.record(&key)? {
                removed.push((ordered(&record)?.0, key));
            }
        }
        if removed.len() >= REMOVED_MEMBERS_MAX
            && let Some((_, oldest)) = removed.into_iter().min()
        {
            self.delete(oldest);
        }
        self.writes.insert(key, Write::Record(index.to_be_bytes().to_vec()));
        Ok(())
    }

    fn raise_level(&mut self, raise: &RaiseLevel) -> Result<(), Error> {
        let present = self.record(keys::LEVEL)?;
        // Level 0 is what a registry without a level has.
        if present.map_or(raise.level > 0, |present| present[..] < raise.level.to_be_bytes()[..]) {
            let record = raise.level.to_be_bytes().to_vec();
            self.writes.insert(keys::LEVEL.to_vec(), Write::Record(record));
        }
        Ok(())
    }

    fn write_state(&mut self, index: u64, write: &WriteState) -> Result<(), Error> {
        if let Some(id) = write.namespace.strip_prefix(OWNED_PREFIX)
            && !self.has(&keys::framework(&v1::FrameworkId::from(id)))?
        {
            return Ok(());
        }
        let key = keys::state(&write.namespace, &write.key);
        if let Some(expected) = write.expected_version
            && self.version(&key)? != expected
        {
            return Ok(());
        }
        match &write.value {
            Some(value) => {
                self.writes.insert(key, Write::Value(index, value.clone()));
            }
            None => self.delete(key),
        }
        Ok(())
    }

    /// The version of a key of the frameworks' state; 0 where it is not there.
    fn version(&self, key: &[u8]) -> Result<u64, Error> {
        match self.writes.get(key) {
            Some(Write::Value(version, _)) => Ok(*version),
            Some(_) => Ok(0),
            None => self.db.get(key)?.map_or(Ok(0), |record| values::version(&record)),
        }
    }

    fn put(&mut self, key: Vec<u8>, message: &impl Message) {
        self.writes.insert(key, Write::Record(message.encode_to_vec()));
    }

    fn put_ordered(&mut self, key: Vec<u8>, order: u64, message: &impl Message) {
        self.writes.insert(key, Write::Record(ordered_record(order, message)));
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.writes.insert(key, Write::Delete);
    }

    fn has(&self, key: &[u8]) -> Result<bool, Error> {
        match self.writes.get(key) {
            Some(Write::Delete) => Ok(false),
            Some(_) => Ok(true),
            None => Ok(self.db.contains_key(key)?),
        }
    }

    /// What is under a key that holds no value of the frameworks' state.
    fn record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.writes.get(key) {
            Some(Write::Record(record)) => Ok(Some(record.clone())),
            Some(_) => Ok(None),
            None => Ok(self.db.get(key)?.map(|record| record.to_vec())),
        }
    }

    fn get<T: Message + Default>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        let Some(record) = self.record(key)? else {
            return Ok(None);
        };
        let decoded = T::decode(&record[..]).map_err(|_| Error::NotWhole("a record cannot be decoded"))?;
        Ok(Some(decoded))
    }

    /// The keys that begin so.
    fn with_prefix(&self, prefix: &[u8]) -> Result<BTreeSet<Vec<u8>>, Error> {
        let mut found = BTreeSet::new();
        for key in self.db.scan_prefix(prefix).keys() {
            found.insert(key?.to_vec());
        }
        let written = self.writes.range(prefix.to_vec()..);
        for (key, write) in written.take_while(|(key, _)| key.starts_with(prefix)) {
            match write {
                Write::Delete => found.remove(key),
                Write::Record(_) | Write::Value(..) => found.insert(key.clone()),
            };
        }
        Ok(found)
    }
}

/// A record whose place among others of its kind counts.
pub(super) fn ordered_record(order: u64, message: &impl Message) -> Vec<u8> {
    let mut record = order.to_be_bytes().to_vec();
    record.extend_from_slice(&message.encode_to_vec());
    record
}

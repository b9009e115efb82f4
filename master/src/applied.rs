//! The applied registry in sled: saves replaying the log at start, and is never the truth.
//!
//! Everything here can be made again from snapshot and log, and is whenever there is doubt: sled 0.34 may open damaged
//! files short or empty without a word. So one record, written in the same batch as the data, says up to which
//! index the log is applied, how many records there are and what they add up to; what does not match is thrown away.
//!
//! One tree. Keys: `m` for that record, `a<agent id>`, `f<framework id>`, `c<framework id>` for completed frameworks and
//! `g<agent id>` for gone agents; the values of the last two begin with the log index, which is their order.
//!
//! sled panics on some damage. Panics are caught here. Where opening takes the whole process with it, the mark file that
//! stands while sled opens tells the next start to throw the files away.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proffer_proto::registry::change::Body;
use proffer_proto::registry::{Agent, Change, Completed, Framework, Gone, Registry};
use proffer_proto::v1;
use prost::Message as _;

const SUMMARY_KEY: &[u8] = b"m";
const CACHE_BYTES: u64 = 8 << 20;
/// How long an earlier handle of this process is waited for.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(2);
/// sled keeps several buffers of this size.
const SEGMENT_BYTES: usize = 64 << 10;

/// The applied registry could not be used; it is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// sled failed.
    #[error("sled failed")]
    Sled(#[from] sled::Error),
    /// sled panicked.
    #[error("sled panicked")]
    Panicked,
    /// The files could not be removed or created.
    #[error("cannot change the directory of the applied registry")]
    Io(#[from] io::Error),
    /// What is there does not add up.
    #[error("the applied registry is not whole: {0}")]
    NotWhole(&'static str),
}

/// What the records are, so that missing ones are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Summary {
    /// Every change up to this index is in.
    applied: u64,
    records: u64,
    /// The sum of the records' fingerprints.
    digest: u64,
}

/// The applied registry on disk.
#[derive(Debug)]
pub struct AppliedRegistry {
    db: sled::Db,
    summary: Summary,
}

impl AppliedRegistry {
    /// Opens what is there and reads all of it: the registry and the index up to which it is applied.
    ///
    /// # Errors
    /// It is missing, damaged or not whole.
    pub fn open(directory: &Path) -> Result<(Self, Registry, u64), Error> {
        let mark = mark_of(directory);
        if mark.exists() {
            return Err(Error::NotWhole("sled did not survive opening it the last time"));
        }
        if !directory.exists() {
            return Err(Error::NotWhole("there is none yet"));
        }
        std::fs::write(&mark, "")?;
        let opened = guarded(|| {
            let (applied, registry) = Self::read(open_sled(directory)?)?;
            let index = applied.summary.applied;
            Ok((applied, registry, index))
        });
        std::fs::remove_file(&mark)?;
        opened
    }

    /// Throws away what is there and writes the registry as of `index`.
    ///
    /// # Errors
    /// The disk or sled failed.
    pub fn rebuild(directory: &Path, registry: &Registry, index: u64) -> Result<Self, Error> {
        remove(directory)?;
        guarded(|| {
            let db = open_sled(directory)?;
            let summary = Summary::default();
            let mut applied = Self { db, summary };
            applied.write(index, whole(registry))?;
            Ok(applied)
        })
    }

    /// Applies one committed change.
    ///
    /// # Errors
    /// sled failed.
    pub fn apply(&mut self, index: u64, change: &Change) -> Result<(), Error> {
        guarded(|| {
            let writes = self.writes(index, change)?;
            self.write(index, writes)
        })
    }

    /// Writes what sled holds back to the disk.
    ///
    /// # Errors
    /// sled failed.
    pub fn flush(&mut self) -> Result<(), Error> {
        guarded(|| Ok(self.db.flush().map(drop)?))
    }

    /// Lets go of a sled that has failed without touching it again: after a panic it may wait for itself for ever.
    pub fn abandon(self) {
        std::mem::forget(self);
    }

    fn read(db: sled::Db) -> Result<(Self, Registry), Error> {
        let mut found = Summary::default();
        let mut written = None;
        let mut registry = Registry::default();
        let mut completed: Vec<(u64, Completed)> = Vec::new();
        let mut gone: Vec<(u64, Gone)> = Vec::new();
        let undecodable = |_| Error::NotWhole("a record cannot be decoded");
        for record in db.iter() {
            let (key, value) = record?;
            if key == SUMMARY_KEY {
                written = Some(Summary::decode(&value)?);
                continue;
            }
            found.add(&key, &value);
            match key.first() {
                Some(b'a') => registry.agents.push(Agent::decode(&value[..]).map_err(undecodable)?),
                Some(b'f') => registry
                    .frameworks
                    .push(Framework::decode(&value[..]).map_err(undecodable)?),
                Some(b'c') => {
                    let (order, body) = ordered(&value)?;
                    completed.push((order, Completed::decode(body).map_err(undecodable)?));
                }
                Some(b'g') => {
                    let (order, body) = ordered(&value)?;
                    gone.push((order, Gone::decode(body).map_err(undecodable)?));
                }
                _ => return Err(Error::NotWhole("a record is of no known kind")),
            }
        }
        let summary = written.ok_or(Error::NotWhole("its summary is missing"))?;
        found.applied = summary.applied;
        if found != summary {
            return Err(Error::NotWhole("its records do not add up"));
        }
        completed.sort_by_key(|(order, _)| *order);
        gone.sort_by_key(|(order, _)| *order);
        registry.completed_frameworks = completed.into_iter().map(|(_, completed)| completed).collect();
        registry.gone_agents = gone.into_iter().map(|(_, gone)| gone).collect();
        Ok((Self { db, summary }, registry))
    }

    fn write(&mut self, index: u64, writes: Vec<Write>) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        let mut summary = self.summary;
        summary.applied = index;
        for Write { key, value } in writes {
            if let Some(old) = self.db.get(&key)? {
                summary.subtract(&key, &old);
            }
            match value {
                Some(value) => {
                    summary.add(&key, &value);
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        batch.insert(SUMMARY_KEY, summary.encode());
        self.db.apply_batch(batch)?;
        self.summary = summary;
        Ok(())
    }

    /// What a change makes of the records; the rules are those of the core's registry.
    fn writes(&self, index: u64, change: &Change) -> Result<Vec<Write>, Error> {
        let mut writes = Vec::new();
        match &change.body {
            Some(Body::AdmitAgent(admit)) => {
                if let Some(id) = &admit.agent.id
                    && !self.has(&gone_key(id))?
                    && !self.has(&agent_key(id))?
                {
                    let agent = Agent {
                        info: admit.agent.clone(),
                        admitted_ms: admit.at_ms,
                        unreachable_ms: None,
                    };
                    writes.push(Write::put(agent_key(id), &agent));
                }
            }
            Some(Body::UpdateAgent(update)) => {
                if let Some(id) = &update.agent.id {
                    writes.extend(self.change_agent(id, |agent| agent.info = update.agent.clone())?);
                }
            }
            Some(Body::MarkUnreachable(mark)) => {
                writes.extend(self.change_agent(&mark.agent_id, |agent| agent.unreachable_ms = Some(mark.at_ms))?);
            }
            Some(Body::MarkReachable(mark)) => {
                writes.extend(self.change_agent(&mark.agent_id, |agent| agent.unreachable_ms = None)?);
            }
            Some(Body::MarkGone(mark)) => {
                writes.push(Write::delete(agent_key(&mark.agent_id)));
                let key = gone_key(&mark.agent_id);
                if !self.has(&key)? {
                    let gone = Gone {
                        agent_id: mark.agent_id.clone(),
                        at_ms: mark.at_ms,
                    };
                    writes.push(Write::put_ordered(key, index, &gone));
                }
            }
            Some(Body::RemoveAgent(remove)) => writes.push(Write::delete(agent_key(&remove.agent_id))),
            Some(Body::PutFramework(put)) => {
                if let Some(id) = &put.framework.id
                    && !self.has(&completed_key(id))?
                {
                    let known = self.get::<Framework>(&framework_key(id))?;
                    let framework = Framework {
                        info: put.framework.clone(),
                        registered_ms: known.map_or(put.at_ms, |known| known.registered_ms),
                        failover_deadline_ms: None,
                    };
                    writes.push(Write::put(framework_key(id), &framework));
                }
            }
            Some(Body::FrameworkDisconnected(gone)) => {
                let deadline = Some(gone.deadline_ms);
                writes.extend(self.set_deadline(&gone.framework_id, deadline)?);
            }
            Some(Body::FrameworkConnected(back)) => writes.extend(self.set_deadline(&back.framework_id, None)?),
            Some(Body::RemoveFramework(remove)) => {
                let id = &remove.framework_id;
                if let Some(framework) = self.get::<Framework>(&framework_key(id))? {
                    let completed = Completed {
                        info: framework.info,
                        removed_ms: remove.at_ms,
                    };
                    writes.push(Write::delete(framework_key(id)));
                    writes.push(Write::put_ordered(completed_key(id), index, &completed));
                }
            }
            Some(Body::ForgetCompleted(forget)) => {
                writes.extend(forget.framework_ids.iter().map(|id| Write::delete(completed_key(id))));
                writes.extend(forget.gone_agent_ids.iter().map(|id| Write::delete(gone_key(id))));
            }
            None => {}
        }
        Ok(writes)
    }

    fn change_agent(&self, id: &v1::AgentId, change: impl FnOnce(&mut Agent)) -> Result<Option<Write>, Error> {
        let key = agent_key(id);
        Ok(self.get::<Agent>(&key)?.map(|mut agent| {
            change(&mut agent);
            Write::put(key, &agent)
        }))
    }

    fn set_deadline(&self, id: &v1::FrameworkId, deadline: Option<i64>) -> Result<Option<Write>, Error> {
        let key = framework_key(id);
        Ok(self.get::<Framework>(&key)?.map(|mut framework| {
            framework.failover_deadline_ms = deadline;
            Write::put(key, &framework)
        }))
    }

    /// Makes the record of a framework undecodable.
    #[cfg(test)]
    pub(crate) fn damage(&self, id: &v1::FrameworkId) {
        let old = self.db.insert(framework_key(id), &[0xff][..]);
        assert!(old.expect("sled writes").is_some(), "there is no framework {id}");
    }

    fn has(&self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.db.contains_key(key)?)
    }

    fn get<T: prost::Message + Default>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        let Some(value) = self.db.get(key)? else {
            return Ok(None);
        };
        let decoded = T::decode(&value[..]).map_err(|_| Error::NotWhole("a record cannot be decoded"))?;
        Ok(Some(decoded))
    }
}

/// Removes the files of an applied registry.
///
/// # Errors
/// They cannot be removed.
pub fn remove(directory: &Path) -> Result<(), Error> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    match std::fs::remove_file(mark_of(directory)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

struct Write {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

impl Write {
    fn put(key: Vec<u8>, message: &impl prost::Message) -> Self {
        let value = Some(message.encode_to_vec());
        Self { key, value }
    }

    fn put_ordered(key: Vec<u8>, order: u64, message: &impl prost::Message) -> Self {
        let mut value = order.to_be_bytes().to_vec();
        value.extend_from_slice(&message.encode_to_vec());
        let value = Some(value);
        Self { key, value }
    }

    fn delete(key: Vec<u8>) -> Self {
        Self { key, value: None }
    }
}

impl Summary {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.records += 1;
        self.digest = self.digest.wrapping_add(fingerprint(key, value));
    }

    fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(fingerprint(key, value));
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28);
        for word in [self.applied, self.records, self.digest] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let valid = bytes.len() == 28 && crc32c::crc32c(&bytes[..24]).to_be_bytes() == bytes[24..];
        if !valid {
            return Err(Error::NotWhole("its summary is wrong"));
        }
        let word = |at: usize| {
            bytes[at..at + 8]
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte))
        };
        Ok(Self {
            applied: word(0),
            records: word(8),
            digest: word(16),
        })
    }
}

/// A number that a changed record is unlikely to keep.
fn fingerprint(key: &[u8], value: &[u8]) -> u64 {
    let forward = crc32c::crc32c_append(crc32c::crc32c(key), value);
    let other = crc32c::crc32c_append(crc32c::crc32c_append(key.len() as u32, value), key);
    u64::from(forward) << 32 | u64::from(other)
}

fn whole(registry: &Registry) -> Vec<Write> {
    let mut writes = Vec::new();
    for agent in &registry.agents {
        writes.extend(agent.info.id.as_ref().map(|id| Write::put(agent_key(id), agent)));
    }
    for framework in &registry.frameworks {
        let id = framework.info.id.as_ref();
        writes.extend(id.map(|id| Write::put(framework_key(id), framework)));
    }
    // These come before everything of a later index: there are never more of them than the log had entries.
    for (order, completed) in (0..).zip(&registry.completed_frameworks) {
        let id = completed.info.id.as_ref();
        writes.extend(id.map(|id| Write::put_ordered(completed_key(id), order, completed)));
    }
    for (order, gone) in (0..).zip(&registry.gone_agents) {
        writes.push(Write::put_ordered(gone_key(&gone.agent_id), order, gone));
    }
    writes
}

fn ordered(value: &[u8]) -> Result<(u64, &[u8]), Error> {
    let (order, body) = value
        .split_first_chunk::<8>()
        .ok_or(Error::NotWhole("a record is cut short"))?;
    Ok((u64::from_be_bytes(*order), body))
}

fn key(kind: u8, id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(id.len() + 1);
    key.push(kind);
    key.extend_from_slice(id.as_bytes());
    key
}

fn agent_key(id: &v1::AgentId) -> Vec<u8> {
    key(b'a', &id.value)
}

fn framework_key(id: &v1::FrameworkId) -> Vec<u8> {
    key(b'f', &id.value)
}

fn completed_key(id: &v1::FrameworkId) -> Vec<u8> {
    key(b'c', &id.value)
}

fn gone_key(id: &v1::AgentId) -> Vec<u8> {
    key(b'g', &id.value)
}

fn mark_of(directory: &Path) -> PathBuf {
    directory.with_extension("opening")
}

fn open_sled(directory: &Path) -> Result<sled::Db, Error> {
    let config = sled::Config::new()
        .path(directory)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(None);
    let began = Instant::now();
    loop {
        match config.open() {
            // sled locks its file until the last of its background threads has let go of an earlier handle of this process.
            // No other process has one: the work directory is locked.
            Err(sled::Error::Io(error)) if error.kind() == ErrorKind::Other && began.elapsed() < LOCK_WAIT_MAX => {
                tracing::debug!(%error, "sled does not open yet");
                std::thread::sleep(LOCK_RETRY);
            }
            opened => return Ok(opened?),
        }
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::Panicked))
}

#[cfg(test)]
mod tests {
    use proffer_master_core::{Config, Effects, Input, Master, Timestamp};
    use proffer_proto::registry::{
        AdmitAgent, ForgetCompleted, FrameworkConnected, FrameworkDisconnected, MarkGone, MarkReachable,
        MarkUnreachable, PutFramework, RemoveAgent, RemoveFramework, UpdateAgent,
    };
    use proptest::prelude::*;

    use super::*;

    fn agent(number: u8, hostname: &str) -> v1::AgentInfo {
        v1::AgentInfo {
            hostname: hostname.to_owned(),
            id: Some(v1::AgentId::from(format!("a{number}"))),
            ..v1::AgentInfo::default()
        }
    }

    fn framework(number: u8, name: &str) -> v1::FrameworkInfo {
        v1::FrameworkInfo {
            name: name.to_owned(),
            id: Some(v1::FrameworkId::from(format!("f{number}"))),
            ..v1::FrameworkInfo::default()
        }
    }

    fn change(kind: u8, number: u8, at_ms: i64) -> Change {
        let agent_id = v1::AgentId::from(format!("a{number}"));
        let framework_id = v1::FrameworkId::from(format!("f{number}"));
        let body = match kind {
            0 | 11 => Body::AdmitAgent(AdmitAgent {
                agent: agent(number, "first"),
                at_ms,
            }),
            1 => Body::UpdateAgent(UpdateAgent {
                agent: agent(number, "second"),
            }),
            2 => Body::MarkUnreachable(MarkUnreachable { agent_id, at_ms }),
            3 => Body::MarkReachable(MarkReachable { agent_id }),
            4 => Body::MarkGone(MarkGone { agent_id, at_ms }),
            5 => Body::RemoveAgent(RemoveAgent { agent_id }),
            6 | 12 => Body::PutFramework(PutFramework {
                framework: framework(number, if kind == 6 { "one" } else { "two" }),
                at_ms,
            }),
            7 => Body::FrameworkDisconnected(FrameworkDisconnected {
                framework_id,
                deadline_ms: at_ms,
            }),
            8 => Body::FrameworkConnected(FrameworkConnected { framework_id }),
            9 => Body::RemoveFramework(RemoveFramework { framework_id, at_ms }),
            _ => Body::ForgetCompleted(ForgetCompleted {
                framework_ids: vec![framework_id],
                gone_agent_ids: vec![agent_id],
            }),
        };
        Change { body: Some(body) }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn sled_holds_what_the_core_holds(changes in prop::collection::vec((0u8..13, 0u8..5), 1..80), cut in 0usize..80) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("registry");
            let mut core = Master::new(Config::default());
            let mut effects = Effects::new();
            let mut applied = AppliedRegistry::rebuild(&path, &Registry::default(), 100).unwrap();
            for (at, (kind, number)) in changes.iter().enumerate() {
                let index = 101 + at as u64;
                let change = change(*kind, *number, index as i64);
                applied.apply(index, &change).unwrap();
                let committed = Input::Committed { index, proposal: None, change };
                core.step(Timestamp(index), committed, &mut effects);
                if at == cut {
                    // As after a snapshot.
                    drop(applied);
                    applied = AppliedRegistry::rebuild(&path, &core.registry(), index).unwrap();
                }
            }
            applied.flush().unwrap();
            drop(applied);
            let (_, registry, index) = AppliedRegistry::open(&path).unwrap();
            prop_assert_eq!(index, 100 + changes.len() as u64);
            prop_assert_eq!(registry, core.registry());
        }
    }

    #[test]
    fn a_panic_of_sled_is_an_error() {
        let result = guarded::<()>(|| panic!("as the test wants"));
        assert!(matches!(result, Err(Error::Panicked)), "{result:?}");
    }

    #[test]
    fn a_missing_or_changed_record_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registry");
        let registry = Registry {
            agents: (0..9)
                .map(|number| Agent {
                    info: agent(number, "first"),
                    ..Agent::default()
                })
                .collect(),
            ..Registry::default()
        };
        for remove in [true, false] {
            let applied = AppliedRegistry::rebuild(&path, &registry, 7).unwrap();
            let record = Agent {
                info: agent(3, "other"),
                ..Agent::default()
            }
            .encode_to_vec();
            let old = if remove {
                applied.db.remove("aa3")
            } else {
                applied.db.insert("aa3", record)
            };
            assert!(old.unwrap().is_some());
            drop(applied);
            let opened = AppliedRegistry::open(&path);
            assert!(
                matches!(opened, Err(Error::NotWhole("its records do not add up"))),
                "{opened:?}"
            );
        }
    }
}

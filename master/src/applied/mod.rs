//! The applied registry in sled: saves replaying the log at start, and is never the truth.
//!
//! Everything here can be made again from snapshot and log, and is whenever there is doubt: sled 0.34 may open damaged
//! files short or empty without a word. So one record, written in the same batch as the data, says up to which
//! index the log is applied, how many records there are and what they add up to; what does not match is thrown away.
//!
//! One tree. Keys: `m` for that record, `a<agent id>`, `f<framework id>`, `c<framework id>` for completed frameworks and
//! `g<agent id>` for gone agents, whose records begin with the log index, which is their order. Level 2 of the registry
//! added `l` for the level, `w` for the plan of maintenance, `p<member id>`, `r<member id>` for members that left, with the log index, and
//! `s<namespace>\0<key>` for the frameworks' state, whose larger values have files of their own. Level 3 added `q<role>` for quotas
//! and `h<role>` for weights. So what a version of an earlier level left is read as it is; a version of an earlier level throws away
//! what it does not know.
//!
//! sled panics on some damage. Panics are caught here. Where opening takes the whole process with it, the mark file that
//! stands while sled opens tells the next start to throw the files away.

mod batch;
mod keys;
mod summary;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proffer_proto::registry::{Agent, Change, Completed, Framework, Gone, Member, Quota, Registry, StateEntry, Weight};
use prost::Message;

use batch::{Batch, Write, ordered_record};
use summary::Summary;
use values::Values;

const CACHE_BYTES: u64 = 8 << 20;
/// How long an earlier handle of this process is waited for.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(2);
/// sled keeps several buffers of this size.
const SEGMENT_BYTES: usize = 64 << 10;
/// How many records are written in one batch where all of them are.
const REBUILD_RECORDS: usize = 4096;
/// Files of sled that are so much larger than what is in them, and than this many bytes, are made anew at the next start.
const GROWTH_MAX: u64 = 10;
const GROWTH_BYTES: u64 = 64 << 20;

/// The applied registry could not be used; it is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// sled failed.
    #[error("sled failed")]
    Sled(#[from] sled::Error),
    /// sled panicked.
    #[error("sled panicked")]
    Panicked,
    /// The files could not be read, removed or created.
    #[error("cannot change the directory of the applied registry")]
    Io(#[from] io::Error),
    /// What is there does not add up.
    #[error("the applied registry is not whole: {0}")]
    NotWhole(&'static str),
}

/// The applied registry on disk.
#[derive(Debug)]
pub struct AppliedRegistry {
    db: sled::Db,
    values: Values,
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
            let (applied, registry) = Self::read(open_sled(directory)?, Values::of(directory))?;
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
            let mut applied = Self {
                db: open_sled(directory)?,
                values: Values::of(directory),
                summary: Summary::default(),
            };
            // Nothing is whole before the summary is there, which comes last.
            let mut part = BTreeMap::new();
            for (key, write) in whole(registry) {
                part.insert(key, write);
                if part.len() >= REBUILD_RECORDS {
                    let records = applied.records(std::mem::take(&mut part))?;
                    applied.db.apply_batch(records)?;
                }
            }
            applied.write(index, part)?;
            Ok(applied)
        })
    }

    /// Applies one committed change.
    ///
    /// # Errors
    /// sled failed.
    pub fn apply(&mut self, index: u64, change: &Change) -> Result<(), Error> {
        self.apply_each(std::iter::once((index, change)))
    }

    /// Applies committed changes by their indexes, which grow, in one write: only the last write of each key is made.
    ///
    /// # Errors
    /// sled failed. All of them are applied, or none.
    pub fn apply_all(&mut self, changes: &[(u64, Change)]) -> Result<(), Error> {
        self.apply_each(changes.iter().map(|(index, change)| (*index, change)))
    }

    fn apply_each<'a>(&mut self, changes: impl Iterator<Item = (u64, &'a Change)>) -> Result<(), Error> {
        guarded(|| {
            let mut batch = Batch::on(&self.db);
            let mut last = self.summary.applied;
            for (index, change) in changes {
                batch.apply(index, change)?;
                last = index;
            }
            let writes = batch.into_writes();
            self.write(last, writes)
        })?;
        if self.values.is_wasteful() {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes what sled holds back to the disk.
    ///
    /// # Errors
    /// sled failed.
    pub fn flush(&mut self) -> Result<(), Error> {
        guarded(|| {
            self.db.flush()?;
            self.values.flushed()
        })
    }

    /// Lets go of a sled that has failed without touching it again: after a panic it may wait for itself for ever.
    pub fn abandon(self) {
        std::mem::forget(self);
    }

    fn read(db: sled::Db, values: Values) -> Result<(Self, Registry), Error> {
        let mut found = Summary::default();
        let mut written = None;
        let mut contents = Contents::default();
        let mut bytes = 0;
        for record in db.iter() {
            let (key, value) = record?;
            bytes += (key.len() + value.len()) as u64;
            if key == keys::SUMMARY {
                written = Some(Summary::decode(&value)?);
                continue;
            }
            found.add(&key, &value);
            contents.take(&key, &value, &values)?;
        }
        let summary = written.ok_or(Error::NotWhole("its summary is missing"))?;
        found.applied = summary.applied;
        if found != summary {
            return Err(Error::NotWhole("its records do not add up"));
        }
        if db.size_on_disk()? > GROWTH_BYTES.max(bytes * GROWTH_MAX) {
            return Err(Error::NotWhole("sled's files have grown out of proportion"));
        }
        values.keep_only(&contents.files)?;
        let applied = Self { db, values, summary };
        Ok((applied, contents.into_registry()))
    }

    /// Writes a batch and what all records are with it. No key of the writes is the summary's.
    fn write(&mut self, index: u64, writes: BTreeMap<Vec<u8>, Write>) -> Result<(), Error> {
        let before = self.summary;
        self.summary.applied = index;
        let written = self.records(writes).and_then(|mut batch| {
            batch.insert(keys::SUMMARY, self.summary.encode());
            Ok(self.db.apply_batch(batch)?)
        });
        if written.is_err() {
            self.summary = before;
        }
        written
    }

    /// The records of the writes; the summary counts them, and what they replace no more.
    fn records(&mut self, writes: BTreeMap<Vec<u8>, Write>) -> Result<sled::Batch, Error> {
        let mut batch = sled::Batch::default();
        for (key, write) in writes {
            if let Some(old) = self.db.get(&key)? {
                self.summary.subtract(&key, &old);
                if key.first() == Some(&keys::STATE) {
                    self.values.replaced(&old);
                }
            }
            let record = match write {
                Write::Record(record) => record,
                Write::Value(version, value) => self.values.record(version, &value)?,
                Write::Delete => {
                    batch.remove(key);
                    continue;
                }
            };
            self.summary.add(&key, &record);
            batch.insert(key, record);
        }
        Ok(batch)
    }

    /// Makes the record of a framework undecodable.
    #[cfg(test)]
    pub(crate) fn damage(&self, id: &proffer_proto::v1::FrameworkId) {
        let old = self.db.insert(keys::framework(id), &[0xff][..]);
        assert!(old.expect("sled writes").is_some(), "there is no framework {id}");
    }
}

/// What records are read into.
#[derive(Default)]
struct Contents {
    registry: Registry,
    completed: Vec<(u64, Completed)>,
    gone: Vec<(u64, Gone)>,
    removed: Vec<(u64, u64)>,
    /// The versions whose values have files.
    files: BTreeSet<u64>,
}

impl Contents {
    /// Takes one record. They come in the order of their keys.
    fn take(&mut self, key: &[u8], value: &[u8], values: &Values) -> Result<(), Error> {
        let bad_key = Error::NotWhole("a record has a bad key");
        match key.first() {
            Some(&keys::AGENT) => self.registry.agents.push(decode::<Agent>(value)?),
            Some(&keys::FRAMEWORK) => self.registry.frameworks.push(decode::<Framework>(value)?),
            Some(&keys::COMPLETED) => {
                let (order, body) = ordered(value)?;
                self.completed.push((order, decode(body)?));
            }
            Some(&keys::GONE) => {
                let (order, body) = ordered(value)?;
                self.gone.push((order, decode(body)?));
            }
            Some(&keys::MEMBER) => self.registry.members.push(decode::<Member>(value)?),
            Some(&keys::REMOVED) => {
                let (order, _) = ordered(value)?;
                self.removed.push((order, keys::number(key).ok_or(bad_key)?));
            }
            Some(&keys::STATE) => {
                let (namespace, name) = keys::names_of_state(key).ok_or(bad_key)?;
                let (version, bytes) = values.read(value)?;
                if values::is_in_file(value) {
                    self.files.insert(version);
                }
                self.registry.state.push(StateEntry {
                    namespace: namespace.to_owned(),
                    key: name.to_owned(),
                    value: bytes,
                    version,
                });
            }
            _ if key == keys::LEVEL => {
                let level = value.try_into().map_err(|_| Error::NotWhole("its level is wrong"))?;
                self.registry.level = Some(u32::from_be_bytes(level));
            }
            Some(&keys::QUOTA) => self.registry.quotas.push(decode::<Quota>(value)?),
            Some(&keys::WEIGHT) => self.registry.weights.push(decode::<Weight>(value)?),
            _ if key == keys::MAINTENANCE => self.registry.maintenance = Some(decode(value)?),
            _ => return Err(Error::NotWhole("a record is of no known kind")),
        }
        Ok(())
    }

    fn into_registry(mut self) -> Registry {
        self.completed.sort_by_key(|(order, _)| *order);
        self.gone.sort_by_key(|(order, _)| *order);
        self.removed.sort_unstable();
        let mut registry = self.registry;
        registry.completed_frameworks = self.completed.into_iter().map(|(_, completed)| completed).collect();
        registry.gone_agents = self.gone.into_iter().map(|(_, gone)| gone).collect();
        registry.removed_members = self.removed.into_iter().map(|(_, id)| id).collect();
        registry
    }
}

/// Removes the files of an applied registry.
///
/// # Errors
/// They cannot be removed.
pub fn remove(directory: &Path) -> Result<(), Error> {
    for directory in [directory, &values::directory(directory)] {
        if directory.exists() {
            std::fs::remove_dir_all(directory)?;
        }
    }
    match std::fs::remove_file(mark_of(directory)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Every record of a registry.
fn whole(registry: &Registry) -> impl Iterator<Item = (Vec<u8>, Write)> {
    let record = |message: Vec<u8>| Write::Record(message);
    let agents = registry.agents.iter().filter_map(move |agent| {
        let id = agent.info.id.as_ref()?;
        Some((keys::agent(id), record(agent.encode_to_vec())))
    });
    let frameworks = registry.frameworks.iter().filter_map(move |framework| {
        let id = framework.info.id.as_ref()?;
        Some((keys::framework(id), record(framework.encode_to_vec())))
    });
    // These come before everything of a later index: there are never more of them than the log had entries.
    let completed = (0..).zip(&registry.completed_frameworks);
    let completed = completed.filter_map(move |(order, completed)| {
        let id = completed.info.id.as_ref()?;
        Some((keys::completed(id), record(ordered_record(order, completed))))
    });
    let gone = (0..).zip(&registry.gone_agents);
    let gone = gone.map(move |(order, gone)| (keys::gone(&gone.agent_id), record(ordered_record(order, gone))));
    let members = registry.members.iter();
    let members = members.map(move |member| (keys::member(member.id), record(member.encode_to_vec())));
    let removed = (0u64..).zip(&registry.removed_members);
    let removed = removed.map(move |(order, id)| (keys::removed(*id), record(order.to_be_bytes().to_vec())));
    let level = registry.level.iter();
    let level = level.map(move |level| (keys::LEVEL.to_vec(), record(level.to_be_bytes().to_vec())));
    let maintenance = registry.maintenance.iter();
    let maintenance = maintenance.map(move |plan| (keys::MAINTENANCE.to_vec(), record(plan.encode_to_vec())));
    let quotas = registry.quotas.iter();
    let quotas = quotas.map(move |quota| (keys::quota(&quota.role), record(quota.encode_to_vec())));
    let weights = registry.weights.iter();
    let weights = weights.map(move |weight| (keys::weight(&weight.role), record(weight.encode_to_vec())));
    let state = registry.state.iter().map(|entry| {
        let key = keys::state(&entry.namespace, &entry.key);
        (key, Write::Value(entry.version, entry.value.clone()))
    });
    agents
        .chain(frameworks)
        .chain(completed)
        .chain(gone)
        .chain(members)
        .chain(removed)
        .chain(level)
        .chain(maintenance)
        .chain(quotas)
        .chain(weights)
        .chain(state)
}

fn ordered(value: &[u8]) -> Result<(u64, &[u8]), Error> {
    let (order, body) = value
        .split_first_chunk::<8>()
        .ok_or(Error::NotWhole("a record is cut short"))?;
    Ok((u64::from_be_bytes(*order), body))
}

fn decode<T: Message + Default>(record: &[u8]) -> Result<T, Error> {
    T::decode(record).map_err(|_| Error::NotWhole("a record cannot be decoded"))
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

//! The masters keep it: whoever runs the scheduler next, on whatever host, finds it there.
//!
//! ```text
//! leader                which scheduler is the active one
//! framework-id
//! service/<id>          the versions of a service
//! task/<task id>        a launch
//! home/<id>             where the persistent volumes of an instance lie
//! ```
//!
//! Only the active scheduler writes, and it looks whether it still is that before it acts on what it wrote: see
//! [`leadership`](crate::leadership). When it opens all this it writes the services again as they are, so that what its
//! predecessor knows of them is worth nothing any more.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use futures_util::future::try_join_all;
use proffer_sdk::Masters;
use proffer_sdk::state::{Entry, Outcome, State, StateError};
use serde::de::DeserializeOwned;

use crate::leadership::Fence;
use crate::plan::Launch;
use crate::plan::homes::Home;
use crate::versions::Versions;

use super::{Recovered, StoreError};

const FRAMEWORK_ID: &str = "framework-id";
const SERVICE: &str = "service/";
const TASK: &str = "task/";
const HOME: &str = "home/";

/// The longest value that the masters take.
const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// The state of a scheduler that the masters keep.
#[derive(Debug)]
pub struct Replicated {
    state: State,
    fence: Fence,
    /// The version that the framework's id has there.
    id_version: u64,
    /// The versions that the keys of services have there: who does not know the last one may not write.
    written: HashMap<String, u64>,
    /// The tasks that are kept.
    live: HashSet<String>,
}

impl Replicated {
    /// Opens it, as the active scheduler. Fails where no master answers in time.
    pub(crate) async fn open(masters: Masters, namespace: &str, fence: Fence) -> Result<(Self, Recovered), StoreError> {
        let state = State::of(masters, namespace);
        let id = state.get(FRAMEWORK_ID).await.map_err(failed("get", FRAMEWORK_ID))?;
        let services = claimed(&state).await?;
        let mut tasks = state.list(TASK).await.map_err(failed("list", TASK))?;
        // Versions only grow, so this is their order.
        tasks.sort_by_key(|entry| entry.version);
        let homes = state.list(HOME).await.map_err(failed("list", HOME))?;
        let id_version = id.as_ref().map_or(0, |entry| entry.version);
        let written = services
            .iter()
            .map(|entry| (entry.key.clone(), entry.version))
            .collect();
        let services = services.iter().map(|entry| parse(&entry.key, &entry.value));
        let launches = tasks.iter().map(|entry| parse(&entry.key, &entry.value));
        let recovered = Recovered {
            framework_id: id.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()),
            homes: homes
                .iter()
                .map(|entry| parse(&entry.key, &entry.value))
                .collect::<Result<_, _>>()?,
            services: services.collect::<Result<_, _>>()?,
            launches: launches.collect::<Result<Vec<Launch>, _>>()?,
        };
        let live = recovered.launches.iter().map(|launch| launch.task_id.clone()).collect();
        let replicated = Self {
            state,
            fence,
            id_version,
            written,
            live,
        };
        Ok((replicated, recovered))
    }

    pub(super) async fn keep_framework_id(&mut self, id: &str) -> Result<(), StoreError> {
        let value = id.as_bytes().to_vec();
        let set = self.state.compare_and_set(FRAMEWORK_ID, self.id_version, value.clone());
        match set.await.map_err(failed("set", FRAMEWORK_ID))?.settle(&value) {
            Outcome::Done { version } => self.id_version = version,
            Outcome::Conflict { .. } | Outcome::Unknown { .. } => {
                return Err(StoreError::Overtaken(FRAMEWORK_ID.to_owned()));
            }
        }
        self.fence.check().await
    }

    /// Writes over what this process wrote or read last, and over nothing else.
    pub(super) async fn keep_service(&mut self, versions: &Versions) -> Result<(), StoreError> {
        let key = format!("{SERVICE}{}", versions.current.spec.id);
        let value = shortened(versions.clone());
        let expected = self.written.get(&key).copied().unwrap_or_default();
        let outcome = self.state.compare_and_set(&key, expected, value.clone()).await;
        match outcome.map_err(failed("set", &key))?.settle(&value) {
            Outcome::Done { version } => {
                let checked = self.fence.check().await;
                if let Err(StoreError::Overtaken(_)) = checked
                    && expected == 0
                {
                    // The one that took over has not seen it.
                    let _ = self.state.compare_and_delete(&key, version).await;
                }
                self.written.insert(key, version);
                checked
            }
            Outcome::Conflict { .. } | Outcome::Unknown { .. } => Err(StoreError::Overtaken(key)),
        }
    }

    pub(super) async fn drop_service(&mut self, id: &str) -> Result<(), StoreError> {
        let key = format!("{SERVICE}{id}");
        let expected = self.written.get(&key).copied().unwrap_or_default();
        let outcome = self.state.compare_and_delete(&key, expected).await;
        match outcome.map_err(failed("delete", &key))? {
            // Where an answer was lost, it is as it should be.
            Outcome::Done { .. } | Outcome::Conflict { present: None } | Outcome::Unknown { present: None } => {
                self.written.remove(&key);
                self.fence.check().await
            }
            Outcome::Conflict { .. } | Outcome::Unknown { .. } => Err(StoreError::Overtaken(key)),
        }
    }

    /// All at the same time: the masters write them together.
    pub(super) async fn launching(&mut self, launches: &[Launch]) -> Result<(), StoreError> {
        let keys = launches.iter().map(|launch| format!("{TASK}{}", launch.task_id));
        let puts = keys
            .zip(launches)
            .map(async |(key, launch)| self.put(&key, encode(launch)).await);
        try_join_all(puts).await?;
        self.fence.check().await?;
        self.live.extend(launches.iter().map(|launch| launch.task_id.clone()));
        Ok(())
    }

    pub(super) async fn keep_home(&self, home: &Home) -> Result<(), StoreError> {
        self.put(&format!("{HOME}{}", home.id), encode(home)).await?;
        self.fence.check().await
    }

    pub(super) async fn drop_home(&self, id: &str) -> Result<(), StoreError> {
        let key = format!("{HOME}{id}");
        self.state.delete(&key).await.map_err(failed("delete", &key))
    }

    pub(super) fn forget(&mut self, task_id: &str) {
        if !self.live.remove(task_id) {
            return;
        }
        let (state, key) = (self.state.clone(), format!("{TASK}{task_id}"));
        tokio::spawn(async move {
            if let Err(error) = state.delete(&key).await {
                tracing::warn!(key, error = &error as &dyn std::error::Error, "end of a task not kept");
            }
        });
    }

    pub(super) async fn clear(&self) -> Result<(), StoreError> {
        let keys = self.state.keys("").await.map_err(failed("list", ""))?;
        let deletes = keys.iter().map(async |key| {
            let deleted = self.state.delete(&key.name).await;
            deleted.map_err(failed("delete", &key.name))
        });
        try_join_all(deletes).await.map(drop)
    }

    async fn put(&self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        let put = self.state.put(key, value).await;
        put.map(drop).map_err(failed("put", key))
    }
}

/// The services, each written again as it is: then a predecessor that is only slow cannot change or delete them.
async fn claimed(state: &State) -> Result<Vec<Entry>, StoreError> {
    loop {
        let entries = state.list(SERVICE).await.map_err(failed("list", SERVICE))?;
        let writes = entries.into_iter().map(async |mut entry: Entry| {
            let set = state
                .compare_and_set(&entry.key, entry.version, entry.value.clone())
                .await;
            Ok(match set.map_err(failed("set", &entry.key))?.settle(&entry.value) {
                Outcome::Done { version } => {
                    entry.version = version;
                    Some(entry)
                }
                Outcome::Conflict { .. } | Outcome::Unknown { .. } => None,
            })
        });
        let written: Option<Vec<Entry>> = try_join_all(writes).await?.into_iter().collect();
        if let Some(entries) = written {
            return Ok(entries);
        }
    }
}

/// What is too long for the masters is kept without the oldest of its past.
fn shortened(mut versions: Versions) -> Vec<u8> {
    loop {
        let value = encode(&versions);
        let mut past = versions.history.iter();
        let old = past.position(|past| Some(past.version) != versions.stable);
        match old {
            Some(old) if value.len() > VALUE_BYTES_MAX => drop(versions.history.remove(old)),
            _ => return value,
        }
    }
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has only text and numbers in it")
}

fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Corrupt {
        path: PathBuf::from(key),
        reason: error.to_string(),
    })
}

fn failed(action: &'static str, key: &str) -> impl FnOnce(StateError) -> StoreError + use<> {
    let key = key.to_owned();
    move |source| StoreError::State { action, key, source }
}

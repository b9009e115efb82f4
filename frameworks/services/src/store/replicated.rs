//! The masters keep it: whoever runs the scheduler next, on whatever host, finds it there.
//!
//! ```text
//! framework-id
//! service/<id>          the versions of a service
//! task/<task id>        a launch
//! ```

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use futures_util::future::try_join_all;
use proffer_sdk::Masters;
use proffer_sdk::state::{Outcome, State, StateError};
use serde::de::DeserializeOwned;

use crate::plan::Launch;
use crate::versions::Versions;

use super::{Recovered, StoreError};

const FRAMEWORK_ID: &str = "framework-id";
const SERVICE: &str = "service/";
const TASK: &str = "task/";

/// The longest value that the masters take.
const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// The state of a scheduler that the masters keep.
#[derive(Debug)]
pub struct Replicated {
    state: State,
    /// The versions that the keys of services have there: who does not know the last one may not write.
    written: HashMap<String, u64>,
    /// The tasks that are kept.
    live: HashSet<String>,
}

impl Replicated {
    /// Opens it. Fails where no master answers in time.
    pub async fn open(masters: Masters, namespace: &str) -> Result<(Self, Recovered), StoreError> {
        let state = State::of(masters, namespace);
        let id = state.get(FRAMEWORK_ID).await.map_err(failed("get", FRAMEWORK_ID))?;
        let services = state.list(SERVICE).await.map_err(failed("list", SERVICE))?;
        let mut tasks = state.list(TASK).await.map_err(failed("list", TASK))?;
        // Versions only grow, so this is their order.
        tasks.sort_by_key(|entry| entry.version);
        let written = services
            .iter()
            .map(|entry| (entry.key.clone(), entry.version))
            .collect();
        let services = services.iter().map(|entry| parse(&entry.key, &entry.value));
        let launches = tasks.iter().map(|entry| parse(&entry.key, &entry.value));
        let recovered = Recovered {
            framework_id: id.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()),
            services: services.collect::<Result<_, _>>()?,
            launches: launches.collect::<Result<Vec<Launch>, _>>()?,
        };
        let live = recovered.launches.iter().map(|launch| launch.task_id.clone()).collect();
        Ok((Self { state, written, live }, recovered))
    }

    pub(super) async fn keep_framework_id(&self, id: &str) -> Result<(), StoreError> {
        self.put(FRAMEWORK_ID, id.as_bytes().to_vec()).await
    }

    /// Writes over what this process wrote or read last, and over nothing else.
    pub(super) async fn keep_service(&mut self, versions: &Versions) -> Result<(), StoreError> {
        let key = format!("{SERVICE}{}", versions.current.spec.id);
        let value = shortened(versions.clone());
        let expected = self.written.get(&key).copied().unwrap_or_default();
        let outcome = self.state.compare_and_set(&key, expected, value.clone()).await;
        match outcome.map_err(failed("set", &key))?.settle(&value) {
            Outcome::Done { version } => {
                self.written.insert(key, version);
                Ok(())
            }
            Outcome::Conflict { .. } | Outcome::Unknown { .. } => Err(StoreError::Overtaken(key)),
        }
    }

    pub(super) async fn drop_service(&mut self, id: &str) -> Result<(), StoreError> {
        let key = format!("{SERVICE}{id}");
        self.state.delete(&key).await.map_err(failed("delete", &key))?;
        self.written.remove(&key);
        Ok(())
    }

    /// All at the same time: the masters write them together.
    pub(super) async fn launching(&mut self, launches: &[Launch]) -> Result<(), StoreError> {
        let keys = launches.iter().map(|launch| format!("{TASK}{}", launch.task_id));
        let puts = keys
            .zip(launches)
            .map(async |(key, launch)| self.put(&key, encode(launch)).await);
        try_join_all(puts).await?;
        self.live.extend(launches.iter().map(|launch| launch.task_id.clone()));
        Ok(())
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

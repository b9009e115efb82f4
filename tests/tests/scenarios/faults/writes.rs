//! Writes to the masters' state without a pause, which remember what was acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use proffer_sdk::Masters;
use proffer_sdk::state::State;
use proffer_tests::DEADLINE;
use tokio::task::JoinHandle;

const KEYS: u64 = 20;

pub(super) struct Writes {
    state: State,
    /// The number that was last acknowledged, by key.
    acknowledged: Arc<Mutex<BTreeMap<String, u64>>>,
    writing: JoinHandle<anyhow::Result<()>>,
}

impl Writes {
    pub(super) fn begin(masters: Masters) -> Self {
        let state = State::of(masters, "faults").timeout(DEADLINE);
        let acknowledged: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        let (to, heard) = (state.clone(), acknowledged.clone());
        let writing = tokio::spawn(async move {
            for number in 0.. {
                let key = format!("key-{:02}", number % KEYS);
                to.put(&key, number.to_string())
                    .await
                    .with_context(|| format!("put {key}"))?;
                heard.lock().expect("nobody panics here").insert(key, number);
            }
            Ok(())
        });
        Self {
            state,
            acknowledged,
            writing,
        }
    }

    /// Looks whether everything is there that was acknowledged before this was called, and at most one write more a key.
    pub(super) async fn are_there(&self) -> anyhow::Result<()> {
        ensure!(!self.writing.is_finished(), "a write failed for good");
        let before = self.acknowledged.lock().expect("nobody panics here").clone();
        let entries = self.state.list("").await?;
        let found: BTreeMap<&str, u64> = entries
            .iter()
            .map(|entry| Ok((entry.key.as_str(), std::str::from_utf8(&entry.value)?.parse()?)))
            .collect::<anyhow::Result<_>>()?;
        for (key, number) in &before {
            let there = found.get(key.as_str());
            ensure!(
                there.is_some_and(|there| there >= number),
                "{key}: {number} is lost, {there:?} is there"
            );
        }
        Ok(())
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

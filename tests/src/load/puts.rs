//! Puts into a key-value store: so many callers at a time, each of which puts again as soon as it has its answer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use proffer_proto::api::state_client::StateClient;
use proffer_proto::state::{Call, Put, answer, call};
use proffer_sdk::State;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// Callers share so many connections.
const CONNECTIONS: usize = 8;
/// The namespace of the masters' state that is written.
pub const NAMESPACE: &str = "load";

/// One connection to a store.
pub trait Store: Clone + Send + 'static {
    /// Puts one key.
    fn put(&mut self, key: String, value: Vec<u8>) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What is put.
#[derive(Debug, Clone, Copy)]
pub struct Puts {
    /// How many callers there are.
    pub in_flight: usize,
    /// Each caller writes its own keys, one after the other, again and again.
    pub keys_per_caller: usize,
    /// The length of a value.
    pub value_bytes: usize,
    /// No put begins after this.
    pub window: Duration,
    /// There are no more puts than this.
    pub count: u64,
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// How many puts were answered.
    pub count: u64,
    /// Puts a second.
    pub per_second: f64,
    /// How long each of them took.
    pub latencies_ms: Vec<f64>,
}

/// Connections to a server that callers share.
///
/// # Errors
/// It cannot be reached.
pub async fn connect(address: &str) -> anyhow::Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let connected = endpoint.connect().await;
        channels.push(connected.with_context(|| format!("cannot connect to {address}"))?);
    }
    Ok(channels)
}

impl Puts {
    /// Puts, and returns when every caller has its last answer.
    ///
    /// # Errors
    /// A put failed.
    pub async fn run<S: Store>(self, connections: &[S]) -> anyhow::Result<Measured> {
        let began = Instant::now();
        let begun = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for caller in 0..self.in_flight {
            let mut store = connections[caller % connections.len()].clone();
            let begun = begun.clone();
            callers.spawn(async move {
                let mut latencies_ms = Vec::new();
                while began.elapsed() < self.window && begun.fetch_add(1, Ordering::Relaxed) < self.count {
                    let number = latencies_ms.len();
                    let key = format!("caller-{caller}/{}", number % self.keys_per_caller);
                    let sent = Instant::now();
                    store.put(key, vec![number as u8; self.value_bytes]).await?;
                    latencies_ms.push(sent.elapsed().as_secs_f64() * 1e3);
                }
                anyhow::Ok(latencies_ms)
            });
        }
        let mut latencies_ms = Vec::new();
        while let Some(caller) = callers.join_next().await {
            latencies_ms.extend(caller??);
        }
        let count = latencies_ms.len() as u64;
        Ok(Measured {
            count,
            per_second: count as f64 / began.elapsed().as_secs_f64(),
            latencies_ms,
        })
    }
}

/// The masters' own store, as frameworks use it.
impl Store for State {
    async fn put(&mut self, key: String, value: Vec<u8>) -> anyhow::Result<()> {
        State::put(self, key, value).await?;
        Ok(())
    }
}

/// The masters' own store, by calls that are made alone.
impl Store for StateClient<Channel> {
    async fn put(&mut self, key: String, value: Vec<u8>) -> anyhow::Result<()> {
        let put = Put {
            key,
            value: value.into(),
            expected_version: None,
        };
        let call = Call {
            namespace: NAMESPACE.to_owned(),
            body: Some(call::Body::Put(put)),
        };
        let answer = self.submit(call).await?.into_inner().body;
        ensure!(
            matches!(answer, Some(answer::Body::Done(_))),
            "a put was answered by {answer:?}"
        );
        Ok(())
    }
}

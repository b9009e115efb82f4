//! Our side: three masters.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::Context as _;
use proffer_proto::api::state_client::StateClient;
use proffer_sdk::State;
use proffer_tests::load::puts::{self, Measured, Puts};
use proffer_tests::{Cluster, bench};
use serde::Deserialize;
use tonic::transport::Channel;

/// What an entry takes in the log beside its data.
const ENTRY_FRAMING_BYTES: f64 = 26.0;

/// Masters that wait for writes.
pub(crate) struct Masters {
    cluster: Cluster,
    leader: String,
    /// As a framework's scheduler has it: one connection, which all callers share.
    state: [State; 1],
    connections: Vec<StateClient<Channel>>,
}

/// How callers put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the SDK.
    Sdk,
    /// By calls that are made alone, over as many connections as etcd gets.
    Alone,
}

/// What a log has written since its master was started.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Log {
    syncs: f64,
    entries: f64,
    bytes: f64,
}

/// What shares a sync.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) records: usize,
    pub(crate) record_bytes: usize,
}

impl Masters {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let mut cluster = Cluster::builder("bench-raft").masters(3).agents(0).start().await?;
        let leader = cluster.leader().await?;
        let leader = cluster.local().master_addresses()[leader].clone();
        let connections = puts::connect(&leader).await?;
        Ok(Masters {
            state: [State::of(leader.parse()?, puts::NAMESPACE)],
            connections: connections.into_iter().map(StateClient::new).collect(),
            cluster,
            leader,
        })
    }

    pub(crate) async fn measure(&self, way: Way, puts: Puts) -> anyhow::Result<Measured> {
        match way {
            Way::Sdk => puts.run(&self.state).await,
            Way::Alone => puts.run(&self.connections).await,
        }
    }

    /// What the leader's log has written.
    pub(crate) fn log(&self) -> anyhow::Result<Log> {
        let mut stream = TcpStream::connect(&self.leader)?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: leader\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer has a body")?;
        let mut health: serde_json::Value = serde_json::from_str(body)?;
        Ok(serde_json::from_value(health["log"].take())?)
    }

    pub(crate) fn resident_mib(&mut self) -> anyhow::Result<Vec<f64>> {
        self.pids()?.into_iter().map(bench::resident_mib).collect()
    }

    /// Of all of them together.
    pub(crate) fn processor_seconds(&mut self) -> anyhow::Result<f64> {
        self.pids()?.into_iter().map(bench::processor_seconds).sum()
    }

    fn pids(&mut self) -> anyhow::Result<Vec<u32>> {
        let local = self.cluster.local();
        let pids = (0..3).map(|index| local.master_at(index).pid().context("the master runs"));
        pids.collect()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.cluster.stop().await
    }
}

impl Log {
    /// What shared a sync since an earlier time, in the mean.
    pub(crate) fn batch_since(self, earlier: Log) -> Batch {
        let entries = (self.entries - earlier.entries).max(1.0);
        let records = entries / (self.syncs - earlier.syncs).max(1.0);
        let record_bytes = (self.bytes - earlier.bytes) / entries + ENTRY_FRAMING_BYTES;
        Batch {
            records: (records.round() as usize).max(1),
            record_bytes: record_bytes.round() as usize,
        }
    }
}

//! Our side: three masters.

use anyhow::Context as _;
use proffer_proto::api::state_client::StateClient;
use proffer_tests::load::puts::{self, Measured, Puts};
use proffer_tests::{Cluster, bench};
use tonic::transport::Channel;

/// Masters that wait for writes.
pub(crate) struct Masters {
    cluster: Cluster,
    connections: Vec<StateClient<Channel>>,
}

impl Masters {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let mut cluster = Cluster::builder("bench-raft").masters(3).agents(0).start().await?;
        let leader = cluster.leader().await?;
        let address = cluster.local().master_addresses()[leader].clone();
        let connections = puts::connect(&address)
            .await?
            .into_iter()
            .map(StateClient::new)
            .collect();
        Ok(Masters { cluster, connections })
    }

    pub(crate) async fn measure(&self, puts: Puts) -> anyhow::Result<Measured> {
        puts.run(&self.connections).await
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

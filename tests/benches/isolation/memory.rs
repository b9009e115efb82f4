//! A task touches the last memory that it may have -> its framework hears of it.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Context;
use proffer_proto::v1::{TaskState, task_status};
use proffer_sdk::Task;
use proffer_tests::bench::{self, monotonic_nanos};
use proffer_tests::{Cluster, cluster};

use super::BENCH;

pub(crate) async fn run(rounds: usize) -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("bench-isolation").start().await?;
    let mut framework = cluster.framework(BENCH).await?;
    let probe = cluster::built("proffer-probe")?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let port = socket.local_addr()?.port();
    let mut delays_ms = Vec::new();
    for round in 0..rounds {
        let offer = framework.next_offer_of(0.1, 32.0).await?;
        let line = format!("exec {} fill {port}", probe.display());
        let info = Task::command(format!("fill-{round}"), line).cpus(0.5).mem(32.0);
        let task = framework.launch(offer, info).await?;
        let status = framework.wait_for(&task, TaskState::TaskFailed).await?;
        let heard = monotonic_nanos();
        anyhow::ensure!(
            status.reason() == task_status::Reason::ContainerLimitationMemory,
            "{status:?}"
        );
        let last = last_stamp(&socket).context("the task said nothing")?;
        delays_ms.push(heard.saturating_sub(last) as f64 / 1e6);
    }
    bench::print_percentiles(BENCH, "oom_to_update", "ms", &mut delays_ms);
    cluster.stop().await
}

/// The newest of what has arrived.
fn last_stamp(socket: &UdpSocket) -> Option<u64> {
    let mut stamp = [0; 8];
    let mut last = None;
    socket.set_nonblocking(true).ok()?;
    while let Ok(8) = socket.recv(&mut stamp) {
        last = Some(u64::from_le_bytes(stamp));
    }
    last
}

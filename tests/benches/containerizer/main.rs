//! Message received -> payload running, inside one agent process with all default isolators: one at a time, beside an agent of
//! 1 GB and beside runc; a hundred at once; and a thousand containers, launched and destroyed.
//!
//! The time begins before a scripted master sends the message, and ends at the payload's first instruction.
//!
//! `cargo bench -p proffer-tests --bench containerizer [-- --quick]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod agent;
mod crowd;
mod master;
mod runc;

use std::path::PathBuf;

use proffer_tests::bench::{self, Stamp};
use proffer_tests::host;

use agent::Agent;
use runc::Runc;

const BENCH: &str = "containerizer";
const BALLAST_MIB: usize = 1024;

fn main() -> anyhow::Result<()> {
    if let Some(args) = agent::own_arguments() {
        return agent::run(args);
    }
    if !host::can_isolate() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    bench::print_machine(BENCH);
    let directory = Directory::create()?;
    let mut stamp = Stamp::build(&directory.0)?;
    let rounds = if bench::is_quick() { 50 } else { 300 };
    one_by_one(&directory.0, &mut stamp, rounds).await?;
    let mut agent = Agent::start(&directory.0.join("crowd"), 0).await?;
    crowd::at_once(&mut agent, &mut stamp, 100).await?;
    crowd::many(&mut agent, &mut stamp, 1_000).await
}

/// Each round launches one container of each kind, so that whatever disturbs the machine disturbs all.
async fn one_by_one(directory: &std::path::Path, stamp: &mut Stamp, rounds: usize) -> anyhow::Result<()> {
    let mut small = Agent::start(&directory.join("small"), 0).await?;
    let mut large = Agent::start(&directory.join("large"), BALLAST_MIB).await?;
    let peer = match Runc::find(directory, stamp)? {
        Some(peer) => Some(peer),
        None => {
            eprintln!("skipped: runc not installed");
            None
        }
    };
    let (mut small_ms, mut large_ms, mut peer_ms) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        small_ms.push(single(&mut small, stamp, &format!("small-{round}")).await?);
        large_ms.push(single(&mut large, stamp, &format!("large-{round}")).await?);
        if let Some(peer) = &peer {
            peer_ms.push(peer.launch(stamp, &format!("peer-{round}")).await?);
        }
    }
    bench::print(
        BENCH,
        "large_agent_resident_mib",
        bench::resident_mib(large.pid())?,
        "MiB",
        1,
    );
    bench::print_percentiles(BENCH, "message_to_running", "ms", &mut small_ms);
    bench::print_percentiles(BENCH, "message_to_running_1gb", "ms", &mut large_ms);
    let median = bench::percentile(&small_ms, 0.5);
    let ratio = bench::percentile(&large_ms, 0.5) / median;
    bench::print(BENCH, "1gb_to_small_p50_ratio", ratio, "", rounds);
    if peer.is_some() {
        bench::print_percentiles(BENCH, "runc", "ms", &mut peer_ms);
        let ratio = bench::percentile(&peer_ms, 0.5) / median;
        bench::print(BENCH, "runc_to_ours_p50_ratio", ratio, "", rounds);
    }
    Ok(())
}

/// From the message to the payload's first instruction; returns when the end of the task was heard.
async fn single(agent: &mut Agent, stamp: &mut Stamp, id: &str) -> anyhow::Result<f64> {
    let sent = bench::monotonic_nanos();
    agent.link.launch(stamp, id, 0).await?;
    let (_, first, _) = stamp.receive().await?;
    agent.link.ended(1).await?;
    Ok(first.saturating_sub(sent) as f64 / 1e6)
}

/// Where all that the benchmark makes is; removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn create() -> std::io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let path = PathBuf::from(format!("/var/tmp/proffer-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

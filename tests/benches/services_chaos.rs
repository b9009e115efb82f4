//! `kill -9` of schedulers, masters and agents at random moments of updates: whether there are exactly the wanted instances at
//! the wanted version in the end, and never one twice.
//!
//! `cargo bench -p proffer-tests --bench services-chaos [-- --quick | --kills=N --seed=N]`
//!
//! Two schedulers, three masters and three agents are processes. An update of one of four kinds is begun, and before it is done
//! one to four processes are killed and started again; now and then all is awaited and every container looked at.

use proffer_tests::chaos::{self, Campaign};
use proffer_tests::{Cluster, bench};

const BENCH: &str = "services-chaos";
const MASTERS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    bench::print_machine(BENCH);
    let usual = if bench::is_quick() { 10 } else { 200 };
    let campaign = Campaign {
        seed: bench::number("--seed=")?.unwrap_or(1) as u64,
        kills: bench::number("--kills=")?.unwrap_or(usual),
        instances: 6,
        agents: 3,
    };
    let cluster = Cluster::builder(BENCH)
        .masters(MASTERS)
        .agents(campaign.agents)
        .start()
        .await?;
    let (cluster, outcome) = chaos::run(cluster, MASTERS, campaign).await?;
    for (kind, count) in &outcome.killed {
        bench::print(BENCH, &format!("killed.{kind}.count"), *count as f64, "count", *count);
    }
    let (kills, looks) = (campaign.kills, outcome.looks);
    bench::print(BENCH, "duplicates.count", outcome.duplicates as f64, "count", looks);
    bench::print(
        BENCH,
        "missing_surplus_or_of_another_version.count",
        outcome.wrong as f64,
        "count",
        looks,
    );
    bench::print(BENCH, "updates.count", outcome.updates as f64, "count", kills);
    bench::print(BENCH, "settled.max.s", outcome.settled_max_seconds, "s", looks);
    anyhow::ensure!(
        outcome.duplicates == 0 && outcome.wrong == 0,
        "not exactly what was wanted"
    );
    cluster.stop().await
}

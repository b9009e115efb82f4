//! How much CPU a quota lets through, by the kernel's own counters.
//!
//! Time is counted in the quota's periods, not by a clock, and both ends of a round lie where the loops stand still, a period's quota
//! being used up: what was used between them is the quota of the periods between them, whenever somebody looks. Other work on the machine
//! lets the loops stand still too, so the containers are given all the weight that there is, and the median of the rounds counts.

use std::time::Duration;

use proffer_agent::containerizer::{ContainerId, ISOLATORS, Usage};
use proffer_tests::bench;

use super::BENCH;
use super::host::Host;

/// Of each round.
const PERIODS: u64 = 50;
const PERIOD_USEC: f64 = 100_000.0;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(rounds: usize) -> anyhow::Result<()> {
    let host = Host::open("quota", ISOLATORS)?;
    host.outweigh_others()?;
    for thousandths in [100, 500, 1000] {
        let name = format!("c{thousandths}");
        // Two loops, since one alone never meets a quota of a whole CPU.
        let script = "while :; do :; done & while :; do :; done";
        let spec = host.spec(&name, &["/bin/sh", "-c", script], thousandths);
        host.containerizer.launch(&spec).await?;
        let mut shares = Vec::new();
        let mut before = used_up(&host, &spec.id).await?;
        for _ in 0..rounds {
            let mut after = used_up(&host, &spec.id).await?;
            while periods(&after) < periods(&before) + PERIODS {
                after = used_up(&host, &spec.id).await?;
            }
            let used = after.cpu_usec.unwrap_or_default() - before.cpu_usec.unwrap_or_default();
            shares.push(used as f64 / ((periods(&after) - periods(&before)) as f64 * PERIOD_USEC));
            before = after;
        }
        shares.sort_by(f64::total_cmp);
        let quota = thousandths as f64 / 1000.0;
        let share = bench::percentile(&shares, 0.5);
        let off = (share / quota - 1.0) * 100.0;
        bench::print(BENCH, &format!("quota_{quota}_used_cpus_p50"), share, "cpus", rounds);
        bench::print(BENCH, &format!("quota_{quota}_off_percent_p50"), off, "percent", rounds);
        host.containerizer.destroy(&spec.id)?;
        host.containerizer.wait(&spec.id).await?;
        host.containerizer.forget(&spec.id).await?;
    }
    Ok(())
}

/// What was used when the loops stand still.
async fn used_up(host: &Host, id: &ContainerId) -> anyhow::Result<Usage> {
    const STILL: Duration = Duration::from_millis(3);
    let waited = async {
        let mut before = host.containerizer.usage(id)?;
        loop {
            tokio::time::sleep(STILL).await;
            let usage = host.containerizer.usage(id)?;
            if periods(&usage) == periods(&before) && usage.cpu_usec == before.cpu_usec {
                return anyhow::Ok(usage);
            }
            before = usage;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await?
}

fn periods(usage: &Usage) -> u64 {
    usage.cpu_periods.unwrap_or_default()
}

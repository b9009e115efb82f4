//! How much CPU a quota lets through, by the kernel's own counters.
//!
//! Time is counted in the quota's periods, not by a clock, and both ends of a round lie just after a period's quota ran out: what was
//! used between them is the quota of the periods between them, whenever somebody looks. Other work on the machine can only make it less, so
//! the containers are given all the weight that there is, and the round in which most was used counts.

use std::time::Duration;

use proffer_agent::containerizer::{ContainerId, ISOLATORS, Usage};
use proffer_tests::bench;

use super::BENCH;
use super::host::Host;

/// Of each round.
const PERIODS: u64 = 20;
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
        for (which, share) in [
            ("most", shares[shares.len() - 1]),
            ("p50", bench::percentile(&shares, 0.5)),
        ] {
            let figure = |what: &str| format!("quota_{quota}_{which}_{what}");
            bench::print(BENCH, &figure("used_cpus"), share, "cpus", rounds);
            bench::print(
                BENCH,
                &figure("off_percent"),
                (share / quota - 1.0) * 100.0,
                "percent",
                rounds,
            );
        }
        host.containerizer.destroy(&spec.id)?;
        host.containerizer.wait(&spec.id).await?;
        host.containerizer.forget(&spec.id).await?;
    }
    Ok(())
}

/// What was used when the quota of a period has just run out.
async fn used_up(host: &Host, id: &ContainerId) -> anyhow::Result<Usage> {
    let throttled = |usage: &Usage| usage.cpu_periods_throttled.unwrap_or_default();
    let before = throttled(&host.containerizer.usage(id)?);
    let waited = async {
        loop {
            let usage = host.containerizer.usage(id)?;
            if throttled(&usage) > before {
                // Counters of several files: what is read again is of one moment, the loops being still now.
                return host.containerizer.usage(id);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    Ok(tokio::time::timeout(PATIENCE, waited).await??)
}

fn periods(usage: &Usage) -> u64 {
    usage.cpu_periods.unwrap_or_default()
}

//! Many containers on one agent.

use std::time::{Duration, Instant};

use anyhow::ensure;
use proffer_tests::bench::{self, Stamp, monotonic_nanos};

use crate::BENCH;
use crate::agent::Agent;

const STAY_SECONDS: u64 = 3_600;
const DEADLINE: Duration = Duration::from_secs(120);

/// So many launches that wait for nothing: from the first message to the last payload.
pub(crate) async fn at_once(agent: &mut Agent, stamp: &mut Stamp, tasks: usize) -> anyhow::Result<()> {
    let seconds = launch(agent, stamp, "once", tasks, 0).await?;
    agent.link.ended(tasks).await?;
    bench::print(BENCH, "at_once_100_ms", seconds * 1e3, "ms", tasks);
    Ok(())
}

/// Containers that stay until they are killed, all at once.
pub(crate) async fn many(agent: &mut Agent, stamp: &mut Stamp, tasks: usize) -> anyhow::Result<()> {
    let processor_before = bench::processor_seconds(agent.pid())?;
    let launched = launch(agent, stamp, "many", tasks, STAY_SECONDS).await?;
    let resident = bench::resident_mib(agent.pid())?;
    let began = monotonic_nanos();
    for index in 0..tasks {
        agent.link.kill(&format!("many-{index}")).await?;
    }
    agent.link.ended(tasks).await?;
    let ended = seconds_since(began);
    let patience = Instant::now() + DEADLINE;
    while agent.cgroups()? > 0 {
        ensure!(Instant::now() < patience, "cgroups are left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench::print(BENCH, "launched_1000_s", launched, "s", tasks);
    bench::print(BENCH, "ended_1000_s", ended, "s", tasks);
    bench::print(BENCH, "destroyed_1000_s", seconds_since(began), "s", tasks);
    bench::print(BENCH, "agent_resident_of_1000_mib", resident, "MiB", 1);
    let processor = bench::processor_seconds(agent.pid())? - processor_before;
    let each = processor * 1e3 / tasks as f64;
    bench::print(BENCH, "agent_processor_ms_of_one", each, "ms", tasks);
    Ok(())
}

/// Seconds from the first message until all payloads run.
async fn launch(agent: &Agent, stamp: &mut Stamp, name: &str, tasks: usize, stay_seconds: u64) -> anyhow::Result<f64> {
    let began = monotonic_nanos();
    for index in 0..tasks {
        agent
            .link
            .launch(stamp, &format!("{name}-{index}"), stay_seconds)
            .await?;
    }
    let mut last = began;
    for _ in 0..tasks {
        let (_, first, _) = stamp.receive().await?;
        last = last.max(first);
    }
    Ok((last - began) as f64 / 1e9)
}

fn seconds_since(nanos: u64) -> f64 {
    (monotonic_nanos() - nanos) as f64 / 1e9
}

//! ACCEPT sent -> the payload has run its first instruction; task ended -> its resources are offered again; and how many
//! tasks a second one agent launches. One agent, default isolation, fsync on.
//!
//! `cargo bench -p proffer-tests --bench launch [-- --quick]`

use std::collections::BTreeMap;
use std::path::Path;

use proffer_proto::v1::{Offer, TaskInfo};
use proffer_sdk::Task;
use proffer_tests::bench::{self, Figure, Stamp, monotonic_nanos};
use proffer_tests::{Cluster, TestFramework, host, place};

const BENCH: &str = "launch";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    if !host::can_isolate() {
        return Ok(());
    }
    bench::print_machine(BENCH);
    let (singles, floods): (usize, &[usize]) = if bench::is_quick() {
        (200, &[1_000])
    } else {
        (1_000, &[1_000, 10_000])
    };
    let mut cluster = Cluster::builder("bench-launch")
        .cpus(1_000.0)
        .mem(64_000)
        .start()
        .await?;
    let directory = cluster.local().directory().to_owned();
    let stamp = Stamp::build(&directory)?;
    let mut framework = cluster.framework(BENCH).await?;
    one_by_one(&mut framework, &stamp, singles).await?;
    for &tasks in floods {
        flood(&mut framework, &stamp, tasks).await?;
    }
    cluster.stop().await
}

async fn one_by_one(framework: &mut TestFramework, stamp: &Stamp, tasks: usize) -> anyhow::Result<()> {
    let (mut launch_ms, mut again_ms) = (Vec::new(), Vec::new());
    let mut offer = framework.next_offer().await?;
    for index in 0..tasks {
        // The whole offer is used, so that the next one comes when the task has ended and not before.
        let info = whole(stamp, &offer, &format!("one-{index}"))?;
        let sent = monotonic_nanos();
        framework.launch_infos(&offer, vec![info]).await?;
        let next = framework.next_offer().await?;
        let offered = monotonic_nanos();
        let (_, first, last) = stamp.receive()?;
        offer = next;
        launch_ms.push(first.saturating_sub(sent) as f64 / 1e6);
        again_ms.push(offered.saturating_sub(last) as f64 / 1e6);
    }
    framework.decline(offer, 0.0).await?;
    bench::print_percentiles(BENCH, "accept_to_running", "ms", &mut launch_ms);
    bench::print_percentiles(BENCH, "ended_to_offered", "ms", &mut again_ms);
    Ok(())
}

/// Launches many tasks, as many at once as fit, and waits until each has run.
async fn flood(framework: &mut TestFramework, stamp: &Stamp, tasks: usize) -> anyhow::Result<()> {
    let began = monotonic_nanos();
    let (mut launched, mut ran) = (0, BTreeMap::new());
    while launched < tasks {
        let offer = framework.next_offer().await?;
        let count = (tasks - launched).min(100);
        let infos: Vec<TaskInfo> = (launched..launched + count)
            .map(|index| small(stamp, &offer, &format!("flood-{tasks}-{index}")))
            .collect::<anyhow::Result<_>>()?;
        framework.launch_infos(&offer, infos).await?;
        launched += count;
    }
    while ran.len() < tasks {
        let (id, first, _) = tokio::task::block_in_place(|| stamp.receive())?;
        ran.insert(id, first);
    }
    let last = ran.values().max().copied().unwrap_or(began);
    let value = tasks as f64 / ((last - began) as f64 / 1e9);
    Figure {
        bench: BENCH,
        figure: "tasks_per_second",
        value,
        unit: "1/s",
        samples: tasks,
    }
    .print();
    Ok(())
}

fn small(stamp: &Stamp, offer: &Offer, id: &str) -> anyhow::Result<TaskInfo> {
    let task = task(stamp, id).cpus(0.1).mem(16.0);
    let placement = place(offer, &task)?;
    Ok(task.at(&placement))
}

fn whole(stamp: &Stamp, offer: &Offer, id: &str) -> anyhow::Result<TaskInfo> {
    let mut info = small(stamp, offer, id)?;
    info.resources.clone_from(&offer.resources);
    Ok(info)
}

fn task(stamp: &Stamp, id: &str) -> Task {
    let program: &Path = &stamp.program;
    Task::program(id, program.display().to_string(), stamp.arguments(id, 0))
}

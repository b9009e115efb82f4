//! ACCEPT sent -> the payload has run its first instruction; task ended -> its resources are offered again; and how many
//! tasks a second one agent launches. One agent, default isolation, fsync on.
//!
//! `cargo bench -p proffer-tests --bench launch [-- --quick]`

use std::collections::BTreeMap;

use proffer_proto::v1::{Offer, TaskInfo};
use proffer_sdk::Task;
use proffer_sdk::offers::Matcher;
use proffer_tests::bench::{self, Figure, Stamp, monotonic_nanos};
use proffer_tests::{Cluster, TestFramework, host, place};

const BENCH: &str = "launch";
/// How many tasks one ACCEPT launches at most.
const AT_ONCE_MAX: usize = 100;

/// On one thread, as a framework would that has one core: what a second one costs to be woken is not the cluster's.
#[tokio::main(flavor = "current_thread")]
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
        .disk(0)
        .start()
        .await?;
    let directory = cluster.local().directory().to_owned();
    let mut stamp = Stamp::build(&directory)?;
    let mut framework = cluster.framework(BENCH).await?;
    framework.acknowledge_beside();
    let mut offer = one_by_one(&mut framework, &mut stamp, singles).await?;
    for &tasks in floods {
        offer = flood(&mut framework, &mut stamp, offer, tasks).await?;
    }
    cluster.stop().await
}

/// Gives the last offer, of the whole agent: what is declined is not offered again for a while.
async fn one_by_one(framework: &mut TestFramework, stamp: &mut Stamp, tasks: usize) -> anyhow::Result<Offer> {
    let (mut launch_ms, mut again_ms) = (Vec::new(), Vec::new());
    let mut offer = framework.next_offer().await?;
    for index in 0..tasks {
        // The whole offer is used, so that the next one comes when the task has ended and not before.
        let info = whole(stamp, &offer, &format!("one-{index}"))?;
        let sent = monotonic_nanos();
        framework.launch_infos(&offer, vec![info]).await?;
        let next = framework.next_offer().await?;
        let offered = monotonic_nanos();
        let (_, first, last) = stamp.receive().await?;
        offer = next;
        launch_ms.push(first.saturating_sub(sent) as f64 / 1e6);
        again_ms.push(offered.saturating_sub(last) as f64 / 1e6);
    }
    bench::print_percentiles(BENCH, "accept_to_running", "ms", &mut launch_ms);
    bench::print_percentiles(BENCH, "ended_to_offered", "ms", &mut again_ms);
    Ok(offer)
}

/// Launches many tasks, as many at once as an offer holds but no more than a hundred, and waits until each has run. Gives an
/// offer of the last that is left.
async fn flood(
    framework: &mut TestFramework,
    stamp: &mut Stamp,
    mut offer: Offer,
    tasks: usize,
) -> anyhow::Result<Offer> {
    let began = monotonic_nanos();
    let (mut launched, mut ran) = (0, BTreeMap::new());
    while launched < tasks {
        let mut matcher = Matcher::new([&offer]);
        let mut infos = Vec::new();
        while infos.len() < AT_ONCE_MAX && launched + infos.len() < tasks {
            let index = launched + infos.len();
            let task = small(stamp, &format!("flood-{tasks}-{index}"));
            let Some(placement) = matcher.place(task.shape()) else {
                break;
            };
            infos.push(task.at(&placement));
        }
        launched += infos.len();
        framework.launch_infos(&offer, infos).await?;
        offer = framework.next_offer().await?;
    }
    while ran.len() < tasks {
        let (id, first, _) = stamp.receive().await?;
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
    Ok(offer)
}

fn small(stamp: &Stamp, id: &str) -> Task {
    let program = stamp.program.display().to_string();
    Task::program(id, program, stamp.arguments(id, 0)).cpus(0.1).mem(16.0)
}

fn whole(stamp: &Stamp, offer: &Offer, id: &str) -> anyhow::Result<TaskInfo> {
    let task = small(stamp, id);
    let placement = place(offer, &task)?;
    let mut info = task.at(&placement);
    info.resources.clone_from(&offer.resources);
    Ok(info)
}

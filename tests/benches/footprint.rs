//! Idle resident memory of a master, an agent and a shim, the size of the binary, and `dev` to the first running task.
//!
//! `cargo bench -p proffer-tests --bench footprint [-- --quick]`

use std::time::Instant;

use anyhow::Context;
use proffer_proto::v1::TaskState;
use proffer_sdk::Task;
use proffer_tests::bench::{self, Figure};
use proffer_tests::{Cluster, host};

const BENCH: &str = "footprint";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    if !host::can_isolate() {
        return Ok(());
    }
    bench::print_machine(BENCH);
    let rounds = if bench::is_quick() { 2 } else { 10 };
    let mut first_task_ms = Vec::new();
    for round in 0..rounds {
        let began = Instant::now();
        let mut cluster = Cluster::builder(&format!("bench-footprint-{round}")).start().await?;
        let mut framework = cluster.framework(BENCH).await?;
        let offer = framework.next_offer().await?;
        let task = framework
            .launch(offer, Task::command("first", "exec sleep 1000").cpus(0.1).mem(32.0))
            .await?;
        framework.wait_for(&task, TaskState::TaskRunning).await?;
        first_task_ms.push(began.elapsed().as_secs_f64() * 1e3);
        if round == 0 {
            memory(&mut cluster)?;
        }
        cluster.stop().await?;
    }
    bench::print_percentiles(BENCH, "start_to_first_task", "ms", &mut first_task_ms);
    let binary = std::env::current_exe()?;
    let binary = binary
        .parent()
        .and_then(|deps| deps.parent())
        .context("no directory")?
        .join("proffer-under-test");
    print(
        "binary_size_mib",
        std::fs::metadata(binary)?.len() as f64 / f64::from(1 << 20),
        "MiB",
    );
    Ok(())
}

fn memory(cluster: &mut Cluster) -> anyhow::Result<()> {
    let master = cluster.master().pid().context("the master runs")?;
    let agent = cluster.agent(0).pid().context("the agent runs")?;
    print("master_resident_mib", bench::resident_mib(master)?, "MiB");
    print("agent_resident_mib", bench::resident_mib(agent)?, "MiB");
    let shim = shims().into_iter().next().context("no shim runs")?;
    print("shim_resident_mib", bench::resident_mib(shim)?, "MiB");
    Ok(())
}

fn shims() -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| {
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            comm.starts_with("proffer-shim") || comm.starts_with("shim-")
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn print(figure: &str, value: f64, unit: &str) {
    Figure {
        bench: BENCH,
        figure,
        value,
        unit,
        samples: 1,
    }
    .print();
}

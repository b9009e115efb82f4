//! What isolation costs and how exact it is: what each isolator adds to a launch, the CPU of sampling 1,000 containers, the CPU
//! that a quota lets through, and an exhausted memory limit -> its status update.
//!
//! `cargo bench -p proffer-tests --bench isolation [-- --quick] [--only=launches|sampling|quota|memory]`

mod host;
mod memory;
mod quota;

use std::time::Instant;

use proffer_agent::containerizer::{Containerizer, ISOLATORS, Usage};
use proffer_tests::bench;
use proffer_tests::host as machine;

use self::host::Host;

const BENCH: &str = "isolation";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    if !machine::can_isolate() {
        return Ok(());
    }
    bench::print_machine(BENCH);
    let quick = bench::is_quick();
    if bench::wants("launches") {
        launches(if quick { 40 } else { 400 }).await?;
    }
    if bench::wants("sampling") {
        sampling(if quick { 200 } else { 1_000 }).await?;
    }
    if bench::wants("quota") {
        quota::run(if quick { 2 } else { 10 }).await?;
    }
    if bench::wants("memory") {
        memory::run(if quick { 10 } else { 100 }).await?;
    }
    Ok(())
}

/// All isolators and all but one, in turn; the difference of the medians.
async fn launches(rounds: usize) -> anyhow::Result<()> {
    let mut variants = vec![(None, Host::open("all", ISOLATORS)?, Vec::new())];
    for without in ISOLATORS {
        let others: Vec<&str> = ISOLATORS.iter().copied().filter(|name| name != without).collect();
        variants.push((Some(*without), Host::open(without, &others)?, Vec::new()));
    }
    for round in 0..rounds {
        for (_, host, samples) in &mut variants {
            let spec = host.spec(&format!("c{round}"), &["/bin/true"], 1000);
            let began = Instant::now();
            host.containerizer.launch(&spec).await?;
            samples.push(began.elapsed().as_secs_f64() * 1e6);
            host.containerizer.wait(&spec.id).await?;
            host.containerizer.forget(&spec.id).await?;
        }
    }
    let median = |samples: &mut Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        bench::percentile(samples, 0.5)
    };
    let all = median(&mut variants[0].2);
    bench::print(BENCH, "launch_p50_us", all, "us", rounds);
    for (without, _, samples) in &mut variants[1..] {
        let cost = all - median(samples);
        let name = without.unwrap_or_default();
        bench::print(BENCH, &format!("launch_of_{name}_p50_us"), cost, "us", rounds);
    }
    Ok(())
}

async fn sampling(containers: usize) -> anyhow::Result<()> {
    const ROUNDS: usize = 20;
    let host = Host::open("sampling", ISOLATORS)?;
    let mut ids = Vec::new();
    for number in 0..containers {
        let spec = host.spec(&format!("c{number}"), &["sleep", "100000"], 10);
        host.containerizer.launch(&spec).await?;
        ids.push(spec.id);
    }
    let sample = |containerizer: &Containerizer| -> anyhow::Result<(f64, Usage)> {
        let (began, mut last) = (cpu_ms(), Usage::default());
        for id in &ids {
            last = containerizer.usage(id)?;
        }
        Ok((cpu_ms() - began, last))
    };
    let (first, usage) = sample(&host.containerizer)?;
    eprintln!("{usage:?}");
    bench::print(BENCH, "sample_first_cpu_ms", first, "ms", containers);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(sample(&host.containerizer)?.0);
    }
    rounds.sort_by(f64::total_cmp);
    bench::print(BENCH, "sample_cpu_least_ms", rounds[0], "ms", containers);
    bench::print(
        BENCH,
        "sample_cpu_p50_ms",
        bench::percentile(&rounds, 0.5),
        "ms",
        containers,
    );
    for id in &ids {
        host.containerizer.destroy(id)?;
    }
    for id in &ids {
        host.containerizer.wait(id).await?;
        host.containerizer.forget(id).await?;
    }
    Ok(())
}

/// Of this process, all threads.
fn cpu_ms() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

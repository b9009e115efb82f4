//! The space that the log and the snapshots take while live data is written again and again.
//!
//! `cargo bench -p proffer-tests --bench log_space [-- --quick | --puts=N]`
//!
//! A group of one master; keys of 256 bytes in the frameworks' state, 10 million puts. Live data is what the newest
//! snapshot holds: the registry itself. What is measured all the while are the blocks that the file system has given to
//! the log and to the snapshots.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use proffer_proto::api::state_client::StateClient;
use proffer_tests::Cluster;
use proffer_tests::bench;
use proffer_tests::load::puts::{self, Puts};

const BENCH: &str = "log_space";
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
const IN_FLIGHT: usize = 256;
/// About 20 MiB of live data.
const KEYS_PER_CALLER: usize = 256;
/// Told on the way.
const STEP: u64 = 1_000_000;

/// The space at one moment, in bytes.
#[derive(Debug, Clone, Copy)]
struct Sample {
    log: u64,
    snapshots: u64,
    live: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    bench::print_machine(BENCH);
    let count = match bench::number("--puts=")? {
        Some(puts) => puts,
        None if bench::is_quick() => 50_000,
        None => 10_000_000,
    };
    let mut cluster = Cluster::builder("bench-log-space").agents(0).start().await?;
    let address = cluster.local().master_address().to_owned();
    let work = cluster.local().directory().join("master").join("work");
    let connections: Vec<_> = puts::connect(&address)
        .await?
        .into_iter()
        .map(StateClient::new)
        .collect();
    let puts = Puts {
        in_flight: IN_FLIGHT,
        keys_per_caller: KEYS_PER_CALLER,
        value_bytes: 256,
        window: Duration::MAX,
        // All keys are there, and in a snapshot.
        count: (IN_FLIGHT * KEYS_PER_CALLER * 2) as u64,
    };
    puts.run(&connections).await?;
    let mut samples = Vec::new();
    let mut done = 0;
    while done < count {
        let step = Puts {
            count: STEP.min(count - done),
            ..puts
        };
        let writing = step.run(&connections);
        tokio::pin!(writing);
        let mut clock = tokio::time::interval(SAMPLE_EVERY);
        let measured = loop {
            tokio::select! {
                measured = &mut writing => break measured?,
                _ = clock.tick() => samples.extend(sample(&work)),
            }
        };
        done += measured.count;
        let now = samples.last().copied();
        eprintln!("{BENCH}: {done} puts, {:.0}/s, now {now:?}", measured.per_second);
    }
    ensure!(!samples.is_empty(), "there was no snapshot to compare with");
    for (name, of) in [
        ("log_to_live_data", (|sample| sample.log) as fn(&Sample) -> u64),
        // The newest snapshot is the live data; while another one is made there are two.
        ("log_and_snapshots_to_live_data", |sample| sample.log + sample.snapshots),
    ] {
        let mut ratios: Vec<f64> = samples
            .iter()
            .map(|sample| of(sample) as f64 / sample.live as f64)
            .collect();
        ratios.sort_by(f64::total_cmp);
        print(&format!("{name}_max"), ratios[ratios.len() - 1], "1", samples.len());
        print(
            &format!("{name}_p50"),
            bench::percentile(&ratios, 0.5),
            "1",
            samples.len(),
        );
    }
    for (name, of) in [
        ("log_max", (|sample| sample.log) as fn(&Sample) -> u64),
        ("snapshots_max", |sample| sample.snapshots),
        ("live_data_max", |sample| sample.live),
    ] {
        let most = samples.iter().map(of).max().unwrap_or_default();
        print(
            &format!("{name}_mib"),
            most as f64 / f64::from(1 << 20),
            "MiB",
            samples.len(),
        );
    }
    print("appends", done as f64, "1", 1);
    cluster.stop().await
}

/// None where a file went away while it was looked at, or there is no snapshot of live data yet.
fn sample(work: &Path) -> Option<Sample> {
    let log = files(&work.join("log"))?;
    let snapshots = files(&work.join("snapshots"))?;
    let newest = snapshots
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|suffix| suffix == "snapshot"))
        .max_by_key(|(path, _)| path.clone());
    let blocks = |files: &[(PathBuf, std::fs::Metadata)]| files.iter().map(|(_, data)| data.blocks() * 512).sum();
    let live = newest.map(|(_, data)| data.len())?;
    (live > 1 << 20).then(|| Sample {
        log: blocks(&log),
        snapshots: blocks(&snapshots),
        live,
    })
}

fn files(directory: &Path) -> Option<Vec<(PathBuf, std::fs::Metadata)>> {
    let entries = std::fs::read_dir(directory).ok()?;
    let files = entries.map(|entry| {
        let entry = entry.ok()?;
        Some((entry.path(), entry.metadata().ok()?))
    });
    files.collect()
}

fn print(figure: &str, value: f64, unit: &str, samples: usize) {
    bench::print(BENCH, figure, value, unit, samples);
}

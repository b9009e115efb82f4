//! Committed writes a second: three masters on the loopback, fsync on, against three members of etcd and a bare loop that
//! appends and syncs, in turn in one run.
//!
//! `cargo bench -p proffer-tests --bench raft [-- [--quick] [--in-flight=256]]`
//!
//! A write is a put of 256 bytes into the frameworks' state, made at the leader: a `WriteState` change of the registry. `masters` are
//! puts by the SDK's `State`, whose callers share messages on one connection; `masters_alone` are calls of gRPC, one for each put, as a
//! simple caller makes them. etcd gets the same keys and values by such calls, which are what it has, through the same gRPC
//! library; they have eight connections.
//!
//! The bare loop appends to a file and syncs it, batch after batch. Its batches are those of the leader's log in the round before: as
//! many records as the leader's log had for each of its syncs in the mean, each as long as there. Nothing is waited for but that
//! one disk; a put waits for a sync of the leader and one of a follower, which share the disk here, so that three such loops at
//! the same time are what the three logs could do together: the slowest of them is told too.
//!
//! Ratios are of medians over the rounds; absolute figures are those of the best round. Processor time is that of all three
//! members, without the callers'.

// Benchmarks tell their figures, and why something is skipped.
#![allow(clippy::print_stdout)]

mod bare;
mod etcd;
mod masters;

use std::time::Duration;

use proffer_tests::bench;
use proffer_tests::load::puts::Puts;

use self::etcd::Etcd;
use self::masters::{Masters, Way};

const BENCH: &str = "raft";
const IN_FLIGHT: [usize; 3] = [1, 16, 256];

/// The writes a second of every round, by what was measured.
#[derive(Debug, Default)]
struct Rates {
    ours: Vec<f64>,
    alone: Vec<f64>,
    etcd: Vec<f64>,
    bare: Vec<f64>,
    three_bare: Vec<f64>,
    /// Records of a batch.
    batches: Vec<f64>,
    /// Of all members together, for one put.
    our_processor_us: Vec<f64>,
    alone_processor_us: Vec<f64>,
    etcd_processor_us: Vec<f64>,
    /// Of all rounds.
    our_latencies_ms: Vec<f64>,
    etcd_latencies_ms: Vec<f64>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    bench::print_machine(BENCH);
    let (rounds, window) = match bench::is_quick() {
        true => (2, Duration::from_millis(400)),
        false => (9, Duration::from_secs(2)),
    };
    let directory = tempfile::Builder::new()
        .prefix("proffer-bench-raft-")
        .tempdir_in("/var/tmp")?;
    let mut masters = Masters::start().await?;
    let etcd = Etcd::start(directory.path()).await?;
    if etcd.is_none() {
        println!("skipped: etcd is not installed (Debian: apt-get install etcd-server); nothing is compared with it");
    }
    let in_flight = in_flight();
    let mut rates: Vec<Rates> = in_flight.iter().map(|_| Rates::default()).collect();
    for round in 0..rounds {
        for (&in_flight, rates) in in_flight.iter().zip(&mut rates) {
            let puts = Puts {
                in_flight,
                keys_per_caller: 4,
                value_bytes: 256,
                window,
                count: u64::MAX,
            };
            let used = masters.processor_seconds()?;
            let log = masters.log()?;
            let ours = masters.measure(Way::Sdk, puts).await?;
            let batch = masters.log()?.batch_since(log);
            rates
                .our_processor_us
                .push((masters.processor_seconds()? - used) * 1e6 / ours.count as f64);
            rates.batches.push(batch.records as f64);
            rates.ours.push(ours.per_second);
            rates.our_latencies_ms.extend(ours.latencies_ms);
            if let Some(etcd) = &etcd {
                let used = etcd.processor_seconds()?;
                let theirs = etcd.measure(puts).await?;
                rates
                    .etcd_processor_us
                    .push((etcd.processor_seconds()? - used) * 1e6 / theirs.count as f64);
                rates.etcd.push(theirs.per_second);
                rates.etcd_latencies_ms.extend(theirs.latencies_ms);
            }
            let half = window / 2;
            rates.bare.push(bare::measure(directory.path(), batch, half, 1)?);
            rates.three_bare.push(bare::measure(directory.path(), batch, half, 3)?);
            let used = masters.processor_seconds()?;
            let alone = masters.measure(Way::Alone, puts).await?;
            rates
                .alone_processor_us
                .push((masters.processor_seconds()? - used) * 1e6 / alone.count as f64);
            rates.alone.push(alone.per_second);
            eprintln!(
                "{BENCH}: round {round}, {in_flight} in flight: masters {:.0}/s ({:.0} us), etcd {:.0}/s ({:.0} us), alone {:.0}/s \
                 ({:.0} us), bare loop of {} records of {} bytes {:.0}/s, three {:.0}/s",
                last(&rates.ours),
                last(&rates.our_processor_us),
                last(&rates.etcd),
                last(&rates.etcd_processor_us),
                last(&rates.alone),
                last(&rates.alone_processor_us),
                batch.records,
                batch.record_bytes,
                last(&rates.bare),
                last(&rates.three_bare)
            );
        }
    }
    for (&in_flight, rates) in in_flight.iter().zip(&mut rates) {
        print_rates(in_flight, rates);
    }
    for (index, mib) in masters.resident_mib()?.into_iter().enumerate() {
        print(&format!("master_{index}_resident_mib"), mib, "MiB", 1);
    }
    for (index, mib) in etcd.iter().flat_map(|etcd| etcd.resident_mib()).enumerate() {
        print(&format!("etcd_{index}_resident_mib"), mib, "MiB", 1);
    }
    masters.stop().await
}

/// Those of `--in-flight=1,16`, or all.
fn in_flight() -> Vec<usize> {
    let mut given = std::env::args().filter_map(|arg| {
        let counts = arg.strip_prefix("--in-flight=")?.split(',');
        counts.map(|count| count.parse().ok()).collect::<Option<Vec<_>>>()
    });
    given.next().unwrap_or_else(|| IN_FLIGHT.into())
}

fn print_rates(in_flight: usize, rates: &mut Rates) {
    let samples = rates.ours.len();
    let sides = [
        ("masters", &rates.ours),
        ("masters_alone", &rates.alone),
        ("etcd", &rates.etcd),
        ("bare_loop", &rates.bare),
        ("three_bare_loops", &rates.three_bare),
    ];
    for (name, values) in sides {
        let best = values.iter().copied().max_by(f64::total_cmp);
        if let Some(best) = best {
            print(
                &format!("{name}_best_{in_flight}_in_flight_per_s"),
                best,
                "1/s",
                samples,
            );
        }
    }
    let figure = format!("records_a_sync_{in_flight}_in_flight");
    print(&figure, median(&rates.batches), "1", samples);
    let processor = [
        ("masters", &rates.our_processor_us),
        ("masters_alone", &rates.alone_processor_us),
        ("etcd", &rates.etcd_processor_us),
    ];
    for (name, values) in processor {
        if !values.is_empty() {
            let figure = format!("{name}_processor_us_a_put_{in_flight}_in_flight");
            print(&figure, median(values), "us", samples);
        }
    }
    let ours = median(&rates.ours);
    for (name, values) in &sides[1..] {
        if !values.is_empty() {
            print(
                &format!("ratio_to_{name}_{in_flight}_in_flight"),
                ours / median(values),
                "1",
                samples,
            );
        }
    }
    bench::print_percentiles(
        BENCH,
        &format!("masters_put_{in_flight}_in_flight"),
        "ms",
        &mut rates.our_latencies_ms,
    );
    if !rates.etcd_latencies_ms.is_empty() {
        let name = format!("etcd_put_{in_flight}_in_flight");
        bench::print_percentiles(BENCH, &name, "ms", &mut rates.etcd_latencies_ms);
    }
}

fn print(figure: &str, value: f64, unit: &str, samples: usize) {
    bench::print(BENCH, figure, value, unit, samples);
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    bench::percentile(&sorted, 0.5)
}

fn last(values: &[f64]) -> f64 {
    values.last().copied().unwrap_or(f64::NAN)
}

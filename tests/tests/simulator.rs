//! Groups of real masters among model agents, frameworks, clients and operators, under seeded faults.
//!
//! Longer campaigns: `cargo run --release -p proffer-tests --bin proffer-sim -- --forever`. One seed with its whole history:
//! `cargo run -p proffer-tests --bin proffer-sim -- --seed 17 --trace`.

use std::sync::Mutex;

use proffer_replication::PlantedBug;
use proffer_tests::sim::{Campaign, Options, Planted, run};

/// How many seeds the test command runs; campaigns run more.
const SEEDS: u64 = 1_000;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

#[test]
fn every_invariant_holds_under_seeded_faults() {
    let first = Mutex::new(None);
    let campaign = Campaign::run(0..SEEDS, &Options::default(), threads(), |failure| {
        first
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get_or_insert_with(|| failure.to_string());
    });
    if let Some(failure) = first.into_inner().unwrap() {
        panic!("{} of {SEEDS} seeds failed, the first:\n{failure}", campaign.violations);
    }
    println!("{}violations 0", campaign.report);
    // A simulator in which little happens finds little.
    let report = campaign.report;
    assert!(report.leader_kills > SEEDS, "{report}");
    assert!(report.terms > 3 * SEEDS, "{report}");
    assert!(report.tasks > 10 * SEEDS, "{report}");
    assert!(report.state_calls > 40 * SEEDS, "{report}");
    assert!(report.group_changes > SEEDS, "{report}");
    assert!(report.snapshots > SEEDS / 2, "{report}");
    assert!(report.wiped > SEEDS / 50, "{report}");
}

#[test]
fn a_seed_replays_the_same_history() {
    for seed in [3, 8, 1_000_003] {
        let hash = || match run(seed, &Options::default()) {
            Ok(report) => report.trace_hash,
            Err(failure) => panic!("{failure}"),
        };
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}

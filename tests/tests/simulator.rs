//! The master core among model agents and frameworks, under seeded faults.

use proffer_tests::sim::{Options, run};

/// How many seeds the test command runs; campaigns run more: see `proffer-sim --help`.
const SEEDS: u64 = 200;

#[test]
fn every_invariant_holds_under_seeded_faults() {
    let options = Options::default();
    let (mut tasks, mut faults) = (0, 0);
    for seed in 0..SEEDS {
        match run(seed, &options) {
            Ok(report) => {
                tasks += report.tasks;
                faults += report.faults;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(
        tasks as u64 > SEEDS * 30,
        "the model frameworks hardly ran anything: {tasks} tasks"
    );
    assert!(faults > SEEDS * 20, "hardly any fault was injected: {faults}");
}

#[test]
fn a_seed_replays_the_same_history() {
    let options = Options::default();
    for seed in [3, 1_000_003] {
        let (first, second) = (run(seed, &options), run(seed, &options));
        let hash = |result: Result<proffer_tests::sim::Report, _>| match result {
            Ok(report) => report.trace_hash,
            Err(failure) => {
                let failure: Box<proffer_tests::sim::SimFailure> = failure;
                panic!("{failure}")
            }
        };
        assert_eq!(hash(first), hash(second), "seed {seed}");
    }
}

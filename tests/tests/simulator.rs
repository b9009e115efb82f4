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
    eprintln!("{}violations 0", campaign.report);
    // A simulator in which little happens finds little.
    let report = campaign.report;
    assert!(report.leader_kills > SEEDS, "{report}");
    assert!(report.terms > 2 * SEEDS, "{report}");
    assert!(report.tasks > 8 * SEEDS, "{report}");
    assert!(report.preempted > SEEDS / 10, "{report}");
    assert!(report.operations > SEEDS, "{report}");
    assert!(report.state_calls > 30 * SEEDS, "{report}");
    assert!(report.state_refused > SEEDS, "{report}");
    assert!(report.group_changes > SEEDS, "{report}");
    assert!(report.snapshots > SEEDS / 2, "{report}");
    assert!(report.wiped > SEEDS / 100, "{report}");
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

/// Shows that a bug, planted, is seen by one of the checkers within so many seeds, and that up to there nothing is seen
/// without it.
fn is_found(planted: Planted, checkers: &[&str], options: &Options) {
    const SEEDS_MAX: u64 = 300;
    let with = Options {
        planted: Some(planted),
        ..options.clone()
    };
    let found = (0..SEEDS_MAX).find_map(|seed| run(seed, &with).err());
    let Some(failure) = found else {
        panic!("none of {SEEDS_MAX} seeds shows {planted:?}");
    };
    let violation = &failure.violation;
    eprintln!(
        "{planted:?} is seen with seed {} by {}: {}",
        failure.seed, violation.checker, violation.what
    );
    assert!(checkers.contains(&violation.checker), "{failure}");
    for seed in 0..=failure.seed {
        if let Err(failure) = run(seed, options) {
            panic!("without {planted:?}: {failure}");
        }
    }
}

/// Little beside the masters.
fn bare() -> Options {
    Options {
        agents: 1,
        frameworks: 1,
        tasks: 2,
        ..Options::default()
    }
}

/// Its own guard sees it when it is started again: from a snapshot of a group that it is not in.
#[test]
fn a_removed_leader_that_stays_is_found() {
    let planted = Planted::Member(PlantedBug::RemovedLeaderStays);
    is_found(planted, &["no_removed_leader", "no_panic", "masters_run"], &bare());
}

/// The member's own guard sees it too: it stops when a leader knows that it held what its log lacks; and raft-rs finds its own
/// log wrong and panics.
#[test]
fn votes_and_acknowledgements_before_they_are_durable_are_found() {
    let planted = Planted::Member(PlantedBug::VoteBeforeDurable);
    let checkers = [
        "one_leader_a_term",
        "committed_never_lost",
        "state_linearizable",
        "masters_run",
        "no_panic",
    ];
    is_found(planted, &checkers, &bare());
}

/// The receiver's own guard refuses the snapshot; without it, the newcomer would never catch up.
#[test]
fn a_snapshot_that_its_receiver_ignores_is_found() {
    let planted = Planted::Member(PlantedBug::SnapshotIgnored);
    is_found(planted, &["masters_run", "progress_after_heal"], &bare());
}

#[test]
fn stale_reads_are_found() {
    let options = Options {
        state_clients: 10,
        state_calls: 30,
        faults_ms: 12_000,
        ..bare()
    };
    is_found(
        Planted::Member(PlantedBug::StaleRead),
        &["state_linearizable"],
        &options,
    );
}

/// The master's own guard sees it too: it does not start with a log that is shorter than what it applied.
#[test]
fn a_disk_that_lies_about_its_syncs_is_found() {
    let checkers = [
        "one_leader_a_term",
        "committed_never_lost",
        "state_linearizable",
        "masters_run",
        "no_panic",
    ];
    is_found(Planted::LyingDisk, &checkers, &bare());
}

#[test]
fn a_lost_acknowledgement_is_found() {
    is_found(Planted::LostAcknowledgement, &["updates_not_lost"], &Options::default());
}

//! Compaction, and members that lag behind it.

use raft::eraftpb::MessageType;

use super::cluster::Cluster;
use super::disk::Pending;
use crate::{GroupChange, Member, Role};

/// Member 3 misses ten entries, which the leader then compacts.
fn with_a_lagging_follower(mut cluster: Cluster) -> Cluster {
    cluster.elect(1);
    cluster.fill(1, 3);
    cluster.isolate(3);
    cluster.fill(1, 10);
    cluster.compact(1);
    cluster
}

#[test]
fn a_follower_that_lags_too_far_gets_a_snapshot_and_what_follows_it() {
    let mut cluster = with_a_lagging_follower(Cluster::without_tails(3));
    assert_eq!(cluster.member(1).since_snapshot(), (0, 0));
    assert!(cluster.propose(1, 50, "z"));
    cluster.settle();
    assert_eq!(cluster.member(1).since_snapshot(), (1, 1));
    cluster.told(3);
    cluster.heal();
    cluster.ticks(5);
    let told = cluster.told(3);
    let restored = told.iter().position(|told| told == "restored");
    let after = told.iter().position(|told| told == "committed z");
    assert!(restored.is_some() && restored < after, "{told:?}");
    assert_eq!(cluster.data(3), cluster.data(1));
    assert_eq!(cluster.count(1, 3, MessageType::MsgSnapshot), 1);
}

#[test]
fn a_follower_that_lags_a_little_needs_no_snapshot() {
    let mut cluster = with_a_lagging_follower(Cluster::new(3));
    cluster.heal();
    cluster.ticks(5);
    assert_eq!(cluster.data(3), cluster.data(1));
    assert_eq!(cluster.count(1, 3, MessageType::MsgSnapshot), 0);
}

#[test]
fn a_newcomer_gets_in_without_waiting_for_the_next_snapshot() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.fill(1, 20);
    cluster.told(1);
    cluster.newcomer(4);
    cluster.change(1, 9, GroupChange::AddLearner(4));
    cluster.settle();
    // One heartbeat finds out what the newcomer has.
    cluster.ticks(4);
    assert_eq!(cluster.told(1), ["group changed", "change 9 done", "snapshot wanted"]);
    assert_eq!(cluster.data(4), cluster.data(1));
    assert_eq!(
        (cluster.status(4).role, cluster.status(4).learners),
        (Role::Learner, vec![4])
    );
}

#[test]
fn a_snapshot_that_is_not_given_is_asked_for_again_and_not_at_every_message() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.fill(1, 20);
    cluster.machine(1).obliges = false;
    cluster.newcomer(4);
    cluster.change(1, 9, GroupChange::AddLearner(4));
    cluster.told(1);
    cluster.ticks(45);
    let told = cluster.told(1);
    let asked = told.iter().filter(|told| *told == "snapshot wanted").count();
    assert!((3..=5).contains(&asked), "{told:?}");
    assert_eq!(cluster.count(1, 4, MessageType::MsgSnapshot), 0);
    assert!(cluster.status(4).voters.is_empty());
    cluster.compact(1);
    cluster.settle();
    assert_eq!(cluster.data(4), cluster.data(1), "it is sent at once");
    cluster.ticks(30);
    assert!(!cluster.told(1).contains(&"snapshot wanted".to_owned()));
}

#[test]
fn a_snapshot_is_told_when_it_is_durable_and_elections_wait_for_that() {
    let mut cluster = with_a_lagging_follower(Cluster::without_tails(3));
    cluster.slow_disk(3);
    cluster.told(3);
    cluster.heal();
    cluster.ticks(4);
    assert!(cluster.propose(1, 60, "y"));
    cluster.settle();
    assert!(!cluster.told(3).contains(&"restored".to_owned()));
    assert_eq!(cluster.data(3), ["f0", "f1", "f2"]);
    cluster.crash(1);
    for _ in 0..100 {
        cluster.with(3, Member::tick);
    }
    assert_ne!(cluster.status(3).role, Role::Candidate);
    let snapshot_write = |pending: &Pending| matches!(pending, Pending::Write(write) if write.snapshot.is_some());
    while cluster.machine(3).disk.pending.iter().any(snapshot_write) {
        cluster.write_one(3);
    }
    cluster.drive(3);
    assert!(cluster.told(3).contains(&"restored".to_owned()));
    cluster.fast_disk(3);
    cluster.restart(1);
    cluster.wait_for_leader();
    cluster.ticks(30);
    assert_eq!(cluster.data(3), cluster.data(1));
    assert!(cluster.data(3).contains(&"y".to_owned()));
}

#[test]
fn a_snapshot_that_was_not_written_is_lost_in_a_crash() {
    let mut cluster = with_a_lagging_follower(Cluster::without_tails(3));
    cluster.slow_disk(3);
    cluster.heal();
    cluster.ticks(4);
    cluster.crash(3);
    cluster.machine(3).disk.is_fast = true;
    cluster.restart(3);
    assert!(cluster.data(3).len() <= 3);
    cluster.ticks(30);
    assert_eq!(cluster.data(3), cluster.data(1));
}

#[test]
fn a_snapshot_that_was_lost_on_its_way_is_sent_again() {
    let mut cluster = with_a_lagging_follower(Cluster::without_tails(3));
    cluster.heal();
    let mut lost = 0;
    for _ in 0..40 {
        for id in cluster.up() {
            cluster.with(id, Member::tick);
        }
        while let Some(message) = cluster.messages.pop_front() {
            if message.get_msg_type() == MessageType::MsgSnapshot && lost < 3 {
                lost += 1;
                let to = message.to;
                cluster.with(1, |member| member.snapshot_sent(to, false));
            } else {
                cluster.deliver(message);
            }
        }
    }
    assert_eq!(lost, 3);
    assert_eq!(cluster.data(3), cluster.data(1));
}

#[test]
fn a_member_starts_from_its_snapshot_and_serves_followers_from_the_older_tail() {
    let mut cluster = with_a_lagging_follower(Cluster::new(3));
    assert!(cluster.propose(1, 50, "z"));
    cluster.settle();
    // The disk still has every entry from the beginning on.
    let disk = &cluster.machine(1).disk.start;
    assert!(disk.entries[0].index < disk.snapshot.get_metadata().index);
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!(
        cluster.data(1).last().map(String::as_str),
        Some("f9"),
        "the rest is not known to be committed"
    );
    cluster.elect(1);
    assert_eq!(cluster.data(1).last().map(String::as_str), Some("z"));
    cluster.heal();
    cluster.ticks(5);
    assert_eq!(cluster.data(3), cluster.data(1));
    assert_eq!(cluster.count(1, 3, MessageType::MsgSnapshot), 0);
}

#[test]
fn entries_and_bytes_since_the_last_snapshot_are_counted() {
    let mut cluster = Cluster::new(1);
    cluster.fill(1, 10);
    assert_eq!(
        cluster.member(1).since_snapshot(),
        (11, 20),
        "and the leader's empty entry"
    );
    cluster.compact(1);
    assert_eq!(cluster.member(1).since_snapshot(), (0, 0));
    cluster.compact(1);
    assert!(cluster.propose(1, 1, "abc"));
    assert_eq!(cluster.member(1).since_snapshot(), (1, 3));
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!(cluster.member(1).since_snapshot(), (2, 3));
}

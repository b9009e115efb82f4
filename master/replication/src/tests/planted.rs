//! The planted bugs are there: what each breaks breaks.

use raft::eraftpb::MessageType;

use super::cluster::Cluster;
use crate::{GroupChange, Member, PlantedBug, Role};

fn with_bug(count: u64, bug: PlantedBug) -> Cluster {
    Cluster::with_settings(count, |settings| settings.planted = Some(bug))
}

#[test]
fn a_removed_leader_stays() {
    let mut cluster = with_bug(3, PlantedBug::RemovedLeaderStays);
    cluster.elect(1);
    cluster.cuts.extend([(1, 3), (2, 1)]);
    cluster.change(1, 7, GroupChange::Remove(2));
    cluster.settle();
    cluster.heal();
    cluster.crash(1);
    cluster.elect(2);
    assert_eq!(cluster.status(2).voters, [1, 3]);
    assert_eq!(cluster.status(2).role, Role::Leader);
}

#[test]
fn votes_leave_before_they_are_durable() {
    let mut cluster = with_bug(3, PlantedBug::VoteBeforeDurable);
    cluster.slow_disk(2);
    cluster.isolate(3);
    for _ in 0..40 {
        cluster.with(1, Member::tick);
        cluster.settle();
    }
    assert!(cluster.count(2, 1, MessageType::MsgRequestVoteResponse) > 0);
    assert!(!cluster.machine(2).disk.pending.is_empty());
}

#[test]
#[should_panic(expected = "two leaders in term")]
fn a_vote_is_given_twice_in_one_term() {
    let mut cluster = with_bug(3, PlantedBug::VoteBeforeDurable);
    cluster.slow_disk(2);
    cluster.cuts.extend([(3, 1), (1, 3), (3, 2), (2, 3)]);
    cluster.elect(1);
    cluster.crash(2);
    cluster.isolate(1);
    cluster.cuts.retain(|cut| *cut != (3, 2) && *cut != (2, 3));
    cluster.restart(2);
    cluster.elect(3);
}

#[test]
fn a_snapshot_is_handed_out_that_its_receiver_does_not_take() {
    let mut cluster = with_bug(3, PlantedBug::SnapshotIgnored);
    cluster.elect(1);
    cluster.fill(1, 3);
    cluster.newcomer(4);
    cluster.change(1, 1, GroupChange::AddLearner(4));
    cluster.deliver_unchecked(100);
    for _ in 0..10 {
        cluster.with(1, Member::tick);
        cluster.deliver_unchecked(100);
    }
    assert!(cluster.count(1, 4, MessageType::MsgSnapshot) > 0);
    assert!(cluster.data(4).is_empty());
}

#[test]
fn a_replaced_leader_answers_reads() {
    let mut cluster = with_bug(3, PlantedBug::StaleRead);
    cluster.elect(1);
    cluster.isolate(1);
    cluster.elect(2);
    assert!(cluster.propose(2, 5, "new"));
    cluster.settle();
    cluster.with(1, |member| member.read(9));
    assert!(cluster.told(1).contains(&"readable 9".to_owned()));
    assert!(cluster.data(1).is_empty());
}

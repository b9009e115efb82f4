//! Members that come and go, and leaders that hand over.

use raft::eraftpb::MessageType;

use super::cluster::Cluster;
use crate::{GroupChange, GroupRefusal, Role};

fn refusal(cluster: &mut Cluster, id: u64, what: GroupChange) -> GroupRefusal {
    cluster
        .with(id, |member| member.change_group(99, what))
        .expect_err("a refusal")
}

/// Three voters led by 1, and member 4 as a learner that has everything.
fn with_a_learner() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.fill(1, 5);
    cluster.newcomer(4);
    cluster.change(1, 1, GroupChange::AddLearner(4));
    cluster.ticks(5);
    assert_eq!(cluster.data(4), cluster.data(1));
    cluster.told(1);
    cluster
}

#[test]
fn a_learner_is_promoted_and_votes() {
    let mut cluster = with_a_learner();
    cluster.change(1, 2, GroupChange::Promote { id: 4, replaces: None });
    cluster.settle();
    assert_eq!(cluster.told(1), ["group changed", "change 2 done"]);
    cluster.ticks(3);
    assert_eq!(cluster.status(4).voters, [1, 2, 3, 4]);
    cluster.crash(1);
    cluster.crash(2);
    cluster.ticks(60);
    assert_eq!(cluster.leader(), None, "two of four are no majority");
    cluster.restart(1);
    cluster.wait_for_leader();
}

#[test]
fn a_voter_is_replaced_in_one_step() {
    let mut cluster = with_a_learner();
    let replace = GroupChange::Promote {
        id: 4,
        replaces: Some(3),
    };
    cluster.change(1, 2, replace);
    cluster.settle();
    assert_eq!(cluster.told(1), ["group joint", "group changed", "change 2 done"]);
    cluster.ticks(3);
    assert_eq!(cluster.status(4).voters, [1, 2, 4]);
    assert!(cluster.status(4).voters_outgoing.is_empty());
    assert!(cluster.told(3).contains(&"removed".to_owned()));
}

#[test]
fn a_joint_configuration_is_left_when_its_leader_crashes_whoever_leads_then() {
    for next in [2, 3, 4] {
        let mut cluster = with_a_learner();
        let replace = GroupChange::Promote {
            id: 4,
            replaces: Some(3),
        };
        cluster.change(1, 2, replace);
        while !cluster.told(1).contains(&"group joint".to_owned()) {
            assert!(cluster.deliver_one());
        }
        cluster.crash(1);
        cluster.messages.clear();
        let applied = cluster.status(next).voters_outgoing.clone();
        assert!(applied.is_empty(), "nobody else knows that it is committed");
        if next == 4 {
            // A learner by what it applied: it can lead when another has told it more.
            cluster.wait_for_leader();
        } else {
            cluster.elect(next);
        }
        cluster.ticks(60);
        let leader = cluster.leader().expect("a leader");
        assert_eq!(cluster.status(leader).voters, [1, 2, 4]);
        assert!(cluster.status(leader).voters_outgoing.is_empty());
        assert_ne!(leader, 3);
        assert_eq!(cluster.status(3).role, Role::Removed);
        cluster.restart(1);
        cluster.ticks(30);
        assert_eq!(cluster.status(1).voters, [1, 2, 4]);
    }
}

#[test]
fn a_learner_and_a_voter_are_removed() {
    let mut cluster = with_a_learner();
    cluster.change(1, 2, GroupChange::Remove(4));
    cluster.ticks(3);
    cluster.change(1, 3, GroupChange::Remove(2));
    cluster.ticks(3);
    assert_eq!(cluster.status(1).voters, [1, 3]);
    assert!(cluster.status(1).learners.is_empty());
    assert!(cluster.told(2).contains(&"removed".to_owned()));
    assert_eq!(cluster.status(2).role, Role::Removed);
    assert!(cluster.propose(1, 50, "z"));
    cluster.settle();
    assert_eq!(cluster.data(3).last().map(String::as_str), Some("z"));
    // What it was is on its disk.
    cluster.crash(2);
    cluster.restart(2);
    assert_eq!(cluster.status(2).role, Role::Removed);
    assert!(cluster.told(2).contains(&"removed".to_owned()));
}

#[test]
fn changes_that_would_not_do_are_refused() {
    let mut cluster = with_a_learner();
    let promote = |id, replaces| GroupChange::Promote { id, replaces };
    let cases = [
        (GroupChange::AddLearner(4), GroupRefusal::Present(4)),
        (GroupChange::AddLearner(2), GroupRefusal::Present(2)),
        (GroupChange::AddLearner(0), GroupRefusal::Unknown(0)),
        (promote(5, None), GroupRefusal::Unknown(5)),
        (promote(2, None), GroupRefusal::Votes(2)),
        (promote(4, Some(1)), GroupRefusal::IsLeader(1)),
        (promote(4, Some(9)), GroupRefusal::Unknown(9)),
        (GroupChange::Remove(1), GroupRefusal::IsLeader(1)),
        (GroupChange::Remove(9), GroupRefusal::Unknown(9)),
    ];
    for (what, expected) in cases {
        assert_eq!(refusal(&mut cluster, 1, what), expected, "{what:?}");
    }
    assert_eq!(
        refusal(&mut cluster, 2, GroupChange::Remove(3)),
        GroupRefusal::NotLeader
    );
    cluster.change(1, 2, GroupChange::Remove(3));
    assert_eq!(refusal(&mut cluster, 1, GroupChange::Remove(2)), GroupRefusal::Busy);
    cluster.settle();
    let mut alone = Cluster::new(1);
    assert_eq!(refusal(&mut alone, 1, GroupChange::Remove(1)), GroupRefusal::Last(1));
}

#[test]
fn a_learner_that_lacks_too_much_is_not_promoted() {
    let mut cluster = with_a_learner();
    cluster.isolate(4);
    cluster.machine(1).settings.behind_entries_max = 0;
    for number in 0..1001 {
        assert!(cluster.propose(1, number, "x"));
    }
    cluster.settle();
    let promote = GroupChange::Promote { id: 4, replaces: None };
    let behind = 1001;
    assert_eq!(
        refusal(&mut cluster, 1, promote),
        GroupRefusal::Behind { id: 4, behind }
    );
    cluster.heal();
    cluster.ticks(4);
    cluster.change(1, 3, promote);
    // A newcomer of whom nothing is known lacks everything.
    cluster.settle();
    cluster.machine(1).obliges = false;
    cluster.newcomer(5);
    cluster.change(1, 4, GroupChange::AddLearner(5));
    cluster.settle();
    let promote = GroupChange::Promote { id: 5, replaces: None };
    assert!(matches!(
        refusal(&mut cluster, 1, promote),
        GroupRefusal::Behind { id: 5, .. }
    ));
}

#[test]
fn a_change_whose_leader_is_lost_is_told_as_dropped() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(1);
    cluster.change(1, 7, GroupChange::Remove(3));
    cluster.ticks(60);
    assert!(cluster.told(1).contains(&"change 7 dropped".to_owned()));
    cluster.heal();
    cluster.ticks(30);
    for id in 1..=3 {
        assert_eq!(cluster.status(id).voters, [1, 2, 3]);
    }
}

#[test]
fn leadership_is_handed_to_whom_it_is_asked_for() {
    let mut cluster = with_a_learner();
    assert!(!cluster.with(2, |member| member.transfer_leadership(None)));
    assert!(
        !cluster.with(1, |member| member.transfer_leadership(Some(4))),
        "it does not vote"
    );
    assert!(!cluster.with(1, |member| member.transfer_leadership(Some(1))));
    assert!(!cluster.with(1, |member| member.transfer_leadership(Some(9))));
    assert!(cluster.with(1, |member| member.transfer_leadership(Some(3))));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(3));
    assert!(cluster.told(1).contains(&"lost".to_owned()));
    let mut alone = Cluster::new(1);
    assert!(!alone.with(1, |member| member.transfer_leadership(None)));
}

#[test]
fn leadership_goes_to_the_longest_log_where_nobody_is_named() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(2);
    cluster.fill(1, 3);
    assert!(cluster.with(1, |member| member.transfer_leadership(None)));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(3));
}

#[test]
fn nothing_is_proposed_while_leadership_is_handed_over() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(3);
    cluster.fill(1, 3);
    assert!(cluster.with(1, |member| member.transfer_leadership(Some(3))));
    assert!(!cluster.propose(1, 9, "x"));
    let refused = refusal(&mut cluster, 1, GroupChange::Remove(2));
    assert_eq!(refused, GroupRefusal::Busy);
    assert_eq!(
        cluster.count(1, 3, MessageType::MsgTimeoutNow),
        0,
        "it must catch up first"
    );
    // It does not catch up in time: the leader goes on.
    cluster.ticks(12);
    assert_eq!(cluster.leader(), Some(1));
    assert!(cluster.propose(1, 10, "y"));
}

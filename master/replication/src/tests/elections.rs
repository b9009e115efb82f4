//! Who leads.

use super::cluster::Cluster;
use crate::{Member, Role};

#[test]
fn a_group_of_one_leads_at_once() {
    let mut cluster = Cluster::new(1);
    assert_eq!(cluster.told(1), ["leader 1", "led"]);
    assert_eq!(cluster.status(1).role, Role::Leader);
    assert!(cluster.member(1).is_alone());
}

#[test]
fn one_of_three_is_elected_and_the_others_follow_it() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.wait_for_leader();
    cluster.ticks(3);
    for id in 1..=3 {
        assert_eq!(cluster.status(id).leader, Some(leader));
    }
    assert!(cluster.told(leader).contains(&"led".to_owned()));
}

#[test]
fn a_member_that_was_cut_off_does_not_disturb_the_group_when_it_comes_back() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let term = cluster.status(1).term;
    cluster.isolate(3);
    cluster.ticks(100);
    assert_eq!(cluster.status(3).role, Role::Candidate);
    assert_eq!(
        cluster.status(3).term,
        term,
        "without pre-votes it would have gone through many terms"
    );
    cluster.heal();
    cluster.ticks(30);
    assert_eq!((cluster.leader(), cluster.status(1).term), (Some(1), term));
    assert_eq!(cluster.status(3).leader, Some(1));
}

#[test]
fn a_leader_without_a_majority_steps_down() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.told(1);
    cluster.isolate(1);
    for _ in 0..25 {
        cluster.with(1, Member::tick);
        cluster.settle();
    }
    assert_ne!(cluster.status(1).role, Role::Leader);
    assert_eq!(cluster.told(1)[..1], ["lost"]);
}

//! What is proposed, and what becomes of it.

use super::cluster::Cluster;

#[test]
fn what_is_proposed_is_told_everywhere_in_one_order() {
    let mut cluster = Cluster::new(3);
    cluster.elect(2);
    cluster.told(2);
    assert!(cluster.propose(2, 10, "a"));
    assert!(cluster.propose(2, 11, "b"));
    assert!(!cluster.propose(1, 12, "c"));
    cluster.ticks(3);
    assert_eq!(cluster.told(2), ["committed a as 10", "committed b as 11"]);
    for id in 1..=3 {
        assert_eq!(cluster.data(id), ["a", "b"]);
    }
}

#[test]
fn a_group_of_one_tells_again_what_was_committed_before_it_leads() {
    let mut cluster = Cluster::new(1);
    assert!(cluster.propose(1, 7, "a"));
    cluster.crash(1);
    cluster.told(1);
    cluster.restart(1);
    assert_eq!(cluster.told(1), ["leader 1", "committed a", "led"]);
}

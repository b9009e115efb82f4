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

#[test]
fn proposals_of_a_lost_leader_are_told_as_dropped() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(1);
    assert!(cluster.propose(1, 10, "a"));
    cluster.elect(2);
    cluster.told(1);
    cluster.heal();
    cluster.ticks(20);
    let told = cluster.told(1);
    assert_eq!(told[..2], ["lost", "dropped 10"]);
    assert!(cluster.data(1).is_empty());
}

#[test]
fn what_another_leader_committed_is_told_after_the_loss_of_the_leadership() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(1);
    assert!(cluster.propose(1, 10, "a"));
    cluster.elect(2);
    assert!(cluster.propose(2, 11, "b"));
    cluster.settle();
    cluster.told(1);
    cluster.heal();
    cluster.elect(2);
    cluster.ticks(5);
    let told = cluster.told(1);
    let dropped = told.iter().position(|told| told == "dropped 10");
    let foreign = told.iter().position(|told| told == "committed b");
    assert!(dropped.is_some() && dropped < foreign, "{told:?}");
}

#[test]
fn empty_data_is_not_proposed() {
    let mut cluster = Cluster::new(1);
    assert!(!cluster.propose(1, 1, ""));
}

#[test]
fn proposals_are_refused_while_too_much_waits() {
    let mut cluster = Cluster::with_settings(3, |settings| {
        settings.message_bytes_max = 1000;
        settings.uncommitted_bytes_max = 1000;
    });
    cluster.elect(1);
    cluster.cuts.extend([(1, 2), (1, 3)]);
    let data = "x".repeat(300);
    let taken = (0..10).filter(|number| cluster.propose(1, *number, &data)).count();
    assert!((3..=4).contains(&taken), "{taken}");
    cluster.heal();
    cluster.ticks(3);
    assert!(cluster.propose(1, 20, &data));
}

#[test]
fn proposals_made_at_once_are_put_into_the_log_in_order_or_not_at_all() {
    let mut cluster = Cluster::with_settings(3, |settings| {
        settings.message_bytes_max = 1000;
        settings.uncommitted_bytes_max = 1000;
    });
    cluster.elect(1);
    let proposals = |numbers: std::ops::Range<u64>, bytes: usize| {
        let data = |number: u64| number.to_string().into_bytes().repeat(bytes);
        numbers.map(|number| (number, data(number))).collect::<Vec<_>>()
    };
    assert!(cluster.member(1).propose_all(proposals(1..4, 1)));
    assert!(
        !cluster.member(1).propose_all(proposals(5..9, 300)),
        "too much for what waits"
    );
    assert!(!cluster.member(1).propose_all(Vec::new()));
    assert!(
        !cluster
            .member(1)
            .propose_all(vec![(9, b"x".to_vec()), (10, Vec::new())])
    );
    assert!(!cluster.member(2).propose_all(proposals(11..12, 1)), "it does not lead");
    cluster.settle();
    assert_eq!(cluster.data(3), ["1", "2", "3"]);
    // Each is told with its number.
    let told = cluster.told(1);
    let own: Vec<_> = told.iter().filter(|told| told.contains(" as ")).collect();
    assert_eq!(own, ["committed 1 as 1", "committed 2 as 2", "committed 3 as 3"]);
}

#[test]
fn proposals_of_one_drive_share_a_message() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.settle();
    let kind = raft::eraftpb::MessageType::MsgAppend;
    let before = cluster.count(1, 2, kind);
    for number in 0..100 {
        assert!(cluster.member(1).propose(number, vec![b'x']));
    }
    cluster.drive(1);
    assert_eq!(cluster.count(1, 2, kind), before + 1);
    cluster.settle();
    assert_eq!(cluster.data(2).len(), 100);
}

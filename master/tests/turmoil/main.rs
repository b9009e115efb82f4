//! Masters' connections to each other under a simulated network: the real adapters, and real members of a raft group between
//! them; only TCP and time are turmoil's.

mod host;
mod network;

use std::time::Duration;

use host::Group;

const MEMBERS: u64 = 3;

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_catches_up() {
    let mut group = Group::new(1, MEMBERS);
    let first = group.leader();
    group.commit("before");
    for other in group.others(first) {
        group.sim.partition(host::name(first), host::name(other));
    }
    // It takes what it is told, and can commit none of it.
    group.propose(first, "in vain");
    group.until("another leader", |group| {
        group.leaders().iter().any(|&leader| leader != first)
    });
    let second = group
        .leaders()
        .into_iter()
        .find(|&leader| leader != first)
        .expect("just seen");
    group.propose(second, "after");
    let others = group.others(first);
    group.until("a commit without the first", |group| {
        others
            .iter()
            .all(|&id| group.committed(id).contains(&"after".to_owned()))
    });
    assert_eq!(group.committed(first), ["before"]);
    group.until("the first to step down", |group| group.leaders() == [second]);
    group.until("the break to be told", |group| group.unreachable(second) > 0);
    for other in others {
        group.sim.repair(host::name(first), host::name(other));
    }
    group.until("all to be equal", |group| {
        (1..=MEMBERS).all(|id| group.committed(id) == ["before", "after"])
    });
}

#[test]
fn a_link_that_is_cut_one_way_is_noticed() {
    let mut group = Group::new(2, MEMBERS);
    let leader = group.leader();
    let follower = group.others(leader)[0];
    group.sim.partition_oneway(host::name(follower), host::name(leader));
    // Acknowledgements of one follower are missing: the other one is enough.
    group.propose(leader, "with one");
    group.until("a commit", |group| group.committed(leader) == ["with one"]);
    group.until("the silence to be noticed", |group| group.unreachable(leader) > 0);
    group.sim.repair_oneway(host::name(follower), host::name(leader));
    group.until("all to be equal", |group| {
        (1..=MEMBERS).all(|id| group.committed(id) == ["with one"])
    });
}

#[test]
fn messages_that_are_held_up_arrive_in_the_end_or_are_sent_again() {
    let mut group = Group::new(3, MEMBERS);
    let leader = group.leader();
    let follower = group.others(leader)[0];
    group.sim.hold(host::name(leader), host::name(follower));
    for number in 0..50 {
        group.propose(leader, &format!("held {number}"));
    }
    group.until("commits without it", |group| group.committed(leader).len() == 50);
    group.sim.release(host::name(leader), host::name(follower));
    group.until("all to be equal", |group| {
        (1..=MEMBERS).all(|id| group.committed(id) == group.committed(leader))
    });
}

#[test]
fn a_network_that_breaks_again_and_again_loses_nothing() {
    let mut group = Group::new(4, MEMBERS);
    group.leader();
    for round in 0..20_u64 {
        let (one, other) = (round % MEMBERS + 1, (round + 1) % MEMBERS + 1);
        group.sim.partition(host::name(one), host::name(other));
        group.run_for(Duration::from_millis(700));
        group.sim.repair(host::name(one), host::name(other));
        group.commit(&format!("round {round}"));
    }
    group.until("all to be equal", |group| {
        let all = group.committed(1);
        let rounds = (0..20).all(|round| all.contains(&format!("round {round}")));
        rounds && (1..=MEMBERS).all(|id| group.committed(id) == all)
    });
}

#[test]
fn a_snapshot_that_is_cut_off_is_sent_again() {
    let mut group = Group::new(5, MEMBERS);
    let leader = group.leader();
    let follower = group.others(leader)[0];
    group.sim.partition(host::name(leader), host::name(follower));
    group
        .sim
        .partition(host::name(group.others(leader)[1]), host::name(follower));
    group.commit("covered");
    group.compact(leader);
    // Large enough to be on its way for a while, on a slow link.
    group
        .sim
        .set_link_latency(host::name(leader), host::name(follower), Duration::from_millis(20));
    group.sim.repair(host::name(leader), host::name(follower));
    group.until("a snapshot to be on its way", |group| group.snapshots_begun(leader) > 0);
    group.sim.partition(host::name(leader), host::name(follower));
    group.until("its end to be told", |group| group.snapshots_failed(leader) > 0);
    assert_eq!(group.restored(follower), 0);
    group.sim.repair(host::name(leader), host::name(follower));
    group.until("a whole one", |group| group.restored(follower) == 1);
    let text = "after the snapshot";
    group.commit(text);
    group.until("it to follow", |group| {
        group.committed(follower).contains(&text.to_owned())
    });
}

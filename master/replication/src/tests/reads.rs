//! Linearizable reads.

use raft::eraftpb::MessageType;

use super::cluster::Cluster;
use crate::{Member, Role};

fn read(cluster: &mut Cluster, id: u64, read: u64) {
    cluster.with(id, |member| member.read(read));
}

#[test]
fn the_leader_asks_the_group_before_it_answers() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.told(1);
    read(&mut cluster, 1, 5);
    assert!(cluster.told(1).is_empty());
    cluster.settle();
    assert_eq!(cluster.told(1), ["readable 5"]);
    read(&mut cluster, 2, 6);
    assert_eq!(cluster.told(2).last().map(String::as_str), Some("unreadable 6"));
}

#[test]
fn a_group_of_one_answers_at_once() {
    let mut cluster = Cluster::new(1);
    cluster.told(1);
    read(&mut cluster, 1, 5);
    assert_eq!(cluster.told(1), ["readable 5"]);
}

#[test]
fn reads_that_gather_share_a_round() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.told(1);
    let before = cluster.count(1, 2, MessageType::MsgHeartbeat);
    read(&mut cluster, 1, 0);
    for number in 1..1000 {
        read(&mut cluster, 1, number);
    }
    cluster.settle();
    assert_eq!(cluster.told(1).len(), 1000);
    assert_eq!(cluster.count(1, 2, MessageType::MsgHeartbeat) - before, 2);
}

#[test]
fn a_new_leader_answers_when_its_first_entry_is_committed() {
    let mut cluster = Cluster::new(3);
    cluster.slow_disk(2);
    cluster.slow_disk(3);
    let mut ticks = 0;
    while cluster.status(1).role != Role::Leader {
        cluster.with(1, Member::tick);
        // Until it leads only votes are written there.
        while cluster.deliver_one() {
            if cluster.status(1).role != Role::Leader {
                cluster.flush(2);
                cluster.drive(2);
            }
        }
        ticks += 1;
        assert!(ticks < 100, "it is never elected");
    }
    read(&mut cluster, 1, 5);
    cluster.settle();
    assert!(cluster.told(1).is_empty_of("readable 5"));
    cluster.fast_disk(2);
    cluster.ticks(3);
    let told = cluster.told(1);
    let led = told.iter().position(|told| told == "led");
    let readable = told.iter().position(|told| told == "readable 5");
    assert!(led.is_some() && led < readable, "{told:?}");
}

trait IsEmptyOf {
    fn is_empty_of(&self, what: &str) -> bool;
}

impl IsEmptyOf for Vec<String> {
    fn is_empty_of(&self, what: &str) -> bool {
        !self.iter().any(|told| told == what)
    }
}

#[test]
fn a_leader_that_was_replaced_never_answers_with_old_state() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(1);
    cluster.elect(2);
    assert!(cluster.propose(2, 5, "new"));
    cluster.settle();
    assert_eq!(cluster.status(1).role, Role::Leader, "it does not know better yet");
    cluster.told(1);
    read(&mut cluster, 1, 7);
    cluster.ticks(25);
    let told = cluster.told(1);
    assert!(
        told.contains(&"unreadable 7".to_owned()) && told.is_empty_of("readable 7"),
        "{told:?}"
    );
}

#[test]
fn a_read_waits_until_everything_before_it_has_been_told() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.told(1);
    cluster.slow_disk(1);
    assert!(cluster.propose(1, 5, "a"));
    cluster.settle();
    read(&mut cluster, 1, 7);
    cluster.settle();
    assert!(
        cluster.told(1).is_empty(),
        "a is committed, and told when it is durable here"
    );
    cluster.fast_disk(1);
    assert_eq!(cluster.told(1), ["committed a as 5", "readable 7"]);
}

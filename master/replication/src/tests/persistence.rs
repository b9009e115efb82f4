//! Disks that are slow, and crashes that lose what was not written.

use raft::eraftpb::MessageType;

use super::cluster::Cluster;
use super::disk::Pending;
use crate::{GroupChange, Member, Role};

#[test]
fn a_commit_does_not_wait_for_the_leaders_own_slow_disk() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.told(1);
    cluster.slow_disk(1);
    assert!(cluster.propose(1, 5, "a"));
    cluster.settle();
    let status = cluster.status(1);
    assert_eq!(status.committed, status.last, "two of three have it");
    assert_eq!(
        (cluster.data(2), cluster.data(3)),
        (vec!["a".to_owned()], vec!["a".to_owned()])
    );
    // What is told is on this member's disk: an application may build on that when it starts again.
    assert!(cluster.told(1).is_empty());
    cluster.flush(1);
    cluster.drive(1);
    assert_eq!(cluster.told(1), ["committed a as 5"]);
}

#[test]
fn a_commit_does_not_wait_for_one_followers_slow_disk() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.slow_disk(3);
    let acknowledged = cluster.count(3, 1, MessageType::MsgAppendResponse);
    assert!(cluster.propose(1, 5, "a"));
    cluster.settle();
    assert_eq!(cluster.data(1), ["a"]);
    assert_eq!(
        cluster.count(3, 1, MessageType::MsgAppendResponse),
        acknowledged,
        "nothing is durable there"
    );
    assert!(cluster.data(3).is_empty());
    cluster.fast_disk(3);
    assert!(cluster.count(3, 1, MessageType::MsgAppendResponse) > acknowledged);
    assert_eq!(cluster.data(3), ["a"]);
}

#[test]
fn a_vote_is_not_sent_before_it_is_durable() {
    let mut cluster = Cluster::new(3);
    cluster.isolate(3);
    cluster.slow_disk(2);
    for _ in 0..40 {
        cluster.with(1, Member::tick);
        cluster.settle();
    }
    assert_eq!(cluster.status(1).role, Role::Candidate);
    assert!(cluster.count(1, 2, MessageType::MsgRequestVote) > 0);
    assert_eq!(cluster.count(2, 1, MessageType::MsgRequestVoteResponse), 0);
    cluster.fast_disk(2);
    assert!(cluster.count(2, 1, MessageType::MsgRequestVoteResponse) > 0);
}

#[test]
fn votes_are_not_asked_for_before_the_own_vote_is_durable() {
    let mut cluster = Cluster::new(3);
    cluster.slow_disk(1);
    let mut ticks = 0;
    while cluster.machine(1).disk.pending.is_empty() {
        cluster.with(1, Member::tick);
        cluster.settle();
        ticks += 1;
        assert!(ticks < 100, "it never stands for election");
    }
    assert_eq!(cluster.count(1, 2, MessageType::MsgRequestVote), 0);
    // Votes that nobody asked for are not counted.
    for voter in [2, 3] {
        let mut vote = raft::eraftpb::Message::default();
        vote.set_msg_type(MessageType::MsgRequestVoteResponse);
        (vote.from, vote.to, vote.term) = (voter, 1, cluster.status(1).term);
        assert_eq!(cluster.with(1, |member| member.receive(vote)), Ok(()));
    }
    assert_eq!(cluster.status(1).role, Role::Candidate);
    cluster.fast_disk(1);
    assert_eq!(cluster.status(1).role, Role::Leader);
}

#[test]
fn what_was_not_written_is_lost_in_a_crash_and_comes_again_from_the_leader() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.slow_disk(3);
    cluster.fill(1, 5);
    cluster.crash(3);
    cluster.machine(3).disk.is_fast = true;
    cluster.restart(3);
    assert!(cluster.data(3).is_empty());
    cluster.ticks(30);
    assert_eq!(cluster.data(3), ["f0", "f1", "f2", "f3", "f4"]);
}

#[test]
fn entries_of_a_lost_leader_are_replaced_while_their_write_is_under_way() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    cluster.slow_disk(5);
    cluster.cuts.extend([(1, 2), (1, 3), (1, 4)]);
    assert!(cluster.propose(1, 5, "a"));
    assert!(cluster.propose(1, 6, "b"));
    cluster.settle();
    assert_eq!(cluster.machine(5).disk.pending.len(), 2);
    cluster.isolate(1);
    cluster.elect(2);
    assert!(cluster.propose(2, 7, "c"));
    cluster.ticks(3);
    assert!(cluster.machine(5).disk.pending.len() > 2);
    let mut written = 0;
    while cluster.write_one(5) {
        cluster.drive(5);
        cluster.settle();
        written += 1;
    }
    assert!(written > 2);
    cluster.ticks(3);
    assert_eq!(cluster.data(5), ["c"]);
    let last = cluster.status(5).last;
    assert_eq!(
        cluster.machine(5).disk.start.entries.last().map(|entry| entry.index),
        Some(last)
    );
}

/// Who votes alone leads before its vote is durable. If a learner heard of it at once, and the machine crashed, it could lead a
/// second time in the same term, with other entries at the same places.
#[test]
fn a_lone_voter_says_nothing_to_learners_before_its_term_is_durable() {
    let mut cluster = Cluster::new(1);
    cluster.newcomer(2);
    cluster.change(1, 1, GroupChange::AddLearner(2));
    cluster.ticks(5);
    assert_eq!(cluster.status(2).voters, [1]);
    cluster.crash(1);
    cluster.slow_disk(1);
    cluster.restart(1);
    for _ in 0..40 {
        cluster.with(1, Member::tick);
    }
    assert_eq!(cluster.status(1).role, Role::Leader);
    assert!(cluster.propose(1, 5, "a"));
    assert!(cluster.messages.is_empty(), "{:?}", cluster.messages);
    cluster.fast_disk(1);
    cluster.ticks(5);
    assert_eq!(cluster.data(2), ["a"]);
}

#[test]
fn the_commit_index_reaches_the_disk_of_an_idle_group() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.fill(1, 3);
    cluster.ticks(6);
    for id in 1..=3 {
        let committed = cluster.status(id).committed;
        assert_eq!(cluster.machine(id).disk.start.hard_state.commit, committed);
    }
}

#[test]
fn writes_are_numbered_without_gaps_and_only_a_commit_index_alone_needs_no_sync() {
    let mut cluster = Cluster::new(1);
    cluster.slow_disk(1);
    for round in 0..5 {
        assert!(cluster.propose(1, round, "a"));
        cluster.with(1, Member::tick);
        cluster.with(1, Member::tick);
    }
    let pending = cluster.machine(1).disk.pending.clone();
    let writes = pending.iter().map(|pending| match pending {
        Pending::Write(write) => write,
        Pending::Compact(_) => unreachable!("nobody compacted"),
    });
    let writes: Vec<_> = writes.collect();
    assert!(writes.windows(2).all(|pair| pair[1].number == pair[0].number + 1));
    for write in &writes {
        assert_eq!(write.must_sync, !write.entries.is_empty(), "{write:?}");
    }
}

/// Nothing waits for a write that need not be synced, so a disk that joins it to the next one stops nobody.
#[test]
fn a_write_without_sync_need_never_be_reported() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.slow_disk(2);
    for round in 0..5 {
        assert!(cluster.propose(1, round, "a"));
        cluster.settle();
        for _ in 0..3 {
            cluster.with(2, Member::tick);
        }
        let pending = std::mem::take(&mut cluster.machine(2).disk.pending);
        for pending in pending {
            if let Pending::Write(write) = pending
                && write.must_sync
            {
                cluster.with(2, |member| member.written(write.number));
            }
        }
        cluster.settle();
    }
    assert_eq!(cluster.data(2).len(), 5);
}

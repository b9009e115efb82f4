//! raft-rs 0.7.0 has traps; here is a test for the guard against each, by the number under which the notes on the
//! control plane list it.

use raft::Storage as _;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfChangeV2, EntryType, Message, MessageType};

use protobuf::Message as _;

use super::cluster::{Cluster, entry, hard_state};
use crate::{Error, GroupChange, Member, Outcome, Refusal, Role, Settings, Start, bootstrap};

fn message(kind: MessageType, from: u64, to: u64, term: u64) -> Message {
    let mut message = Message::default();
    message.set_msg_type(kind);
    (message.from, message.to, message.term) = (from, to, term);
    message
}

#[test]
fn p1_every_default_that_must_not_be_used_is_set() {
    let config = Settings::new(1, 0).raft(5);
    assert!(config.pre_vote && config.check_quorum);
    assert!(config.max_size_per_msg > 100_000, "0 would be one entry a message");
    assert!(config.max_uncommitted_size < u64::MAX && config.max_committed_size_per_ready < u64::MAX);
    assert!(config.max_uncommitted_size >= config.max_size_per_msg);
    assert_eq!((config.id, config.applied), (1, 5));
    config.validate().unwrap();
}

#[test]
fn p2_a_run_is_repeated_exactly_by_its_seed() {
    let trace = |seed| {
        let mut cluster = Cluster::seeded(5, seed);
        for round in 0..30 {
            let leader = cluster.wait_for_leader();
            let _ = cluster.propose(leader, round, "x");
            cluster.ticks(2);
            if round % 10 == 5 {
                cluster.crash(leader);
                cluster.ticks(30);
                cluster.restart(leader);
            }
        }
        (cluster.sent, cluster.leaders)
    };
    assert_eq!(trace(1), trace(1));
    let different = (2..10).filter(|seed| trace(*seed) != trace(1)).count();
    assert!(different > 6, "the seed decides");
}

#[test]
fn p2_election_timeouts_differ_between_members_and_terms_and_stay_in_range() {
    let draw = |id, term| crate::chance::election_timeout(9, id, term, 10);
    let drawn: Vec<usize> = (1..100).flat_map(|term| [draw(1, term), draw(2, term)]).collect();
    assert!(drawn.iter().all(|ticks| (10..20).contains(ticks)));
    for ticks in 10..20 {
        assert!(drawn.contains(&ticks));
    }
    assert!((1..100).filter(|term| draw(1, *term) != draw(2, *term)).count() > 70);
}

/// Raft would go on leading and panic at the next commit.
#[test]
fn p3_a_removed_leader_steps_down_and_does_nothing_more() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    // The removal of 2 reaches nobody but 2, who then leads and commits it.
    cluster.cuts.extend([(1, 3), (2, 1)]);
    cluster.change(1, 7, GroupChange::Remove(2));
    cluster.settle();
    cluster.heal();
    cluster.crash(1);
    cluster.told(2);
    cluster.stand(2);
    let told = cluster.told(2);
    assert!(told.contains(&"removed".to_owned()), "{told:?}");
    assert_eq!(cluster.status(2).role, Role::Removed);
    assert!(!cluster.propose(2, 5, "x"));
    cluster.with(2, |member| member.read(6));
    assert_eq!(cluster.told(2), ["unreadable 6"]);
    let sent = cluster.sent.len();
    for _ in 0..50 {
        cluster.with(2, Member::tick);
    }
    assert_eq!(cluster.sent.len(), sent);
    let vote = message(MessageType::MsgRequestVote, 3, 2, 99);
    assert_eq!(cluster.with(2, |member| member.receive(vote)), Err(Refusal::Removed));
    cluster.restart(1);
    cluster.ticks(60);
    let leader = cluster.leader().expect("a leader without the removed member");
    assert_eq!(cluster.status(leader).voters, [1, 3]);
}

#[test]
fn p4_a_newcomer_takes_no_entries_before_a_snapshot_and_does_not_vote() {
    let mut newcomer = Member::start(Start::default(), Settings::new(4, 0)).unwrap();
    let mut append = message(MessageType::MsgAppend, 1, 4, 2);
    append.set_entries(vec![entry(1, 1, "a")].into());
    assert!(matches!(newcomer.receive(append), Err(Refusal::Wrong(_))));
    let mut vote = message(MessageType::MsgRequestVote, 1, 4, 2);
    (vote.index, vote.log_term) = (9, 1);
    assert_eq!(newcomer.receive(vote), Ok(()));
    let mut outcomes = Vec::new();
    newcomer.drive(&mut outcomes).unwrap();
    assert!(outcomes.is_empty(), "{outcomes:?}");
    // Nor does it start from entries without a snapshot.
    let start = Start {
        entries: vec![entry(1, 1, "a")],
        ..Start::default()
    };
    assert!(matches!(
        Member::start(start, Settings::new(4, 0)),
        Err(Error::Unfit { .. })
    ));
}

#[test]
fn p5_a_snapshot_without_its_receiver_is_neither_handed_out_nor_taken() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.machine(1).obliges = false;
    cluster.fill(1, 3);
    cluster.newcomer(4);
    cluster.change(1, 1, GroupChange::AddLearner(4));
    cluster.ticks(10);
    assert_eq!(cluster.count(1, 4, MessageType::MsgSnapshot), 0);
    let term = cluster.status(1).term;
    let mut snapshot = message(MessageType::MsgSnapshot, 1, 4, term);
    snapshot.set_snapshot(bootstrap(&[1, 2, 3], Vec::new()));
    assert!(matches!(
        cluster.with(4, |member| member.receive(snapshot)),
        Err(Refusal::Wrong(_))
    ));
    cluster.compact(1);
    cluster.settle();
    assert_eq!(cluster.data(4), ["f0", "f1", "f2"]);
}

/// Raft's own way out of a joint configuration is not taken where the leader changes.
#[test]
fn p6_every_leader_leaves_a_joint_configuration() {
    let mut state = bootstrap(&[1, 2, 3], Vec::new());
    let joint = state.mut_metadata().mut_conf_state();
    joint.voters = vec![1, 2, 4];
    joint.voters_outgoing = vec![1, 2, 3];
    let mut cluster = Cluster::new(4);
    for id in 1..=4 {
        cluster.machine(id).disk.start = Start {
            snapshot: state.clone(),
            ..Start::default()
        };
        cluster.restart(id);
    }
    cluster.wait_for_leader();
    cluster.ticks(30);
    let leader = cluster.leader().unwrap();
    assert_eq!(cluster.status(leader).voters, [1, 2, 4]);
    assert!(cluster.status(leader).voters_outgoing.is_empty());
    assert_ne!(leader, 3);
}

#[test]
fn p7_reads_that_raft_drops_are_repeated_and_lost_answers_too() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.told(1);
    cluster.with(1, |member| member.read(5));
    cluster.messages.clear();
    cluster.cuts.extend([(2, 1), (3, 1)]);
    cluster.ticks(6);
    assert!(cluster.told(1).is_empty());
    cluster.heal();
    cluster.ticks(6);
    assert_eq!(cluster.told(1), ["readable 5"]);
    // And where the leadership ends first, it is told.
    cluster.with(1, |member| member.read(6));
    cluster.isolate(1);
    cluster.messages.clear();
    cluster.with(1, |member| member.read(7));
    cluster.ticks(25);
    let told = cluster.told(1);
    assert!(
        told.contains(&"unreadable 6".to_owned()) && told.contains(&"unreadable 7".to_owned()),
        "{told:?}"
    );
}

#[test]
fn p8_messages_at_which_raft_panics_are_refused() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.fill(1, 3);
    let term = cluster.status(1).term;
    for kind in [
        MessageType::MsgHup,
        MessageType::MsgBeat,
        MessageType::MsgPropose,
        MessageType::MsgUnreachable,
        MessageType::MsgSnapStatus,
        MessageType::MsgCheckQuorum,
        MessageType::MsgTransferLeader,
        MessageType::MsgReadIndex,
        MessageType::MsgReadIndexResp,
    ] {
        let refused = cluster.with(1, |member| member.receive(message(kind, 2, 1, term)));
        assert!(matches!(refused, Err(Refusal::Kind(_))), "{kind:?}: {refused:?}");
    }
    let refused = |cluster: &mut Cluster, to, change: &dyn Fn(&mut Message), kind| {
        let from = if to == 1 { 2 } else { 1 };
        let mut message = message(kind, from, to, term);
        change(&mut message);
        cluster.with(to, |member| member.receive(message)).is_err()
    };
    let append = MessageType::MsgAppend;
    assert!(refused(&mut cluster, 2, &|message| message.term = 0, append));
    assert!(refused(&mut cluster, 2, &|message| message.to = 3, append));
    assert!(refused(&mut cluster, 2, &|message| message.from = 2, append));
    assert!(refused(&mut cluster, 2, &|message| message.from = 3, append), "1 leads");
    assert!(refused(&mut cluster, 2, &|message| message.index = u64::MAX, append));
    let entries = |first: u64, entry_term: u64| {
        move |message: &mut Message| {
            (message.index, message.log_term) = (3, 1);
            message.set_entries(vec![entry(first, entry_term, "x")].into());
        }
    };
    assert!(refused(&mut cluster, 2, &entries(5, term), append));
    assert!(refused(&mut cluster, 2, &entries(4, term + 1), append));
    assert!(refused(&mut cluster, 2, &entries(4, 0), append));
    let acknowledged = MessageType::MsgAppendResponse;
    assert!(refused(&mut cluster, 1, &|message| message.index = 1000, acknowledged));
    assert!(refused(
        &mut cluster,
        1,
        &|message| message.request_snapshot = 1,
        acknowledged
    ));
    // An unknown kind of message.
    let mut bytes = crate::encode(&message(append, 1, 2, term));
    assert_eq!(bytes[..2], [8, 3]);
    bytes[1] = 99;
    assert!(matches!(crate::decode(&bytes), Err(Refusal::Undecodable(_))));
    assert_eq!(cluster.leader(), Some(1));
}

#[test]
fn p9_a_member_whose_log_lost_its_end_stops_and_says_so() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.fill(1, 10);
    cluster.ticks(4);
    let last = cluster.status(3).last;
    cluster.crash(3);
    let start = &mut cluster.machine(3).disk.start;
    start.entries.truncate(4);
    start.hard_state.commit = 3;
    cluster.restart(3);
    cluster.ticks(5);
    let failed = cluster.machine(3).failed.take();
    assert!(
        matches!(failed, Some(Error::LogTooShort { last: 5, known }) if known == last),
        "{failed:?}"
    );
    // Where the hard state or the application knows better, it does not even start.
    cluster.machine(3).disk.start.hard_state.commit = 9;
    cluster.restart(3);
    assert!(matches!(
        cluster.machine(3).failed.take(),
        Some(Error::LogTooShort { last: 5, known: 9 })
    ));
    let start = &mut cluster.machine(3).disk.start;
    (start.hard_state.commit, start.committed) = (3, 8);
    cluster.restart(3);
    assert!(matches!(
        cluster.machine(3).failed.take(),
        Some(Error::LogTooShort { last: 5, known: 8 })
    ));
}

#[test]
fn p10_a_member_starts_applied_at_its_snapshot_and_committed_as_far_as_anyone_knows() {
    let mut snapshot = bootstrap(&[1, 2], Vec::new());
    snapshot.mut_metadata().index = 4;
    let start = Start {
        hard_state: hard_state(1, 0, 0),
        snapshot,
        entries: (2..9).map(|index| entry(index, 1, "x")).collect(),
        committed: 6,
    };
    let mut member = Member::start(start, Settings::new(1, 0)).unwrap();
    assert_eq!(member.applied(), 4);
    let mut outcomes = Vec::new();
    member.drive(&mut outcomes).unwrap();
    let told = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Committed { index, .. } => Some(*index),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<u64>>(), [5, 6]);
    assert_eq!((member.applied(), member.status().committed), (6, 6));
}

#[test]
fn p11_a_follower_forwards_nothing_and_lost_proposals_are_told() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    assert!(!cluster.propose(2, 5, "x"));
    cluster.settle();
    assert!(cluster.data(1).is_empty());
    // The same number of entries, by another leader at the same places.
    cluster.isolate(1);
    assert!(cluster.propose(1, 6, "mine"));
    cluster.elect(2);
    cluster.heal();
    cluster.ticks(30);
    let told = cluster.told(1);
    assert!(told.contains(&"dropped 6".to_owned()), "{told:?}");
    assert!(!told.iter().any(|told| told.ends_with("as 6")), "{told:?}");
}

#[test]
fn p12_proposals_are_known_by_their_place_in_the_log() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.told(1);
    for number in 0..5 {
        assert!(cluster.member(1).propose(100 + number, vec![b'a' + number as u8]));
    }
    cluster.drive(1);
    cluster.settle();
    let expected = ["a as 100", "b as 101", "c as 102", "d as 103", "e as 104"];
    assert_eq!(
        cluster.told(1),
        expected.map(|expected| format!("committed {expected}"))
    );
}

#[test]
fn p13_the_storage_has_only_errors_that_raft_knows() {
    let mut cluster = Cluster::without_tails(1);
    cluster.fill(1, 5);
    cluster.compact(1);
    cluster.fill(1, 2);
    let memory = cluster.member(1).node.store();
    let (first, last) = (memory.first_index().unwrap(), memory.last_index().unwrap());
    let context = || raft::GetEntriesContext::empty(false);
    let store = raft::Error::Store;
    for (low, high) in [(0, 1), (1, last), (first - 1, last)] {
        assert_eq!(
            memory.entries(low, high, None, context()),
            Err(store(raft::StorageError::Compacted))
        );
    }
    assert_eq!(
        memory.entries(first, last + 2, None, context()),
        Err(store(raft::StorageError::Unavailable))
    );
    assert_eq!(memory.term(last + 1), Err(store(raft::StorageError::Unavailable)));
    assert_eq!(memory.term(0), Err(store(raft::StorageError::Compacted)));
    assert!(memory.term(first - 1).is_ok());
    let none = Err(store(raft::StorageError::SnapshotTemporarilyUnavailable));
    assert_eq!(memory.snapshot(0, 9), none);
    assert_eq!(memory.snapshot(last, 1), none);
}

#[test]
fn p14_empty_entries_and_every_kind_of_change_count_as_told() {
    let mut old = ConfChange::default();
    old.set_change_type(ConfChangeType::AddLearnerNode);
    old.node_id = 5;
    let mut add = entry(3, 1, "");
    add.set_entry_type(EntryType::EntryConfChange);
    add.data = old.write_to_bytes().unwrap().into();
    // There is no joint configuration to leave.
    let mut leave = entry(4, 1, "");
    leave.set_entry_type(EntryType::EntryConfChangeV2);
    leave.data = ConfChangeV2::default().write_to_bytes().unwrap().into();
    let mut damaged = entry(5, 1, "\u{7f}not a change");
    damaged.set_entry_type(EntryType::EntryConfChangeV2);
    let start = Start {
        hard_state: hard_state(1, 0, 6),
        snapshot: bootstrap(&[1, 2], Vec::new()),
        entries: vec![entry(2, 1, ""), add, leave, damaged, entry(6, 1, "x")],
        committed: 0,
    };
    let mut member = Member::start(start, Settings::new(1, 0)).unwrap();
    let mut outcomes = Vec::new();
    member.drive(&mut outcomes).unwrap();
    assert_eq!(member.applied(), 6);
    assert_eq!(member.status().learners, [5]);
    let told = |outcome: &&Outcome| matches!(outcome, Outcome::Committed { .. } | Outcome::GroupChanged { .. });
    assert_eq!(outcomes.iter().filter(told).count(), 2, "{outcomes:?}");
}

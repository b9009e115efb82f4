//! Messages that no sound member would send never panic a member: it refuses them, ignores them, or stops in order.

use proptest::prelude::*;
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};

use super::cluster::Cluster;
use crate::{Member, Outcome};

const KINDS: [MessageType; 19] = [
    MessageType::MsgHup,
    MessageType::MsgBeat,
    MessageType::MsgPropose,
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgUnreachable,
    MessageType::MsgSnapStatus,
    MessageType::MsgCheckQuorum,
    MessageType::MsgTransferLeader,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// Small numbers, which often hit, and huge ones.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..12u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(b"x".to_vec()),
        Just(b"CampaignTransfer".to_vec()),
        // Changes of the group as they are encoded.
        proptest::collection::vec((0..3u8, 0..6u8), 1..4).prop_map(|changes| {
            let changes = changes.iter().flat_map(|(kind, id)| [0x12, 4, 0x08, *kind, 0x10, *id]);
            changes.collect()
        }),
        proptest::collection::vec(any::<u8>(), 0..10),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (number(), number(), 0..3, bytes()).prop_map(|(index, term, kind, data)| {
        let mut entry = Entry::default();
        (entry.index, entry.term) = (index, term);
        entry.set_entry_type(
            [
                EntryType::EntryNormal,
                EntryType::EntryConfChange,
                EntryType::EntryConfChangeV2,
            ][kind as usize],
        );
        entry.data = data.into();
        entry
    })
}

/// Entries that often follow each other.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let follow = |mut entries: Vec<Entry>| {
        let first = entries.first().map_or(0, |entry| entry.index);
        let term = entries.first().map_or(0, |entry| entry.term);
        for (place, entry) in entries.iter_mut().enumerate() {
            (entry.index, entry.term) = (first.wrapping_add(place as u64), term);
        }
        entries
    };
    let any = proptest::collection::vec(entry(), 0..4);
    prop_oneof![any, proptest::collection::vec(entry(), 0..4).prop_map(follow)]
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let ids = || proptest::collection::vec(0..6u64, 0..4);
    (number(), number(), ids(), ids(), ids(), ids(), any::<bool>()).prop_map(
        |(index, term, voters, learners, outgoing, next, auto)| {
            let mut snapshot = Snapshot::default();
            let state = ConfState {
                voters,
                learners,
                voters_outgoing: if auto { outgoing } else { Vec::new() },
                learners_next: if auto { next } else { Vec::new() },
                auto_leave: auto,
                ..ConfState::default()
            };
            let metadata = snapshot.mut_metadata();
            (metadata.index, metadata.term) = (index, term);
            metadata.set_conf_state(state);
            snapshot
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let head = (0..KINDS.len(), 1..6u64, number(), number(), number());
    let body = (entries(), number(), number(), proptest::option::of(snapshot()));
    let tail = (number(), any::<bool>(), bytes(), number());
    (head, body, tail).prop_map(|(head, body, tail)| {
        let (kind, from, term, log_term, index) = head;
        let (entries, commit, commit_term, snapshot) = body;
        let (reject_hint, reject, context, request) = tail;
        let kind = KINDS[kind];
        let mut message = Message::default();
        message.set_msg_type(kind);
        message.from = from;
        (message.term, message.log_term, message.index) = (term, log_term, index);
        if kind == MessageType::MsgAppend || request == 3 {
            message.set_entries(entries.into());
        }
        (message.commit, message.commit_term) = (commit, commit_term);
        if let Some(snapshot) = snapshot
            && (kind == MessageType::MsgSnapshot || request == 4)
        {
            message.set_snapshot(snapshot);
        }
        (message.reject_hint, message.reject) = (reject_hint, reject);
        message.request_snapshot = if request == 5 { 1 } else { 0 };
        message.context = context.into();
        message
    })
}

#[derive(Debug, Clone)]
enum Step {
    Message(Message),
    Tick,
    Write,
    Propose,
    Read,
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => message().prop_map(Step::Message),
        4 => Just(Step::Tick),
        3 => Just(Step::Write),
        1 => Just(Step::Propose),
        1 => Just(Step::Read),
        1 => Just(Step::Compact),
    ]
}

/// A member of a group in which something was committed, as a leader, a follower, or a newcomer.
fn member(role: u8) -> Member {
    let mut cluster = Cluster::new(3);
    cluster.newcomer(4);
    cluster.elect(1);
    cluster.fill(1, 3);
    let id = [1, 2, 4][role as usize];
    cluster.machine(id).member.take().unwrap()
}

fn play(member: &mut Member, steps: Vec<Step>) {
    let mut written = 0;
    for step in steps {
        match step {
            Step::Message(mut message) => {
                message.to = member.settings.id;
                let _ = member.receive(message);
            }
            Step::Tick => member.tick(),
            Step::Write => member.written(written),
            Step::Propose => {
                let _ = member.propose(1, b"x".to_vec());
            }
            Step::Read => member.read(1),
            Step::Compact => member.compact(b"1 x".to_vec()),
        }
        let mut outcomes = Vec::new();
        if member.drive(&mut outcomes).is_err() {
            return;
        }
        for outcome in outcomes {
            if let Outcome::Write(write) = outcome {
                written = write.number;
            }
        }
        let _ = member.status();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_messages_never_panic_a_member(
        role in 0..3u8,
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        play(&mut member(role), steps);
    }

    #[test]
    fn random_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = crate::decode(&bytes);
    }

    #[test]
    fn sound_messages_with_one_thing_changed_never_panic_a_member(
        seed in 0..50u64,
        changes in proptest::collection::vec((0..30usize, 0..9u8, number(), entries(), 1..4u64), 1..60),
    ) {
        let mut cluster = Cluster::seeded(3, seed);
        cluster.wait_for_leader();
        for (number, (place, field, value, entries, ticking)) in changes.into_iter().enumerate() {
            if cluster.is_up(ticking) {
                cluster.with_unchecked(ticking, Member::tick);
                cluster.with_unchecked(ticking, |member| {
                    let _ = member.propose(number as u64, b"x".to_vec());
                });
            }
            let Some(message) = cluster.messages.get(place).or(cluster.messages.front()).cloned() else {
                continue;
            };
            let mut changed = message;
            match field {
                0 => changed.term = value,
                1 => changed.index = value,
                2 => changed.log_term = value,
                3 => changed.commit = value,
                4 => changed.reject = !changed.reject,
                5 => changed.reject_hint = value,
                6 => changed.from = value % 5,
                7 => changed.set_msg_type(KINDS[value as usize % KINDS.len()]),
                _ => changed.set_entries(entries.into()),
            }
            let to = changed.to;
            if cluster.is_up(to) {
                cluster.with_unchecked(to, |member| {
                    let _ = member.receive(changed);
                });
            }
            cluster.deliver_unchecked(8);
        }
    }
}

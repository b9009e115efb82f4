//! Which messages a member takes: raft-rs trusts its peers and panics at many that no sound one would send.

use raft::eraftpb::{Entry, EntryType, Message, MessageType, Snapshot};
use raft::{Raft, StateRole};

use crate::change;
use crate::memory::Memory;
use crate::wire::Refusal;

/// Terms and indices are below this, so that adding to them never overflows.
const NUMBER_MAX: u64 = 1 << 62;

/// What is done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Raft takes it.
    Taken,
    /// It is sound, and means nothing here.
    Ignored,
    /// Its sender knows that this member held an entry that its log lacks.
    Lost {
        /// The entry.
        known: u64,
    },
}

/// Judges a message for raft as it is now.
pub(crate) fn judge(raft: &Raft<Memory>, message: &Message) -> Result<Verdict, Refusal> {
    if message.to != raft.id {
        return Err(Refusal::NotMine(message.to));
    }
    if message.from == 0 || message.from == raft.id {
        return Err(wrong("it is from nobody or from this member"));
    }
    check_kind(message.get_msg_type())?;
    check_numbers(message)?;
    check_content(raft, message)?;
    if message.term < raft.term {
        // Raft answers with its own term, or not at all.
        return Ok(Verdict::Taken);
    }
    check_sender(raft, message)?;
    in_term(raft, message)
}

fn check_kind(kind: MessageType) -> Result<(), Refusal> {
    use MessageType as Kind;
    match kind {
        Kind::MsgAppend
        | Kind::MsgAppendResponse
        | Kind::MsgRequestVote
        | Kind::MsgRequestVoteResponse
        | Kind::MsgRequestPreVote
        | Kind::MsgRequestPreVoteResponse
        | Kind::MsgSnapshot
        | Kind::MsgHeartbeat
        | Kind::MsgHeartbeatResponse
        | Kind::MsgTimeoutNow => Ok(()),
        // What a member says to itself, and what followers would forward: here they do not.
        Kind::MsgHup
        | Kind::MsgBeat
        | Kind::MsgPropose
        | Kind::MsgUnreachable
        | Kind::MsgSnapStatus
        | Kind::MsgCheckQuorum
        | Kind::MsgTransferLeader
        | Kind::MsgReadIndex
        | Kind::MsgReadIndexResp => Err(Refusal::Kind(format!("{kind:?}"))),
    }
}

fn check_numbers(message: &Message) -> Result<(), Refusal> {
    if message.term == 0 {
        return Err(wrong("it has no term"));
    }
    let Message {
        term,
        log_term,
        index,
        commit,
        commit_term,
        reject_hint,
        ..
    } = *message;
    if [term, log_term, index, commit, commit_term, reject_hint]
        .iter()
        .any(|number| *number >= NUMBER_MAX)
    {
        return Err(wrong("a number is out of range"));
    }
    if message.request_snapshot != 0 {
        return Err(wrong("it asks for a snapshot"));
    }
    // An unknown kind of message or entry decodes as a known one with an unknown field.
    if message.unknown_fields.fields.is_some() {
        return Err(wrong("it has unknown fields"));
    }
    Ok(())
}

fn check_content(raft: &Raft<Memory>, message: &Message) -> Result<(), Refusal> {
    let kind = message.get_msg_type();
    if kind != MessageType::MsgAppend && !message.entries.is_empty() {
        return Err(wrong("it has entries"));
    }
    if kind != MessageType::MsgSnapshot && message.has_snapshot() {
        return Err(wrong("it has a snapshot"));
    }
    match kind {
        MessageType::MsgAppend => check_entries(raft, message),
        MessageType::MsgSnapshot => check_snapshot(raft, message.term, message.get_snapshot()),
        _ => Ok(()),
    }
}

fn check_entries(raft: &Raft<Memory>, message: &Message) -> Result<(), Refusal> {
    if (message.index == 0) != (message.log_term == 0) || message.log_term > message.term {
        return Err(wrong("its index and its log term do not fit"));
    }
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in message.entries.iter() {
        if entry.index != index + 1 || entry.term < term.max(1) || entry.term > message.term {
            return Err(wrong("its entries do not follow each other"));
        }
        (index, term) = (entry.index, entry.term);
        check_entry(entry)?;
    }
    // Who replayed the log from its first entry would end without a configuration.
    if raft.store().conf_state().voters.is_empty() && message.index == 0 && !message.entries.is_empty() {
        return Err(wrong("it has entries for a newcomer that needs a snapshot"));
    }
    Ok(())
}

fn check_entry(entry: &Entry) -> Result<(), Refusal> {
    if entry.unknown_fields.fields.is_some() {
        return Err(wrong("an entry has unknown fields"));
    }
    match entry.get_entry_type() {
        EntryType::EntryNormal => Ok(()),
        EntryType::EntryConfChangeV2 if change::is_decodable(entry) => Ok(()),
        _ => Err(wrong("an entry changes the group in an unknown way")),
    }
}

fn check_snapshot(raft: &Raft<Memory>, term: u64, snapshot: &Snapshot) -> Result<(), Refusal> {
    let metadata = snapshot.get_metadata();
    let place = (1..NUMBER_MAX).contains(&metadata.index) && (1..=term).contains(&metadata.term);
    if !place {
        return Err(wrong("its snapshot is at no place in the log"));
    }
    let log = &raft.raft_log;
    if metadata.index == log.committed && log.term(metadata.index).is_ok_and(|term| term != metadata.term) {
        return Err(wrong("its snapshot contradicts what is committed"));
    }
    let state = metadata.get_conf_state();
    let mut ids = [&state.voters[..], &state.learners[..]].concat();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    let mut outgoing = state.voters_outgoing.clone();
    outgoing.sort_unstable();
    outgoing.dedup();
    let sets = ids.len() == count && outgoing.len() == state.voters_outgoing.len();
    let learners = state.learners.iter().all(|id| !outgoing.contains(id));
    let named = !ids.contains(&0) && !outgoing.contains(&0) && !state.voters.is_empty();
    // Nobody here is demoted, and joint configurations are left explicitly.
    let ours = state.learners_next.is_empty() && !state.auto_leave;
    if !(sets && learners && named && ours) {
        return Err(wrong("its snapshot has an impossible configuration"));
    }
    // Raft would ignore it, and this member would wait for ever.
    if !ids.contains(&raft.id) && !outgoing.contains(&raft.id) {
        return Err(wrong("its snapshot lacks this member"));
    }
    Ok(())
}

/// A term has one leader.
fn check_sender(raft: &Raft<Memory>, message: &Message) -> Result<(), Refusal> {
    let of_leader = matches!(
        message.get_msg_type(),
        MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot | MessageType::MsgTimeoutNow
    );
    let another = raft.leader_id != 0 && raft.leader_id != message.from;
    if of_leader && message.term == raft.term && another {
        return Err(wrong("another member leads in its term"));
    }
    Ok(())
}

fn in_term(raft: &Raft<Memory>, message: &Message) -> Result<Verdict, Refusal> {
    let last = raft.raft_log.last_index();
    match message.get_msg_type() {
        // It was acknowledged in this term, or before: logs do not shrink.
        MessageType::MsgHeartbeat if message.commit > last => Ok(Verdict::Lost { known: message.commit }),
        // A newcomer has no configuration by which it could lead, so it should not decide who does.
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote if raft.store().conf_state().voters.is_empty() => {
            Ok(Verdict::Ignored)
        }
        MessageType::MsgAppendResponse
            if raft.state == StateRole::Leader && message.term == raft.term && message.index > last =>
        {
            Err(wrong("it acknowledges entries that there are not"))
        }
        // Handed over by a leader that this member never heard of.
        MessageType::MsgTimeoutNow if message.term > raft.term => Ok(Verdict::Ignored),
        _ => Ok(Verdict::Taken),
    }
}

fn wrong(problem: &'static str) -> Refusal {
    Refusal::Wrong(problem)
}

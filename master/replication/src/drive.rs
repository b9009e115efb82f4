//! What comes out of a member.
//!
//! The order within a `Ready` of raft: a leader's messages leave at once, beside the write; entries and a snapshot go into
//! memory, where raft reads them before they are durable, and to the disk; a follower's messages wait for the write; then
//! what is committed is told, which raft gives only when this member's own disk has it.

use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeV2, Entry, EntryType, Message, MessageType};
use raft::{Ready, StateRole};

use crate::member::{Error, Member};
use crate::outcome::Outcome;

impl Member {
    /// Appends what happened and what is to be done. To be called after every call of another method that changes something.
    ///
    /// # Errors
    /// The member must stop.
    pub fn drive(&mut self, outcomes: &mut Vec<Outcome>) -> Result<(), Error> {
        if let Some(known) = self.lost {
            let last = self.node.raft.raft_log.last_index();
            return Err(Error::LogTooShort { last, known });
        }
        while !self.removed {
            while !self.removed && self.node.has_ready() {
                outcomes.append(&mut self.outbox);
                let ready = self.node.ready();
                self.carry_out(ready, outcomes);
            }
            self.watch_reign(outcomes);
            if self.removed || !self.go_on() {
                break;
            }
        }
        outcomes.append(&mut self.outbox);
        self.reads.release(self.applied, outcomes);
        self.ask_for_snapshot(outcomes);
        let leader = if self.removed { 0 } else { self.node.raft.leader_id };
        if leader != self.leader_told {
            self.leader_told = leader;
            let id = (leader != 0).then_some(leader);
            outcomes.push(Outcome::Leader { id });
        }
        Ok(())
    }

    fn carry_out(&mut self, mut ready: Ready, outcomes: &mut Vec<Outcome>) {
        let write = self.disk.write(&mut ready);
        let leads = self.node.raft.state == StateRole::Leader;
        let mut messages = ready.take_messages();
        messages.append(&mut ready.take_persisted_messages());
        if !self.sends_early() {
            messages = self.disk.hold(messages, leads);
        }
        self.send(messages);
        outcomes.append(&mut self.outbox);
        if let Some(write) = write {
            if let Some(snapshot) = &write.snapshot {
                self.node.mut_store().install(snapshot.clone());
            }
            self.node.mut_store().append(&write.entries);
            outcomes.push(Outcome::Write(write));
        }
        let (number, committed) = (ready.number(), ready.take_committed_entries());
        for read in ready.take_read_states() {
            self.reads.confirm(&read.request_ctx, read.index);
        }
        self.node.advance_append_async(ready);
        if !self.disk.is_busy() {
            // Raft keeps a record of every `Ready` until it is said to be durable, also where there is nothing to write.
            self.node.on_persist_ready(number);
        }
        if !committed.is_empty() {
            self.tell(committed, outcomes);
            if !self.removed {
                self.node.advance_apply_to(self.applied);
            }
        }
        self.settle();
    }

    /// What this member begins by itself; whether there is more to carry out.
    fn go_on(&mut self) -> bool {
        if std::mem::take(&mut self.begins) && self.is_alone() && self.may_stand() {
            // Nobody else could lead: waiting for an election timeout would serve nothing.
            let _ = self.node.campaign();
            self.settle();
        }
        if self.reigns() {
            self.leave_joint();
            if self.reads.wants_round() && self.node.raft.commit_to_current_term() {
                let context = self.reads.begin(self.settings.id, self.node.raft.term);
                self.node.read_index(context);
            }
        }
        self.node.has_ready()
    }

    fn tell(&mut self, entries: Vec<Entry>, outcomes: &mut Vec<Outcome>) {
        for entry in entries {
            if entry.term > self.reign {
                // What another leader committed is told after the loss of the leadership.
                self.watch_reign(outcomes);
            }
            self.applied = entry.index;
            self.told_bytes += entry.data.len() as u64;
            match entry.get_entry_type() {
                // A new leader's first entry is empty.
                EntryType::EntryNormal if entry.data.is_empty() => self.change_lost_at(&entry, outcomes),
                EntryType::EntryNormal => outcomes.push(Outcome::Committed {
                    index: entry.index,
                    proposal: self.proposals.take(entry.term, entry.index),
                    data: entry.data,
                }),
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => self.apply_change(&entry, outcomes),
            }
            if self.removed {
                return;
            }
            if !self.led && self.leads() && self.reign == entry.term {
                self.led = true;
                outcomes.push(Outcome::Led { term: entry.term });
            }
        }
    }

    fn apply_change(&mut self, entry: &Entry, outcomes: &mut Vec<Outcome>) {
        let result = match entry.get_entry_type() {
            EntryType::EntryConfChangeV2 => ConfChangeV2::parse_from_bytes(&entry.data)
                .map_err(raft::Error::from)
                .and_then(|change| self.node.apply_conf_change(&change)),
            _ => ConfChange::parse_from_bytes(&entry.data)
                .map_err(raft::Error::from)
                .and_then(|change| self.node.apply_conf_change(&change)),
        };
        let mut state = match result {
            Ok(state) => state,
            Err(error) => {
                // Every member refuses it alike; the entry counts as told.
                tracing::warn!(%error, index = entry.index, "a change of the group is refused");
                self.change_lost_at(entry, outcomes);
                return;
            }
        };
        state.voters.sort_unstable();
        state.learners.sort_unstable();
        state.voters_outgoing.sort_unstable();
        self.node.mut_store().set_conf_state(state);
        let joint = self.node.store().is_joint();
        let index = entry.index;
        outcomes.push(Outcome::GroupChanged { index, joint });
        self.change_applied(entry, outcomes);
        if !self.node.store().knows(self.settings.id) {
            self.leave_group(outcomes);
        } else if self.leads() && !self.node.raft.promotable() {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
        }
    }

    /// This member is not of the group any more. Raft goes on leading then, and panics later.
    fn leave_group(&mut self, outcomes: &mut Vec<Outcome>) {
        #[cfg(feature = "planted-bugs")]
        if self.settings.plants(crate::config::PlantedBug::RemovedLeaderStays) {
            return;
        }
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, 0);
        self.watch_reign(outcomes);
        // Its last write, so that it knows when it starts again.
        outcomes.push(Outcome::Write(self.disk.last_write(self.node.raft.hard_state())));
        self.removed = true;
        outcomes.push(Outcome::Removed);
    }

    /// Tells the end of this member's leadership, and what ends with it.
    pub(crate) fn watch_reign(&mut self, outcomes: &mut Vec<Outcome>) {
        let raft = &self.node.raft;
        let reign = if raft.state == StateRole::Leader { raft.term } else { 0 };
        if reign == self.reign {
            return;
        }
        self.reign = reign;
        if std::mem::take(&mut self.led) {
            outcomes.push(Outcome::LostLeadership);
        }
        let dropped = self.proposals.drain();
        outcomes.extend(dropped.map(|proposal| Outcome::Dropped { proposal }));
        self.reads.fail(outcomes);
        self.drop_change(outcomes);
        self.wanting.clear();
        self.snapshot_asked = 0;
    }

    /// A newcomer needs a snapshot whose configuration has it: the application is asked for one, now and then until it comes.
    fn ask_for_snapshot(&mut self, outcomes: &mut Vec<Outcome>) {
        let wanting = self.node.store().take_wanting();
        if !self.reigns() || wanting.is_empty() {
            return;
        }
        for id in wanting {
            if !self.wanting.contains(&id) {
                self.wanting.push(id);
            }
        }
        if self.snapshot_asked == 0 {
            self.snapshot_asked = self.settings.election_ticks;
            outcomes.push(Outcome::SnapshotWanted);
        }
    }

    pub(crate) fn send(&mut self, messages: Vec<Message>) {
        let sound = messages.into_iter().filter(is_sound);
        self.outbox
            .extend(sound.map(|message| Outcome::Send(Box::new(message))));
    }
}

/// Raft joins entries to an unsent message; where it went back to earlier entries between the two, the message is as good as
/// lost.
fn is_sound(message: &Message) -> bool {
    let first = message.entries.first();
    message.get_msg_type() != MessageType::MsgAppend || first.is_none_or(|entry| entry.index == message.index + 1)
}

//! One member of the group: what is put into it.
//!
//! Beside raft's node it holds what waits: writes and what they hold back ([`Disk`]), proposals, reads, and a change of the
//! group. What comes out is in `drive`.

use raft::eraftpb::{Entry, HardState, Message, MessageType, Snapshot};
use raft::{RawNode, SnapshotStatus, StateRole, Storage as _};

use crate::change::Change;
use crate::check::{self, Verdict};
use crate::config::Settings;
use crate::disk::Disk;
use crate::group::{GroupChange, GroupRefusal};
use crate::memory::Memory;
use crate::outcome::Outcome;
use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::snapshot::{Mark, Position};
use crate::status::Status;
use crate::wire::Refusal;
use crate::{chance, logger, start, status};

/// Replication failed in a way after which this member must stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// raft-rs refused what was asked of it.
    #[error("raft cannot {action}")]
    Raft {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        source: raft::Error,
    },
    /// The log on the disk is shorter than what the group knows it to hold: its end is lost. A member that forgot what it
    /// acknowledged must not go on under its id: wipe it and let it join as another member.
    #[error("the raft log ends with entry {last}, but entry {known} was acknowledged: its end is lost")]
    LogTooShort {
        /// The last entry.
        last: u64,
        /// What was acknowledged.
        known: u64,
    },
    /// What the member starts from does not fit together.
    #[error("the member cannot start from what is on its disk: {problem}")]
    Unfit {
        /// What is wrong.
        problem: &'static str,
    },
}

/// What a member starts from. A newcomer, who gets everything from a leader, starts from the default.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The newest durable hard state.
    pub hard_state: HardState,
    /// The newest durable snapshot.
    pub snapshot: Snapshot,
    /// Every entry after the snapshot. Entries before, which are still there, may come first.
    pub entries: Vec<Entry>,
    /// An index that is known to be committed, from outside the log; 0 if there is none.
    pub committed: u64,
}

/// One member of the raft group.
pub struct Member {
    pub(crate) node: RawNode<Memory>,
    pub(crate) settings: Settings,
    pub(crate) disk: Disk,
    pub(crate) proposals: Proposals,
    pub(crate) reads: Reads,
    pub(crate) change: Option<Change>,
    /// What is told by the next [`Member::drive`] before anything else.
    pub(crate) outbox: Vec<Outcome>,
    pub(crate) applied: u64,
    /// How many bytes of entries were told since the last snapshot.
    pub(crate) told_bytes: u64,
    /// The term in which this member leads as far as its last `drive` knows; 0 where it does not.
    pub(crate) reign: u64,
    /// Whether `Led` was told for it.
    pub(crate) led: bool,
    pub(crate) leader_told: u64,
    pub(crate) removed: bool,
    /// Whether it may stand for election at once, being alone.
    pub(crate) begins: bool,
    /// The ticks for which a wanted snapshot is not asked for again; 0 if none was asked for.
    pub(crate) snapshot_asked: usize,
    /// Who waits for a newer snapshot.
    pub(crate) wanting: Vec<u64>,
    /// An index that a leader knows this member to hold, and that its log lacks.
    pub(crate) lost: Option<u64>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.settings.id)
            .field("term", &self.node.raft.term)
            .field("role", &self.node.raft.state)
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// Continues where the member stopped; everything after the snapshot that is committed is told again. Nothing is told
    /// before the first [`Member::drive`]. A member that is alone in its group stands for election at once.
    ///
    /// # Errors
    /// What it starts from does not fit together.
    pub fn start(start: Start, settings: Settings) -> Result<Self, Error> {
        #[allow(unused_mut)]
        let mut memory = start::memory(start, &settings)?;
        #[cfg(feature = "planted-bugs")]
        {
            memory.hands_out_any = settings.plants(crate::config::PlantedBug::SnapshotIgnored);
        }
        let applied = memory.snapshot_index();
        let node = RawNode::new(&settings.raft(applied), memory, &logger::logger()).map_err(|source| {
            let action = "start";
            Error::Raft { action, source }
        })?;
        let mut member = Self {
            disk: Disk::new(node.raft.hard_state()),
            node,
            settings,
            proposals: Proposals::default(),
            reads: Reads::default(),
            change: None,
            outbox: Vec::new(),
            applied,
            told_bytes: 0,
            reign: 0,
            led: false,
            leader_told: 0,
            removed: false,
            begins: true,
            snapshot_asked: 0,
            wanting: Vec::new(),
            lost: None,
        };
        member.settle();
        Ok(member)
    }

    /// Time stands still, but a leader shows the others that it is there.
    pub fn beat(&mut self) {
        if !self.removed && self.leads() {
            self.node.ping();
            self.settle();
        }
    }

    /// One tick of time has passed.
    pub fn tick(&mut self) {
        if self.removed {
            return;
        }
        self.outbox.extend(self.disk.tick().map(Outcome::Write));
        self.reads.tick(2 * self.settings.heartbeat_ticks);
        self.snapshot_asked = self.snapshot_asked.saturating_sub(1);
        if self.leads() || self.may_stand() {
            self.node.tick();
            self.settle();
        }
    }

    /// Takes a message of another member.
    ///
    /// # Errors
    /// It could not have been sent by a sound member of this group. Nothing is changed.
    pub fn receive(&mut self, message: Message) -> Result<(), Refusal> {
        if self.removed {
            return Err(Refusal::Removed);
        }
        match check::judge(&self.node.raft, &message)? {
            Verdict::Taken => {}
            Verdict::Ignored => return Ok(()),
            Verdict::Lost { known } => {
                // The next `drive` says that this member must stop.
                self.lost = Some(known);
                return Ok(());
            }
        }
        let unwanted = match message.get_msg_type() {
            MessageType::MsgTimeoutNow => !self.may_stand(),
            // Nobody can have answered a request that was not sent yet.
            MessageType::MsgRequestVoteResponse => self.disk.is_busy() && !self.sends_early(),
            MessageType::MsgRequestPreVoteResponse => self.disk.log_waits(),
            _ => false,
        };
        if !unwanted {
            // An error says that the message came too late to mean anything.
            let _ = self.node.step(message);
            self.settle();
        }
        Ok(())
    }

    /// Puts data, which must not be empty, into the log under a number. True: it comes back as `Committed` or `Dropped`. False: it is not
    /// in the log, because this member does not lead, hands its leadership over, or too much waits.
    #[must_use]
    pub fn propose(&mut self, proposal: u64, data: Vec<u8>) -> bool {
        self.propose_all(vec![(proposal, data)])
    }

    /// As [`Member::propose`], for several at once: all of them are put into the log, in this order, or none is. For raft they are one
    /// message, so that each costs it less than if it came alone.
    #[must_use]
    pub fn propose_all(&mut self, proposals: Vec<(u64, Vec<u8>)>) -> bool {
        // Without this check raft would forward them to the leader, and nobody would hear of them again.
        if !self.reigns() || proposals.is_empty() || proposals.iter().any(|(_, data)| data.is_empty()) {
            return false;
        }
        let (numbers, entries): (Vec<_>, Vec<_>) = proposals
            .into_iter()
            .map(|(number, data)| {
                let data = data.into();
                let entry = Entry {
                    data,
                    ..Entry::default()
                };
                (number, entry)
            })
            .unzip();
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.settings.id;
        message.set_entries(entries.into());
        if self.node.raft.step(message).is_err() {
            return false;
        }
        // Raft does not tell where it put them.
        let raft = &self.node.raft;
        let first = raft.raft_log.last_index() + 1 - numbers.len() as u64;
        for (index, number) in (first..).zip(numbers) {
            self.proposals.add(raft.term, index, number);
        }
        true
    }

    /// Asks for a linearizable read under a number never used before. Comes back as `Readable` or `Unreadable`, always.
    pub fn read(&mut self, read: u64) {
        if !self.reigns() {
            self.outbox.push(Outcome::Unreadable { read });
            return;
        }
        #[cfg(feature = "planted-bugs")]
        if self.settings.plants(crate::config::PlantedBug::StaleRead) {
            self.outbox.push(Outcome::Readable { read });
            return;
        }
        self.reads.ask(read);
    }

    /// Changes the group, under a number. Comes back as `ChangeDone` (when the configuration is not joint any more) or
    /// `ChangeDropped`.
    ///
    /// # Errors
    /// The change is not begun.
    pub fn change_group(&mut self, change: u64, what: GroupChange) -> Result<(), GroupRefusal> {
        self.begin_change(change, what)
    }

    /// Hands the leadership to another voter, who must have caught up; to the one with the longest log where none is named. False:
    /// this member does not lead, or there is nobody to lead instead. Raft gives up after an election timeout.
    pub fn transfer_leadership(&mut self, to: Option<u64>) -> bool {
        if !self.reigns() {
            return false;
        }
        let Some(to) = self.successor(to) else { return false };
        self.node.transfer_leader(to);
        self.settle();
        true
    }

    /// A write, and every write before it, is durable.
    pub fn written(&mut self, number: u64) {
        if self.removed {
            return;
        }
        let durable = self.disk.written(number);
        if let Some(ready) = durable.ready {
            self.node.on_persist_ready(ready);
        }
        self.send(durable.messages);
        for restored in durable.restored {
            self.applied = restored.index;
            self.told_bytes = 0;
            self.node.advance_apply_to(restored.index);
            self.outbox.push(Outcome::Restored {
                index: restored.index,
                data: restored.data,
            });
        }
        self.settle();
    }

    /// A member cannot be reached: messages to it were lost.
    pub fn unreachable(&mut self, id: u64) {
        if self.leads() {
            self.node.report_unreachable(id);
        }
    }

    /// How sending a snapshot ended. Must be told for every `MsgSnapshot`, else the receiver gets nothing any more.
    pub fn snapshot_sent(&mut self, id: u64, whole: bool) {
        if self.leads() {
            let status = if whole {
                SnapshotStatus::Finish
            } else {
                SnapshotStatus::Failure
            };
            self.node.report_snapshot(id, status);
        }
    }

    /// Gives the state of the application as of [`Member::applied`]. The entries that it covers are forgotten, but for a tail that
    /// followers who lag a little still need.
    pub fn compact(&mut self, data: Vec<u8>) {
        if let Some(mark) = self.mark() {
            self.compact_to(mark, data);
        }
    }

    /// What the state of the application as of [`Member::applied`] stands for, for a later [`Member::compact_to`]. None where nothing
    /// was told since the newest snapshot.
    pub fn mark(&self) -> Option<Mark> {
        let store = self.node.store();
        if self.removed || self.applied <= store.snapshot_index() {
            return None;
        }
        Some(Mark {
            position: Position {
                index: self.applied,
                term: store.term(self.applied).ok()?,
            },
            group: store.conf_state().clone(),
            told_bytes: self.told_bytes,
        })
    }

    /// Gives the state of the application as it was at the mark; as [`Member::compact`]. Nothing happens where a newer snapshot
    /// came from the leader meanwhile.
    pub fn compact_to(&mut self, mark: Mark, data: Vec<u8>) {
        self.snapshot_asked = 0;
        if self.removed || mark.position.index <= self.node.store().snapshot_index() {
            return;
        }
        self.told_bytes = self.told_bytes.saturating_sub(mark.told_bytes);
        let snapshot = mark.snapshot(data);
        self.outbox.push(Outcome::Compact(snapshot.clone()));
        let (entries, bytes) = (self.settings.tail_entries_max, self.settings.tail_bytes_max);
        self.node.mut_store().compact(snapshot, entries, bytes);
        for id in std::mem::take(&mut self.wanting) {
            if self.leads() && self.node.raft.prs().get(id).is_some() {
                self.node.raft.send_append(id);
            }
        }
    }

    /// The index of the newest entry that was told.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// How many entries, and bytes of them, were told since the last snapshot.
    pub fn since_snapshot(&self) -> (u64, u64) {
        let entries = self.applied.saturating_sub(self.node.store().snapshot_index());
        (entries, self.told_bytes)
    }

    /// True in a group of one.
    pub fn is_alone(&self) -> bool {
        let state = self.node.store().conf_state();
        state.voters == [self.settings.id] && state.learners.is_empty() && state.voters_outgoing.is_empty()
    }

    /// Whether it was removed from the group.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// This member's view of the group.
    pub fn status(&self) -> Status {
        status::of(self)
    }

    #[cfg(feature = "planted-bugs")]
    pub(crate) fn sends_early(&self) -> bool {
        self.settings.plants(crate::config::PlantedBug::VoteBeforeDurable)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[allow(clippy::unused_self)]
    pub(crate) fn sends_early(&self) -> bool {
        false
    }

    pub(crate) fn leads(&self) -> bool {
        !self.removed && self.node.raft.state == StateRole::Leader
    }

    /// Whether it leads, and its last `drive` knows that.
    pub(crate) fn reigns(&self) -> bool {
        self.leads() && self.reign == self.node.raft.term
    }

    /// Whether raft may begin an election. While the disk has a snapshot of the leader to write, raft would look for entries
    /// that it replaced; and who votes alone would lead with a log that is not durable.
    pub(crate) fn may_stand(&self) -> bool {
        let unready_alone = self.node.raft.prs().is_singleton() && self.disk.is_busy();
        !(unready_alone || self.disk.is_restoring())
    }

    /// To be called after everything that may change raft's term or role: it drew another election timeout then.
    pub(crate) fn settle(&mut self) {
        let Settings {
            seed,
            id,
            election_ticks,
            ..
        } = self.settings;
        let raft = &mut self.node.raft;
        let ticks = chance::election_timeout(seed, id, raft.term, election_ticks);
        raft.set_randomized_election_timeout(ticks);
    }
}

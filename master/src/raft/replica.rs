//! One member of the raft group.
//!
//! The order within a `Ready`: a leader's messages leave at once; a snapshot is installed; entries and hard state are
//! written with one sync; then messages that promise durability leave; then what is committed is told. A hard state in which
//! only the commit index moved is not worth a sync: it is written with the next batch.

use std::collections::BTreeMap;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeV2, Entry, EntryType, HardState, Message, Snapshot};
use raft::{Config, RawNode, StateRole, Storage as _};

use super::memory::Memory;
use super::snapshots::{Snapshots, position};
use super::{Error, logger};
use crate::log::{Batch, LogStore, Recovered};

/// What happened in the group, in order.
#[derive(Debug)]
pub enum Outcome {
    /// An entry is committed. `proposal` is set where this member proposed it in its present term.
    Committed {
        /// Its place in the log.
        index: u64,
        /// The number it was proposed under.
        proposal: Option<u64>,
        /// What was proposed.
        data: Bytes,
    },
    /// A proposal will not be committed.
    Dropped {
        /// The number it was proposed under.
        proposal: u64,
    },
    /// This member leads, and everything committed before its term has been told.
    Led {
        /// The term.
        term: u64,
    },
    /// This member leads no more.
    LostLeadership,
    /// A snapshot of the leader replaces what was told so far.
    Restored {
        /// Where it stands in the log.
        index: u64,
        /// The state of the application.
        data: Bytes,
    },
    /// To be sent to another member.
    Send(Box<Message>),
}

/// What a member starts from.
pub struct Start {
    /// Its own id in the group.
    pub id: u64,
    /// What the log held.
    pub recovered: Recovered,
    /// The snapshot that the log continues.
    pub snapshot: Snapshot,
    /// An index that is known to be committed, from outside the log; 0 if there is none.
    pub committed: u64,
}

/// One member of the raft group.
pub struct Replica {
    node: RawNode<Memory>,
    log: Box<dyn LogStore>,
    snapshots: Snapshots,
    /// The proposals that wait, by index, with their terms.
    pending: BTreeMap<u64, (u64, u64)>,
    /// The newest hard state, and whether the log has it.
    hard_state: HardState,
    hard_state_written: bool,
    applied: u64,
    /// The term in which this member told that it leads.
    led: Option<u64>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("term", &self.node.raft.term)
            .field("applied", &self.applied)
            .field("led", &self.led)
            .finish_non_exhaustive()
    }
}

impl Replica {
    /// Continues where the member stopped. Nothing is told before the first [`Replica::drive`].
    ///
    /// # Errors
    /// raft refuses the state.
    pub fn start(start: Start, log: Box<dyn LogStore>, snapshots: Snapshots) -> Result<Self, Error> {
        let mut hard_state = start.recovered.hard_state;
        let applied = start.snapshot.get_metadata().index;
        hard_state.commit = hard_state.commit.max(applied).max(start.committed);
        let memory = Memory::new(start.snapshot, start.recovered.entries, hard_state.clone());
        let node = RawNode::new(&config(start.id, applied), memory, &logger::logger()).map_err(|source| {
            let action = "start";
            Error::Raft { action, source }
        })?;
        let mut replica = Self {
            node,
            log,
            snapshots,
            pending: BTreeMap::new(),
            hard_state,
            hard_state_written: true,
            applied,
            led: None,
        };
        if replica.is_alone() {
            // Nobody else could lead: waiting for an election timeout would serve nothing.
            replica.node.campaign().map_err(|source| {
                let action = "stand for election";
                Error::Raft { action, source }
            })?;
        }
        Ok(replica)
    }

    /// True in a group of one.
    pub fn is_alone(&self) -> bool {
        let state = self.node.raft.prs().conf().to_conf_state();
        state.voters == [self.node.raft.id] && state.learners.is_empty() && state.voters_outgoing.is_empty()
    }

    /// The index of the newest entry that was told.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// How many entries were told since the last snapshot.
    pub fn since_snapshot(&self) -> u64 {
        self.applied - self.node.store().snapshot_index()
    }

    /// Time has passed: one of ten parts of an election timeout.
    pub fn tick(&mut self) {
        self.node.tick();
    }

    /// Puts data into the log under a number. Comes back as `Committed` or `Dropped`; true if it is to be waited for.
    #[must_use]
    pub fn propose(&mut self, proposal: u64, data: Vec<u8>) -> bool {
        // Without this check raft would forward it to the leader, and nobody would hear of it again.
        if self.node.raft.state != StateRole::Leader || self.node.propose(Vec::new(), data).is_err() {
            return false;
        }
        let index = self.node.raft.raft_log.last_index();
        self.pending.insert(index, (self.node.raft.term, proposal));
        true
    }

    /// Does what raft asks for, until there is nothing left, and tells what happened.
    ///
    /// # Errors
    /// The disk failed: the member must stop.
    pub fn drive(&mut self, outcomes: &mut Vec<Outcome>) -> Result<(), Error> {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            send(ready.take_messages(), outcomes);
            if !ready.snapshot().is_empty() {
                self.install(ready.snapshot().clone(), outcomes)?;
            }
            if let Some(state) = ready.hs() {
                self.hard_state = state.clone();
                self.hard_state_written = false;
            }
            if ready.must_sync() {
                self.log.append(Batch {
                    snapshot: None,
                    entries: ready.entries(),
                    hard_state: (!self.hard_state_written).then_some(&self.hard_state),
                })?;
                self.hard_state_written = true;
            }
            self.node.mut_store().append(ready.entries());
            send(ready.take_persisted_messages(), outcomes);
            self.tell(ready.take_committed_entries(), outcomes);
            let mut light = self.node.advance_append(ready);
            if let Some(commit) = light.commit_index() {
                self.hard_state.commit = commit;
                self.hard_state_written = false;
            }
            send(light.take_messages(), outcomes);
            self.tell(light.take_committed_entries(), outcomes);
            self.node.advance_apply();
        }
        self.watch_leadership(outcomes);
        Ok(())
    }

    /// Takes a snapshot of the application's state as of [`Replica::applied`], and forgets the entries that it covers.
    ///
    /// # Errors
    /// The disk failed: the member must stop.
    pub fn snapshot(&mut self, data: Vec<u8>) -> Result<(), Error> {
        let term = self.node.store().term(self.applied).map_err(|source| {
            let action = "take a snapshot";
            Error::Raft { action, source }
        })?;
        let mut snapshot = Snapshot::default();
        snapshot.mut_metadata().index = self.applied;
        snapshot.mut_metadata().term = term;
        let conf_state = self.node.store().conf_state().clone();
        snapshot.mut_metadata().set_conf_state(conf_state);
        snapshot.data = data.into();
        let position = position(&snapshot);
        self.snapshots.save(&snapshot)?;
        self.log.compact(position)?;
        self.node.mut_store().compact(snapshot);
        self.snapshots.remove_others(position);
        Ok(())
    }

    fn install(&mut self, snapshot: Snapshot, outcomes: &mut Vec<Outcome>) -> Result<(), Error> {
        let position = position(&snapshot);
        self.snapshots.save(&snapshot)?;
        self.log.append(Batch {
            snapshot: Some(position),
            ..Batch::default()
        })?;
        self.snapshots.remove_others(position);
        self.applied = position.index;
        outcomes.push(Outcome::Restored {
            index: position.index,
            data: snapshot.data.clone(),
        });
        self.node.mut_store().install(snapshot);
        Ok(())
    }

    fn tell(&mut self, entries: Vec<Entry>, outcomes: &mut Vec<Outcome>) {
        for entry in entries {
            self.applied = entry.index;
            let proposal = match self.pending.remove(&entry.index) {
                Some((term, proposal)) if term == entry.term => Some(proposal),
                Some((_, proposal)) => {
                    outcomes.push(Outcome::Dropped { proposal });
                    None
                }
                None => None,
            };
            match entry.get_entry_type() {
                // A new leader's first entry is empty.
                EntryType::EntryNormal if entry.data.is_empty() => {}
                EntryType::EntryNormal => outcomes.push(Outcome::Committed {
                    index: entry.index,
                    proposal,
                    data: entry.data,
                }),
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => self.change_group(&entry),
            }
            let raft = &self.node.raft;
            if raft.state == StateRole::Leader && raft.term == entry.term && self.led != Some(raft.term) {
                self.led = Some(raft.term);
                outcomes.push(Outcome::Led { term: raft.term });
            }
        }
    }

    fn change_group(&mut self, entry: &Entry) {
        let result = match entry.get_entry_type() {
            EntryType::EntryConfChangeV2 => ConfChangeV2::parse_from_bytes(&entry.data)
                .map_err(raft::Error::from)
                .and_then(|change| self.node.apply_conf_change(&change)),
            _ => ConfChange::parse_from_bytes(&entry.data)
                .map_err(raft::Error::from)
                .and_then(|change| self.node.apply_conf_change(&change)),
        };
        match result {
            Ok(state) => self.node.mut_store().set_conf_state(state),
            Err(error) => tracing::warn!(%error, index = entry.index, "a change of the group is refused"),
        }
    }

    fn watch_leadership(&mut self, outcomes: &mut Vec<Outcome>) {
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader;
        if let Some(term) = self.led
            && (!leads || raft.term != term)
        {
            self.led = None;
            outcomes.push(Outcome::LostLeadership);
        }
        let term = raft.term;
        let lost: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, (proposed_in, _))| !leads || *proposed_in != term)
            .map(|(index, _)| *index)
            .collect();
        for index in lost {
            if let Some((_, proposal)) = self.pending.remove(&index) {
                outcomes.push(Outcome::Dropped { proposal });
            }
        }
    }

    /// Every entry that raft can still read, for tests.
    #[cfg(test)]
    fn entries(&self) -> Vec<Entry> {
        let store = self.node.store();
        let (first, last) = (store.first_index().unwrap(), store.last());
        store
            .entries(first, last + 1, None, raft::GetEntriesContext::empty(false))
            .unwrap()
    }
}

fn send(messages: Vec<Message>, outcomes: &mut Vec<Outcome>) {
    outcomes.extend(messages.into_iter().map(|message| Outcome::Send(Box::new(message))));
}

/// raft-rs's defaults have no pre-vote, no quorum check, one entry a message and no bounds.
fn config(id: u64, applied: u64) -> Config {
    Config {
        id,
        applied,
        election_tick: 10,
        heartbeat_tick: 1,
        pre_vote: true,
        check_quorum: true,
        max_size_per_msg: 1 << 20,
        max_inflight_msgs: 256,
        max_uncommitted_size: 64 << 20,
        max_committed_size_per_ready: 16 << 20,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::bootstrap;
    use super::*;
    use crate::log::{Directory, Options, Position, Wal};

    const FIRST: Position = Position { index: 1, term: 1 };

    fn begin(directory: &Path) -> anyhow::Result<Replica> {
        let snapshots = Snapshots::create(directory.join("snapshots"))?;
        let snapshot = bootstrap(&[1], b"nothing".to_vec());
        snapshots.save(&snapshot)?;
        let mut state = HardState::default();
        (state.term, state.commit) = (1, 1);
        let log = Directory::create(&directory.join("log"))?;
        Wal::create(log, Options::default(), FIRST, state)?;
        again(directory)
    }

    fn again(directory: &Path) -> anyhow::Result<Replica> {
        let snapshots = Snapshots::create(directory.join("snapshots"))?;
        let (wal, recovered) = Wal::open(Directory::create(&directory.join("log"))?, Options::default())?;
        let snapshot = snapshots.load(recovered.snapshot)?;
        let start = Start {
            id: 1,
            recovered,
            snapshot,
            committed: 0,
        };
        Ok(Replica::start(start, Box::new(wal), snapshots)?)
    }

    fn drive(replica: &mut Replica) -> anyhow::Result<Vec<String>> {
        let mut outcomes = Vec::new();
        replica.drive(&mut outcomes)?;
        let told = outcomes.iter().map(|outcome| match outcome {
            Outcome::Committed { proposal, data, .. } => {
                format!("committed {proposal:?} {}", String::from_utf8_lossy(data))
            }
            Outcome::Led { term } => format!("led {term}"),
            other => format!("{other:?}"),
        });
        Ok(told.collect())
    }

    #[test]
    fn a_group_of_one_leads_at_once_and_commits() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let mut replica = begin(directory.path())?;
        assert_eq!(drive(&mut replica)?, ["led 2"]);
        assert!(replica.propose(7, b"a".to_vec()));
        assert!(replica.propose(8, b"b".to_vec()));
        assert_eq!(drive(&mut replica)?, ["committed Some(7) a", "committed Some(8) b"]);
        assert_eq!(replica.entries().len(), 3);
        Ok(())
    }

    #[test]
    fn what_was_committed_is_told_again_after_a_restart_and_before_leading() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let mut replica = begin(directory.path())?;
        drive(&mut replica)?;
        assert!(replica.propose(7, b"a".to_vec()));
        drive(&mut replica)?;
        drop(replica);
        let mut replica = again(directory.path())?;
        assert_eq!(drive(&mut replica)?, ["committed None a", "led 3"]);
        Ok(())
    }

    #[test]
    fn a_snapshot_replaces_the_entries_before_it() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let mut replica = begin(directory.path())?;
        drive(&mut replica)?;
        assert!(replica.propose(7, b"a".to_vec()));
        drive(&mut replica)?;
        replica.snapshot(b"state with a".to_vec())?;
        assert_eq!((replica.entries().len(), replica.since_snapshot()), (0, 0));
        assert!(replica.propose(8, b"b".to_vec()));
        drive(&mut replica)?;
        drop(replica);
        let mut replica = again(directory.path())?;
        assert_eq!(&replica.node.store().snapshot(0, 1)?.data[..], b"state with a");
        assert_eq!(drive(&mut replica)?, ["committed None b", "led 3"]);
        Ok(())
    }

    #[test]
    fn a_member_that_does_not_lead_drops_proposals() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let mut replica = begin(directory.path())?;
        drive(&mut replica)?;
        let term = replica.node.raft.term;
        replica.node.raft.become_follower(term + 1, 0);
        assert!(!replica.propose(7, b"a".to_vec()));
        assert_eq!(drive(&mut replica)?, ["LostLeadership"]);
        Ok(())
    }
}

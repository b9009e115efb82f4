//! A running master: the real core and the real member, and between them what the real driver does.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proffer_master_core::{Config, Effect, Effects, Input, Master, ProposalId, ReadId, Timestamp};
use proffer_proto::registry::change::Body;
use proffer_proto::registry::{self, Change, Registry};
use proffer_replication::eraftpb::{Message, Snapshot};
use proffer_replication::{GroupChange, Member, Outcome, Settings, Status, Write};
use prost::Message as _;

use super::disk::Found;
use super::entries;

/// Proposals of the driver itself are numbered from here on, far beyond those of the core.
const OWN_PROPOSALS: u64 = 1 << 63;
/// The state is compared with that of the other masters after every so many entries.
const COMPARED_EVERY: u64 = 8;

/// What a process does to the world, in order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Never `Propose` or `Read`: these stay inside.
    Effect(Effect),
    Send(Box<Message>),
    Write(Write),
    Compact(Snapshot),
    Committed {
        index: u64,
        data: Bytes,
    },
    /// The state after the entry, by its hash.
    State {
        index: u64,
        hash: u64,
    },
    Led {
        term: u64,
    },
    Restored {
        index: u64,
    },
    GroupChanged {
        index: u64,
        /// Absent where the member has applied another change since.
        configuration: Option<Box<Status>>,
    },
    Removed,
}

/// What an operator, or a master that wants to join, asks of the leader.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Join(registry::Member),
    Change(GroupChange),
    Transfer(Option<u64>),
}

/// What someone who looks for the leader is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Leads,
    /// Member of that id leads.
    Elsewhere(u64),
    Nobody,
}

/// A running master.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: u64,
    pub(crate) core: Master,
    member: Member,
    /// Changes up to here were restored and are not told to the core again.
    restored: u64,
    /// A snapshot is taken after so many entries.
    snapshot_entries: u64,
    /// The group waits for one.
    snapshot_wanted: bool,
    inputs: VecDeque<Input>,
    effects: Effects,
    outcomes: Vec<Outcome>,
    /// What the core wants to be in the log.
    proposals: Vec<(u64, Vec<u8>)>,
    leads: bool,
    leader: Option<u64>,
    /// The real driver stops then.
    removed: bool,
    /// The core has taken a step since this was last asked.
    stepped: bool,
    /// What the driver itself has proposed.
    own: BTreeMap<u64, Own>,
    changes: BTreeMap<u64, GroupChange>,
    numbered: u64,
}

/// What a proposal of the driver is for.
#[derive(Debug)]
enum Own {
    /// A newcomer becomes a learner once its address is known.
    Join(u64),
    Forget,
}

impl Process {
    /// Starts with what is on the disk.
    ///
    /// # Errors
    /// The master refuses to start.
    pub(crate) fn start(
        found: Found,
        config: Config,
        settings: Settings,
        snapshot_entries: u64,
    ) -> Result<Self, String> {
        let mut start = found.start;
        let snapshot_index = start.snapshot.get_metadata().index;
        let last = snapshot_index + start.entries.len() as u64;
        let mut core = Master::new(config);
        let (registry, restored) = match found.applied {
            Some((index, _)) if index > last => {
                return Err(format!(
                    "the log ends with entry {last}, but entry {index} was applied before"
                ));
            }
            Some((index, registry)) if index >= snapshot_index => (registry, index),
            _ => (start.snapshot.data.to_vec(), snapshot_index),
        };
        core.restore(decode_registry(&registry)?);
        start.committed = restored;
        Ok(Process {
            id: settings.id,
            core,
            member: Member::start(start, settings).map_err(|error| error.to_string())?,
            restored,
            snapshot_entries,
            snapshot_wanted: false,
            inputs: VecDeque::new(),
            effects: Effects::new(),
            outcomes: Vec::new(),
            proposals: Vec::new(),
            leads: false,
            leader: None,
            removed: false,
            stepped: false,
            own: BTreeMap::new(),
            changes: BTreeMap::new(),
            numbered: OWN_PROPOSALS,
        })
    }

    /// Whether the state after the entry is compared.
    pub(crate) fn compares(index: u64) -> bool {
        index.is_multiple_of(COMPARED_EVERY)
    }

    /// A hash of the registry.
    pub(crate) fn hash(core: &Master) -> u64 {
        // FNV-1a.
        core.registry()
            .encode_to_vec()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
    }

    pub(crate) fn leads(&self) -> bool {
        self.leads
    }

    pub(crate) fn door(&self) -> Door {
        match self.leader {
            _ if self.leads => Door::Leads,
            Some(id) if id != self.id => Door::Elsewhere(id),
            _ => Door::Nobody,
        }
    }

    /// Whether the core has taken a step since this was last asked.
    pub(crate) fn has_stepped(&mut self) -> bool {
        std::mem::take(&mut self.stepped)
    }

    pub(crate) fn status(&self) -> Status {
        self.member.status()
    }

    /// The index up to which the core has heard of changes, and the registry after it.
    pub(crate) fn applied(&self) -> (u64, Vec<u8>) {
        (
            self.member.applied().max(self.restored),
            self.core.registry().encode_to_vec(),
        )
    }

    /// For the member, whatever it is; [`Process::settle`] must follow.
    pub(crate) fn member(&mut self) -> &mut Member {
        &mut self.member
    }

    /// For the core; [`Process::settle`] must follow.
    pub(crate) fn input(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    /// Does what is asked, or begins to; [`Process::settle`] must follow.
    pub(crate) fn ask(&mut self, ask: Ask) -> Result<(), String> {
        match ask {
            Ask::Join(newcomer) => {
                let id = newcomer.id;
                let body = Body::PutMember(registry::PutMember { member: newcomer });
                self.propose(body, Own::Join(id)).then_some(()).ok_or_else(not_now)
            }
            Ask::Change(change) => self.change(change),
            Ask::Transfer(to) => self.member.transfer_leadership(to).then_some(()).ok_or_else(not_now),
        }
    }

    /// Works until nothing is left to do but wait, as the driver does after every input.
    ///
    /// # Errors
    /// The master must stop.
    pub(crate) fn settle(&mut self, clock: u64, outputs: &mut Vec<Output>) -> Result<(), String> {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                self.step(clock, input, outputs);
            }
            self.propose_all();
            let mut outcomes = std::mem::take(&mut self.outcomes);
            self.member.drive(&mut outcomes).map_err(|error| error.to_string())?;
            let idle = outcomes.is_empty();
            let mut changes = outcomes.iter().filter(|outcome| is_group_change(outcome)).count();
            for outcome in outcomes.drain(..) {
                if let Outcome::GroupChanged { index, .. } = outcome {
                    changes -= 1;
                    let configuration = (changes == 0).then(|| Box::new(self.member.status()));
                    outputs.push(Output::GroupChanged { index, configuration });
                } else {
                    self.outcome(clock, outcome, outputs)?;
                }
            }
            self.outcomes = outcomes;
            if self.removed {
                return Ok(());
            }
            if idle && self.inputs.is_empty() {
                let (entries, _) = self.member.since_snapshot();
                if entries < self.snapshot_entries && !self.snapshot_wanted {
                    return Ok(());
                }
                self.snapshot_wanted = false;
                self.member.compact(self.core.registry().encode_to_vec());
            }
        }
    }

    fn propose_all(&mut self) {
        let proposals = std::mem::take(&mut self.proposals);
        let numbers: Vec<_> = proposals.iter().map(|(number, _)| *number).collect();
        if !self.member.propose_all(proposals) {
            let dropped = |number| Input::ProposalDropped {
                proposal: ProposalId(number),
            };
            self.inputs.extend(numbers.into_iter().map(dropped));
        }
    }

    fn step(&mut self, clock: u64, input: Input, outputs: &mut Vec<Output>) {
        let compared = match &input {
            Input::Committed { index, .. } if Self::compares(*index) => Some(*index),
            _ => None,
        };
        self.stepped = true;
        self.core.step(Timestamp(clock), input, &mut self.effects);
        let effects: Vec<Effect> = self.effects.drain().collect();
        for effect in effects {
            match effect {
                Effect::Propose { id, change } => {
                    self.proposals.push((id.0, entries::encode(&change)));
                }
                Effect::Read { read } => self.member.read(read.0),
                effect => outputs.push(Output::Effect(effect)),
            }
        }
        if let Some(index) = compared {
            let hash = Self::hash(&self.core);
            outputs.push(Output::State { index, hash });
        }
    }

    fn outcome(&mut self, clock: u64, outcome: Outcome, outputs: &mut Vec<Output>) -> Result<(), String> {
        match outcome {
            Outcome::Send(message) => outputs.push(Output::Send(message)),
            Outcome::Write(write) => outputs.push(Output::Write(write)),
            Outcome::Compact(snapshot) => outputs.push(Output::Compact(snapshot)),
            Outcome::SnapshotWanted => self.snapshot_wanted = true,
            Outcome::Committed { index, proposal, data } => {
                outputs.push(Output::Committed {
                    index,
                    data: data.clone(),
                });
                self.committed(clock, index, proposal, &data, outputs)?;
            }
            Outcome::Dropped { proposal } if proposal >= OWN_PROPOSALS => {
                self.own.remove(&proposal);
            }
            Outcome::Dropped { proposal } => self.input(Input::ProposalDropped {
                proposal: ProposalId(proposal),
            }),
            Outcome::Led { term } => {
                self.leads = true;
                outputs.push(Output::Led { term });
                let incarnation = format!("sim-{term}");
                self.step(clock, Input::BecameLeader { incarnation }, outputs);
            }
            Outcome::LostLeadership => {
                self.leads = false;
                self.own.clear();
                self.changes.clear();
                self.step(clock, Input::LostLeadership, outputs);
                self.proposals.clear();
            }
            Outcome::Leader { id } => self.leader = id,
            Outcome::Restored { index, data } => {
                outputs.push(Output::Restored { index });
                self.restored = index;
                self.core.restore(decode_registry(&data)?);
                let hash = Self::hash(&self.core);
                outputs.push(Output::State { index, hash });
            }
            Outcome::Readable { read } => self.input(Input::Readable { read: ReadId(read) }),
            Outcome::Unreadable { read } => self.input(Input::Unreadable { read: ReadId(read) }),
            Outcome::GroupChanged { .. } => unreachable!("told with the configuration"),
            Outcome::ChangeDone { change } => self.changed(change),
            Outcome::ChangeDropped { change } => {
                self.changes.remove(&change);
            }
            Outcome::Removed => {
                self.removed = true;
                outputs.push(Output::Removed);
            }
        }
        Ok(())
    }

    fn committed(
        &mut self,
        clock: u64,
        index: u64,
        proposal: Option<u64>,
        data: &[u8],
        outputs: &mut Vec<Output>,
    ) -> Result<(), String> {
        let change = entries::decode(index, data)?;
        if index <= self.restored {
            return Ok(());
        }
        let of_core = proposal.filter(|number| *number < OWN_PROPOSALS);
        let input = Input::Committed {
            index,
            proposal: of_core.map(ProposalId),
            change,
        };
        // At once, and not with the inputs that wait: a snapshot may replace the registry in the next outcome.
        self.step(clock, input, outputs);
        match proposal.and_then(|number| self.own.remove(&number)) {
            Some(Own::Join(id)) => {
                // Refused where it is a member already.
                let _ = self.change(GroupChange::AddLearner(id));
            }
            Some(Own::Forget) | None => {}
        }
        Ok(())
    }

    fn change(&mut self, change: GroupChange) -> Result<(), String> {
        self.numbered += 1;
        let number = self.numbered;
        let begun = self.member.change_group(number, change);
        begun.map_err(|refusal| refusal.to_string())?;
        self.changes.insert(number, change);
        Ok(())
    }

    /// Whoever left is forgotten.
    fn changed(&mut self, number: u64) {
        let left = match self.changes.remove(&number) {
            Some(GroupChange::Remove(id)) => id,
            Some(GroupChange::Promote { replaces: Some(id), .. }) => id,
            _ => return,
        };
        self.propose(Body::RemoveMember(registry::RemoveMember { id: left }), Own::Forget);
    }

    fn propose(&mut self, body: Body, own: Own) -> bool {
        self.numbered += 1;
        let change = Change { body: Some(body) };
        let taken = self.member.propose(self.numbered, entries::encode(&change));
        if taken {
            self.own.insert(self.numbered, own);
        }
        taken
    }
}

fn is_group_change(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::GroupChanged { .. })
}

fn not_now() -> String {
    "not now".to_owned()
}

fn decode_registry(data: &[u8]) -> Result<Registry, String> {
    Registry::decode(data).map_err(|error| format!("a snapshot cannot be decoded: {error}"))
}

//! A group of members with queues between them and disks that write when told to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::eraftpb::{Entry, HardState, Message, MessageType};

use super::disk::{Disk, Pending};
use crate::{Error, Member, Outcome, Role, Settings, Start, Status, bootstrap};

/// What a member told, in words.
pub(crate) type Told = Vec<String>;

/// One machine: a member that may be down, its disk, and the application on it.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) settings: Settings,
    pub(crate) member: Option<Member>,
    pub(crate) disk: Disk,
    /// The application's state: all data that was committed, by index.
    pub(crate) state: BTreeMap<u64, Vec<u8>>,
    pub(crate) told: Told,
    pub(crate) failed: Option<Error>,
    /// Whether the application takes a snapshot when it is asked to.
    pub(crate) obliges: bool,
}

/// The group.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) machines: BTreeMap<u64, Machine>,
    pub(crate) messages: VecDeque<Message>,
    /// Messages from the first to the second are lost.
    pub(crate) cuts: BTreeSet<(u64, u64)>,
    /// Only this one is heard asking for votes.
    pub(crate) candidate: Option<u64>,
    /// Every message that was ever sent.
    pub(crate) sent: Vec<(u64, u64, MessageType)>,
    /// The leader of each term.
    pub(crate) leaders: BTreeMap<u64, u64>,
    /// What was committed at each index, by anyone.
    pub(crate) committed: BTreeMap<u64, Vec<u8>>,
}

pub(crate) fn encode_state(state: &BTreeMap<u64, Vec<u8>>) -> Vec<u8> {
    let lines = state
        .iter()
        .map(|(index, data)| format!("{index} {}\n", String::from_utf8_lossy(data)));
    lines.collect::<String>().into_bytes()
}

pub(crate) fn decode_state(bytes: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    let text = String::from_utf8_lossy(bytes);
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let pairs = pairs.map(|(index, data)| (index.parse().unwrap_or(0), data.as_bytes().to_vec()));
    pairs.collect()
}

impl Cluster {
    /// A group of so many members, with ids from 1 and fast disks.
    pub(crate) fn new(count: u64) -> Self {
        Self::seeded(count, 7)
    }

    /// A group with settings that differ from the documented ones.
    pub(crate) fn with_settings(count: u64, change: impl Fn(&mut Settings)) -> Self {
        let mut cluster = Self::new(count);
        for id in 1..=count {
            change(&mut cluster.machine(id).settings);
            cluster.restart(id);
        }
        cluster
    }

    /// A group whose compactions keep no tail.
    pub(crate) fn without_tails(count: u64) -> Self {
        Self::with_settings(count, |settings| settings.tail_entries_max = 0)
    }

    pub(crate) fn seeded(count: u64, seed: u64) -> Self {
        let ids: Vec<u64> = (1..=count).collect();
        let mut cluster = Self::default();
        for id in &ids {
            let start = Start {
                snapshot: bootstrap(&ids, Vec::new()),
                ..Start::default()
            };
            cluster.add(*id, start, seed);
        }
        cluster
    }

    /// A machine that starts from nothing.
    pub(crate) fn newcomer(&mut self, id: u64) {
        self.add(id, Start::default(), 7);
    }

    fn add(&mut self, id: u64, start: Start, seed: u64) {
        let machine = Machine {
            settings: Settings::new(id, seed),
            member: None,
            disk: Disk {
                start,
                is_fast: true,
                ..Disk::default()
            },
            state: BTreeMap::new(),
            told: Vec::new(),
            failed: None,
            obliges: true,
        };
        self.machines.insert(id, machine);
        self.restart(id);
    }

    /// Starts from what is on the disk.
    pub(crate) fn restart(&mut self, id: u64) {
        let machine = self.machine(id);
        machine.disk.pending.clear();
        machine.state = decode_state(&machine.disk.start.snapshot.data);
        match Member::start(machine.disk.start.clone(), machine.settings.clone()) {
            Ok(member) => machine.member = Some(member),
            Err(error) => machine.failed = Some(error),
        }
        self.drive(id);
    }

    /// Loses what was not written.
    pub(crate) fn crash(&mut self, id: u64) {
        let machine = self.machine(id);
        machine.member = None;
        machine.disk.pending.clear();
    }

    pub(crate) fn machine(&mut self, id: u64) -> &mut Machine {
        self.machines.get_mut(&id).expect("a machine")
    }

    pub(crate) fn member(&mut self, id: u64) -> &mut Member {
        self.machine(id).member.as_mut().expect("a member that is up")
    }

    pub(crate) fn status(&self, id: u64) -> Status {
        let member = self.machines[&id].member.as_ref();
        member.expect("a member that is up").status()
    }

    pub(crate) fn is_up(&self, id: u64) -> bool {
        self.machines[&id].member.is_some()
    }

    pub(crate) fn up(&self) -> Vec<u64> {
        let up = self.machines.iter().filter(|(_, machine)| machine.member.is_some());
        up.map(|(id, _)| *id).collect()
    }

    /// Calls a member, and does what comes of it.
    pub(crate) fn with<T>(&mut self, id: u64, call: impl FnOnce(&mut Member) -> T) -> T {
        let result = call(self.member(id));
        self.drive(id);
        result
    }

    /// Takes what the member tells.
    pub(crate) fn drive(&mut self, id: u64) {
        loop {
            let Some(member) = self.machine(id).member.as_mut() else {
                return;
            };
            let mut outcomes = Vec::new();
            if let Err(error) = member.drive(&mut outcomes) {
                let machine = self.machine(id);
                machine.failed = Some(error);
                machine.member = None;
                return;
            }
            if outcomes.is_empty() {
                return;
            }
            for outcome in outcomes {
                self.take(id, outcome);
            }
        }
    }

    fn take(&mut self, id: u64, outcome: Outcome) {
        match outcome {
            Outcome::Send(message) => {
                assert_eq!(message.from, id);
                self.sent.push((id, message.to, message.get_msg_type()));
                self.messages.push_back(*message);
            }
            Outcome::Write(write) => self.queue(id, Pending::Write(write)),
            Outcome::Compact(snapshot) => self.queue(id, Pending::Compact(snapshot)),
            Outcome::SnapshotWanted => {
                self.tell(id, "snapshot wanted".to_owned());
                if self.machine(id).obliges {
                    self.compact(id);
                }
            }
            Outcome::Committed { index, proposal, data } => {
                let before = self.committed.entry(index).or_insert_with(|| data.to_vec());
                assert_eq!(*before, data.to_vec(), "two values at index {index}");
                let known = proposal.map_or_else(String::new, |proposal| format!(" as {proposal}"));
                self.tell(id, format!("committed {}{known}", String::from_utf8_lossy(&data)));
                self.machine(id).state.insert(index, data.to_vec());
            }
            Outcome::Restored { data, .. } => {
                self.machine(id).state = decode_state(&data);
                self.tell(id, "restored".to_owned());
            }
            Outcome::Led { term } => {
                let leader = *self.leaders.entry(term).or_insert(id);
                assert_eq!(leader, id, "two leaders in term {term}");
                self.tell(id, "led".to_owned());
            }
            Outcome::Dropped { proposal } => self.tell(id, format!("dropped {proposal}")),
            Outcome::LostLeadership => self.tell(id, "lost".to_owned()),
            Outcome::Leader { id: leader } => self.tell(id, format!("leader {}", leader.unwrap_or(0))),
            Outcome::Readable { read } => self.tell(id, format!("readable {read}")),
            Outcome::Unreadable { read } => self.tell(id, format!("unreadable {read}")),
            Outcome::GroupChanged { joint, .. } => {
                self.tell(id, if joint { "group joint" } else { "group changed" }.to_owned());
            }
            Outcome::ChangeDone { change } => self.tell(id, format!("change {change} done")),
            Outcome::ChangeDropped { change } => self.tell(id, format!("change {change} dropped")),
            Outcome::Removed => self.tell(id, "removed".to_owned()),
        }
    }

    fn tell(&mut self, id: u64, what: String) {
        self.machine(id).told.push(what);
    }

    fn queue(&mut self, id: u64, pending: Pending) {
        self.machine(id).disk.pending.push_back(pending);
        if self.machine(id).disk.is_fast {
            self.flush(id);
        }
    }

    /// Gives the application's state as a snapshot.
    pub(crate) fn compact(&mut self, id: u64) {
        let data = encode_state(&self.machine(id).state);
        self.with(id, |member| member.compact(data));
    }

    /// Writes everything that is handed out.
    pub(crate) fn flush(&mut self, id: u64) {
        while self.write_one(id) {}
    }

    /// Writes the oldest thing that is handed out.
    pub(crate) fn write_one(&mut self, id: u64) -> bool {
        let disk = &mut self.machine(id).disk;
        let Some(pending) = disk.pending.pop_front() else {
            return false;
        };
        let number = disk.done(pending);
        if let (Some(number), Some(member)) = (number, self.machine(id).member.as_mut()) {
            member.written(number);
        }
        true
    }

    /// Delivers the oldest message.
    pub(crate) fn deliver_one(&mut self) -> bool {
        let Some(message) = self.messages.pop_front() else {
            return false;
        };
        self.deliver(message);
        true
    }

    pub(crate) fn deliver(&mut self, message: Message) {
        let (from, to) = (message.from, message.to);
        let asks = matches!(
            message.get_msg_type(),
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
        );
        let may_ask = self.candidate.is_none_or(|candidate| candidate == from);
        let arrives =
            (!asks || may_ask) && !self.cuts.contains(&(from, to)) && self.machines.contains_key(&to) && self.is_up(to);
        let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
        if arrives {
            // Its receiver may have been removed; nothing else can be wrong with it.
            let bytes = crate::encode(&message);
            let message = crate::decode(&bytes).expect("a message that was just encoded");
            let result = self.with(to, |member| member.receive(message));
            assert!(
                matches!(result, Ok(()) | Err(crate::Refusal::Removed)),
                "{result:?}: {bytes:?}"
            );
        }
        if is_snapshot && self.machines.get(&from).is_some_and(|machine| machine.member.is_some()) {
            self.with(from, |member| member.snapshot_sent(to, arrives));
        }
    }

    /// Delivers and writes until nothing is under way.
    pub(crate) fn settle(&mut self) {
        let mut steps = 0;
        loop {
            let mut moved = false;
            for id in self.up() {
                self.drive(id);
            }
            while self.deliver_one() {
                moved = true;
                steps += 1;
                assert!(steps < 100_000, "the group never comes to rest");
            }
            if !moved {
                return;
            }
        }
    }

    /// A tick everywhere, and what comes of it.
    pub(crate) fn tick(&mut self) {
        for id in self.up() {
            self.with(id, Member::tick);
        }
        self.settle();
    }

    pub(crate) fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick();
        }
    }

    /// A member is elected: time passes for all but the present leaders, and nobody else is heard asking for votes.
    pub(crate) fn elect(&mut self, id: u64) {
        self.stand(id);
        assert_eq!(self.status(id).role, Role::Leader, "{:?}", self.status(id));
    }

    /// A member stands for election until it leads or is removed.
    pub(crate) fn stand(&mut self, id: u64) {
        self.candidate = Some(id);
        for _ in 0..60 {
            for other in self.up() {
                if other == id || self.status(other).role != Role::Leader {
                    self.with(other, Member::tick);
                }
            }
            self.settle();
            if matches!(self.status(id).role, Role::Leader | Role::Removed) {
                break;
            }
        }
        self.candidate = None;
    }

    /// Waits until somebody leads whom the others follow.
    pub(crate) fn wait_for_leader(&mut self) -> u64 {
        for _ in 0..200 {
            if let Some(leader) = self.leader() {
                return leader;
            }
            self.tick();
        }
        panic!("nobody leads");
    }

    /// Who leads in the newest term.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leaders = self.up().into_iter().map(|id| self.status(id));
        let leaders = leaders.filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.term).map(|status| status.id)
    }

    pub(crate) fn propose(&mut self, id: u64, proposal: u64, data: &str) -> bool {
        self.with(id, |member| member.propose(proposal, data.as_bytes().to_vec()))
    }

    /// Proposes a run of entries and lets them commit.
    pub(crate) fn fill(&mut self, id: u64, count: u64) {
        for number in 0..count {
            assert!(self.propose(id, number, &format!("f{number}")));
        }
        self.settle();
    }

    /// How many messages of a kind a member sent to another.
    pub(crate) fn count(&self, from: u64, to: u64, kind: MessageType) -> usize {
        self.sent.iter().filter(|sent| **sent == (from, to, kind)).count()
    }

    /// A change of the group, which must not be refused.
    pub(crate) fn change(&mut self, id: u64, number: u64, what: crate::GroupChange) {
        self.with(id, |member| member.change_group(number, what))
            .expect("a change that is begun");
    }

    /// Cuts a member off, both ways.
    pub(crate) fn isolate(&mut self, id: u64) {
        for other in self.machines.keys().copied().collect::<Vec<_>>() {
            self.cuts.insert((id, other));
            self.cuts.insert((other, id));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// What was told since this was last asked.
    pub(crate) fn told(&mut self, id: u64) -> Told {
        std::mem::take(&mut self.machine(id).told)
    }

    /// The data that the application of a member has.
    pub(crate) fn data(&self, id: u64) -> Vec<String> {
        let data = self.machines[&id].state.values();
        data.map(|data| String::from_utf8_lossy(data).into_owned()).collect()
    }

    /// Makes a member's disk slow: writes are done by `flush`.
    pub(crate) fn slow_disk(&mut self, id: u64) {
        self.machine(id).disk.is_fast = false;
    }

    pub(crate) fn fast_disk(&mut self, id: u64) {
        self.machine(id).disk.is_fast = true;
        self.flush(id);
        self.drive(id);
        self.settle();
    }
}

/// An entry with data.
pub(crate) fn entry(index: u64, term: u64, data: &str) -> Entry {
    let mut entry = Entry::default();
    (entry.index, entry.term) = (index, term);
    entry.data = data.as_bytes().to_vec().into();
    entry
}

/// A hard state.
pub(crate) fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    let mut state = HardState::default();
    (state.term, state.vote, state.commit) = (term, vote, commit);
    state
}

//! Histories drawn by chance: messages delayed, lost, repeated and reordered, disks that are slow, crashes, cuts, compactions,
//! reads and changes of the group. At every step there is one leader a term and one value an index; at the end everything
//! that was acknowledged is everywhere.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::cluster::Cluster;
use crate::{GroupChange, Member, Role};

#[derive(Debug, Clone, Copy)]
enum Step {
    Tick(u64),
    /// Everybody's tick, messages and writes, so many times.
    Rounds(usize),
    Deliver(usize),
    DeliverAll,
    Lose(usize),
    Repeat(usize),
    WriteOne(u64),
    Flush(u64),
    Propose(u64),
    Read(u64),
    Compact(u64),
    Transfer(u64),
    Change(u64, u64, u64, u8),
    Crash(u64),
    Restart(u64),
    Cut(u64, u64),
    Isolate(u64),
    Heal,
    Unreachable(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1..=5u64;
    // Mostly the leader.
    let at = || prop_oneof![3 => Just(0), 1 => 1..=5u64];
    let place = || 0..40usize;
    prop_oneof![
        8 => id().prop_map(Step::Tick),
        10 => (1..6usize).prop_map(Step::Rounds),
        1 => (20..40usize).prop_map(Step::Rounds),
        15 => place().prop_map(Step::Deliver),
        8 => Just(Step::DeliverAll),
        3 => place().prop_map(Step::Lose),
        3 => place().prop_map(Step::Repeat),
        8 => id().prop_map(Step::WriteOne),
        8 => id().prop_map(Step::Flush),
        12 => at().prop_map(Step::Propose),
        5 => at().prop_map(Step::Read),
        2 => at().prop_map(Step::Compact),
        1 => at().prop_map(Step::Transfer),
        8 => (at(), 4..=5u64, id(), 0..4u8).prop_map(|(at, id, old, kind)| Step::Change(at, id, old, kind)),
        2 => at().prop_map(Step::Crash),
        4 => id().prop_map(Step::Restart),
        1 => (id(), id()).prop_map(|(from, to)| Step::Cut(from, to)),
        1 => at().prop_map(Step::Isolate),
        3 => Just(Step::Heal),
        1 => (at(), id()).prop_map(|(at, id)| Step::Unreachable(at, id)),
    ]
}

/// A history of three founders, a learner's machine and another one.
struct History {
    cluster: Cluster,
    numbers: u64,
    /// The reads that wait, with the newest index that anyone was told when they were asked for.
    reads: Vec<(u64, u64)>,
    /// Who was to leave the group.
    gone: BTreeSet<u64>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut cluster = Cluster::seeded(3, seed);
        for id in [4, 5] {
            cluster.newcomer(id);
        }
        for id in 1..=5 {
            cluster.machine(id).settings.tail_entries_max = (seed % 4) as usize;
            cluster.machine(id).settings.message_bytes_max = 60;
            cluster.restart(id);
            cluster.slow_disk(id);
        }
        Self {
            cluster,
            numbers: 0,
            reads: Vec::new(),
            gone: BTreeSet::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn round(&mut self) {
        let cluster = &mut self.cluster;
        for id in cluster.up() {
            cluster.with(id, Member::tick);
            cluster.flush(id);
            cluster.drive(id);
        }
        for _ in 0..cluster.messages.len() {
            cluster.deliver_one();
        }
    }

    fn act(&mut self, step: Step) {
        let number = self.number();
        let cluster = &mut self.cluster;
        let leader = cluster.leader().unwrap_or(1);
        let at = |id: u64| if id == 0 { leader } else { id };
        let up = |cluster: &Cluster, id: u64| cluster.is_up(at(id));
        match step {
            Step::Tick(id) if up(cluster, id) => cluster.with(id, Member::tick),
            Step::Rounds(count) => (0..count).for_each(|_| self.round()),
            Step::Deliver(place) if !cluster.messages.is_empty() => {
                let place = place % cluster.messages.len();
                let message = cluster.messages.remove(place);
                message.into_iter().for_each(|message| cluster.deliver(message));
            }
            Step::DeliverAll => {
                for _ in 0..cluster.messages.len() {
                    cluster.deliver_one();
                }
            }
            Step::Lose(place) if !cluster.messages.is_empty() => self.lose(place),
            Step::Repeat(place) if !cluster.messages.is_empty() => {
                let place = place % cluster.messages.len();
                let message = cluster.messages[place].clone();
                cluster.messages.push_back(message);
            }
            Step::WriteOne(id) => {
                cluster.write_one(id);
                cluster.drive(id);
            }
            Step::Flush(id) => {
                cluster.flush(id);
                cluster.drive(id);
            }
            Step::Propose(id) if up(cluster, id) => {
                let _ = cluster.propose(at(id), number, &format!("v{number}"));
            }
            Step::Read(id) if up(cluster, id) => {
                let newest = cluster.committed.last_key_value().map_or(0, |(index, _)| *index);
                self.reads.push((number, newest));
                cluster.with(at(id), |member| member.read(number));
            }
            Step::Compact(id) if up(cluster, id) => cluster.compact(at(id)),
            Step::Transfer(id) if up(cluster, id) => {
                cluster.with(at(id), |member| member.transfer_leadership(None));
            }
            Step::Change(here, id, old, kind) if up(cluster, here) => {
                let what = match kind {
                    0 => GroupChange::AddLearner(id),
                    1 => GroupChange::Promote { id, replaces: None },
                    2 => GroupChange::Promote {
                        id,
                        replaces: Some(old),
                    },
                    // Never so many that a group of two is left, of whom one may wait for the other for ever.
                    _ if cluster.status(at(here)).voters.len() > 3 => GroupChange::Remove(old),
                    _ => return,
                };
                // Who was removed does not come back: it would find its removal in the log.
                if self.gone.contains(&id) {
                    return;
                }
                let begun = cluster.with(at(here), |member| member.change_group(number, what));
                if begun.is_ok() && kind >= 2 {
                    self.gone.insert(old);
                }
            }
            Step::Crash(id) => cluster.crash(at(id)),
            Step::Restart(id) if !up(cluster, id) => cluster.restart(id),
            Step::Cut(from, to) => {
                cluster.cuts.insert((from, to));
            }
            Step::Isolate(id) => cluster.isolate(at(id)),
            Step::Heal => cluster.heal(),
            Step::Unreachable(here, id) if up(cluster, here) => {
                cluster.with(at(here), |member| member.unreachable(id));
            }
            _ => {}
        }
        self.check();
    }

    fn lose(&mut self, place: usize) {
        let cluster = &mut self.cluster;
        let place = place % cluster.messages.len();
        let Some(message) = cluster.messages.remove(place) else {
            return;
        };
        // The sender of a snapshot hears of its end, whatever it is.
        cluster.cuts.insert((message.from, message.to));
        let cut = (message.from, message.to);
        cluster.deliver(message);
        cluster.cuts.remove(&cut);
    }

    fn check(&mut self) {
        for (id, machine) in &mut self.cluster.machines {
            assert!(machine.failed.is_none(), "member {id}: {:?}", machine.failed);
        }
        for id in 1..=5 {
            for told in self.cluster.told(id) {
                let Some(read) = told.strip_prefix("readable ") else {
                    continue;
                };
                let read: u64 = read.parse().unwrap();
                let (_, newest) = self.reads.iter().find(|(number, _)| *number == read).unwrap();
                let state = &self.cluster.machines[&id].state;
                let before = self.cluster.committed.range(..=newest);
                for (index, data) in before {
                    assert_eq!(state.get(index), Some(data), "read {read} of {id} lacks index {index}");
                }
            }
        }
    }

    /// Everything heals, and the group goes on.
    fn end(mut self) {
        self.cluster.heal();
        for id in 1..=5 {
            if !self.cluster.is_up(id) {
                self.cluster.restart(id);
            }
            self.cluster.fast_disk(id);
        }
        self.cluster.ticks(60);
        self.check();
        let leader = self.cluster.wait_for_leader();
        self.cluster.ticks(60);
        let leader = self.cluster.leader().unwrap_or(leader);
        assert!(self.cluster.propose(leader, u64::MAX, "end"));
        self.cluster.ticks(10);
        self.check();
        let status = self.cluster.status(leader);
        assert!(status.voters_outgoing.is_empty(), "{status:?}");
        let everything: Vec<&Vec<u8>> = self.cluster.committed.values().collect();
        for id in status.voters.iter().chain(&status.learners) {
            let state: Vec<&Vec<u8>> = self.cluster.machines[id].state.values().collect();
            assert_eq!(state, everything, "member {id}");
            let seen = self.cluster.status(*id);
            assert_eq!((&seen.voters, &seen.learners), (&status.voters, &status.learners));
            assert_ne!(seen.role, Role::Removed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_and_the_group_goes_on(
        seed in 0..1000u64,
        steps in proptest::collection::vec(step(), 50..400),
    ) {
        let mut history = History::new(seed);
        for step in steps {
            history.act(step);
        }
        history.end();
    }
}

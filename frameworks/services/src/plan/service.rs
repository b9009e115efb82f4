//! One service: its slots, and what is counted of them.
//!
//! What is asked of all slots at every step (who is missing, who is ready, who is outdated) is kept up to date slot by
//! slot, so that a step costs the same whatever the number of instances is.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::{Partition, ServiceSpec, Strategy};

use super::failures::Jitter;
use super::rollout::{Bounds, Canary, Count, Rollout, RolloutState};
use super::sides::{Reach, SIDE, Sides};
use super::{Effect, Launch, Millis, News, Observed, Phase, Put, Slot, millis};

/// One service: what is wanted, and what there is.
#[derive(Clone, Debug)]
pub struct Service {
    /// What is wanted.
    pub spec: ServiceSpec,
    /// The version of the specification; grows with every change.
    pub version: u64,
    /// The version that instances are to have: that in which what an instance is changed last.
    pub instance_version: u64,
    /// Whether it is to end.
    pub removed: bool,
    /// The instances by index.
    pub slots: BTreeMap<u32, Slot>,
    /// Instances that ended and were replaced, apart from those that were ended on purpose.
    pub restarts: u64,
    /// How the version comes about.
    pub rollout: Rollout,
    /// Agents that are going to be taken away: their instances are replaced first, like those of an older version.
    leaving: BTreeSet<String>,
    /// Which indices its instances have.
    sides: Sides,
    /// For which indices the slots were brought in line.
    reach: Reach,
    tally: Tally,
}

/// What is counted of the slots.
#[derive(Clone, Debug, Default)]
struct Tally {
    standings: BTreeMap<u32, Standing>,
    /// Missing ones, by when they are due.
    missing: BTreeSet<(Millis, u32)>,
    /// Of those, the ones for which no offers were asked.
    unasked: BTreeSet<(Millis, u32)>,
    /// Unreachable ones, by when they are given up.
    leaving: BTreeSet<(Millis, u32)>,
    alive: u32,
    ready: u32,
    /// Of those that are ready, the ones that requests are to reach.
    serving: u32,
    /// Those that are ready and have the version.
    current: u32,
    /// Of those, the ones at wanted indices.
    renewed: u32,
    /// Those of older versions of which nothing was heard yet.
    outdated_unknown: u32,
    outdated_ready: BTreeSet<u32>,
    outdated_unready: BTreeSet<u32>,
}

/// How one slot is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    missing: Option<Millis>,
    leaving: Option<Millis>,
    alive: bool,
    known: bool,
    ready: bool,
    serving: bool,
    current: bool,
    renewed: bool,
    outdated: bool,
}

impl Service {
    pub(super) fn new(now: Millis, put: &Put) -> Self {
        let patience = patience(&put.spec);
        Self {
            spec: put.spec.clone(),
            version: put.version,
            instance_version: put.instance_version,
            removed: false,
            slots: BTreeMap::new(),
            restarts: 0,
            rollout: Rollout::begin(now, patience, put.reverts.clone()),
            leaving: BTreeSet::new(),
            sides: Sides::new(put.base),
            reach: Reach::default(),
            tally: Tally::default(),
        }
    }

    /// How many instances are wanted.
    pub fn wanted(&self) -> u32 {
        if self.removed { 0 } else { self.spec.instances }
    }

    /// Which indices there may be now: while an update rolls, some more than wanted.
    pub(super) fn indices(&self) -> Reach {
        let extra = self.extra();
        let watched = self.rollout.watched();
        let begun = watched.map_or(extra, |canary| extra.min(canary.instances));
        self.sides.reach(self.wanted(), begun)
    }

    /// Which indices may go on: those beyond the first of a new version may stand in from the update before.
    fn lasting(&self) -> Reach {
        self.sides.reach(self.wanted(), self.extra())
    }

    /// Whether an index is one of those that are wanted, now or when the side of the new version has taken over.
    pub(super) fn is_wanted(&self, index: u32) -> bool {
        self.sides.reach(self.wanted(), 0).contains(index)
    }

    /// Whether requests are to reach an instance.
    pub fn serves(&self, index: u32, slot: &Slot) -> bool {
        slot.is_ready() && self.sides.serves(index)
    }

    /// The number of an instance among those of its side.
    pub fn number(index: u32) -> u32 {
        Sides::number(index)
    }

    /// Whether two instances are of versions that serve together.
    pub fn same_side(one: u32, other: u32) -> bool {
        one / SIDE == other / SIDE
    }

    /// How many more than wanted there may be on the side that serves.
    fn extra(&self) -> u32 {
        // One that made no progress keeps what it has: the instances beyond those wanted may be the ones that are ready.
        let side_by_side = self.spec.update.strategy == Strategy::BlueGreen;
        let aside = self.sides.is_awaiting() || side_by_side && self.leaving.is_empty();
        let over = self.removed || self.rollout.state == RolloutState::Done || aside;
        if over || self.outdated() == 0 && !self.extra_is_needed() {
            return 0;
        }
        Bounds::of(&self.spec).extra
    }

    /// Until every wanted index has a ready instance those above them stand in.
    fn extra_is_needed(&self) -> bool {
        let wanted = self.sides.reach(self.wanted(), 0);
        self.tally.renewed < self.wanted()
            && self
                .slots
                .keys()
                .next_back()
                .is_some_and(|last| !wanted.contains(*last))
    }

    /// How many instances take requests.
    pub fn serving(&self) -> u32 {
        self.tally.serving
    }

    /// How many instances of older versions were not told to end.
    pub fn outdated(&self) -> u32 {
        let outdated = self.tally.outdated_ready.len() + self.tally.outdated_unready.len();
        u32::try_from(outdated).unwrap_or(u32::MAX) + self.tally.outdated_unknown
    }

    /// The instances that may be launched now.
    pub fn missing(&self, now: Millis) -> impl Iterator<Item = u32> + '_ {
        let due = self.tally.missing.range(..=(now, u32::MAX));
        due.map(|(_, index)| *index)
    }

    /// When time alone changes something next.
    pub(super) fn wake_at(&self, now: Millis) -> Option<Millis> {
        let due = self.tally.unasked.range((now + 1, 0)..).next().map(|(due, _)| *due);
        let leaving = self.tally.leaving.first().map(|(until, _)| *until);
        let times = [due, leaving, self.rollout.deadline(now), self.sides.retires_at()];
        times.into_iter().flatten().filter(|time| *time > now).min()
    }

    /// Marks what is missing now as asked for; tells whether something was not.
    pub(super) fn ask(&mut self, now: Millis) -> bool {
        let later = self.tally.unasked.split_off(&(now + 1, 0));
        let asked = std::mem::replace(&mut self.tally.unasked, later);
        !asked.is_empty()
    }

    /// Takes another specification on.
    pub(super) fn put(&mut self, now: Millis, put: Put) {
        let renewed = self.instance_version != put.instance_version;
        let patience = patience(&put.spec);
        if renewed || self.removed || self.rollout.is_rolling() || put.reverts.is_some() {
            self.rollout = Rollout::begin(now, patience, put.reverts);
        } else if let RolloutState::Stuck { .. } = self.rollout.state {
            // Somebody changed something: it may work now.
            self.rollout = Rollout::begin(now, patience, self.rollout.reverts.take());
        }
        self.spec = put.spec;
        self.version = put.version;
        self.instance_version = put.instance_version;
        self.removed = false;
        self.sides.put(put.base);
        for slot in self.slots.values_mut() {
            slot.retry(now);
        }
        self.recount();
        self.look_for_older();
    }

    /// Older instances decide how an update goes: whether some are watched first, and whether versions run side by side.
    fn look_for_older(&mut self) {
        let goes_on = !self.removed && self.rollout.state != RolloutState::Done && self.rollout.reverts.is_none();
        let is_older = |(index, slot): (&u32, &Slot)| {
            let outdated = slot.task.is_some() && slot.version() != Some(self.instance_version);
            outdated && self.sides.serves(*index)
        };
        let first = goes_on && self.rollout.canary.is_none() && self.rollout.is_rolling();
        if first && self.spec.update.canary.is_some() && self.slots.iter().any(is_older) {
            self.rollout.canary = Canary::of(&self.spec);
        }
        let side_by_side = self.spec.update.strategy == Strategy::BlueGreen;
        let awaits = side_by_side && goes_on && self.slots.iter().any(is_older);
        if self.sides.set_awaiting(awaits) {
            self.recount();
        }
    }

    /// An agent is going to be taken away, or is not any more. Volumes cannot go elsewhere, so that their instances stay.
    pub(super) fn leave(&mut self, agents: &BTreeSet<String>) {
        let empty = BTreeSet::new();
        let agents = if self.spec.is_stateful() { &empty } else { agents };
        if self.leaving != *agents {
            self.leaving.clone_from(agents);
            self.recount();
        }
    }

    /// How many instances run, or are on their way, and were not told to end.
    pub fn alive(&self) -> u32 {
        self.tally.alive
    }

    /// Whether an instance is on an agent that is going to be taken away.
    fn is_leaving(&self, slot: &Slot) -> bool {
        let agent = slot.task.as_ref().and_then(|task| task.agent_id());
        agent.is_some_and(|agent| self.leaving.contains(agent))
    }

    /// The side of the new version takes over; the other one goes on for a while, without requests.
    pub(super) fn switched(&mut self, now: Millis, base: u32) {
        let retires = millis(self.spec.update.retire_after_seconds.unwrap_or_default());
        let until = now.saturating_add(retires);
        self.sides.switch(base, Some(until).filter(|until| *until > now));
        self.rollout.extend(until.saturating_add(patience(&self.spec)));
        self.recount();
    }

    /// A task is launched in a slot, or given back where that has one already. An index beyond the wanted number gets a slot
    /// too, in which it is then killed.
    pub(super) fn launched(&mut self, now: Millis, launch: Launch, known: bool) -> Option<Launch> {
        let index = launch.instance.index;
        let slot = self.slots.entry(index).or_insert_with(|| Slot::missing(now));
        if slot.task.is_some() {
            return Some(launch);
        }
        slot.launched(launch, known);
        self.count(index);
        self.look_for_older();
        None
    }

    /// Something was told of the task of a slot.
    pub(super) fn observed(&mut self, now: Millis, index: u32, news: News, jitter: &mut Jitter) {
        if let Some(slot) = self.slots.get_mut(&index) {
            self.restarts += u64::from(news.is_over() && !slot.killing);
            let was_ready = slot.is_ready();
            let ended = news.state == Observed::Ended && !slot.killing;
            let (killing, version, over) = (slot.killing, slot.version(), news.is_over());
            slot.observed(now, news, &self.spec.backoff, jitter);
            let unready = was_ready && !over && !killing && !slot.is_ready();
            if (ended || unready) && version == Some(self.instance_version) {
                self.rollout.failed();
            }
            self.count(index);
        }
    }

    /// Brings all slots in line with what is wanted. What is given up is returned.
    pub(super) fn converge_all(&mut self, now: Millis, effects: &mut Vec<Effect>) -> Vec<Launch> {
        let reach = self.indices();
        self.reach = reach.clone();
        for index in reach.iter() {
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.slots.entry(index) {
                vacant.insert(Slot::missing(now));
                self.count(index);
            }
        }
        let indices: Vec<u32> = self.slots.keys().copied().collect();
        indices
            .into_iter()
            .filter_map(|index| self.converge(now, index, effects))
            .collect()
    }

    /// Brings the slots whose time has come in line with what is wanted.
    pub(super) fn converge_due(&mut self, now: Millis, effects: &mut Vec<Effect>) -> Vec<Launch> {
        if self.sides.retired(now) {
            return self.converge_all(now, effects);
        }
        let due: Vec<u32> = self
            .tally
            .leaving
            .range(..=(now, u32::MAX))
            .map(|(_, index)| *index)
            .collect();
        due.into_iter()
            .filter_map(|index| self.converge(now, index, effects))
            .collect()
    }

    /// Brings one slot in line with what is wanted. A task that is waited for no longer is returned.
    pub(super) fn converge(&mut self, now: Millis, index: u32, effects: &mut Vec<Effect>) -> Option<Launch> {
        let (wanted, surplus) = (self.is_wanted(index), !self.lasting().contains(index));
        let unneeded = !self.indices().contains(index);
        let patience = replace_after(&self.spec);
        let slot = self.slots.get_mut(&index)?;
        let patient = |since: Millis| patience.is_none_or(|patience| now < since + patience);
        let waited = matches!(slot.phase, Phase::Unreachable { since, .. } if surplus || !patient(since));
        let given_up = if waited { slot.give_up(now) } else { None };
        self.restarts += u64::from(given_up.is_some() && wanted);
        if surplus && !self.sides.retires(index) {
            slot.kill(&self.spec, effects);
        }
        if unneeded && slot.task.is_none() {
            self.slots.remove(&index);
        }
        self.count(index);
        given_up
    }

    /// Goes on with an update: ends what may be ended. Tells whether the number of instances that there may be changed.
    pub(super) fn roll(&mut self, now: Millis, effects: &mut Vec<Effect>) -> bool {
        if self.removed {
            return false;
        }
        let count = Count {
            wanted: self.wanted(),
            renewed: self.tally.renewed,
            ready: self.tally.current,
            outdated: self.outdated(),
        };
        self.look_for_older();
        if self.rollout.look(now, patience(&self.spec), count) {
            let (service, version) = (self.spec.id.clone(), self.version);
            match &self.rollout.state {
                RolloutState::Rolling { .. } => {}
                RolloutState::Done => effects.push(Effect::Settled { service, version }),
                RolloutState::Stuck { reason } => effects.push(Effect::Stuck {
                    service,
                    reason: reason.clone(),
                    reverts: self.rollout.reverts.is_some(),
                }),
            }
        }
        if self.rollout.is_rolling() {
            if self.sides.is_awaiting() {
                self.replace_aside(effects);
            } else if self.sides.retires_at().is_none() {
                self.replace(effects);
            }
        }
        self.indices() != self.reach
    }

    /// Ends instances of older versions, as many as may be missed; those that are not ready first. Of what an earlier process
    /// launched, only what was heard of.
    fn replace(&mut self, effects: &mut Vec<Effect>) {
        let least = Bounds::of(&self.spec).least;
        while self.may_have_more()
            && let Some(index) = self
                .tally
                .outdated_unready
                .first()
                .filter(|_| self.tally.alive > least)
                .or_else(|| self.tally.outdated_ready.first().filter(|_| self.tally.ready > least))
                .copied()
        {
            if let Some(slot) = self.slots.get_mut(&index) {
                slot.kill(&self.spec, effects);
            }
            self.count(index);
        }
    }

    /// Whether one more instance may get the new version: with a canary only so many, until they have done well.
    fn may_have_more(&self) -> bool {
        let renewed = self.slots.len() - self.outdated() as usize;
        self.rollout
            .watched()
            .is_none_or(|canary| renewed < canary.instances as usize)
    }

    /// While versions run side by side, ends what is older than both, and lets the new side take over when all of it is ready.
    fn replace_aside(&mut self, effects: &mut Vec<Effect>) {
        let aside = |index: &&u32| !self.sides.serves(**index);
        let older = self.tally.outdated_unready.iter().chain(&self.tally.outdated_ready);
        let older: Vec<u32> = older.filter(aside).copied().collect();
        for index in older {
            if let Some(slot) = self.slots.get_mut(&index) {
                slot.kill(&self.spec, effects);
            }
            self.count(index);
        }
        let is_current = |index: u32| {
            self.tally
                .standings
                .get(&index)
                .is_some_and(|standing| standing.current)
        };
        let all = self.sides.aside(self.wanted()).all(is_current);
        if all && !self.sides.is_switching() {
            self.sides.begin_switch();
            effects.push(Effect::Switch {
                service: self.spec.id.clone(),
                base: self.sides.other(),
            });
        }
    }

    fn recount(&mut self) {
        self.tally = Tally::default();
        let indices: Vec<u32> = self.slots.keys().copied().collect();
        for index in indices {
            self.count(index);
        }
    }

    /// Counts a slot as it is now.
    fn count(&mut self, index: u32) {
        let standing = self
            .slots
            .get(&index)
            .map(|slot| self.standing(index, slot))
            .unwrap_or_default();
        self.tally.count(index, standing);
    }

    fn standing(&self, index: u32, slot: &Slot) -> Standing {
        let current = slot.version() == Some(self.instance_version) && !self.is_leaving(slot);
        let ready = slot.is_ready();
        Standing {
            missing: match slot.phase {
                // There is no telling how to launch one of the old version, and one of the new does not belong there.
                Phase::Missing { due } if !(self.sides.is_awaiting() && self.sides.serves(index)) => Some(due),
                _ => None,
            },
            leaving: match slot.phase {
                Phase::Unreachable { since, .. } => replace_after(&self.spec).map(|patience| since + patience),
                _ => None,
            },
            alive: slot.task.is_some() && !slot.killing,
            known: slot.known,
            ready,
            serving: self.serves(index, slot),
            current: ready && current,
            renewed: ready && current && self.sides.serves(index) && self.is_wanted(index),
            outdated: slot.task.is_some() && !current && !slot.killing,
        }
    }
}

impl Tally {
    fn count(&mut self, index: u32, new: Standing) {
        let old = match new == Standing::default() {
            true => self.standings.remove(&index),
            false => self.standings.insert(index, new),
        };
        let old = old.unwrap_or_default();
        if old == new {
            return;
        }
        if old.missing != new.missing {
            for set in [&mut self.missing, &mut self.unasked] {
                old.missing.map(|due| set.remove(&(due, index)));
                new.missing.map(|due| set.insert((due, index)));
            }
        }
        old.leaving.map(|until| self.leaving.remove(&(until, index)));
        new.leaving.map(|until| self.leaving.insert((until, index)));
        self.alive = self.alive + u32::from(new.alive) - u32::from(old.alive);
        self.ready = self.ready + u32::from(new.ready) - u32::from(old.ready);
        self.serving = self.serving + u32::from(new.serving) - u32::from(old.serving);
        self.current = self.current + u32::from(new.current) - u32::from(old.current);
        self.renewed = self.renewed + u32::from(new.renewed) - u32::from(old.renewed);
        let unknown = |standing: &Standing| u32::from(standing.outdated && !standing.known);
        self.outdated_unknown = self.outdated_unknown + unknown(&new) - unknown(&old);
        self.outdated_ready.remove(&index);
        self.outdated_unready.remove(&index);
        if new.outdated && new.ready {
            self.outdated_ready.insert(index);
        } else if new.outdated && new.known {
            self.outdated_unready.insert(index);
        }
    }
}

/// How long an unreachable instance is waited for, where that ends.
fn replace_after(spec: &ServiceSpec) -> Option<Millis> {
    match spec.partition {
        Partition::Keep => None,
        Partition::Replace { replace_after_seconds } => Some(millis(replace_after_seconds)),
    }
}

/// How long an update may make no progress.
fn patience(spec: &ServiceSpec) -> Millis {
    millis(spec.update.progress_deadline_seconds)
}

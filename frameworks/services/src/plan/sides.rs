//! Which indices the instances of a service have.
//!
//! As a rule those from 0 on. Where versions run side by side (blue-green), the one that serves has the indices of one side,
//! the next one those of the other, and when that has taken over it is the other way round: the sides begin at 0 and at
//! [`SIDE`]. Which side serves is kept with the versions of the service before anything is ended, so that a scheduler that is
//! started again does not take the new side for surplus.

use std::ops::Range;

use crate::spec::INSTANCES_MAX;

use super::Millis;

/// Where the indices of the other side begin: beyond all those that one side may have, with those of an update.
pub const SIDE: u32 = 2 * INSTANCES_MAX + 1;

/// Which side serves, and what there is on the other one.
#[derive(Clone, Debug, Default)]
pub(super) struct Sides {
    /// The first index of the side that serves.
    base: u32,
    /// Whether the other side has the next version, and waits for taking over.
    awaiting: bool,
    /// Whether it was said that it takes over.
    switching: bool,
    /// Until when the other side has what served before.
    retiring: Option<Millis>,
}

/// Some indices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    serving: Range<u32>,
    aside: Range<u32>,
}

impl Reach {
    pub(super) fn contains(&self, index: u32) -> bool {
        self.serving.contains(&index) || self.aside.contains(&index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + use<> {
        self.serving.clone().chain(self.aside.clone())
    }
}

impl Sides {
    pub(super) fn new(base: u32) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }

    /// A change of the service says which side serves.
    pub(super) fn put(&mut self, base: u32) {
        self.base = base;
        self.switching = false;
    }

    /// The number of an index on its side.
    pub(super) fn number(index: u32) -> u32 {
        index % SIDE
    }

    /// Whether an index is on the side that serves.
    pub(super) fn serves(&self, index: u32) -> bool {
        index / SIDE == self.base / SIDE
    }

    /// The first index of the side that does not serve.
    pub(super) fn other(&self) -> u32 {
        if self.base == 0 { SIDE } else { 0 }
    }

    /// The indices of so many instances, and more of them on the side that serves.
    pub(super) fn reach(&self, wanted: u32, extra: u32) -> Reach {
        let aside = if self.awaiting { wanted } else { 0 };
        Reach {
            serving: self.base..self.base + wanted + extra,
            aside: self.other()..self.other() + aside,
        }
    }

    /// The indices of the side that waits for taking over.
    pub(super) fn aside(&self, wanted: u32) -> impl Iterator<Item = u32> + use<> {
        self.other()..self.other() + wanted
    }

    pub(super) fn is_awaiting(&self) -> bool {
        self.awaiting
    }

    /// Tells whether that is another answer than before.
    pub(super) fn set_awaiting(&mut self, awaiting: bool) -> bool {
        if awaiting {
            // What served before the last update has to make room.
            self.retiring = None;
        }
        std::mem::replace(&mut self.awaiting, awaiting) != awaiting
    }

    pub(super) fn is_switching(&self) -> bool {
        self.switching
    }

    pub(super) fn begin_switch(&mut self) {
        self.switching = true;
    }

    /// That side serves from now on; the other one may go on until then.
    pub(super) fn switch(&mut self, base: u32, until: Option<Millis>) {
        if self.base != base {
            self.base = base;
            self.awaiting = false;
            self.retiring = until;
        }
        self.switching = false;
    }

    /// When what served before is to end.
    pub(super) fn retires_at(&self) -> Option<Millis> {
        self.retiring
    }

    /// Whether an index is of what served before, and may go on.
    pub(super) fn retires(&self, index: u32) -> bool {
        self.retiring.is_some() && !self.serves(index)
    }

    /// Whether the time of what served before is over just now.
    pub(super) fn retired(&mut self, now: Millis) -> bool {
        self.retiring.take_if(|until| *until <= now).is_some()
    }
}

//! Events in the order of virtual time; those of one moment in the order in which they were added.

use std::collections::BTreeMap;

/// What will happen.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    events: BTreeMap<(u64, u64), E>,
    sequence: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Queue {
            events: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub(crate) fn add(&mut self, at: u64, event: E) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// The next event, and when it happens.
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}

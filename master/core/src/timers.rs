//! What is due when. The driver has one timer; this is the list behind it.

use std::collections::{BTreeMap, BTreeSet};

use crate::gangs::GangNumber;
use crate::slots::{AgentSlot, FrameworkSlot};
use crate::time::Timestamp;

/// What may come due; each at most once at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The next ping of an attached agent.
    Ping(AgentSlot),
    /// An agent that is away is unreachable from then on.
    AgentAway(AgentSlot),
    /// What is left of an agent's draining is proposed again.
    Drain(AgentSlot),
    /// The next heartbeat to a connected framework.
    Heartbeat(FrameworkSlot),
    /// A disconnected framework is removed, or its disconnection has to be proposed again.
    FrameworkAway(FrameworkSlot),
    /// Offers are taken back, or looked at whether they are held too long.
    Offers,
    /// A framework that held offers too long is tried again.
    Trust(FrameworkSlot),
    /// A gang that was not launched until then is given up.
    Gang(GangNumber),
    /// All agents are looked at for the gangs that wait.
    GangLook,
    /// What is lent is looked at again.
    Revocable,
    /// What was lent on an agent is taken back by force.
    Recall(AgentSlot),
    /// A framework that declined an inverse offer is asked again.
    InverseOffer(AgentSlot, FrameworkSlot),
    /// A refusal of an offer ends.
    Filters,
}

/// The timers that are set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Timestamp, Timer)>,
    set: BTreeMap<Timer, Timestamp>,
}

impl Timers {
    /// Sets a timer, or moves it.
    pub(crate) fn set(&mut self, timer: Timer, at: Timestamp) {
        if let Some(before) = self.set.insert(timer, at) {
            self.due.remove(&(before, timer));
        }
        self.due.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.set.remove(&timer) {
            self.due.remove(&(at, timer));
        }
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// When a timer is due, if it is set.
    pub(crate) fn at(&self, timer: Timer) -> Option<Timestamp> {
        self.set.get(&timer).copied()
    }

    /// Takes out the first timer that is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        let (at, timer) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        self.set.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_moved_comes_due_once() {
        let mut timers = Timers::default();
        timers.set(Timer::Filters, Timestamp(5));
        timers.set(Timer::Offers, Timestamp(7));
        timers.set(Timer::Filters, Timestamp(9));
        assert_eq!(timers.next(), Some(Timestamp(7)));
        assert_eq!(timers.pop_due(Timestamp(6)), None);
        assert_eq!(timers.pop_due(Timestamp(9)), Some(Timer::Offers));
        assert_eq!(timers.pop_due(Timestamp(9)), Some(Timer::Filters));
        assert_eq!(timers.pop_due(Timestamp(9)), None);
    }

    #[test]
    fn a_cancelled_timer_never_comes_due() {
        let mut timers = Timers::default();
        timers.set(Timer::Filters, Timestamp(5));
        timers.cancel(Timer::Filters);
        timers.cancel(Timer::Filters);
        assert_eq!(timers.pop_due(Timestamp(100)), None);
    }
}

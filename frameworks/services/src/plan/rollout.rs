//! The life of an update: from one version of what an instance is to the next.
//!
//! ```text
//!   a new version                        all instances have it and are ready
//!  ---------------> rolling (progress) ------------------------------------> done
//!                      |                                                       ^
//!                      | no progress for the deadline                          | the same
//!                      v                                                       |
//!                    stuck (reason) -------------------------------------------+
//!                      |
//!                      v   where the policy says so and an older version was done once
//!                    a new version, which is the old one: rolling (reverts)
//! ```
//!
//! While it rolls, up to *extra* more instances may run, under indices above those that are wanted, so that an index never
//! has two tasks; and no instance that is ready is ended while fewer than *least* would be left.

use crate::spec::ServiceSpec;

use super::Millis;

/// Where an update stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// What it is doing.
    pub state: RolloutState,
    /// Why it goes back to an older version, where it does.
    pub reverts: Option<String>,
}

/// What an update is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutState {
    /// Instances are being replaced.
    Rolling {
        /// The most instances of the new version that were ready at once.
        best: u32,
        /// Until when more of them have to be.
        deadline: Millis,
    },
    /// All instances have the version and were ready.
    Done,
    /// It made no progress: nothing that is ready is ended any more.
    Stuck {
        /// What did not happen.
        reason: String,
    },
}

/// What a policy means for a number of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// So many are to be ready at any time.
    pub least: u32,
    /// So many more than wanted may run.
    pub extra: u32,
}

impl Bounds {
    /// What the policy of a specification means.
    pub fn of(spec: &ServiceSpec) -> Self {
        let count = |share: f64| (f64::from(spec.instances) * share - 1e-9).ceil().max(0.0) as u32;
        let (least, extra) = (count(spec.minimum_healthy()), count(spec.over_capacity()));
        // Something has to be allowed to change.
        let least = if extra == 0 {
            least.min(spec.instances.saturating_sub(1))
        } else {
            least.min(spec.instances)
        };
        Self { least, extra }
    }
}

/// What is to be known of the instances of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many are wanted.
    pub wanted: u32,
    /// Those of the new version that are ready, among the wanted indices.
    pub renewed: u32,
    /// Those of the new version that are ready, among all indices.
    pub ready: u32,
    /// Those of older versions that were not told to end.
    pub outdated: u32,
}

impl Count {
    fn is_done(&self) -> bool {
        self.renewed == self.wanted && self.outdated == 0
    }
}

impl Rollout {
    /// An update that begins.
    pub fn begin(now: Millis, patience: Millis, reverts: Option<String>) -> Self {
        let deadline = now.saturating_add(patience);
        Self {
            state: RolloutState::Rolling { best: 0, deadline },
            reverts,
        }
    }

    /// Whether instances are being replaced.
    pub fn is_rolling(&self) -> bool {
        matches!(self.state, RolloutState::Rolling { .. })
    }

    /// When time alone changes it.
    pub fn deadline(&self) -> Option<Millis> {
        match self.state {
            RolloutState::Rolling { deadline, .. } => Some(deadline),
            RolloutState::Done | RolloutState::Stuck { .. } => None,
        }
    }

    /// Looks at what there is. Tells whether the state became another one.
    pub fn look(&mut self, now: Millis, patience: Millis, count: Count) -> bool {
        if count.is_done() {
            let done = self.state == RolloutState::Done;
            self.state = RolloutState::Done;
            return !done;
        }
        if self.state == RolloutState::Done && count.outdated > 0 {
            // A task that had been given up came back, and has an older version.
            *self = Self::begin(now, patience, self.reverts.take());
        }
        let RolloutState::Rolling { best, deadline } = &mut self.state else {
            return false;
        };
        if count.ready > *best {
            *best = count.ready;
            *deadline = now.saturating_add(patience);
        }
        if now < *deadline {
            return false;
        }
        let reason = format!(
            "{} of {} instances are ready, and no more became so in {} s",
            count.renewed,
            count.wanted,
            patience / 1_000
        );
        self.state = RolloutState::Stuck { reason };
        true
    }
}

#[cfg(test)]
mod tests;

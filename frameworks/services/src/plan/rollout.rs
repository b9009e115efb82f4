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
//! With a canary only so many instances get the new version at first. When those are ready they are watched for a time; if more
//! of them than allowed end by themselves or stop being ready meanwhile, the update has failed, else the others follow.
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
    /// The first instances of the new version, where they are watched.
    pub canary: Option<Canary>,
}

/// The first instances of a new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// How many there are.
    pub instances: u32,
    /// How often instances of the new version ended by themselves or stopped being ready.
    pub failures: u32,
    /// How often they may.
    pub failures_max: u32,
    /// For how long they are watched.
    pub watch: Millis,
    /// Since when they are.
    pub since: Option<Millis>,
    /// Whether they did well, so that the others follow.
    pub passed: bool,
}

impl Canary {
    /// That of a specification, where it has one.
    pub fn of(spec: &ServiceSpec) -> Option<Self> {
        let policy = spec.update.canary?;
        Some(Self {
            instances: spec.canary_instances()?,
            failures: 0,
            failures_max: policy.max_failures,
            watch: super::millis(policy.watch_seconds),
            since: None,
            passed: false,
        })
    }

    /// Until when they are watched.
    fn until(&self) -> Option<Millis> {
        let since = self.since.filter(|_| !self.passed)?;
        Some(since.saturating_add(self.watch))
    }
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
            canary: None,
        }
    }

    /// Whether instances are being replaced.
    pub fn is_rolling(&self) -> bool {
        matches!(self.state, RolloutState::Rolling { .. })
    }

    /// When time alone changes it.
    pub fn deadline(&self, now: Millis) -> Option<Millis> {
        match self.state {
            RolloutState::Rolling { deadline, .. } => {
                let watched = self.canary.as_ref().and_then(Canary::until);
                Some(
                    watched
                        .filter(|until| *until > now)
                        .map_or(deadline, |until| until.min(deadline)),
                )
            }
            RolloutState::Done | RolloutState::Stuck { .. } => None,
        }
    }

    /// The canary, while it is not known whether it does well.
    pub fn watched(&self) -> Option<&Canary> {
        self.canary.as_ref().filter(|canary| !canary.passed)
    }

    /// An instance of the new version ended by itself, or stopped being ready.
    pub fn failed(&mut self) {
        if let Some(canary) = &mut self.canary {
            canary.failures = canary.failures.saturating_add(1);
        }
    }

    /// More time, as for something that takes it by design.
    pub fn extend(&mut self, until: Millis) {
        if let RolloutState::Rolling { deadline, .. } = &mut self.state {
            *deadline = (*deadline).max(until);
        }
    }

    /// Looks at the canary. Tells what is wrong with it.
    fn watch(&mut self, now: Millis, patience: Millis, count: Count) -> Option<String> {
        let canary = self.canary.as_mut().filter(|canary| !canary.passed)?;
        if canary.failures > canary.failures_max {
            return Some(format!(
                "instances of the new version ended by themselves or stopped being ready {} times, where {} are allowed for the first {}",
                canary.failures, canary.failures_max, canary.instances
            ));
        }
        if count.ready < canary.instances {
            return None;
        }
        let until = canary.since.get_or_insert(now).saturating_add(canary.watch);
        canary.passed = now >= until;
        self.extend(now.max(until).saturating_add(patience));
        None
    }

    /// Looks at what there is. Tells whether the state became another one.
    pub fn look(&mut self, now: Millis, patience: Millis, count: Count) -> bool {
        if self.is_rolling()
            && let Some(reason) = self.watch(now, patience, count)
        {
            self.state = RolloutState::Stuck { reason };
            return true;
        }
        if count.is_done() && self.watched().is_none() {
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
            *deadline = now.saturating_add(patience).max(*deadline);
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

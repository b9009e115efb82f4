//! The place of one instance: its task, or how long it waits for one.

use crate::spec::{Backoff, ServiceSpec};

use super::{Effect, Launch, Millis, Observed, millis};

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has no task, and may get one from `due` on.
    Missing {
        /// When its back-off ends.
        due: Millis,
    },
    /// Its task is on its way.
    Starting,
    /// Its task runs.
    Running {
        /// Since when, as far as this process knows.
        since: Millis,
    },
    /// The agent of its task is away.
    Unreachable {
        /// Since when, as far as this process knows.
        since: Millis,
        /// Since when it ran before.
        running_since: Option<Millis>,
    },
}

/// The place of one instance.
#[derive(Clone, Debug)]
pub struct Slot {
    /// What it is doing.
    pub phase: Phase,
    /// Its task; present in every phase but [`Phase::Missing`].
    pub task: Option<Launch>,
    /// Whether the end of its task was asked for.
    pub killing: bool,
    /// Failures in a row, which the back-off grows with.
    pub failures: u32,
    /// What was said about the end of its last task.
    pub last_end: Option<String>,
}

impl Slot {
    pub(super) fn missing(due: Millis) -> Self {
        Self {
            phase: Phase::Missing { due },
            task: None,
            killing: false,
            failures: 0,
            last_end: None,
        }
    }

    pub(super) fn version(&self) -> Option<u64> {
        self.task.as_ref().map(|task| task.version)
    }

    pub(super) fn launched(&mut self, launch: Launch) {
        self.phase = Phase::Starting;
        self.task = Some(launch);
        self.killing = false;
    }

    /// Ends a back-off.
    pub(super) fn retry(&mut self, now: Millis) {
        self.failures = 0;
        if let Phase::Missing { due } = &mut self.phase {
            *due = now.min(*due);
        }
    }

    pub(super) fn kill(&mut self, spec: &ServiceSpec, effects: &mut Vec<Effect>) {
        if let Some(task) = &self.task
            && !self.killing
        {
            self.killing = true;
            effects.push(Effect::Kill {
                task_id: task.task_id.clone(),
                grace_ms: millis(spec.kill_grace_seconds),
            });
        }
    }

    /// Waits no longer for an unreachable task.
    pub(super) fn give_up(&mut self, now: Millis) -> Option<Launch> {
        self.phase = Phase::Missing { due: now };
        self.killing = false;
        self.task.take()
    }

    pub(super) fn observed(
        &mut self,
        now: Millis,
        agent_id: Option<String>,
        state: Observed,
        message: String,
        backoff: &Backoff,
        jitter: &mut Jitter,
    ) {
        if let Some(task) = &mut self.task
            && agent_id.is_some()
        {
            task.agent_id = agent_id;
        }
        self.phase = match (state, self.phase) {
            (_, Phase::Missing { due }) => Phase::Missing { due },
            (Observed::Starting, phase) => phase,
            (Observed::Running, Phase::Running { since }) => Phase::Running { since },
            (
                Observed::Running,
                Phase::Unreachable {
                    running_since: Some(since),
                    ..
                },
            ) => Phase::Running { since },
            (Observed::Running, Phase::Starting | Phase::Unreachable { .. }) => Phase::Running { since: now },
            (Observed::Unreachable, Phase::Starting) => Phase::Unreachable {
                since: now,
                running_since: None,
            },
            (Observed::Unreachable, Phase::Running { since }) => Phase::Unreachable {
                since: now,
                running_since: Some(since),
            },
            (Observed::Unreachable, phase @ Phase::Unreachable { .. }) => phase,
            (Observed::Ended | Observed::Vanished, _) => {
                let wait = self.ended(now, state, backoff, jitter);
                self.last_end = Some(message);
                self.task = None;
                self.killing = false;
                Phase::Missing { due: now + wait }
            }
        };
    }

    /// How long to wait after the end of the task.
    fn ended(&mut self, now: Millis, state: Observed, backoff: &Backoff, jitter: &mut Jitter) -> Millis {
        let ran_since = match self.phase {
            Phase::Running { since } => Some(since),
            Phase::Unreachable { running_since, .. } => running_since,
            Phase::Missing { .. } | Phase::Starting => None,
        };
        let stable = ran_since.is_some_and(|since| now.saturating_sub(since) >= millis(backoff.reset_after_s));
        if self.killing || stable || (state == Observed::Vanished && ran_since.is_some()) {
            self.failures = if state == Observed::Vanished { self.failures } else { 0 };
            return 0;
        }
        if state == Observed::Ended {
            self.failures = self.failures.saturating_add(1);
        }
        let growth = backoff
            .factor
            .powi(i32::try_from(self.failures.saturating_sub(1)).unwrap_or(i32::MAX));
        // Bounded before it is multiplied: nothing times infinity is no number.
        let wait = (backoff.initial_ms as f64 * growth.min(1e12)).min(backoff.max_ms as f64);
        jitter.upper_half(wait as Millis)
    }
}

/// Repeatable chance: the generator splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A time between half of `wait` and all of it, so that instances that failed together do not come back together.
    fn upper_half(&mut self, wait: Millis) -> Millis {
        let half = wait / 2;
        wait - self.next() % (half + 1)
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

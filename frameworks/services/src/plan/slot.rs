//! The place of one instance: its task, or how long it waits for one.

use crate::spec::{Backoff, ServiceSpec};

use super::failures::{self, CRASH_LOOP, Jitter};
use super::{Effect, Launch, Millis, News, Observed, Verdicts, millis};

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
    /// Whether this process launched its task, or heard of it: of one that an earlier process launched nothing is known at
    /// first.
    pub known: bool,
    /// What the checks of its task said last.
    pub verdicts: Verdicts,
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
            known: true,
            verdicts: Verdicts::default(),
            failures: 0,
            last_end: None,
        }
    }

    pub(super) fn version(&self) -> Option<u64> {
        self.task.as_ref().map(|task| task.version)
    }

    pub(super) fn launched(&mut self, launch: Launch, known: bool) {
        self.phase = Phase::Starting;
        self.task = Some(launch);
        self.killing = false;
        self.known = known;
        self.verdicts = Verdicts::default();
    }

    /// Whether its task takes requests.
    pub fn is_ready(&self) -> bool {
        let runs = matches!(self.phase, Phase::Running { .. }) && !self.killing;
        runs && self.task.as_ref().is_some_and(|task| task.gates.open(self.verdicts))
    }

    /// Whether it failed so often in a row that it will hardly do by itself.
    pub fn is_crash_looping(&self) -> bool {
        self.failures >= CRASH_LOOP
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
            // Others may have found it while it was ready, or before this process was there.
            let found = self.is_ready() || !self.known;
            self.killing = true;
            effects.push(Effect::Kill {
                task_id: task.task_id.clone(),
                grace_ms: millis(spec.kill_grace_seconds),
                drain_ms: if found { millis(spec.drain_seconds) } else { 0 },
            });
        }
    }

    /// Waits no longer for an unreachable task.
    pub(super) fn give_up(&mut self, now: Millis) -> Option<Launch> {
        self.phase = Phase::Missing { due: now };
        self.killing = false;
        self.task.take()
    }

    pub(super) fn observed(&mut self, now: Millis, news: News, backoff: &Backoff, jitter: &mut Jitter) {
        let state = news.state;
        if let Some(task) = &mut self.task
            && let Some(agent_id) = news.agent_id
        {
            task.machine.agent_id = agent_id;
        }
        self.known = true;
        self.verdicts = self.verdicts.and_then(news.verdicts);
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
                self.last_end = Some(news.message);
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
        let stable = ran_since.is_some_and(|since| now.saturating_sub(since) >= millis(backoff.reset_after_seconds));
        if self.killing || stable || (state == Observed::Vanished && ran_since.is_some()) {
            self.failures = if state == Observed::Vanished { self.failures } else { 0 };
            return 0;
        }
        if state == Observed::Ended {
            self.failures = self.failures.saturating_add(1);
        }
        failures::wait(backoff, self.failures, jitter)
    }
}

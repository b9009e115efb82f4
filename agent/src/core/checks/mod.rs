//! Checks of running tasks: when they are made, and what they say.
//!
//! A task has at most a health check, whose repeated failure kills it, and a check, which only tells. Each is made by the driver
//! ([`super::Effect::Check`]), never twice at once: the next is due an interval after the answer. They pause for good when the task
//! is being ended. Frameworks hear of changes, as `TASK_RUNNING` again. What was said last is in the journal, with the moment at
//! which the task began to run: a new agent process neither takes back a verdict nor gives the grace period again.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proffer_proto::v1;
use proffer_proto::v1::task_status::Reason;

use super::updates::{self, News};
use super::{Core, Effect, Phase, TaskName, Timestamp, end};
use crate::checkpoint::record::{Checked, Fact, Launch};
use crate::containerizer::ContainerId;

use plan::Plan;
pub use plan::Probe;

/// How many updates of a task may wait for acknowledgement before a change of its checks is held back.
const UPDATES_WAITING_MAX: usize = 8;

/// Which of a task's checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckKind {
    /// `TaskInfo.health_check`.
    Health,
    /// `TaskInfo.check`.
    Status,
}

/// A check to make.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckOrder {
    /// The task's container.
    pub container: ContainerId,
    /// The task's framework, which names the user.
    pub framework: v1::FrameworkInfo,
    /// The task.
    pub task: v1::TaskInfo,
    /// Which check.
    pub kind: CheckKind,
    /// Given back with the answer.
    pub number: u64,
    /// What is done.
    pub probe: Probe,
    /// How long it may take.
    pub timeout: Duration,
}

/// What came out of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckAnswer {
    /// The order's.
    pub number: u64,
    /// What was seen.
    pub seen: Seen,
    /// More of it, for people.
    pub message: String,
}

/// What a check saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The command exited with this code.
    ExitCode(i32),
    /// This HTTP status.
    HttpStatus(u16),
    /// Whether the port takes connections.
    Connected(bool),
    /// Whether the service says that it serves.
    Serving(bool),
    /// It could not be done, or not in time.
    Nothing,
}

/// The checks of all tasks.
#[derive(Debug, Default)]
pub(super) struct Checks {
    tasks: BTreeMap<TaskName, Task>,
    timers: BTreeSet<(Timestamp, TaskName, CheckKind)>,
    number: u64,
}

/// The checks of one task.
#[derive(Debug)]
struct Task {
    started_at: Timestamp,
    health: Option<Check>,
    status: Option<Check>,
    /// Failures in a row.
    failures: u32,
    now: Verdict,
    /// What the framework was told last.
    told: Verdict,
}

#[derive(Debug)]
struct Check {
    plan: Plan,
    /// The number of the one that is under way.
    running: Option<u64>,
}

/// What is known of a task by its checks.
#[derive(Debug, Clone, Default, PartialEq)]
struct Verdict {
    healthy: Option<bool>,
    status: Option<v1::CheckStatusInfo>,
}

impl Checks {
    /// When the next check is due.
    pub(super) fn wake(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, ..)| *at)
    }

    /// Adds what is known to a status of the task.
    pub(super) fn describe(&self, name: &TaskName, status: &mut v1::TaskStatus) {
        if let Some(task) = self.tasks.get(name) {
            status.healthy = task.now.healthy;
            status.check_status = task.now.status;
        }
    }

    /// A status of a task that says what is known by its checks, where something is.
    pub(super) fn latest(&self, name: &TaskName, task: &v1::Task) -> Option<v1::TaskStatus> {
        let verdict = &self.tasks.get(name)?.told;
        (verdict != &Verdict::default()).then(|| v1::TaskStatus {
            task_id: task.task_id.clone(),
            state: task.state,
            agent_id: Some(task.agent_id.clone()),
            executor_id: task.executor_id.clone(),
            healthy: verdict.healthy,
            check_status: verdict.status,
            ..v1::TaskStatus::default()
        })
    }

    /// The task is over.
    pub(super) fn forget(&mut self, name: &TaskName) {
        if self.tasks.remove(name).is_some() {
            self.timers.retain(|(_, other, _)| other != name);
        }
    }

    /// What the previous process knew. One that did not see the task run knew when it was accepted.
    pub(super) fn restore(&mut self, name: &TaskName, launch: &Launch, checked: Option<Checked>) {
        let (started_at, verdict) = match checked {
            Some(checked) => {
                let verdict = Verdict {
                    healthy: checked.healthy,
                    status: checked.status,
                };
                (checked.started_at, verdict)
            }
            None => (launch.at, Verdict::first(&launch.task)),
        };
        self.add(name, &launch.task, Timestamp(started_at), verdict);
    }

    fn add(&mut self, name: &TaskName, info: &v1::TaskInfo, started_at: Timestamp, verdict: Verdict) {
        // One that was accepted by another version of the agent and is not understood is not made.
        let check = |plan: Option<Result<Plan, String>>| {
            let plan = plan?.ok()?;
            Some(Check { plan, running: None })
        };
        let task = Task {
            started_at,
            health: check(info.health_check.as_deref().map(Plan::of_health_check)),
            status: check(info.check.as_deref().map(Plan::of_check)),
            failures: 0,
            now: verdict.clone(),
            told: verdict,
        };
        if task.health.is_some() || task.status.is_some() {
            self.tasks.insert(name.clone(), task);
        }
    }

    fn schedule(&mut self, at: Timestamp, name: &TaskName, kind: CheckKind) {
        self.timers.insert((at, name.clone(), kind));
    }
}

impl Verdict {
    /// Before the first check.
    fn first(info: &v1::TaskInfo) -> Self {
        Verdict {
            healthy: None,
            status: info.check.as_deref().map(plan::nothing_seen),
        }
    }
}

impl Task {
    fn check(&mut self, kind: CheckKind) -> Option<&mut Check> {
        match kind {
            CheckKind::Health => self.health.as_mut(),
            CheckKind::Status => self.status.as_mut(),
        }
    }
}

/// Why the task's checks are not understood, if they are not.
pub(super) fn refuse(info: &v1::TaskInfo) -> Option<String> {
    let health = info.health_check.as_deref().map(Plan::of_health_check);
    let health = health
        .and_then(Result::err)
        .map(|problem| format!("health_check.{problem}"));
    let status = info.check.as_deref().map(Plan::of_check);
    health.or_else(|| status.and_then(Result::err).map(|problem| format!("check.{problem}")))
}

/// The task's program runs from now on. To be called before that is said: the first update says what will be checked.
pub(super) fn begin(core: &mut Core, now: Timestamp, name: &TaskName, effects: &mut Vec<Effect>) {
    let Some(task) = core.tasks.get(name) else { return };
    core.checks.add(name, &task.info, now, Verdict::first(&task.info));
    let Some(task) = core.checks.tasks.get(name) else {
        return;
    };
    effects.push(record(name, task));
    let due: Vec<_> = delays(task).map(|(kind, delay)| (kind, now.after(delay))).collect();
    for (kind, at) in due {
        core.checks.schedule(at, name, kind);
    }
}

/// The task was found running by a new agent process: goes on with its checks, not all tasks' at once.
pub(super) fn resume(core: &mut Core, now: Timestamp, name: &TaskName) {
    let Some(container) = core.tasks.get(name).map(|task| task.container.clone()) else {
        return;
    };
    let share = f64::from(crc32c::crc32c(container.as_str().as_bytes())) / f64::from(u32::MAX);
    let Some(task) = core.checks.tasks.get(name) else {
        return;
    };
    let due: Vec<_> = [(CheckKind::Health, &task.health), (CheckKind::Status, &task.status)]
        .into_iter()
        .filter_map(|(kind, check)| {
            let plan = &check.as_ref()?.plan;
            Some((
                kind,
                now.after(plan.interval.mul_f64(share))
                    .max(task.started_at.after(plan.delay)),
            ))
        })
        .collect();
    for (kind, at) in due {
        core.checks.schedule(at, name, kind);
    }
}

/// Makes the checks that are due.
pub(super) fn tick(core: &mut Core, now: Timestamp, effects: &mut Vec<Effect>) {
    while let Some((at, ..)) = core.checks.timers.first()
        && *at <= now
    {
        if let Some((_, name, kind)) = core.checks.timers.pop_first() {
            order(core, &name, kind, effects);
        }
    }
}

fn order(core: &mut Core, name: &TaskName, kind: CheckKind, effects: &mut Vec<Effect>) {
    let (Some(task), Some(framework)) = (core.tasks.get(name), core.frameworks.get(&name.framework)) else {
        return;
    };
    if !matches!(task.phase, Phase::Running { .. }) {
        return;
    }
    let Some(check) = core.checks.tasks.get_mut(name).and_then(|task| task.check(kind)) else {
        return;
    };
    core.checks.number += 1;
    check.running = Some(core.checks.number);
    effects.push(Effect::Check(Box::new(CheckOrder {
        container: task.container.clone(),
        framework: framework.clone(),
        task: task.info.clone(),
        kind,
        number: core.checks.number,
        probe: check.plan.probe.clone(),
        timeout: check.plan.timeout,
    })));
}

/// A check was made.
pub(super) fn done(
    core: &mut Core,
    now: Timestamp,
    name: &TaskName,
    kind: CheckKind,
    answer: &CheckAnswer,
    effects: &mut Vec<Effect>,
) {
    let runs = core
        .tasks
        .get(name)
        .is_some_and(|task| matches!(task.phase, Phase::Running { .. }));
    let Some(task) = core.checks.tasks.get_mut(name).filter(|_| runs) else {
        return;
    };
    let started_at = task.started_at;
    let Some(check) = task.check(kind).filter(|check| check.running == Some(answer.number)) else {
        return;
    };
    check.running = None;
    let (next, passes) = (now.after(check.plan.interval), check.plan.probe.passes(answer.seen));
    let (grace, failures_max) = (check.plan.grace, check.plan.failures_max);
    core.checks.schedule(next, name, kind);
    let Some(task) = core.checks.tasks.get_mut(name) else {
        return;
    };
    let mut kill = false;
    match kind {
        CheckKind::Status => {
            let asked = core.tasks.get(name).and_then(|task| task.info.check.as_ref());
            task.now.status = asked.map(|check| plan::seen(check, answer.seen));
        }
        CheckKind::Health if passes => {
            task.failures = 0;
            task.now.healthy = Some(true);
        }
        CheckKind::Health if task.now.healthy.is_none() && now < started_at.after(grace) => {
            tracing::debug!(
                task_id = name.task,
                message = answer.message,
                "a health check failed in the grace period"
            );
        }
        CheckKind::Health => {
            task.failures += 1;
            task.now.healthy = Some(false);
            kill = task.failures >= failures_max;
        }
    }
    tell(core, now, name, kind, &answer.message, effects);
    if kill {
        end::unhealthy(core, now, name, effects);
    }
}

/// Says what has changed. What is held back is said after a later check, when updates were acknowledged.
fn tell(core: &mut Core, now: Timestamp, name: &TaskName, kind: CheckKind, message: &str, effects: &mut Vec<Effect>) {
    let waiting = core.tasks.get(name).map_or(0, |task| task.updates.len());
    let Some(task) = core.checks.tasks.get_mut(name) else {
        return;
    };
    if task.now == task.told || waiting >= UPDATES_WAITING_MAX {
        return;
    }
    task.told = task.now.clone();
    effects.push(record(name, task));
    let mut news = News::of(v1::TaskState::TaskRunning);
    news.reason = Some(match kind {
        CheckKind::Health => Reason::TaskHealthCheckStatusUpdated,
        CheckKind::Status => Reason::TaskCheckStatusUpdated,
    });
    if !message.is_empty() {
        news = news.saying(message);
    }
    updates::push(core, now, name, news, effects);
}

fn delays(task: &Task) -> impl Iterator<Item = (CheckKind, Duration)> {
    let health = task.health.as_ref().map(|check| (CheckKind::Health, check.plan.delay));
    let status = task.status.as_ref().map(|check| (CheckKind::Status, check.plan.delay));
    health.into_iter().chain(status)
}

fn record(name: &TaskName, task: &Task) -> Effect {
    let checked = Checked {
        task: name.clone(),
        started_at: task.started_at.0,
        healthy: task.told.healthy,
        status: task.told.status,
    };
    Effect::Write(Fact::Checked(checked).into())
}

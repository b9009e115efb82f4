//! The deciding half of the agent: tasks, their updates, and what is said to the master.
//!
//! A deterministic state machine: [`Core::step`] takes the time and one thing that happened and appends what must be done
//! about it. It does no I/O, reads no clock and draws no random numbers. *Durable before visible*: the effects of a step
//! that are not checkpoints are carried out after its checkpoints, and those of all steps before it, are on disk. That a task
//! runs is only written, not flushed: no task outlives the machine.
//!
//! Life of a task (one file each): `launch` accepts or refuses it, `run` follows its container, `end` ends it, `updates`
//! delivers its states, `register` tells the master, `recover` takes it over from a previous process; `checks` looks after it
//! while it runs. Tasks of executors, and the groups of tasks that share a pod, are in `executors`.
//!
//! `TASK_STARTING` is never sent: nothing happens between acceptance and the running program that a framework could act
//! on, and every update that is not acknowledged yet delays the next one by a round trip.

pub mod checks;
mod end;
pub mod executors;
pub mod holdings;
mod launch;
mod layout;
mod recover;
mod register;
mod run;
mod task;
#[cfg(test)]
mod tests;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proffer_proto::link::{AgentMessage, MasterMessage, agent_message, master_message};
use proffer_proto::{link, v1};

use crate::checkpoint::image::has_any;
use crate::checkpoint::record::{self, Cause, Fact, Record};
use crate::containerizer::{ContainerId, Exit, Recovered};

pub use crate::checkpoint::record::{ExecutorName, TaskName};
pub use executors::{Executor, ExecutorCall, Refusal, Timeouts};
pub use task::{Phase, Task};

/// Nanoseconds since the Unix epoch, by a clock that never goes back while the process lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This long after.
    #[must_use]
    pub fn after(self, span: std::time::Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// Seconds, as the v1 API counts them.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// What is fixed while the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The agent as the master is told; its id is that of the [`Core`].
    pub agent: v1::AgentInfo,
    /// The boot of the machine.
    pub boot_id: String,
    /// How long a killed task may take to end by itself, unless its kill policy says otherwise.
    pub kill_grace: std::time::Duration,
    /// How long executors may take.
    pub executors: Timeouts,
}

/// Makes the identities that the core hands out.
pub trait Ids: Send {
    /// A new update id.
    fn update(&mut self) -> [u8; 16];
    /// A new container id.
    fn container(&mut self) -> String;
    /// A new secret.
    fn token(&mut self) -> String;
}

/// Everything that can happen.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "inputs are moved once, and most are messages")]
pub enum Input {
    /// A stream to a master stands open; nothing was sent on it.
    Attached(u64),
    /// The stream is over.
    Detached(u64),
    /// The cluster of the master that admits the agent, before its message.
    Cluster(String),
    /// The master said something on the stream of this number.
    Message(u64, MasterMessage),
    /// The program of a container runs, with this pid, or could not be started.
    Launched(ContainerId, Result<u32, LaunchFailure>),
    /// All processes of a container have ended.
    Exited(ContainerId, Exit),
    /// What became of a container of the previous agent process.
    Found(ContainerId, Recovered),
    /// A check of the task in this container was made.
    Checked(ContainerId, checks::CheckKind, checks::CheckAnswer),
    /// The task or executor in this container, or what the tasks of this pod share, holds more than its disk.
    DiskExceeded(ContainerId),
    /// Volumes were made, resized and removed, as far as that was possible.
    LaidOut(LaidOut),
    /// An executor called; answered by [`Effect::Answer`].
    Executor(ExecutorCall),
    /// The event stream of an executor is over.
    ExecutorDetached(u64),
    /// The time that `wake` named has come.
    Tick,
    /// End all tasks and leave the cluster.
    Leave,
}

/// Everything the driver may be asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make this durable before anything else is done.
    Checkpoint(Record),
    /// Write this down before anything else is done. It must outlive the agent, but not the machine, whose end makes it void.
    Write(Record),
    /// Write this down; losing it does no harm.
    Note(Record),
    /// Make the sandbox and start the container.
    Launch(Box<LaunchOrder>),
    /// Watch a container that runs already.
    Watch(ContainerId),
    /// Ask the container's processes to end.
    Terminate(ContainerId),
    /// Kill the container's processes.
    Destroy(ContainerId),
    /// Make a check and answer by [`Input::Checked`].
    Check(Box<checks::CheckOrder>),
    /// Remove what the containerizer keeps of a container that ended.
    Release(ContainerId),
    /// The resources of a pod, or of an executor's container, have changed.
    Resize(Box<ResizeOrder>),
    /// Remove a pod, whose containers were released before.
    ReleasePod(ContainerId),
    /// Make, resize and remove volumes, and answer by [`Input::LaidOut`].
    LayOut(record::Volumes),
    /// Answer the call of an executor that has this number.
    Answer(u64, Result<(), Refusal>),
    /// Send to the executor whose stream has this number.
    Tell(u64, Box<v1::executor::Event>),
    /// Close an executor's stream.
    CloseExecutor(u64),
    /// Send on the stream of this number, if it is still the current one.
    Send(u64, AgentMessage),
    /// Close the stream of this number.
    Close(u64),
    /// Whatever still prepares this container's launch may stop.
    Abandon(ContainerId),
    /// The agent has left the cluster: stop the process.
    Stop,
}

/// A container to start.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchOrder {
    /// The container's id.
    pub container: ContainerId,
    /// The framework, which names the user.
    pub framework: v1::FrameworkInfo,
    /// The task. Of an executor's own container: its command, with the resources of the executor alone.
    pub task: v1::TaskInfo,
    /// The executor that is started, or to which the task belongs.
    pub executor: Option<ExecutorOrder>,
    /// The persistent volumes that it mounts.
    pub volumes: Vec<VolumeMount>,
}

pub use layout::{LaidOut, VolumeMount};

/// What a launch needs to know of an executor.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutorOrder {
    /// The executor.
    pub info: v1::ExecutorInfo,
    /// What is started.
    pub start: Start,
    /// What holds the tasks.
    pub size: ResizeOrder,
}

/// What is started of an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A task in its pod.
    Task,
    /// The executor itself, which shows this token when it calls.
    Executor(String),
}

/// The container of an executor, or its pod, and what it has to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct ResizeOrder {
    /// Whose it is.
    pub executor: ExecutorName,
    /// The container's id.
    pub container: ContainerId,
    /// Resources and limits of the executor and of each of its tasks.
    pub parts: Vec<Part>,
}

/// What one task, or the executor beside its tasks, may use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Part {
    /// The requests.
    pub resources: Vec<v1::Resource>,
    /// The limits, where they are others.
    pub limits: BTreeMap<String, v1::value::Scalar>,
}

/// Why a container could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchFailure {
    /// Whose fault it is.
    pub kind: FailureKind,
    /// The step and its cause, for people.
    pub message: String,
}

/// Whose fault a failed launch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The host's, or that of the program.
    Failed,
    /// The task asks for what it may not have.
    Unauthorized,
    /// The task's description is wrong.
    Invalid,
}

/// The agent's state.
pub struct Core {
    settings: Settings,
    ids: Box<dyn Ids>,
    /// Set once a master has admitted the agent.
    id: Option<v1::AgentId>,
    /// The cluster it is of; unset before a master told it.
    cluster: Option<String>,
    session: Session,
    frameworks: BTreeMap<String, v1::FrameworkInfo>,
    tasks: BTreeMap<TaskName, Task>,
    executors: BTreeMap<ExecutorName, Executor>,
    containers: BTreeMap<ContainerId, Owner>,
    timers: BTreeSet<(Timestamp, Owner)>,
    /// The ends of executors that a master which was told of them in Register has not heard.
    unsaid: Vec<link::ExecutorExited>,
    /// The persistent volumes; none before the first.
    volumes: Option<record::Volumes>,
    checks: checks::Checks,
    /// Whether the machine was rebooted since the previous agent process.
    rebooted: bool,
    /// Set when the process is to stop after its tasks have ended.
    leaving: bool,
}

/// Whose a container or a timer is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Task(TaskName),
    Executor(ExecutorName),
}

/// The stream to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    None,
    /// Register was sent.
    Registering(u64),
    Registered(u64),
}

impl Core {
    /// Applies one input. What must be done about it is appended to `effects`, in the order in which it must be done.
    pub fn step(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Attached(session) => register::attached(self, now, session, effects),
            Input::Detached(session) => register::detached(self, now, session, effects),
            Input::Cluster(id) => register::cluster(self, id, effects),
            Input::Message(session, message) => self.message(now, session, message, effects),
            Input::Launched(container, result) => match self.containers.get(&container).cloned() {
                Some(Owner::Task(name)) => run::launched(self, now, &name, &container, result, effects),
                Some(Owner::Executor(name)) => executors::launched(self, now, &name, result, effects),
                None => {}
            },
            Input::Exited(container, exit) => match self.containers.get(&container).cloned() {
                Some(Owner::Task(name)) => run::exited(self, now, &name, &container, &exit, effects),
                Some(Owner::Executor(name)) => executors::exited(self, now, &name, &exit, effects),
                None => {}
            },
            Input::Found(container, found) => match self.containers.get(&container).cloned() {
                Some(Owner::Task(name)) => recover::found(self, now, &name, &container, found, effects),
                Some(Owner::Executor(name)) => executors::found(self, now, &name, found, effects),
                None => {}
            },
            Input::DiskExceeded(container) => match self.containers.get(&container).cloned() {
                Some(Owner::Task(name)) => end::disk_exceeded(self, now, &name, effects),
                Some(Owner::Executor(name)) => executors::disk_exceeded(self, now, &name, effects),
                None => {}
            },
            Input::Checked(container, kind, answer) => {
                if let Some(Owner::Task(name)) = self.containers.get(&container).cloned() {
                    checks::done(self, now, &name, kind, &answer, effects);
                }
            }
            Input::LaidOut(done) => layout::done(self, done, effects),
            Input::Executor(call) => executors::call(self, now, call, effects),
            Input::ExecutorDetached(stream) => executors::detached(self, now, stream),
            Input::Tick => self.tick(now, effects),
            Input::Leave => end::leave(self, now, effects),
        }
    }

    /// When the next `Tick` is due.
    pub fn wake(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.checks.wake()).min()
    }

    /// The agent's id, once it has one.
    pub fn agent_id(&self) -> Option<&v1::AgentId> {
        self.id.as_ref()
    }

    /// The id of the cluster it is of, once a master told it.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Remembers who it is.
    fn identity(&self) -> Effect {
        let (id, cluster) = (self.id.clone(), self.cluster.clone());
        Effect::Checkpoint(Fact::Agent(record::Agent { id, cluster }).into())
    }

    /// The agent as the master knows it.
    pub fn agent_info(&self) -> v1::AgentInfo {
        v1::AgentInfo {
            id: self.id.clone(),
            ..self.settings.agent.clone()
        }
    }

    /// Whether a master has the agent in its books now.
    pub fn is_registered(&self) -> bool {
        matches!(self.session, Session::Registered(_))
    }

    /// The frameworks that have tasks here.
    pub fn frameworks(&self) -> impl Iterator<Item = &v1::FrameworkInfo> {
        self.frameworks.values()
    }

    /// The tasks that are not forgotten, by name.
    pub fn tasks(&self) -> impl Iterator<Item = (&TaskName, &Task)> {
        self.tasks.iter()
    }

    /// The persistent volumes that a task has.
    pub(crate) fn volumes_of(&self, task: &v1::TaskInfo) -> Vec<record::Volume> {
        let mounts = layout::mounts(self, task).unwrap_or_default();
        mounts.into_iter().map(|mount| mount.volume).collect()
    }

    /// The executors that have not ended, by name.
    pub fn executors(&self) -> impl Iterator<Item = (&ExecutorName, &Executor)> {
        self.executors.iter()
    }

    fn message(&mut self, now: Timestamp, session: u64, message: MasterMessage, effects: &mut Vec<Effect>) {
        let current = match self.session {
            Session::None => return,
            Session::Registering(current) | Session::Registered(current) => current,
        };
        if session != current {
            return;
        }
        use master_message::Body;
        match message.body {
            Some(Body::Registered(registered)) => register::registered(self, now, session, registered, effects),
            Some(Body::Rejected(rejected)) => register::rejected(self, now, session, &rejected, effects),
            Some(Body::Launch(launch)) => launch::launch(self, now, launch, effects),
            Some(Body::Kill(kill)) => end::kill(self, now, kill, effects),
            Some(Body::Acknowledge(acknowledge)) => updates::acknowledge(self, now, acknowledge, effects),
            Some(Body::ShutdownFramework(shutdown)) => {
                end::framework_removed(self, now, &shutdown.framework_id.value, effects);
            }
            Some(Body::UpdateFramework(update)) => register::framework_updated(self, update.framework, effects),
            Some(Body::ShutdownExecutor(shutdown)) => executors::shutdown(self, now, shutdown, effects),
            Some(Body::Layout(wanted)) => layout::wanted(self, wanted, effects),
            Some(Body::Ping(ping)) => {
                let pong = proffer_proto::link::Pong {
                    sequence: ping.sequence,
                };
                effects.push(send(session, agent_message::Body::Pong(pong)));
            }
            Some(Body::FrameworkMessage(message)) => {
                executors::message(self, message, effects);
            }
            None => tracing::debug!("a message of a kind that this version does not know"),
        }
    }

    fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let Some((_, owner)) = self.timers.pop_first() else {
                break;
            };
            match owner {
                Owner::Task(name) => {
                    if let Some(task) = self.tasks.get_mut(&name) {
                        task.timer = None;
                    }
                    end::expire(self, now, &name, effects);
                    updates::retry(self, now, &name, effects);
                    self.set_timer(&name);
                }
                Owner::Executor(name) => executors::expire(self, now, &name, effects),
            }
        }
        checks::tick(self, now, effects);
    }

    /// Sets the one timer of a task to the earliest of its deadlines.
    fn set_timer(&mut self, name: &TaskName) {
        let Some(task) = self.tasks.get_mut(name) else { return };
        let next = task.next_deadline(matches!(self.session, Session::Registered(_)));
        if next != task.timer {
            if let Some(old) = task.timer.take() {
                self.timers.remove(&(old, Owner::Task(name.clone())));
            }
            if let Some(new) = next {
                self.timers.insert((new, Owner::Task(name.clone())));
            }
            task.timer = next;
        }
    }

    /// Removes a task whose story is over.
    fn forget(&mut self, name: &TaskName, effects: &mut Vec<Effect>) {
        if let Some(task) = self.tasks.remove(name) {
            if let Some(at) = task.timer {
                self.timers.remove(&(at, Owner::Task(name.clone())));
            }
            if !task.is_entrusted() {
                self.containers.remove(&task.container);
            }
            self.checks.forget(name);
            effects.push(Effect::Note(Fact::Forgotten(name.clone()).into()));
        }
        self.forget_framework(&name.framework);
    }

    /// Forgets a framework of which nothing is left.
    fn forget_framework(&mut self, framework: &str) {
        if !has_any(framework, &self.tasks, &self.executors) {
            self.frameworks.remove(framework);
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Core")
            .field("id", &self.id)
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

fn send(session: u64, body: agent_message::Body) -> Effect {
    Effect::Send(session, AgentMessage { body: Some(body) })
}

/// What is said of a task that was ended for a cause.
fn cause_status(cause: Cause) -> (v1::TaskState, Option<v1::task_status::Reason>, &'static str) {
    use v1::TaskState::{TaskFailed, TaskKilled};
    use v1::task_status::Reason;
    match cause {
        Cause::Killed => (TaskKilled, None, "killed as asked"),
        Cause::CompletionTime => (
            TaskFailed,
            Some(Reason::MaxCompletionTimeReached),
            "its max_completion_time was reached",
        ),
        Cause::FrameworkRemoved => (TaskKilled, Some(Reason::FrameworkRemoved), "its framework was removed"),
        Cause::Unhealthy => (
            TaskKilled,
            Some(Reason::TaskHealthCheckStatusUpdated),
            "its health check failed too many times in a row",
        ),
        Cause::Drained => (TaskKilled, Some(Reason::AgentDraining), "its agent is being drained"),
        Cause::Disk => (
            TaskFailed,
            Some(Reason::ContainerLimitationDisk),
            "it held more than its disk",
        ),
        Cause::AgentLeaves => (
            TaskKilled,
            Some(Reason::AgentRemovedByOperator),
            "the agent leaves the cluster",
        ),
        Cause::GroupEnded => (TaskKilled, None, "another task of its group failed or was killed"),
        Cause::ExecutorShutDown => (
            TaskKilled,
            Some(Reason::ExecutorTerminated),
            "its executor was shut down",
        ),
        Cause::NotSubscribed => (
            TaskFailed,
            Some(Reason::ExecutorRegistrationTimeout),
            "its executor did not subscribe in time",
        ),
        Cause::NotSubscribedAgain => (
            TaskFailed,
            Some(Reason::ExecutorReregistrationTimeout),
            "its executor did not subscribe again in time",
        ),
    }
}

//! What the journal remembers, one fact a record.
//!
//! The messages are encoded by prost; their tags are the format on disk and never change their meaning.

use proffer_proto::v1;

/// One fact.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    /// The fact; unset in a record of a newer version.
    #[prost(oneof = "Fact", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20, 60")]
    pub fact: Option<Fact>,
}

/// The kinds of facts.
#[derive(Clone, PartialEq, prost::Oneof)]
#[allow(clippy::large_enum_variant, reason = "facts are made to be encoded and dropped")]
pub enum Fact {
    /// The id given by the master; empty when it was taken away.
    #[prost(message, tag = "1")]
    Agent(Agent),
    /// The boot of the machine in which the facts that follow were written.
    #[prost(message, tag = "2")]
    Boot(Boot),
    /// A framework that has tasks here, or its new description.
    #[prost(message, tag = "3")]
    Framework(v1::FrameworkInfo),
    /// A task was accepted; its container may be started from now on.
    #[prost(message, tag = "4")]
    Launch(Launch),
    /// An update was appended to the task's queue.
    #[prost(message, tag = "5")]
    Update(Update),
    /// The head of the task's queue was acknowledged.
    #[prost(message, tag = "6")]
    Acknowledged(TaskName),
    /// The task is being ended.
    #[prost(message, tag = "7")]
    Ending(Ending),
    /// Nobody waits for the task's updates any more.
    #[prost(message, tag = "8")]
    Muted(TaskName),
    /// The task is forgotten.
    #[prost(message, tag = "9")]
    Forgotten(TaskName),
    /// What the checks of a running task say.
    #[prost(message, tag = "20")]
    Checked(Checked),
    /// An executor was accepted; its container may be started from now on.
    #[prost(message, tag = "10")]
    Executor(ExecutorLaunch),
    /// The executor is being ended.
    #[prost(message, tag = "11")]
    ExecutorEnding(ExecutorEnding),
    /// The executor has ended.
    #[prost(message, tag = "12")]
    ExecutorForgotten(ExecutorName),
    /// The persistent volumes that the agent has; replaces those before.
    #[prost(message, tag = "60")]
    Volumes(Volumes),
}

/// The agent's identity.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Agent {
    /// Unset when the agent has none.
    #[prost(message, optional, tag = "1")]
    pub id: Option<v1::AgentId>,
    /// The id of the cluster that it is of; unset before a master told it.
    #[prost(string, optional, tag = "2")]
    pub cluster: Option<String>,
}

/// The persistent volumes of a layout.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Volumes {
    /// The admission that the layout belongs to.
    #[prost(int64, required, tag = "1")]
    pub lineage: i64,
    /// The version of the layout.
    #[prost(uint64, required, tag = "2")]
    pub version: u64,
    /// The volumes.
    #[prost(message, repeated, tag = "3")]
    pub volumes: Vec<Volume>,
    /// Volumes whose data is to be removed and may still be there.
    #[prost(message, repeated, tag = "4")]
    pub going: Vec<Volume>,
    /// What could not be done: the latest failures.
    #[prost(message, repeated, tag = "5")]
    pub failures: Vec<VolumeFailure>,
}

/// A persistent volume.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Volume {
    /// The role that it is reserved for.
    #[prost(string, required, tag = "1")]
    pub role: String,
    /// Its id, unique within the role.
    #[prost(string, required, tag = "2")]
    pub id: String,
    /// How much it may hold.
    #[prost(uint64, required, tag = "3")]
    pub bytes: u64,
    /// The admission and the version of the layout in which it was made.
    #[prost(int64, required, tag = "4")]
    pub lineage: i64,
    /// See `lineage`.
    #[prost(uint64, required, tag = "5")]
    pub since: u64,
    /// The version of the layout that wanted what is to be done with it last.
    #[prost(uint64, required, tag = "6")]
    pub wanted: u64,
}

/// What could not be done with a volume.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VolumeFailure {
    /// The role of the volume.
    #[prost(string, required, tag = "1")]
    pub role: String,
    /// The id of the volume.
    #[prost(string, required, tag = "2")]
    pub id: String,
    /// The version of the layout that wanted it.
    #[prost(uint64, required, tag = "3")]
    pub version: u64,
    /// Why.
    #[prost(string, required, tag = "4")]
    pub message: String,
}

/// A boot of the machine.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Boot {
    /// From `/proc/sys/kernel/random/boot_id`.
    #[prost(string, required, tag = "1")]
    pub id: String,
}

/// Names a task.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct TaskName {
    /// The framework's id.
    #[prost(string, required, tag = "1")]
    pub framework: String,
    /// The task's id.
    #[prost(string, required, tag = "2")]
    pub task: String,
}

/// A task and its container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Launch {
    /// The framework's id.
    #[prost(string, required, tag = "1")]
    pub framework: String,
    /// The task as the framework described it.
    #[prost(message, required, tag = "2")]
    pub task: v1::TaskInfo,
    /// The container's id.
    #[prost(string, required, tag = "3")]
    pub container: String,
    /// When the task was accepted, nanoseconds since the Unix epoch.
    #[prost(uint64, required, tag = "4")]
    pub at: u64,
    /// The last state whose update was acknowledged, if one was: set by compaction, which drops such updates.
    #[prost(enumeration = "v1::TaskState", optional, tag = "5")]
    pub acknowledged: Option<i32>,
    /// The executor that runs it, where it is no command of its own. The container is then that of the executor, or one in its pod.
    #[prost(string, optional, tag = "6")]
    pub executor: Option<String>,
    /// The first task of its group.
    #[prost(string, optional, tag = "7")]
    pub group: Option<String>,
    /// The latest updates of its executor that were acknowledged: it may not know that, and send them again.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub seen: Vec<Vec<u8>>,
}

/// Names an executor.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct ExecutorName {
    /// The framework's id.
    #[prost(string, required, tag = "1")]
    pub framework: String,
    /// The executor's id.
    #[prost(string, required, tag = "2")]
    pub executor: String,
}

/// An executor and its container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecutorLaunch {
    /// The framework's id.
    #[prost(string, required, tag = "1")]
    pub framework: String,
    /// The executor as the framework described it.
    #[prost(message, required, tag = "2")]
    pub info: v1::ExecutorInfo,
    /// The container's id.
    #[prost(string, required, tag = "3")]
    pub container: String,
    /// The secret by which the executor shows that it is the one.
    #[prost(string, required, tag = "4")]
    pub token: String,
}

/// Why and until when an executor is being ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecutorEnding {
    /// The executor.
    #[prost(message, required, tag = "1")]
    pub executor: ExecutorName,
    /// When its processes are killed, nanoseconds since the Unix epoch.
    #[prost(uint64, required, tag = "2")]
    pub force_at: u64,
    /// Why.
    #[prost(enumeration = "Cause", required, tag = "3")]
    pub cause: i32,
}

/// An update in the queue of its task.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Update {
    /// The framework's id.
    #[prost(string, required, tag = "1")]
    pub framework: String,
    /// The update; its task id names the task.
    #[prost(message, required, tag = "2")]
    pub status: v1::TaskStatus,
}

/// Why and until when a task is being ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ending {
    /// The task.
    #[prost(message, required, tag = "1")]
    pub task: TaskName,
    /// When its processes are killed, nanoseconds since the Unix epoch.
    #[prost(uint64, required, tag = "2")]
    pub force_at: u64,
    /// Why.
    #[prost(enumeration = "Cause", required, tag = "3")]
    pub cause: i32,
}

/// What the checks of a task say.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Checked {
    /// The task.
    #[prost(message, required, tag = "1")]
    pub task: TaskName,
    /// When its program began to run, nanoseconds since the Unix epoch.
    #[prost(uint64, required, tag = "2")]
    pub started_at: u64,
    /// What its health check says; unset before the first verdict.
    #[prost(bool, optional, tag = "3")]
    pub healthy: Option<bool>,
    /// What its check says.
    #[prost(message, optional, tag = "4")]
    pub status: Option<v1::CheckStatusInfo>,
}

/// Why a task is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Cause {
    /// The framework asked for it.
    Killed = 0,
    /// Its maximum completion time is over.
    CompletionTime = 1,
    /// Its framework was removed.
    FrameworkRemoved = 2,
    /// The agent was marked gone, or stops for good.
    AgentLeaves = 3,
    /// The agent is being drained.
    Drained = 4,
    /// Its health check failed too many times in a row.
    Unhealthy = 20,
    /// Another task of its group failed or was killed.
    GroupEnded = 8,
    /// The framework shut its executor down.
    ExecutorShutDown = 5,
    /// Its executor did not subscribe after it was started.
    NotSubscribed = 6,
    /// Its executor did not subscribe again.
    NotSubscribedAgain = 7,
    /// It held more than its disk.
    Disk = 40,
}

impl From<Fact> for Record {
    fn from(fact: Fact) -> Self {
        Self { fact: Some(fact) }
    }
}

//! Starts, watches and ends containers.
//!
//! Every container is supervised by a `proffer-shim` of its own that outlives the agent. Life cycle: `launch` ->
//! (`update`, `signal`, `usage`)* -> `wait` returns, by itself or after `destroy` -> the caller checkpoints the exit ->
//! `forget`. After a restart of the agent, `recover` is called once, before anything else.

mod spec;

use std::path::PathBuf;

pub use spec::{
    ContainerId, ContainerSpec, EnforcementNote, Exit, Launched, Limit, Oom, Recovered, Resources, Usage, User,
};

/// How containers are made on this host.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the shim's binary and the containers' state live; on a local file system, used by one agent only.
    pub runtime_dir: PathBuf,
    /// The path of our own cgroup below the root of each hierarchy, unique on the host, for example `proffer/agent-5051`.
    /// Whatever is below it and not known to `recover` is destroyed.
    pub cgroup_root: String,
    /// The isolators in use, by name; [`ISOLATORS`] for all.
    pub isolation: Vec<String>,
    /// The limit of processes and threads for containers that name none.
    pub pids_max_default: u64,
}

/// Every isolator's name.
pub const ISOLATORS: &[&str] = &["cpu", "memory", "pids", "ports", "namespaces", "filesystem", "user"];

/// Starting a container failed; nothing of it is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("container {id}: {stage} failed: {reason}")]
pub struct LaunchError {
    /// The container.
    pub id: ContainerId,
    /// The step that failed, with its object, for example `exec /bin/nothing`.
    pub stage: String,
    /// Why: the system's text for the error, or what was wrong with the specification.
    pub reason: String,
    /// The system's error number; zero when the specification was refused.
    pub errno: i32,
}

/// Something else failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An unknown name in [`Config::isolation`].
    #[error("isolation: unknown isolator {name:?}, expected one of {ISOLATORS:?}")]
    UnknownIsolator {
        /// What was asked for.
        name: String,
    },
    /// The host cannot enforce what was asked for.
    #[error("isolation: {isolator} cannot be enforced on this host: {reason}")]
    Unenforceable {
        /// The isolator.
        isolator: &'static str,
        /// What is missing.
        reason: String,
    },
    /// No such container.
    #[error("container {0} is not known")]
    UnknownContainer(ContainerId),
    /// Another process uses the runtime directory.
    #[error("{} is in use by another agent", .0.display())]
    Busy(PathBuf),
    /// A system call failed.
    #[error("{attempted}")]
    System {
        /// What was attempted, with its object.
        attempted: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// The handle; cheap to clone, every method may be called from any task of a multi-threaded tokio runtime, and different containers'
/// calls run in parallel.
#[derive(Clone, Debug)]
pub struct Containerizer {}

impl Containerizer {
    /// Prepares the host: unpacks the shim, finds the cgroup hierarchies, and says what enforces each dimension. What cannot be enforced
    /// at all is an error that names the isolator.
    pub fn open(config: Config) -> Result<(Self, Vec<EnforcementNote>), Error> {
        let _ = config;
        Err(Error::Unenforceable {
            isolator: "cpu",
            reason: "the containerizer is not there yet".into(),
        })
    }

    /// Takes stock after a restart: `known` are the containers that the agent's checkpoint holds. Whatever else is found below our own
    /// directories and cgroups is destroyed. Must be called before `launch`, also with an empty list.
    pub async fn recover(&self, known: &[ContainerId]) -> Result<Vec<(ContainerId, Recovered)>, Error> {
        let _ = known;
        Ok(Vec::new())
    }

    /// Starts a container; returns when its program has been executed. The caller has checkpointed the specification before.
    pub async fn launch(&self, spec: &ContainerSpec) -> Result<Launched, LaunchError> {
        Err(LaunchError {
            id: spec.id.clone(),
            stage: "launch".into(),
            reason: "not there yet".into(),
            errno: 0,
        })
    }

    /// Waits until the container has ended with all its processes. May be called any number of times, also after the end, until
    /// `forget`.
    pub async fn wait(&self, id: &ContainerId) -> Result<Exit, Error> {
        Err(Error::UnknownContainer(id.clone()))
    }

    /// Sends a signal to the process group of the main process. A container that has ended is not an error.
    pub fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), Error> {
        let _ = signal;
        Err(Error::UnknownContainer(id.clone()))
    }

    /// Kills every process of the container at once; `wait` then returns. A container that has ended is not an error.
    pub fn destroy(&self, id: &ContainerId) -> Result<(), Error> {
        Err(Error::UnknownContainer(id.clone()))
    }

    /// Changes what a running container may use.
    pub async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let _ = resources;
        Err(Error::UnknownContainer(id.clone()))
    }

    /// What a container uses now; a few file reads.
    pub fn usage(&self, id: &ContainerId) -> Result<Usage, Error> {
        Err(Error::UnknownContainer(id.clone()))
    }

    /// Removes the state and the cgroups of a container that has ended, after its exit was checkpointed. An unknown container is
    /// not an error.
    pub async fn forget(&self, id: &ContainerId) -> Result<(), Error> {
        let _ = id;
        Ok(())
    }

    /// The containers that have not been forgotten.
    pub fn containers(&self) -> Vec<ContainerId> {
        Vec::new()
    }
}

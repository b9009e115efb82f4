//! Starts, watches and ends containers.
//!
//! Every container is supervised by a `proffer-shim` of its own that outlives the agent. Life cycle: `launch` ->
//! (`update`, `signal`, `usage`)* -> `wait` returns, by itself or after `destroy` -> the caller checkpoints the exit ->
//! `forget`. After a restart of the agent, `recover` is called once, before anything else.

mod console;
mod container;
mod enter;
mod launch;
mod records;
mod recovery;
mod shim;
mod spec;
mod starter;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proffer_shim::record;

use self::container::Container;
use self::records::Records;
use self::starter::Starter;
use crate::cgroups::{self, Cgroups, Hierarchy};
use crate::faults;
use crate::isolators::{self, Isolator};

pub use console::Console;
pub use enter::{EnteredProgram, Streams};
pub(crate) use spec::CAPABILITY_ENUM_BASE;
pub use spec::{
    Confinement, ContainerId, ContainerInput, ContainerSpec, DeviceUnit, EnforcementNote, Exit, IoMax, Launched, Limit,
    Oom, Policy, Pressure, Recovered, ResourceLimit, Resources, SecretBytes, Usage, User, Volume, VolumeSource,
    WindowSize,
};

/// How containers are made on this host.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the shim's binary and the containers' state live; on a local file system, used by one agent only.
    pub runtime_dir: PathBuf,
    /// Where the shim's binary lives where the file system of `runtime_dir` allows no execution, as `/run` does on many hosts.
    pub launcher_dir: PathBuf,
    /// The path of our own cgroup below the root of each hierarchy, unique on the host, for example `proffer/agent-5051`.
    /// Whatever is below it and not known to `recover` is destroyed.
    pub cgroup_root: String,
    /// The isolators in use, by name; [`ISOLATORS`] for all.
    pub isolation: Vec<String>,
    /// The limit of processes and threads for containers that name none.
    pub pids_max_default: u64,
    /// What the operator lets containers do.
    pub policy: Policy,
    /// How much of a container's output is kept.
    pub logs: LogLimits,
}

/// How much of a container's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// What standard output, and standard error, may take altogether, in bytes.
    pub bytes_max: u64,
    /// Into how many files each is divided; the oldest is removed when a new one is begun.
    pub files: u32,
}

/// Every isolator's name.
pub const ISOLATORS: &[&str] = &[
    "cpu",
    "memory",
    "pids",
    "ports",
    "devices",
    "network",
    "io",
    "namespaces",
    "filesystem",
    "volumes",
    "rlimits",
    "capabilities",
    "user",
    "landlock",
    "seccomp",
];

/// How long a supervisor may take to end after its container.
const SUPERVISOR_SECONDS: i64 = 10;

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
    /// The container has not ended.
    #[error("container {0} still runs")]
    Running(ContainerId),
    /// Another process uses the runtime directory.
    #[error("{} is in use by another agent", .0.display())]
    Busy(PathBuf),
    /// No directory for the shim's binary.
    #[error(
        "{} and {} are on file systems that are mounted noexec; the launcher needs one that allows execution: \
         give --runtime-dir or --work-dir on one",
        .0.display(), .1.display()
    )]
    NoExecution(PathBuf, PathBuf),
    /// [`Config::cgroup_root`] is not a relative path of plain names.
    #[error("cgroup_root: {0:?} is not a relative path of names of [A-Za-z0-9._@:-]")]
    CgroupRoot(String),
    /// An isolator or a cgroup failed.
    #[error(transparent)]
    Isolation(isolators::Error),
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
pub struct Containerizer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    starter: Starter,
    boot_id: String,
    records: Records,
    isolators: Vec<Box<dyn Isolator>>,
    cgroups: Arc<Cgroups>,
    containers: Mutex<HashMap<ContainerId, Arc<Container>>>,
    logs: LogLimits,
    /// What the pods were last set to hold.
    pods: Mutex<HashMap<ContainerId, Resources>>,
}

impl Containerizer {
    /// Prepares the host: unpacks the shim, finds the cgroup hierarchies, and says what enforces each dimension. What cannot be enforced
    /// at all is an error that names the isolator.
    pub fn open(config: Config) -> Result<(Self, Vec<EnforcementNote>), Error> {
        if let Some(name) = config.isolation.iter().find(|name| !ISOLATORS.contains(&name.as_str())) {
            return Err(Error::UnknownIsolator { name: name.clone() });
        }
        check_cgroup_root(&config.cgroup_root)?;
        isolators::raise_open_files();
        let records = Records::open(&config.runtime_dir).map_err(system("open the runtime directory"))?;
        let records = records.ok_or_else(|| Error::Busy(config.runtime_dir.clone()))?;
        let shim = shim::place(&config.runtime_dir, &config.launcher_dir).map_err(system("unpack the launcher"))?;
        let shim = shim.ok_or_else(|| Error::NoExecution(config.runtime_dir.clone(), config.launcher_dir.clone()))?;
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(system("read the boot id"))?;
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").map_err(system("read the mounts"))?;
        let wanted = |name: &&'static str| config.isolation.iter().any(|isolator| isolator == name);
        let mut mounted = cgroups::parse_mounts(&mountinfo);
        if mounted.v2.is_none() {
            let found = cgroups::mount_unified();
            let found = found.inspect_err(|error| tracing::warn!(%error, "cgroup2 is not mounted and cannot be"));
            mounted.v2 = found.ok();
        }
        let mut controllers: Vec<&'static str> = ["cpu", "memory", "pids"].into_iter().filter(wanted).collect();
        controllers.extend(Some("io").filter(|io| wanted(io) && (config.policy.named || mounted.has(io))));
        let cgroups = Cgroups::open(&mounted, &config.cgroup_root, &controllers).map_err(cgroup_error)?;
        let cgroups = Arc::new(cgroups);
        let isolators::Opened { isolators, missing } = isolators::open(&config, &cgroups)?;
        let notes = notes(&isolators, &missing);
        let boot_id = boot_id.trim().to_owned();
        let shared_mount = isolators.iter().find_map(|isolator| isolator.shared_mount());
        let shared_mount = shared_mount.map(|mount| mount.try_clone_to_owned()).transpose();
        let settings = starter::Settings {
            program: shim,
            capabilities: isolators.iter().find_map(|isolator| isolator.bounding_set()),
            shared_mount: shared_mount.map_err(system("keep the shared mount"))?,
        };
        let starter = Starter::open(settings).map_err(system("start the launcher"))?;
        let inner = Inner {
            starter,
            boot_id,
            records,
            isolators,
            cgroups,
            containers: Mutex::default(),
            logs: config.logs,
            pods: Mutex::default(),
        };
        Ok((Containerizer { inner: Arc::new(inner) }, notes))
    }

    /// Takes stock after a restart: `known` are the containers that the agent's checkpoint holds. Whatever else is found below our own
    /// directories and cgroups is destroyed. Must be called before `launch`, also with an empty list.
    pub async fn recover(&self, known: &[ContainerId]) -> Result<Vec<(ContainerId, Recovered)>, Error> {
        let known = known.to_vec();
        self.blocking(move |inner| recovery::recover(inner, &known)).await
    }

    /// Starts a container; returns when its program has been executed. The caller has checkpointed the specification before. A launch
    /// goes on when the future is dropped.
    pub async fn launch(&self, spec: &ContainerSpec) -> Result<Launched, LaunchError> {
        let (spec, this) = (spec.clone(), self.clone());
        tokio::task::spawn_blocking(move || this.launch_blocking(&spec, || true))
            .await
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    /// The same for callers that may block, and need not have checkpointed the specification before `ready` returns, which is called
    /// when all is prepared. Nothing is started when it returns false.
    pub fn launch_blocking(&self, spec: &ContainerSpec, ready: impl FnOnce() -> bool) -> Result<Launched, LaunchError> {
        let (container, launched) = launch::launch(&self.inner, spec, ready)?;
        self.inner.insert(container);
        Ok(launched)
    }

    /// Runs a program in a container that runs: the specification is the container's, but for the program, its environment and the
    /// directory that it begins in. Returns when the program has been executed; it ends, with all that it started, when it is
    /// dropped, and with the container.
    pub async fn enter(&self, spec: &ContainerSpec, streams: Streams) -> Result<EnteredProgram, LaunchError> {
        let (spec, inner) = (spec.clone(), Arc::clone(&self.inner));
        let entered = tokio::task::spawn_blocking(move || enter::enter(&inner, &spec, streams)).await;
        let (program, end) = entered.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?;
        tokio::spawn(end.follow(Arc::downgrade(&self.inner)));
        Ok(program)
    }

    /// The standard input of a container that was launched with one; none for any other.
    pub fn console(&self, id: &ContainerId) -> Result<Option<Console>, Error> {
        console::take(&*self.inner.container(id)?).map_err(system("take a container's standard input"))
    }

    /// Ends the standard input of a container, where it is a pipe. Whoever holds a [`Console`] drops it first.
    pub fn end_input(&self, id: &ContainerId) -> Result<(), Error> {
        console::end(&*self.inner.container(id)?).map_err(system("end a container's standard input"))
    }

    /// Waits until the container has ended with all its processes. May be called any number of times, also after the end, until
    /// `forget`.
    pub async fn wait(&self, id: &ContainerId) -> Result<Exit, Error> {
        let container = self.inner.container(id)?;
        let ended = container.exit.get_or_try_init(|| async {
            let heard = container.ended_with().await;
            if let Some(exit) = heard.map_err(system("wait for the supervisor"))? {
                return Ok(Exit::from(exit));
            }
            if let Some(exit) = self
                .inner
                .records
                .exit(id)
                .map_err(system("read the record of the exit"))?
            {
                return Ok(Exit::from(exit));
            }
            tracing::warn!(container_id = %id, "a supervisor was killed, and its container with it");
            let id = id.clone();
            self.blocking(move |inner| inner.kill_left_over(&id)).await?;
            Ok(Exit {
                lost: true,
                ..Exit::default()
            })
        });
        ended.await.cloned()
    }

    /// Sends a signal to the process group of the main process. A container that has ended is not an error.
    pub fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), Error> {
        self.inner
            .container(id)?
            .signal(signal)
            .map_err(system("signal a container"))
    }

    /// Kills every process of the container at once; `wait` then returns. A container that has ended is not an error.
    pub fn destroy(&self, id: &ContainerId) -> Result<(), Error> {
        let container = self.inner.container(id)?;
        if container.exit.initialized() {
            return Ok(());
        }
        let killed = self
            .inner
            .cgroups
            .unified
            .as_ref()
            .is_some_and(|unified| unified.kill(id).unwrap_or(false));
        if killed {
            Ok(())
        } else {
            container.terminate().map_err(system("destroy a container"))
        }
    }

    /// Changes what a running container may use.
    pub async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let (id, resources, this) = (id.clone(), resources.clone(), self.clone());
        self.blocking(move |_| this.update_blocking(&id, &resources)).await
    }

    /// The same for callers that may block.
    pub fn update_blocking(&self, id: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let container = self.inner.container(id)?;
        let _one_at_a_time = container.updating.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.set_limits(&container.id, resources)
    }

    /// Makes a pod, or changes what all containers in it may use together. They are launched with ids within it.
    pub fn hold_pod_blocking(&self, pod: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let mut pods = self.inner.pods();
        if pods.get(pod) == Some(resources) {
            return Ok(());
        }
        self.inner.cgroups.create_pod(pod).map_err(cgroup_error)?;
        self.inner.set_limits(pod, resources)?;
        pods.insert(pod.clone(), resources.clone());
        Ok(())
    }

    /// Removes a pod whose containers were forgotten. An unknown pod is not an error.
    pub fn forget_pod_blocking(&self, pod: &ContainerId) -> Result<(), Error> {
        self.inner.pods().remove(pod);
        self.inner.remove_cgroups(pod)
    }

    /// What a container uses now; a few reads of files that are kept open.
    pub fn usage(&self, id: &ContainerId) -> Result<Usage, Error> {
        self.inner.container(id)?;
        let mut usage = Usage::default();
        self.inner.cgroups.usage(id, &mut usage).map_err(cgroup_error)?;
        for isolator in &self.inner.isolators {
            isolator.usage(id, &mut usage).map_err(isolator_error)?;
        }
        Ok(usage)
    }

    /// Removes the state and the cgroups of a container that has ended, after its exit was checkpointed. An unknown container is
    /// not an error.
    pub async fn forget(&self, id: &ContainerId) -> Result<(), Error> {
        let (id, this) = (id.clone(), self.clone());
        self.blocking(move |_| this.forget_blocking(&id)).await
    }

    /// The same for callers that may block.
    pub fn forget_blocking(&self, id: &ContainerId) -> Result<(), Error> {
        let Ok(container) = self.inner.container(id) else {
            return Ok(());
        };
        // Its container's end is told before its own.
        let seconds = if container.exit.initialized() {
            SUPERVISOR_SECONDS
        } else {
            0
        };
        let ended = container.supervisor_ended_within(seconds);
        if !ended.map_err(system("look at the supervisor"))? {
            return Err(Error::Running(container.id.clone()));
        }
        self.inner.retire(&container.id)?;
        self.inner.containers().remove(&container.id);
        Ok(())
    }

    /// Whether a container has not been forgotten.
    pub fn knows(&self, id: &ContainerId) -> bool {
        self.inner.containers().contains_key(id)
    }

    /// Whether a container, or one of a pod's, has not been forgotten.
    pub fn holds(&self, id: &ContainerId) -> bool {
        let containers = self.inner.containers();
        containers.keys().any(|own| own == id || own.pod().as_ref() == Some(id))
    }

    /// The unified tree, wherever there is one.
    pub fn tree(&self) -> Option<&Hierarchy> {
        let unified = self.inner.cgroups.unified.as_ref()?;
        Some(unified.hierarchy())
    }

    /// The containers that have not been forgotten.
    pub fn containers(&self) -> Vec<ContainerId> {
        self.inner.containers().keys().cloned().collect()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        let task = tokio::task::spawn_blocking(move || run(&inner));
        task.await
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }
}

impl Inner {
    fn pods(&self) -> MutexGuard<'_, HashMap<ContainerId, Resources>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_limits(&self, id: &ContainerId, resources: &Resources) -> Result<(), Error> {
        for isolator in &self.isolators {
            isolator.update(id, resources).map_err(isolator_error)?;
        }
        Ok(())
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<Container>>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn container(&self, id: &ContainerId) -> Result<Arc<Container>, Error> {
        self.containers()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::UnknownContainer(id.clone()))
    }

    fn insert(&self, container: Container) {
        self.containers().insert(container.id.clone(), Arc::new(container));
    }

    /// Kills what is in the cgroups, where there are any.
    fn kill_left_over(&self, id: &ContainerId) -> Result<(), Error> {
        let exists = self
            .cgroups
            .hierarchies()
            .iter()
            .any(|hierarchy| hierarchy.has(id, "cgroup.procs"));
        if exists {
            self.cgroups.kill(id).map_err(cgroup_error)
        } else {
            Ok(())
        }
    }

    /// Removes the cgroups, then the records: what is interrupted is found again by its records.
    fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        self.remove_cgroups(id)?;
        self.records
            .remove(id)
            .map_err(system("remove the records of a container"))
    }

    /// The same for a container whose supervisor has ended.
    fn retire(&self, id: &ContainerId) -> Result<(), Error> {
        self.remove_cgroups(id)?;
        faults::RELEASE_BEFORE_RECORDS.pass();
        self.records
            .retire(id)
            .map_err(system("lay by the records of a container"))
    }

    fn remove_cgroups(&self, id: &ContainerId) -> Result<(), Error> {
        self.isolators.iter().for_each(|isolator| isolator.cleanup(id));
        self.cgroups.remove(id).map_err(cgroup_error)
    }
}

impl From<record::Exit> for Exit {
    fn from(exit: record::Exit) -> Self {
        let oom = exit.oom.then(|| Oom {
            limit_bytes: exit.limit.unwrap_or_default(),
            used_bytes: exit.peak.or(exit.limit).unwrap_or_default(),
        });
        Exit {
            code: exit.code,
            signal: exit.signal,
            oom,
            memory_peak_bytes: exit.peak,
            cpu_usec: exit.cpu,
            lost: exit.code.is_none() && exit.signal.is_none(),
        }
    }
}

/// What enforces each dimension, and loudly what nobody enforces.
fn notes(isolators: &[Box<dyn Isolator>], missing: &[EnforcementNote]) -> Vec<EnforcementNote> {
    let note = |name: &&'static str| {
        if let Some(isolator) = isolators.iter().find(|isolator| isolator.name() == *name) {
            return isolator.note();
        }
        let missing = missing.iter().find(|note| note.isolator == *name).cloned();
        missing.unwrap_or_else(|| EnforcementNote {
            isolator: name,
            text: "switched off by --isolation".into(),
            enforced: false,
        })
    };
    ISOLATORS.iter().map(note).collect()
}

/// It names directories, and everything below it is ours to destroy.
fn check_cgroup_root(root: &str) -> Result<(), Error> {
    let name = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@' | b':');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
    };
    if root.split('/').all(name) {
        Ok(())
    } else {
        Err(Error::CgroupRoot(root.to_owned()))
    }
}

fn system(attempted: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::System {
        attempted: attempted.into(),
        source,
    }
}

fn cgroup_error(error: cgroups::Error) -> Error {
    match error {
        cgroups::Error::Missing { what, reason } => Error::Unenforceable { isolator: what, reason },
        error => Error::Isolation(error.into()),
    }
}

fn isolator_error(error: isolators::Error) -> Error {
    Error::Isolation(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_root_stays_in_its_tree() {
        for good in ["proffer/agent-5051", "a", "system.slice/proffer@1.service/containers"] {
            assert!(check_cgroup_root(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a b"] {
            assert!(matches!(check_cgroup_root(bad), Err(Error::CgroupRoot(_))), "{bad}");
        }
    }
}

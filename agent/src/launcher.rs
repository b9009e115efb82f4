//! Carries out the launch of one task (user, sandbox, artifacts, container) and lets go of those that ended.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as threads};
use std::time::Duration;

use proffer_proto::v1;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::causes::with_causes;
use crate::checkpoint::layout::{BadId, Layout, SHARED};
use crate::config::Config;
use crate::containerizer::User;
use crate::containerizer::{self, ContainerId, ContainerSpec, Containerizer, Resources};
use crate::core::{ExecutorOrder, FailureKind, Input, LaunchFailure, LaunchOrder, Part, ResizeOrder, Start};
use crate::disk::{Disk, Limit};
use crate::driver::Event;
use crate::fetcher::{self, Fetcher};
use crate::persistent::Persistent;
use crate::sandbox::{self, files, keep};
use crate::{confinement, faults, spec, users, volumes};

/// Where executors reach the agent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endpoint {
    /// `ip:port`.
    pub(crate) address: String,
    /// The unix socket, where there is one.
    pub(crate) socket: Option<PathBuf>,
}

/// How long an executor waits at most before it subscribes again.
const SUBSCRIPTION_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What every launch needs.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) config: Arc<Config>,
    pub(crate) layout: Layout,
    pub(crate) containerizer: Containerizer,
    pub(crate) disk: Disk,
    /// Held while a pod's directories are made.
    pub(crate) pods: Mutex<()>,
    pub(crate) persistent: Persistent,
    /// What executors are told.
    pub(crate) endpoint: Endpoint,
    /// Bounds the launches that run at once: more than a few a processor only slow each other down.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) fetcher: Fetcher,
    /// Those whose artifacts are being fetched.
    pub(crate) preparing: Mutex<HashMap<ContainerId, watch::Sender<bool>>>,
}

impl Launcher {
    /// Prepares a container, starts its program when the gate opens, and tells the driver. Must be called on the runtime.
    pub(crate) fn launch(
        self: Arc<Self>,
        order: Box<LaunchOrder>,
        gate: oneshot::Receiver<()>,
        events: mpsc::Sender<Event>,
    ) {
        match &order.task.command {
            Some(command) if !command.uris.is_empty() => self.fetch(order, gate, events),
            _ => self.start(order, None, gate, events),
        }
    }

    /// Nobody waits for this container any more: what prepares it may stop.
    pub(crate) fn abandon(&self, container: &ContainerId) {
        if let Some(cancel) = self.preparing().get(container) {
            cancel.send_replace(true);
        }
    }

    /// The agent stops.
    pub(crate) fn abandon_all(&self) {
        for cancel in self.preparing().values() {
            cancel.send_replace(true);
        }
    }

    fn preparing(&self) -> MutexGuard<'_, HashMap<ContainerId, watch::Sender<bool>>> {
        self.preparing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches the artifacts first, on a thread of their own: a slow server holds nobody else up.
    fn fetch(self: Arc<Self>, order: Box<LaunchOrder>, gate: oneshot::Receiver<()>, events: mpsc::Sender<Event>) {
        let (cancel, mut cancelled) = watch::channel(false);
        self.preparing().insert(order.container.clone(), cancel);
        let runtime = Handle::current();
        tokio::spawn(async move {
            let permit = tokio::select! {
                permit = self.fetcher.permits().acquire_owned() => permit.ok(),
                _ = cancelled.wait_for(|cancelled| *cancelled) => None,
            };
            let (container, refused) = (order.container.clone(), events.clone());
            let work = move || {
                let fetched = self.prepare(&order).and_then(|spec| {
                    let uris = order.task.command.as_ref().map_or(&[][..], |command| &command.uris);
                    let task = fetcher::Task {
                        uris,
                        sandbox: &spec.sandbox,
                        user: &spec.user,
                        disk_bytes: spec.resources.disk_bytes,
                        cancelled,
                    };
                    self.fetcher.fetch(&task, &runtime).map_err(failed)?;
                    Ok(spec)
                });
                drop(permit);
                self.preparing().remove(&order.container);
                let _runtime = runtime.enter();
                match fetched {
                    Ok(spec) => self.start(order, Some(spec), gate, events),
                    Err(failure) => {
                        let launched = Input::Launched(order.container, Err(failure));
                        let _ = events.blocking_send(Event::Input(launched));
                    }
                }
            };
            if let Err(error) = std::thread::Builder::new()
                .name("fetch".into())
                .stack_size(1 << 20)
                .spawn(work)
            {
                let failure = failed(format!("no thread can be started to fetch with: {error}"));
                let _ = refused
                    .send(Event::Input(Input::Launched(container, Err(failure))))
                    .await;
            }
        });
    }

    fn start(
        self: Arc<Self>,
        order: Box<LaunchOrder>,
        prepared: Option<ContainerSpec>,
        gate: oneshot::Receiver<()>,
        events: mpsc::Sender<Event>,
    ) {
        let permits = Arc::clone(&self.permits);
        // On one thread from end to end: every change of threads waits for a processor.
        let run = move |permit: OwnedSemaphorePermit| {
            tokio::task::spawn_blocking(move || {
                let launched = self.launch_blocking(&order, prepared, gate);
                drop(permit);
                let _ = events.blocking_send(Event::Input(Input::Launched(order.container, launched)));
            });
        };
        match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => run(permit),
            Err(_all_taken) => {
                tokio::spawn(async move {
                    if let Ok(permit) = permits.acquire_owned().await {
                        run(permit);
                    }
                });
            }
        }
    }

    fn launch_blocking(
        &self,
        order: &LaunchOrder,
        prepared: Option<ContainerSpec>,
        gate: oneshot::Receiver<()>,
    ) -> Result<u32, LaunchFailure> {
        let spec = prepared.map_or_else(|| self.prepare(order), Ok)?;
        match self
            .containerizer
            .launch_blocking(&spec, || gate.blocking_recv().is_ok())
        {
            Ok(launched) => {
                faults::LAUNCHED.pass();
                Ok(launched.pid)
            }
            Err(error) => Err(failed(format!("{} failed: {}", error.stage, error.reason))),
        }
    }

    fn prepare(&self, order: &LaunchOrder) -> Result<ContainerSpec, LaunchFailure> {
        let mut spec = self.describe_order(order)?;
        for mount in &order.volumes {
            let mounted = self.persistent.mount(&self.layout, mount, &spec)?;
            spec.volumes.push(mounted);
        }
        if let Some(executor) = order.executor.as_ref().filter(|executor| executor.start == Start::Task) {
            // Devices are given to the containers in it.
            let sum = Resources {
                devices: BTreeMap::new(),
                ..self.sum(&executor.size.parts).map_err(invalid)?
            };
            let sandbox = spec.shared.as_deref().and_then(Path::parent);
            self.hold_pod(executor, &sum, sandbox, &spec.user)?;
        }
        let custom = matches!(
            order.executor,
            Some(ExecutorOrder {
                start: Start::Executor(_),
                ..
            })
        );
        let bytes_max = if custom { self.disk_bytes_max() } else { 0 };
        let limit = spec.resources.disk_bytes.map(|bytes| Limit {
            bytes,
            bytes_max: bytes.max(bytes_max),
        });
        sandbox::make(&spec.sandbox, &spec.user, &self.disk, limit).map_err(|error| failed(error.to_string()))?;
        Ok(spec)
    }

    /// Looks at a file of a sandbox, by its virtual path.
    pub(crate) fn look<T>(
        &self,
        path: &str,
        look: impl FnOnce(&Layout) -> Result<T, files::Error>,
    ) -> Result<T, files::Error> {
        files::show(&self.layout, &self.disk, path)?;
        look(&self.layout)
    }

    fn describe_order(&self, order: &LaunchOrder) -> Result<ContainerSpec, LaunchFailure> {
        let (container, framework, task) = (&order.container, &order.framework, &order.task);
        match &order.executor {
            Some(ExecutorOrder {
                info,
                start: Start::Executor(token),
                size,
            }) => {
                let sum = self.sum(&size.parts).map_err(invalid)?;
                let more = self.executor_variables(info, token);
                self.describe_as(container, framework, task, Some((&sum, &more)))
            }
            _ => self.describe(container, framework, task, None),
        }
    }

    /// What the container of a task, or of an executor with these parts, is made from; nothing is made.
    pub(crate) fn describe(
        &self,
        container: &ContainerId,
        framework: &v1::FrameworkInfo,
        task: &v1::TaskInfo,
        parts: Option<&[Part]>,
    ) -> Result<ContainerSpec, LaunchFailure> {
        let sum = parts.map(|parts| self.sum(parts)).transpose().map_err(invalid)?;
        self.describe_as(container, framework, task, sum.as_ref().map(|sum| (sum, &[][..])))
    }

    /// The same, where `executor` is what a custom executor may use and is told.
    fn describe_as(
        &self,
        container: &ContainerId,
        framework: &v1::FrameworkInfo,
        task: &v1::TaskInfo,
        executor: Option<(&Resources, &[(&'static str, String)])>,
    ) -> Result<ContainerSpec, LaunchFailure> {
        let config = &self.config;
        let named = task.command.as_ref().and_then(|command| command.user.as_deref());
        let named = named.unwrap_or(&framework.user);
        let user = users::find(named, config.default_user.as_deref()).map_err(|error| failed(error.to_string()))?;
        if user.uid == 0 && !config.allow_root_tasks {
            return Err(LaunchFailure {
                kind: FailureKind::Unauthorized,
                message: "user: tasks may not run as root here; name another user, or start the agent with \
                          --allow-root-tasks"
                    .into(),
            });
        }
        let confinement = confinement::of(task, &config.policy)?;
        let volumes = volumes::of(task, &config.policy, container.pod().is_some())?;
        let framework = framework.id.clone().unwrap_or_default().value;
        let path = sandbox_path(&self.layout, &framework, task, container);
        let path = path.map_err(|error| invalid(error.to_string()))?;
        let host = spec::Host {
            hostname: &config.hostname,
            sandbox: &path,
            user: &user,
            user_name: named,
            root_allowed: config.allow_root_tasks,
            confinement: &confinement,
            devices: &config.policy.devices,
            executor_id: task.executor.as_ref().map(|executor| executor.executor_id.as_str()),
            size: executor.map(|(size, _)| size),
            more: executor.map_or(&[], |(_, variables)| variables),
            volumes: &volumes,
        };
        let mut spec = spec::container(container, &framework, task, host).map_err(invalid)?;
        if let (Some(pod), Some(executor)) = (container.pod(), &task.executor) {
            let executor = executor.executor_id.as_str();
            let sandbox = self.layout.sandbox(&framework, executor, pod.as_str());
            spec.shared = sandbox.ok().map(|sandbox| sandbox.join(SHARED));
        }
        Ok(spec)
    }

    /// As much as all of the agent's tasks can have.
    fn disk_bytes_max(&self) -> u64 {
        spec::disk_bytes(&self.config.resources).ok().flatten().unwrap_or(0)
    }

    /// Changes what the container of a custom executor may use.
    fn resize(&self, order: &ResizeOrder) -> Result<(), String> {
        let sum = self.sum(&order.parts)?;
        match self.containerizer.update_blocking(&order.container, &sum) {
            Ok(()) => {}
            Err(containerizer::Error::UnknownContainer(_)) => return Ok(()),
            Err(error) => return Err(with_causes(&error)),
        }
        let (executor, container) = (&order.executor, order.container.as_str());
        let sandbox = self.layout.sandbox(&executor.framework, &executor.executor, container);
        let sandbox = sandbox.map_err(|error| error.to_string())?;
        let bytes = sum.disk_bytes.unwrap_or(spec::EXECUTOR_DISK_BYTES_MIN);
        let resized = self.disk.resize(&sandbox, bytes);
        resized.map_err(|error| format!("disk: {error}"))
    }

    /// What an executor and its tasks may use together.
    fn sum(&self, parts: &[Part]) -> Result<Resources, String> {
        spec::sum(parts, self.config.pids_max, &self.config.policy.devices)
    }

    /// Makes the pod of a task, or lets it hold the task too.
    fn hold_pod(
        &self,
        executor: &ExecutorOrder,
        sum: &Resources,
        sandbox: Option<&Path>,
        user: &User,
    ) -> Result<(), LaunchFailure> {
        let pod = &executor.size.container;
        if let Some(sandbox) = sandbox {
            let bytes = spec::disk_bytes(&executor.info.resources).map_err(invalid)?;
            let _alone = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
            sandbox::make_pod(sandbox, user, &self.disk, bytes.map(Limit::fixed))
                .map_err(|error| failed(error.to_string()))?;
        }
        let held = self.containerizer.hold_pod_blocking(pod, sum);
        held.map_err(|error| failed(format!("the pod cannot be made: {}", with_causes(&error))))
    }

    /// What the Mesos executor API tells executors by their environment.
    fn executor_variables(&self, info: &v1::ExecutorInfo, token: &str) -> Vec<(&'static str, String)> {
        let timeouts = &self.config.executors;
        let grace = info.shutdown_grace_period.map_or(timeouts.shutdown_grace, |grace| {
            Duration::from_nanos(u64::try_from(grace.nanoseconds).unwrap_or(0))
        });
        let mut variables = vec![
            ("MESOS_AGENT_ENDPOINT", self.endpoint.address.clone()),
            ("MESOS_CHECKPOINT", "1".into()),
            ("MESOS_RECOVERY_TIMEOUT", duration(timeouts.recovery)),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", duration(SUBSCRIPTION_BACKOFF_MAX)),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", duration(grace)),
            ("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", token.into()),
        ];
        if let Some(socket) = &self.endpoint.socket {
            variables.push(("MESOS_DOMAIN_SOCKET", socket.display().to_string()));
        }
        variables
    }
}

/// The sandbox of a container, which is within that of its pod where it has one.
pub(crate) fn sandbox_path(
    layout: &Layout,
    framework: &str,
    task: &v1::TaskInfo,
    container: &ContainerId,
) -> Result<PathBuf, BadId> {
    let id = task.task_id.as_str();
    match (container.pod(), &task.executor) {
        (Some(pod), Some(executor)) => layout.task_in_pod(framework, executor.executor_id.as_str(), pod.as_str(), id),
        _ => layout.sandbox(framework, id, container.as_str()),
    }
}

/// As Mesos writes durations.
fn duration(span: Duration) -> String {
    format!("{}ms", span.as_millis())
}

/// Changes what executors' containers may use, one after the other on a thread of its own.
#[derive(Debug)]
pub(crate) struct Resizes(threads::Sender<ResizeOrder>);

impl Resizes {
    /// Starts the thread, which ends with the sender.
    pub(crate) fn start(launcher: Arc<Launcher>) -> Self {
        let (orders, incoming) = threads::channel::<ResizeOrder>();
        tokio::task::spawn_blocking(move || {
            for order in incoming {
                if let Err(error) = launcher.resize(&order) {
                    tracing::warn!(container_id = %order.container, error, "an executor's limits cannot be changed");
                }
            }
        });
        Self(orders)
    }

    /// Adds one.
    pub(crate) fn push(&self, order: ResizeOrder) {
        let _ = self.0.send(order);
    }
}

/// What is let go of.
#[derive(Debug)]
pub(crate) enum Ended {
    Container(ContainerId),
    /// After the containers in it.
    Pod(ContainerId),
}

/// Lets go of containers that ended, one at a time on a thread of its own: nobody waits for it.
#[derive(Debug)]
pub(crate) struct Releases {
    ended: threads::Sender<(Ended, Option<PathBuf>)>,
    /// Closed when the thread has ended.
    done: oneshot::Receiver<()>,
}

impl Releases {
    /// Starts the thread.
    pub(crate) fn start(launcher: Arc<Launcher>) -> Self {
        let (ended, incoming) = threads::channel();
        let (end, done) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let _end: oneshot::Sender<()> = end;
            for (ended, sandbox) in incoming {
                release(&launcher, &ended, sandbox);
            }
        });
        Self { ended, done }
    }

    /// Adds one, with the sandbox whose age counts from now.
    pub(crate) fn push(&self, ended: Ended, sandbox: Option<PathBuf>) {
        let _ = self.ended.send((ended, sandbox));
    }

    /// Returns when all are let go.
    pub(crate) async fn finish(self) {
        drop(self.ended);
        let _ = self.done.await;
    }
}

fn release(launcher: &Launcher, ended: &Ended, sandbox: Option<PathBuf>) {
    let (container, result) = match ended {
        Ended::Container(container) => (container, launcher.containerizer.forget_blocking(container)),
        Ended::Pod(pod) => (pod, launcher.containerizer.forget_pod_blocking(pod)),
    };
    if let Err(error) = result {
        tracing::warn!(container_id = %container, %error, "the container's traces cannot be removed");
    }
    if let Some(sandbox) = sandbox {
        match ended {
            Ended::Container(_) => launcher.disk.ended(&sandbox),
            Ended::Pod(_) => launcher.disk.ended(&sandbox.join(SHARED)),
        }
        keep::ended(&sandbox);
    }
}

fn failed(message: String) -> LaunchFailure {
    LaunchFailure {
        kind: FailureKind::Failed,
        message,
    }
}

fn invalid(message: String) -> LaunchFailure {
    LaunchFailure {
        kind: FailureKind::Invalid,
        message,
    }
}

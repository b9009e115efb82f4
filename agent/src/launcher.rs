//! Carries out the launch of one task (user, sandbox, artifacts, container) and lets go of those that ended.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as threads};

use proffer_proto::v1;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::checkpoint::layout::Layout;
use crate::config::Config;
use crate::containerizer::{ContainerId, ContainerSpec, Containerizer};
use crate::core::{FailureKind, Input, LaunchFailure, LaunchOrder};
use crate::disk::Disk;
use crate::driver::Event;
use crate::fetcher::{self, Fetcher};
use crate::sandbox::{self, files, keep};
use crate::{confinement, faults, spec, users};

/// What every launch needs.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) config: Arc<Config>,
    pub(crate) layout: Layout,
    pub(crate) containerizer: Containerizer,
    pub(crate) disk: Disk,
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
        let spec = self.describe(&order.container, &order.framework, &order.task)?;
        sandbox::make(&spec.sandbox, &spec.user, &self.disk, spec.resources.disk_bytes)
            .map_err(|error| failed(error.to_string()))?;
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

    /// What the container of a task is made from; nothing is made.
    pub(crate) fn describe(
        &self,
        container: &ContainerId,
        framework: &v1::FrameworkInfo,
        task: &v1::TaskInfo,
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
        let framework = framework.id.clone().unwrap_or_default().value;
        let path = self.layout.sandbox(&framework, &task.task_id.value, container.as_str());
        let path = path.map_err(|error| invalid(error.to_string()))?;
        let host = spec::Host {
            hostname: &config.hostname,
            sandbox: &path,
            user: &user,
            user_name: named,
            root_allowed: config.allow_root_tasks,
            confinement: &confinement,
            devices: &config.policy.devices,
        };
        spec::container(container, &framework, task, host).map_err(invalid)
    }
}

/// Lets go of containers that ended, one at a time on a thread of its own: nobody waits for it.
#[derive(Debug)]
pub(crate) struct Releases {
    ended: threads::Sender<(ContainerId, Option<PathBuf>)>,
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
            for (container, sandbox) in incoming {
                release(&launcher, &container, sandbox);
            }
        });
        Self { ended, done }
    }

    /// Adds a container, with the sandbox whose age counts from now.
    pub(crate) fn push(&self, container: ContainerId, sandbox: Option<PathBuf>) {
        let _ = self.ended.send((container, sandbox));
    }

    /// Returns when all are let go.
    pub(crate) async fn finish(self) {
        drop(self.ended);
        let _ = self.done.await;
    }
}

fn release(launcher: &Launcher, container: &ContainerId, sandbox: Option<PathBuf>) {
    if let Err(error) = launcher.containerizer.forget_blocking(container) {
        tracing::warn!(container_id = %container, %error, "the container's traces cannot be removed");
    }
    if let Some(sandbox) = sandbox {
        launcher.disk.ended(&sandbox);
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

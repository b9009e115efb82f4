//! Carries out the launch of one task (user, sandbox, artifacts, container) and lets go of those that ended.

use std::path::PathBuf;
use std::sync::{Arc, mpsc as threads};

use proffer_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::checkpoint::layout::Layout;
use crate::config::Config;
use crate::containerizer::{ContainerId, ContainerSpec, Containerizer};
use crate::core::{FailureKind, Input, LaunchFailure, LaunchOrder};
use crate::driver::Event;
use crate::sandbox::{self, fetch, keep};
use crate::{confinement, faults, spec, users};

/// What every launch needs.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) config: Arc<Config>,
    pub(crate) layout: Layout,
    pub(crate) containerizer: Containerizer,
    /// Bounds the launches that run at once: more than a few a processor only slow each other down.
    pub(crate) permits: Arc<Semaphore>,
}

impl Launcher {
    /// Prepares a container, starts its program when the gate opens, and tells the driver. Must be called on the runtime.
    pub(crate) fn launch(
        self: Arc<Self>,
        order: Box<LaunchOrder>,
        gate: oneshot::Receiver<()>,
        events: mpsc::Sender<Event>,
    ) {
        let permits = Arc::clone(&self.permits);
        // On one thread from end to end: every change of threads waits for a processor.
        let run = move |permit: OwnedSemaphorePermit| {
            tokio::task::spawn_blocking(move || {
                let launched = self.launch_blocking(&order, gate);
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

    fn launch_blocking(&self, order: &LaunchOrder, gate: oneshot::Receiver<()>) -> Result<u32, LaunchFailure> {
        let spec = self.prepare(order)?;
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
        sandbox::make(&spec.sandbox, &spec.user).map_err(|error| failed(error.to_string()))?;
        for uri in order.task.command.iter().flat_map(|command| &command.uris) {
            fetch::copy(uri, &spec.sandbox, &spec.user).map_err(failed)?;
        }
        Ok(spec)
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

//! Carries out the launch of one task: user, sandbox, artifacts, container.

use std::sync::Arc;

use crate::checkpoint::layout::Layout;
use crate::config::Config;
use crate::containerizer::{ContainerSpec, Containerizer};
use crate::core::{FailureKind, LaunchFailure, LaunchOrder};
use crate::sandbox::{self, fetch};
use crate::{spec, users};

/// What every launch needs.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) config: Arc<Config>,
    pub(crate) layout: Layout,
    pub(crate) containerizer: Containerizer,
    /// Bounds the launches that run at once: more than a few a processor only slow each other down.
    pub(crate) permits: tokio::sync::Semaphore,
}

impl Launcher {
    /// Starts the container; returns its main process.
    pub(crate) async fn launch(self: Arc<Self>, order: Box<LaunchOrder>) -> Result<u32, LaunchFailure> {
        let _permit = self.permits.acquire().await;
        let this = Arc::clone(&self);
        // On one thread from end to end: every change of threads waits for a processor.
        let launched = tokio::task::spawn_blocking(move || this.launch_blocking(&order)).await;
        launched.unwrap_or_else(|error| Err(failed(format!("launching failed: {error}"))))
    }

    fn launch_blocking(&self, order: &LaunchOrder) -> Result<u32, LaunchFailure> {
        let spec = self.prepare(order)?;
        match self.containerizer.launch_blocking(&spec) {
            Ok(launched) => Ok(launched.pid),
            Err(error) => Err(failed(format!("{} failed: {}", error.stage, error.reason))),
        }
    }

    fn prepare(&self, order: &LaunchOrder) -> Result<ContainerSpec, LaunchFailure> {
        let (task, config) = (&order.task, &self.config);
        let named = task.command.as_ref().and_then(|command| command.user.as_deref());
        let named = named.unwrap_or(&order.framework.user);
        let user = users::find(named, config.default_user.as_deref()).map_err(|error| failed(error.to_string()))?;
        if user.uid == 0 && !config.allow_root_tasks {
            return Err(LaunchFailure {
                kind: FailureKind::Unauthorized,
                message: "user: tasks may not run as root here; name another user, or start the agent with \
                          --allow-root-tasks"
                    .into(),
            });
        }
        let framework = order.framework.id.clone().unwrap_or_default().value;
        let path = self
            .layout
            .sandbox(&framework, &task.task_id.value, order.container.as_str());
        let path = path.map_err(|error| invalid(error.to_string()))?;
        let host = spec::Host {
            hostname: &config.hostname,
            sandbox: &path,
            user: &user,
            user_name: named,
            root_allowed: config.allow_root_tasks,
        };
        let spec = spec::container(&order.container, &framework, task, host).map_err(invalid)?;
        sandbox::make(&path, &user).map_err(|error| failed(error.to_string()))?;
        for uri in task.command.iter().flat_map(|command| &command.uris) {
            fetch::copy(uri, &path, &user).map_err(failed)?;
        }
        Ok(spec)
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

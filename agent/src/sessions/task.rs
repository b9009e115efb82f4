//! The standard input of tasks that were launched with a terminal or with `stdin`.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tonic::Status;

use super::channel::Channel;
use super::input::{Input, Reader};
use crate::containerizer::{Console, ContainerId, Containerizer, WindowSize};

type Slot = tokio::sync::Mutex<Option<Channel>>;

/// Who is attached to which task's input.
#[derive(Debug, Default)]
pub(crate) struct TaskInputs {
    slots: Mutex<HashMap<ContainerId, Weak<Slot>>>,
}

impl TaskInputs {
    /// Begins to feed a task.
    pub(crate) fn feed(&self, containerizer: &Containerizer, container: &ContainerId) -> Result<Input, Status> {
        let gone = |error: crate::containerizer::Error| Status::not_found(format!("container_id: {error}"));
        let console = containerizer.console(container).map_err(gone)?;
        let console = console.ok_or_else(|| {
            Status::failed_precondition(
                "container_id: has no input to attach to; a task has one when `container.tty_info` or `container.stdin` is set",
            )
        })?;
        let failed = |error: io::Error| Status::internal(format!("the task's input: {error}"));
        let channel = Channel::new(console.input.try_clone().map_err(failed)?).map_err(failed)?;
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.retain(|_, slot| slot.strong_count() > 0);
            if slots.contains_key(container) {
                return Err(Status::aborted("container_id: somebody else is attached to its input"));
            }
            let slot = Arc::new(Slot::new(Some(channel)));
            slots.insert(container.clone(), Arc::downgrade(&slot));
            slot
        };
        let task = TaskInput {
            terminal: console.terminal,
            console: Mutex::new(Some(console)),
            containerizer: containerizer.clone(),
            container: container.clone(),
        };
        Input::new(Reader::Task(task), slot)
    }
}

/// A task that is fed.
#[derive(Debug)]
pub(super) struct TaskInput {
    pub(super) terminal: bool,
    console: Mutex<Option<Console>>,
    containerizer: Containerizer,
    container: ContainerId,
}

impl TaskInput {
    pub(super) async fn ended(&self) {
        let _ = self.containerizer.wait(&self.container).await;
    }

    pub(super) fn resize(&self, size: WindowSize) -> io::Result<()> {
        let console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        console.as_ref().map_or(Ok(()), |console| console.resize(size))
    }

    /// The supervisor closes its end; ours is closed before.
    pub(super) fn end(&self) {
        drop(self.console.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Err(error) = self.containerizer.end_input(&self.container) {
            tracing::debug!(container_id = %self.container, %error, "the input cannot be ended");
        }
    }
}

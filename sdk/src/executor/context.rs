//! What the handlers of an executor may do.

use std::time::SystemTime;

use proffer_proto::v1::executor::event::Subscribed;
use proffer_proto::v1::{ExecutorId, FrameworkId, TaskId, TaskInfo, TaskState, TaskStatus, task_status};

use super::options::Options;
use super::outbound::Outbound;
use crate::scheduler::Sender;

/// What a handler may do: it queues updates, which are sent when the handler has returned and kept until they are acknowledged.
#[derive(Debug)]
pub struct Context<M> {
    executor_id: ExecutorId,
    framework_id: FrameworkId,
    pub(super) subscribed: Option<Subscribed>,
    pub(super) connected: bool,
    pub(super) outbound: Outbound,
    pub(super) stopping: bool,
    sender: Sender<M>,
}

impl<M> Context<M> {
    pub(super) fn new(options: &Options, sender: Sender<M>) -> Self {
        Context {
            executor_id: options.executor_id.clone(),
            framework_id: options.framework_id.clone(),
            subscribed: None,
            connected: false,
            outbound: Outbound::default(),
            stopping: false,
            sender,
        }
    }

    /// The executor's id.
    pub fn executor_id(&self) -> &ExecutorId {
        &self.executor_id
    }

    /// The framework's id.
    pub fn framework_id(&self) -> &FrameworkId {
        &self.framework_id
    }

    /// What the agent said of executor, framework and itself, once it has.
    pub fn subscribed(&self) -> Option<&Subscribed> {
        self.subscribed.as_ref()
    }

    /// Whether there is a subscription now.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The tasks that have not ended.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskInfo> {
        self.outbound.tasks()
    }

    /// A task that has not ended.
    pub fn task(&self, task_id: &TaskId) -> Option<&TaskInfo> {
        self.outbound.task(task_id)
    }

    /// Reaches the executor's own [`Executor::message`](super::Executor::message) from elsewhere.
    pub fn sender(&self) -> Sender<M> {
        self.sender.clone()
    }

    /// A status of this executor, to be completed and given to [`Context::update`].
    pub fn status(&self, task_id: &TaskId, state: TaskState) -> TaskStatus {
        TaskStatus {
            task_id: task_id.clone(),
            state: state.into(),
            executor_id: Some(self.executor_id.clone()),
            source: Some(task_status::Source::Executor.into()),
            ..Default::default()
        }
    }

    /// Says what becomes of a task; its identity and time are filled in. Of a task that has ended, or was never given to the
    /// executor, there is nothing to say: that is passed over, with a warning.
    pub fn update(&mut self, mut status: TaskStatus) {
        status.uuid = Some(uuid::Uuid::new_v4().as_bytes().to_vec());
        status.timestamp.get_or_insert_with(|| {
            let now = SystemTime::UNIX_EPOCH.elapsed();
            now.map_or(0.0, |now| now.as_secs_f64())
        });
        let (task_id, state) = (status.task_id.clone(), status.state());
        if !self.outbound.update(status) {
            let state = state.as_str_name();
            tracing::warn!(task_id = task_id.value, state, "an update of a task that is not here");
        }
    }

    /// The task runs.
    pub fn running(&mut self, task_id: &TaskId) {
        self.update(self.status(task_id, TaskState::TaskRunning));
    }

    /// The task has ended well.
    pub fn finished(&mut self, task_id: &TaskId) {
        self.update(self.status(task_id, TaskState::TaskFinished));
    }

    /// The task has ended badly.
    pub fn failed(&mut self, task_id: &TaskId, message: impl Into<String>) {
        self.update(TaskStatus {
            message: Some(message.into()),
            ..self.status(task_id, TaskState::TaskFailed)
        });
    }

    /// The task was ended as asked.
    pub fn killed(&mut self, task_id: &TaskId) {
        self.update(self.status(task_id, TaskState::TaskKilled));
    }

    /// Sends data to the framework, at most once.
    pub fn message(&mut self, data: impl Into<Vec<u8>>) {
        self.outbound.message(data.into());
    }

    /// Ends the run once every update is acknowledged.
    pub fn stop(&mut self) {
        self.stopping = true;
    }
}

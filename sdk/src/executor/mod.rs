//! Writes custom executors: programs that run tasks of a framework in their own way, within one container.
//!
//! [`run`] runs an [`Executor`]. It subscribes with the agent that started it, by what the environment says, again after a
//! break or a restart of the agent, keeps every update until it is acknowledged, and is given no task twice. An agent that does
//! not come back within the recovery timeout ends the run, as the agent would end the executor.
//!
//! Tasks name their executor by an `ExecutorInfo`: the agent starts it with the first of them.
//!
//! # A complete executor
//!
//! It counts the letters of its tasks' `data`, and tells the framework by the `data` of their last updates.
//!
//! ```no_run
//! use proffer_sdk::executor::{Context, Executor, Options, run};
//! use proffer_sdk::proto::v1::{KillPolicy, TaskId, TaskInfo, TaskState, TaskStatus};
//!
//! struct Counter;
//!
//! impl Executor for Counter {
//!     type Message = (TaskId, usize);
//!
//!     async fn launch(&mut self, context: &mut Context<Self::Message>, task: TaskInfo) {
//!         context.running(&task.task_id);
//!         let sender = context.sender();
//!         std::thread::spawn(move || {
//!             let letters = String::from_utf8_lossy(task.data()).chars().count();
//!             sender.send((task.task_id, letters))
//!         });
//!     }
//!
//!     async fn message(&mut self, context: &mut Context<Self::Message>, (task_id, letters): Self::Message) {
//!         context.update(TaskStatus {
//!             data: Some(letters.to_string().into()),
//!             ..context.status(&task_id, TaskState::TaskFinished)
//!         });
//!     }
//!
//!     async fn kill(&mut self, context: &mut Context<Self::Message>, task_id: TaskId, _: Option<KillPolicy>) {
//!         context.killed(&task_id);
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     run(Counter, Options::from_environment()?).await?;
//!     Ok(())
//! }
//! ```

mod connection;
mod context;
mod driver;
mod options;
mod outbound;

use proffer_proto::v1::executor::event::Subscribed;
use proffer_proto::v1::{KillPolicy, TaskId, TaskInfo};

pub use context::Context;
pub use driver::{RunError, run};
pub use options::{BadEnvironment, Options};

/// What runs a framework's tasks. Its methods are called one after the other by [`run`].
///
/// While a method runs no other is called, so the tasks themselves belong into threads, tasks of the runtime or processes: what
/// becomes of them comes back through [`Context::sender`] to [`Executor::message`].
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use proffer_proto::v1::{KillPolicy, TaskId, TaskInfo, TaskState};
/// use proffer_sdk::executor::{Context, Executor, run};
/// use proffer_sdk::testing::FakeAgent;
///
/// struct Done;
///
/// impl Executor for Done {
///     type Message = ();
///
///     async fn launch(&mut self, context: &mut Context<()>, task: TaskInfo) {
///         context.finished(&task.task_id);
///     }
///
///     async fn kill(&mut self, context: &mut Context<()>, task_id: TaskId, _: Option<KillPolicy>) {
///         context.killed(&task_id);
///     }
/// }
///
/// let mut agent = FakeAgent::start().await;
/// let running = tokio::spawn(run(Done, agent.options()));
/// agent.subscribed().await;
/// agent.launch(TaskInfo { task_id: "t1".into(), ..Default::default() });
/// let status = agent.update().await;
/// assert_eq!(status.state(), TaskState::TaskFinished);
/// agent.acknowledge(&status);
/// agent.shut_down();
/// running.await.unwrap().unwrap();
/// # });
/// ```
#[allow(unused_variables)]
pub trait Executor: Send {
    /// What the executor sends to itself; `()` where it sends nothing.
    type Message: Send + 'static;

    /// The first subscription of this process succeeded.
    fn registered(
        &mut self,
        context: &mut Context<Self::Message>,
        subscribed: &Subscribed,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// A further one succeeded. What was not acknowledged has been told to the agent.
    fn reregistered(&mut self, context: &mut Context<Self::Message>) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// A task is to be run. Whoever can say no more of it than that it ended says so by [`Context::update`].
    fn launch(&mut self, context: &mut Context<Self::Message>, task: TaskInfo) -> impl Future<Output = ()> + Send;

    /// The tasks of a group are to be run; one after the other where the executor does not say otherwise.
    fn launch_group(
        &mut self,
        context: &mut Context<Self::Message>,
        tasks: Vec<TaskInfo>,
    ) -> impl Future<Output = ()> + Send {
        async move {
            for task in tasks {
                self.launch(context, task).await;
            }
        }
    }

    /// A task that has not ended is to end, within the grace period of the policy. May be asked again.
    fn kill(
        &mut self,
        context: &mut Context<Self::Message>,
        task_id: TaskId,
        policy: Option<KillPolicy>,
    ) -> impl Future<Output = ()> + Send;

    /// The framework sent data.
    fn framework_message(
        &mut self,
        context: &mut Context<Self::Message>,
        data: Vec<u8>,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The executor sent this to itself.
    fn message(
        &mut self,
        context: &mut Context<Self::Message>,
        message: Self::Message,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The executor is to end, within [`Options::shutdown_grace`]: it ends its tasks and calls [`Context::stop`]. By default they
    /// are reported as killed at once, which suits tasks that end with the process.
    fn shutdown(&mut self, context: &mut Context<Self::Message>) -> impl Future<Output = ()> + Send {
        async move {
            let tasks: Vec<TaskId> = context.tasks().map(|task| task.task_id.clone()).collect();
            for task_id in tasks {
                context.killed(&task_id);
            }
            context.stop();
        }
    }

    /// The subscription broke; the driver subscribes again already.
    fn disconnected(&mut self, context: &mut Context<Self::Message>) -> impl Future<Output = ()> + Send {
        async {}
    }
}

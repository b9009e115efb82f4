//! Runs an [`Executor`]: keeps it subscribed, and says again what was not acknowledged.
//!
//! One task owns the executor and calls its handlers one after the other. What is to be said is sent in order by a lane, which
//! ends with its subscription; the next SUBSCRIBE holds what was not acknowledged.

use std::ops::ControlFlow;
use std::time::Duration;

use proffer_proto::v1::executor::{Call, Event, call};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Executor;
use super::connection::{Calls, Events, Failure, subscribe};
use super::context::Context;
use super::options::Options;
use crate::backoff::Backoff;
use crate::scheduler::Sender;

/// The first wait before another attempt to subscribe.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// How long the messages that are still queued may take when a run ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a run ended without being asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The agent does not know the executor, or not any more.
    #[error("the agent refuses the executor: {0}")]
    Refused(String),
    /// There was no agent for longer than the recovery timeout.
    #[error("the agent did not come back in time: {0}")]
    AgentLost(String),
    /// The agent ended the subscription for good.
    #[error("the agent ended the executor's subscription: {0}")]
    Ended(String),
}

/// Runs an executor until it is shut down or stops itself, and gives it back.
///
/// ```no_run
/// # async fn example(executor: impl proffer_sdk::executor::Executor) -> anyhow::Result<()> {
/// use proffer_sdk::executor::{Options, run};
///
/// let executor = run(executor, Options::from_environment()?).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// The agent refuses the executor, ended its subscription for good, or did not come back.
pub async fn run<E: Executor>(executor: E, options: Options) -> Result<E, RunError> {
    let (sender, messages) = mpsc::unbounded_channel();
    let driver = Driver {
        context: Context::new(&options, Sender::new(sender)),
        executor,
        options,
        messages,
        stop_by: None,
        is_shut_down: false,
    };
    driver.run().await
}

struct Driver<E: Executor> {
    executor: E,
    context: Context<E::Message>,
    options: Options,
    messages: mpsc::UnboundedReceiver<E::Message>,
    /// When the run ends whether or not everything was acknowledged.
    stop_by: Option<Instant>,
    is_shut_down: bool,
}

impl<E: Executor> Driver<E> {
    async fn run(mut self) -> Result<E, RunError> {
        let mut was_registered = false;
        loop {
            let Some((mut events, calls)) = self.subscribe(&mut was_registered).await? else {
                return Ok(self.executor);
            };
            let ended = self.serve(&mut events, &calls).await?;
            self.context.connected = false;
            let ControlFlow::Continue(reason) = ended else {
                return Ok(self.executor);
            };
            tracing::warn!(reason, "the subscription ended, subscribing again");
            self.executor.disconnected(&mut self.context).await;
        }
    }

    /// Subscribes, as often as it takes; the executor's own messages go on meanwhile. `None`: it wants to stop.
    async fn subscribe(&mut self, was_registered: &mut bool) -> Result<Option<(Events, Calls)>, RunError> {
        let lost_at = Instant::now() + self.options.recovery_timeout;
        let mut backoff = Backoff::new(BACKOFF_MIN, self.options.subscription_backoff_max);
        let mut why = String::from("no connection");
        loop {
            let said = self.context.outbound.subscribe();
            let options = self.options.clone();
            let attempt = subscribe(&options, said);
            tokio::pin!(attempt);
            let outcome = loop {
                if self.is_over() {
                    return Ok(None);
                }
                let stop_by = self.stop_by.unwrap_or(lost_at);
                tokio::select! {
                    outcome = &mut attempt => break outcome,
                    Some(message) = self.messages.recv() => self.message(message).await,
                    () = tokio::time::sleep_until(stop_by) => {}
                    () = tokio::time::sleep_until(lost_at) => return Err(self.lost(why).await),
                }
            };
            match outcome {
                Ok((subscribed, events, calls)) => {
                    tracing::info!(executor_id = self.options.executor_id.value, "subscribed");
                    self.context.connected = true;
                    self.context.subscribed = Some(subscribed.clone());
                    match std::mem::replace(was_registered, true) {
                        true => self.executor.reregistered(&mut self.context).await,
                        false => self.executor.registered(&mut self.context, &subscribed).await,
                    }
                    return Ok(Some((events, calls)));
                }
                Err(Failure::Refused(reason)) => return Err(RunError::Refused(reason)),
                Err(Failure::Away(reason)) => why = reason,
            }
            tracing::debug!(why, "cannot subscribe");
            let again_at = (Instant::now() + backoff.next_delay()).min(lost_at);
            while Instant::now() < again_at && !self.is_over() {
                let wake_at = self.stop_by.map_or(again_at, |stop_by| stop_by.min(again_at));
                tokio::select! {
                    Some(message) = self.messages.recv() => self.message(message).await,
                    () = tokio::time::sleep_until(wake_at) => {}
                }
            }
            if Instant::now() >= lost_at {
                return Err(self.lost(why).await);
            }
        }
    }

    /// The agent would end the executor now.
    async fn lost(&mut self, why: String) -> RunError {
        tracing::error!(why, "the agent did not come back in time");
        self.executor.shutdown(&mut self.context).await;
        RunError::AgentLost(why)
    }

    /// Serves one subscription until it breaks, which is told, or the run is over.
    async fn serve(&mut self, events: &mut Events, calls: &Calls) -> Result<ControlFlow<(), String>, RunError> {
        let (lane, mut failures, mut sending) = lane(calls.clone());
        loop {
            self.send_queued(calls, &lane);
            if self.is_over() {
                drop(lane);
                let sent = async { while sending.join_next().await.is_some() {} };
                let _ = tokio::time::timeout(FAREWELL, sent).await;
                return Ok(ControlFlow::Break(()));
            }
            // Where there is no deadline it is as if there were one in an hour.
            let stop_by = self
                .stop_by
                .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                event = events.next() => match event {
                    Ok(event) => self.event(event).await?,
                    Err(Failure::Refused(reason) | Failure::Away(reason)) => return Ok(ControlFlow::Continue(reason)),
                },
                Some((call, failure)) = failures.recv() => match failure {
                    Failure::Refused(reason) => self.refused(&call, &reason),
                    Failure::Away(reason) => return Ok(ControlFlow::Continue(reason)),
                },
                Some(message) = self.messages.recv() => self.message(message).await,
                () = tokio::time::sleep_until(stop_by) => {}
            }
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), RunError> {
        use proffer_proto::v1::executor::event::Type;
        let (executor, context) = (&mut self.executor, &mut self.context);
        if let Some(launch) = event.launch {
            if context.outbound.add(&launch.task) {
                executor.launch(context, launch.task).await;
            }
        } else if let Some(launch) = event.launch_group {
            let mut tasks = launch.task_group.tasks;
            tasks.retain(|task| context.outbound.add(task));
            if !tasks.is_empty() {
                executor.launch_group(context, tasks).await;
            }
        } else if let Some(kill) = event.kill {
            // One that has ended says so by its last update.
            if context.task(&kill.task_id).is_some() {
                executor.kill(context, kill.task_id, kill.kill_policy).await;
            }
        } else if let Some(acknowledged) = event.acknowledged {
            context.outbound.acknowledged(&acknowledged.task_id, &acknowledged.uuid);
        } else if let Some(message) = event.message {
            executor.framework_message(context, message.data).await;
        } else if let Some(error) = event.error {
            return Err(RunError::Ended(error.message));
        } else if event.r#type() == Type::Shutdown && !std::mem::replace(&mut self.is_shut_down, true) {
            self.stop_within(self.options.shutdown_grace);
            self.executor.shutdown(&mut self.context).await;
        }
        self.note_stop();
        Ok(())
    }

    async fn message(&mut self, message: E::Message) {
        self.executor.message(&mut self.context, message).await;
        self.note_stop();
    }

    /// An update that the agent never takes is not sent again.
    fn refused(&mut self, call: &Call, reason: &str) {
        tracing::error!(kind = ?call.r#type(), reason, "the agent refuses a call");
        if let Some(update) = &call.update {
            let uuid = update.status.uuid.as_deref().unwrap_or_default();
            self.context.outbound.acknowledged(&update.status.task_id, uuid);
        }
    }

    fn send_queued(&mut self, calls: &Calls, lane: &mpsc::UnboundedSender<Call>) {
        for status in self.context.outbound.unsent_updates() {
            let update = Some(call::Update { status });
            // A lane that is gone has told why.
            let _ = lane.send(Call {
                update,
                ..calls.call(call::Type::Update)
            });
        }
        for data in self.context.outbound.unsent_messages() {
            let message = Some(call::Message { data });
            let _ = lane.send(Call {
                message,
                ..calls.call(call::Type::Message)
            });
        }
    }

    fn note_stop(&mut self) {
        if self.context.stopping {
            self.stop_within(self.options.recovery_timeout);
        }
    }

    fn stop_within(&mut self, span: Duration) {
        let at = Instant::now() + span;
        self.stop_by = Some(self.stop_by.map_or(at, |earlier| earlier.min(at)));
    }

    fn is_over(&self) -> bool {
        let settled = self.context.stopping && self.context.outbound.is_settled();
        settled || self.stop_by.is_some_and(|at| at <= Instant::now())
    }
}

/// Makes calls one after the other until one fails for want of an agent. Ends with the last part.
fn lane(
    calls: Calls,
) -> (
    mpsc::UnboundedSender<Call>,
    mpsc::UnboundedReceiver<(Call, Failure)>,
    tokio::task::JoinSet<()>,
) {
    let (sender, mut queue) = mpsc::unbounded_channel::<Call>();
    let (failed, failures) = mpsc::unbounded_channel();
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move {
        while let Some(call) = queue.recv().await {
            if let Err(failure) = calls.submit(call.clone()).await {
                let is_away = matches!(failure, Failure::Away(_));
                if failed.send((call, failure)).is_err() || is_away {
                    return;
                }
            }
        }
    });
    (sender, failures, task)
}

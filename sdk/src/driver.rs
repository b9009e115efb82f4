//! Runs a [`Scheduler`]: keeps it subscribed, and does for it everything that is the same for every framework.
//!
//! One task owns the scheduler and calls its handlers one after the other. What a handler queued is sent in order by a
//! lane of its own; acknowledgements have another, so that a flood of updates does not hold up launches. Both lanes end
//! with their subscription: what was not answered then is settled by reconciliation.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use proffer_proto::v1::scheduler::{Call, Event, call};
use proffer_proto::v1::{OperationStatus, TaskState, TaskStatus, task_status};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::backoff::Backoff;
use crate::calls::{CallError, Calls, build};
use crate::connection::{Connector, Disconnected, Events, SubscribeRejected, is_heartbeat};
use crate::lanes::Lanes;
use crate::offers::accepts;
use crate::reconcile::Reconciler;
use crate::scheduler::{Context, Ending, Offers, Options, Outbox, Scheduler, Sender, filters, outlives_subscription};
use crate::tasks::launched;

/// How long the calls that are still queued may take when a run ends.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a run ended without being asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The master refuses the subscription.
    #[error(transparent)]
    Rejected(#[from] SubscribeRejected),
    /// The master ended the subscription for good, for example because another process took over.
    #[error("the master ended the framework's subscription: {0}")]
    Ended(String),
}

/// Runs a scheduler until it stops itself, and gives it back.
///
/// ```no_run
/// # async fn example(scheduler: impl proffer_sdk::Scheduler) -> anyhow::Result<()> {
/// use proffer_sdk::{Framework, Options, run};
///
/// let scheduler = run(scheduler, Options::new("127.0.0.1:5050".parse()?, Framework::new("sleeper"))).await?;
/// # Ok(()) }
/// ```
pub async fn run<S: Scheduler>(scheduler: S, options: Options) -> Result<S, RunError> {
    Driver::new(scheduler, options).run().await
}

/// A scheduler that is not running yet; others may be given its [`Sender`] before it does.
#[derive(Debug)]
pub struct Driver<S: Scheduler> {
    scheduler: S,
    context: Context<S::Message>,
    options: Options,
    outbox: mpsc::UnboundedReceiver<Call>,
    messages: mpsc::UnboundedReceiver<S::Message>,
    reconciler: Reconciler,
    ticks: Option<tokio::time::Interval>,
    kills_next: Instant,
    /// Updates that the driver itself makes.
    own_updates: VecDeque<TaskStatus>,
    /// Calls that wait for a subscription.
    waiting: Vec<Call>,
    was_registered: bool,
}

impl<S: Scheduler> Driver<S> {
    /// Makes ready to run; needs a tokio runtime.
    pub fn new(scheduler: S, options: Options) -> Self {
        let (outbox, calls) = Outbox::new();
        let (sender, messages) = mpsc::unbounded_channel();
        let (shortest, longest) = options.reconcile_backoff;
        let ticks = options.tick.map(|interval| {
            let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Driver {
            scheduler,
            context: Context::new(&options, outbox, Sender::new(sender)),
            outbox: calls,
            messages,
            reconciler: Reconciler::new(
                Instant::now(),
                Backoff::new(shortest, longest),
                options.reconcile_interval,
            ),
            ticks,
            kills_next: Instant::now() + options.kill_interval,
            own_updates: VecDeque::new(),
            waiting: Vec::new(),
            was_registered: false,
            options,
        }
    }

    /// Reaches the scheduler's [`Scheduler::message`].
    pub fn sender(&self) -> Sender<S::Message> {
        self.context.sender()
    }

    /// Runs the scheduler until it stops itself, and gives it back.
    pub async fn run(mut self) -> Result<S, RunError> {
        let mut connector = Connector::new(self.options.masters.clone());
        loop {
            let Some((mut events, calls)) = self.subscribe(&mut connector).await? else {
                return Ok(self.scheduler);
            };
            let (lanes, outcomes) = Lanes::start(calls.clone());
            // The stream is kept until the farewell is over: a framework without one is away, and perhaps removed for it.
            let disconnected = match self.serve(&mut events, &lanes, outcomes).await? {
                ControlFlow::Break(ending) => match farewell(lanes, &calls, ending).await {
                    Ok(()) => return Ok(self.scheduler),
                    Err(disconnected) => disconnected,
                },
                ControlFlow::Continue(disconnected) => disconnected,
            };
            tracing::warn!(reason = disconnected.0, "subscription ended, looking for the leader");
            self.disconnected().await;
        }
    }

    /// Finds the leader and subscribes; the scheduler's own messages and ticks go on meanwhile. `None`: it wants to stop.
    async fn subscribe(&mut self, connector: &mut Connector) -> Result<Option<(Events, Calls)>, RunError> {
        let subscribe = call::Subscribe {
            framework_info: self.context.framework.clone(),
            suppressed_roles: self.context.suppressed.iter().cloned().collect(),
            offer_constraints: self.context.constraints.clone(),
        };
        let connecting = connector.connect(subscribe);
        tokio::pin!(connecting);
        loop {
            match self.context.ending {
                Some(Ending::Stop) => return Ok(None),
                // There is nothing to tear down.
                Some(Ending::Teardown) if self.context.framework_id.is_none() => return Ok(None),
                _ => {}
            }
            tokio::select! {
                subscription = &mut connecting => return match (subscription, self.context.ending) {
                    (Ok(subscription), _) => Ok(Some(subscription)),
                    // Perhaps an earlier TEARDOWN was carried out and its answer lost: nobody takes the framework for alive.
                    (Err(rejected), Some(Ending::Teardown)) => {
                        tracing::warn!(reason = rejected.0, "the framework to be torn down is not accepted any more");
                        Ok(None)
                    }
                    (Err(rejected), _) => Err(rejected.into()),
                },
                Some(message) = self.messages.recv() => self.scheduler.message(&mut self.context, message).await,
                () = tick(&mut self.ticks) => self.scheduler.tick(&mut self.context).await,
                Some(call) = self.outbox.recv() => self.keep(call),
            }
            self.keep_queued();
        }
    }

    /// Serves one subscription until it breaks or the scheduler wants to end.
    async fn serve(
        &mut self,
        events: &mut Events,
        lanes: &Lanes,
        mut outcomes: mpsc::UnboundedReceiver<(Call, CallError)>,
    ) -> Result<ControlFlow<Ending, Disconnected>, RunError> {
        loop {
            let reconcile_at = self.reconciler.wake_at();
            tokio::select! {
                event = events.next() => match event {
                    Ok(event) => self.event(event, lanes).await?,
                    Err(disconnected) => return Ok(ControlFlow::Continue(disconnected)),
                },
                Some((call, error)) = outcomes.recv() => match error {
                    CallError::Rejected(reason) => self.rejected(call, &reason).await,
                    CallError::NotSubscribed(reason) | CallError::Disconnected(reason) => {
                        return Ok(ControlFlow::Continue(Disconnected(reason)));
                    }
                },
                Some(call) = self.outbox.recv() => lanes.send(call),
                Some(message) = self.messages.recv() => self.scheduler.message(&mut self.context, message).await,
                () = tick(&mut self.ticks) => self.scheduler.tick(&mut self.context).await,
                () = tokio::time::sleep_until(reconcile_at) => {
                    for call in self.reconciler.due(Instant::now(), &self.context.tasks) {
                        lanes.send(call);
                    }
                }
                () = tokio::time::sleep_until(self.kills_next) => self.kill_again(lanes),
            }
            while let Some(status) = self.own_updates.pop_front() {
                self.update(status, lanes).await;
            }
            self.send_queued(lanes);
            if let Some(ending) = self.context.ending {
                return Ok(ControlFlow::Break(ending));
            }
        }
    }

    async fn event(&mut self, event: Event, lanes: &Lanes) -> Result<(), RunError> {
        if is_heartbeat(&event) {
            return Ok(());
        }
        let scheduler = &mut self.scheduler;
        let context = &mut self.context;
        if let Some(subscribed) = event.subscribed {
            context.framework_id = Some(subscribed.framework_id.clone());
            self.subscribed(lanes).await;
        } else if let Some(offers) = event.offers {
            let offers = Offers::new(offers.offers, self.options.decline_filter, context.outbox.clone());
            scheduler.offers(context, offers).await;
        } else if let Some(rescind) = event.rescind {
            context.outbox.use_up(std::slice::from_ref(&rescind.offer_id));
            scheduler.rescinded(context, rescind.offer_id).await;
        } else if let Some(update) = event.update {
            self.update(update.status, lanes).await;
        } else if let Some(update) = event.update_operation_status {
            self.operation(update.status, lanes).await;
        } else if let Some(message) = event.message {
            scheduler.executor_message(context, message).await;
        } else if let Some(failure) = event.failure {
            scheduler.failure(context, failure).await;
        } else if let Some(offers) = event.inverse_offers {
            scheduler.inverse_offers(context, offers.inverse_offers).await;
        } else if let Some(error) = event.error {
            scheduler.error(context, &error.message).await;
            return Err(RunError::Ended(error.message));
        } else {
            tracing::debug!(kind = ?event.r#type(), "event of a kind that the driver does not pass on");
        }
        Ok(())
    }

    async fn subscribed(&mut self, lanes: &Lanes) {
        let context = &mut self.context;
        // A framework that has an id already may have tasks of which this process never heard.
        let takes_over = context.framework.id.is_some();
        context.framework.id = context.framework_id.clone();
        context.connected = true;
        let framework_id = context.framework_id.clone().unwrap_or_default();
        tracing::info!(framework_id = framework_id.value, "subscribed");
        if std::mem::replace(&mut self.was_registered, true) {
            self.scheduler.reregistered(context).await;
        } else {
            self.scheduler.registered(context, &framework_id).await;
        }
        for call in self.waiting.drain(..) {
            lanes.send(call);
        }
        self.reconciler
            .subscribed(Instant::now(), &self.context.tasks, takes_over);
        let open = self.context.operations.open();
        if !open.is_empty() {
            lanes.send(build::reconcile_operations(open));
        }
        self.kill_again(lanes);
    }

    /// Tells the scheduler where it is news, and acknowledges in any case.
    async fn update(&mut self, mut status: TaskStatus, lanes: &Lanes) {
        self.reconciler.answered(&status);
        if self.context.tasks.is_lost_member(&status) {
            status.state = TaskState::TaskDropped.into();
            status.reason = Some(task_status::Reason::GangCancelled.into());
        }
        if self.context.tasks.is_news(&status) {
            self.context.tasks.heard_of(&status);
            self.scheduler.update(&mut self.context, status.clone()).await;
        }
        self.context.tasks.told(&status);
        self.send_queued(lanes);
        if let (Some(uuid), Some(agent_id)) = (status.uuid, status.agent_id) {
            lanes.send(build::acknowledge(agent_id, status.task_id, uuid));
        }
    }

    /// The same for operations.
    async fn operation(&mut self, status: OperationStatus, lanes: &Lanes) {
        if self.context.operations.is_news(&status) {
            self.scheduler.operation(&mut self.context, status.clone()).await;
        }
        self.send_queued(lanes);
        if let (Some(uuid), Some(id)) = (status.uuid, status.operation_id) {
            lanes.send(build::acknowledge_operation(status.agent_id, id, uuid.value));
        }
    }

    async fn rejected(&mut self, call: Call, reason: &str) {
        tracing::warn!(kind = ?call.r#type(), reason, "call rejected");
        for (task_id, agent_id) in launched(&call) {
            self.own_updates.push_back(TaskStatus {
                task_id: task_id.clone(),
                state: TaskState::TaskDropped.into(),
                source: Some(task_status::Source::Master.into()),
                reason: Some(task_status::Reason::InvalidOffers.into()),
                agent_id: Some(agent_id.clone()).filter(|id| !id.value.is_empty()),
                message: Some(reason.to_owned()),
                ..Default::default()
            });
        }
        self.scheduler.rejected(&mut self.context, &call, reason).await;
    }

    async fn disconnected(&mut self) {
        self.context.connected = false;
        self.context.outbox.forget_offers();
        self.scheduler.disconnected(&mut self.context).await;
        self.keep_queued();
    }

    fn kill_again(&mut self, lanes: &Lanes) {
        for call in self.context.tasks.kills() {
            lanes.send(call);
        }
        self.kills_next = Instant::now() + self.options.kill_interval;
    }

    /// Sends what the handlers queued.
    fn send_queued(&mut self, lanes: &Lanes) {
        for call in self.take_launches() {
            lanes.send(call);
        }
        while let Ok(call) = self.outbox.try_recv() {
            lanes.send(call);
        }
    }

    /// Keeps what the handlers queued for the next subscription, as far as it makes sense then.
    fn keep_queued(&mut self) {
        // Their offers are void: reconciliation tells the scheduler that the tasks are gone.
        drop(self.take_launches());
        while let Ok(call) = self.outbox.try_recv() {
            self.keep(call);
        }
    }

    fn keep(&mut self, call: Call) {
        if outlives_subscription(&call) {
            self.waiting.push(call);
        }
    }

    fn take_launches(&mut self) -> Vec<Call> {
        let launches = std::mem::take(&mut self.context.launches);
        let calls = accepts(launches, Some(filters(self.options.decline_filter)));
        for call in &calls {
            self.context.tasks.observe_call(call);
        }
        calls
    }
}

/// Sends what is queued, and TEARDOWN where it is wanted. Fails where that has to be tried again.
async fn farewell(lanes: Lanes, calls: &Calls, ending: Ending) -> Result<(), Disconnected> {
    lanes.finish(FAREWELL_TIMEOUT).await;
    if ending == Ending::Stop {
        return Ok(());
    }
    match calls.teardown().await {
        Ok(()) => Ok(()),
        // It is gone already.
        Err(CallError::Rejected(reason)) => {
            tracing::warn!(reason, "teardown rejected");
            Ok(())
        }
        Err(error) => Err(Disconnected(error.to_string())),
    }
}

async fn tick(ticks: &mut Option<tokio::time::Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

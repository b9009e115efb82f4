//! The trait of a framework's deciding half, and what its handlers are handed.

use std::collections::{BTreeSet, HashSet};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proffer_proto::v1::scheduler::{Call, OfferConstraints, call, event};
use proffer_proto::v1::{
    AgentId, ExecutorId, Filters, FrameworkId, FrameworkInfo, InverseOffer, KillPolicy, Offer, OfferId, OperationId,
    OperationStatus, Request, TaskId, TaskInfo, TaskStatus, offer,
};
use tokio::sync::mpsc;

use crate::calls::build;
use crate::gang::Gang;
use crate::masters::Masters;
use crate::offers::Placement;
use crate::operations::OperationTable;
use crate::task::Task;
use crate::tasks::{KnownTask, TaskTable};

/// A framework's deciding half. Its methods are called one after the other by [`crate::run`].
///
/// Calls made on the [`Context`] are sent, in order, when the method has returned; a status update is acknowledged then
/// too. While a method runs no other is called, so long work belongs elsewhere: its result comes back through
/// [`Context::sender`] to [`Scheduler::message`].
///
/// ```
/// use proffer_proto::v1::{FrameworkId, TaskStatus};
/// use proffer_sdk::{Context, Offers, Scheduler, Task, offers::Matcher};
///
/// struct Once { launched: bool }
///
/// impl Scheduler for Once {
///     type Message = ();
///
///     async fn offers(&mut self, context: &mut Context<()>, offers: Offers) {
///         let task = Task::command("once", "echo done").cpus(0.1).mem(32.0);
///         if !self.launched && let Some(place) = Matcher::new(&offers).place(task.shape()) {
///             context.launch(place, task);
///             self.launched = true;
///         }
///     }
///
///     async fn update(&mut self, context: &mut Context<()>, status: TaskStatus) {
///         if proffer_sdk::is_terminal(status.state()) {
///             context.teardown();
///         }
///     }
/// }
/// ```
#[allow(unused_variables)]
pub trait Scheduler: Send {
    /// What the framework sends to itself; `()` where it sends nothing.
    type Message: Send + 'static;

    /// The first subscription of this process succeeded. The id is to be kept where it survives the process.
    fn registered(
        &mut self,
        context: &mut Context<Self::Message>,
        framework_id: &FrameworkId,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// A further subscription of this process succeeded, perhaps at another master. No offer from before is valid.
    fn reregistered(&mut self, context: &mut Context<Self::Message>) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Resources are offered. Those offers that are neither used nor kept are declined when `offers` is dropped.
    fn offers(&mut self, context: &mut Context<Self::Message>, offers: Offers) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// An offer is taken back before it was used.
    fn rescinded(
        &mut self,
        context: &mut Context<Self::Message>,
        offer_id: OfferId,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Resources in use are asked back, by a time at which they become unavailable.
    fn inverse_offers(
        &mut self,
        context: &mut Context<Self::Message>,
        offers: Vec<InverseOffer>,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The state of a task changed. Never told twice; acknowledged after the method has returned.
    fn update(&mut self, context: &mut Context<Self::Message>, status: TaskStatus) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The outcome of an operation with an id, or how it stands, where that was asked for. No outcome is told twice; acknowledged
    /// after the method has returned.
    fn operation(
        &mut self,
        context: &mut Context<Self::Message>,
        status: OperationStatus,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// An executor sent data.
    fn executor_message(
        &mut self,
        context: &mut Context<Self::Message>,
        message: event::Message,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// An agent was lost, or an executor ended.
    fn failure(
        &mut self,
        context: &mut Context<Self::Message>,
        failure: event::Failure,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The framework sent this to itself.
    fn message(
        &mut self,
        context: &mut Context<Self::Message>,
        message: Self::Message,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// [`Options::tick`] has passed since the last time.
    fn tick(&mut self, context: &mut Context<Self::Message>) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The master refused a call. Of each task of a refused ACCEPT an update tells as well: it is `TASK_DROPPED`.
    fn rejected(
        &mut self,
        context: &mut Context<Self::Message>,
        call: &Call,
        reason: &str,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The master ended the framework's subscription for good; [`crate::run`] returns after this.
    fn error(&mut self, context: &mut Context<Self::Message>, message: &str) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The subscription broke; the driver is looking for the leader already.
    fn disconnected(&mut self, context: &mut Context<Self::Message>) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// How [`crate::run`] runs a scheduler.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The masters of the cluster.
    pub masters: Masters,
    /// What the framework says of itself; with an id it takes over from an earlier process.
    pub framework: FrameworkInfo,
    /// The tasks of an earlier process that had not ended.
    pub known_tasks: Vec<KnownTask>,
    /// Roles for which no offers are wanted at first.
    pub suppressed_roles: Vec<String>,
    /// Which agents are offered, by role.
    pub offer_constraints: Option<OfferConstraints>,
    /// How long resources of unused offers are not offered again.
    pub decline_filter: Duration,
    /// How often [`Scheduler::tick`] is called.
    pub tick: Option<Duration>,
    /// The shortest and the longest wait before unanswered tasks are asked for again.
    pub reconcile_backoff: (Duration, Duration),
    /// How often every task is asked for.
    pub reconcile_interval: Duration,
    /// How often a KILL is sent again while its task has not ended.
    pub kill_interval: Duration,
}

impl Options {
    /// The defaults.
    ///
    /// ```
    /// use proffer_sdk::{Framework, Masters, Options};
    ///
    /// let masters: Masters = "127.0.0.1:5050".parse().unwrap();
    /// let options = Options::new(masters, Framework::new("sleeper").role("batch"));
    /// assert_eq!(options.decline_filter.as_secs(), 5);
    /// ```
    pub fn new(masters: Masters, framework: impl Into<FrameworkInfo>) -> Self {
        Options {
            masters,
            framework: framework.into(),
            known_tasks: Vec::new(),
            suppressed_roles: Vec::new(),
            offer_constraints: None,
            decline_filter: Duration::from_secs(5),
            tick: None,
            reconcile_backoff: (Duration::from_secs(1), Duration::from_secs(60)),
            reconcile_interval: Duration::from_secs(15 * 60),
            kill_interval: Duration::from_secs(15),
        }
    }

    /// Takes over from an earlier process of the framework, where its id is known.
    pub fn framework_id(mut self, id: Option<FrameworkId>) -> Self {
        self.framework.id = id;
        self
    }

    /// Tells of tasks that an earlier process launched.
    pub fn known_tasks(mut self, tasks: impl IntoIterator<Item = KnownTask>) -> Self {
        self.known_tasks.extend(tasks);
        self
    }

    /// Only wants offers of agents that the constraints accept; [`crate::wishes`] makes them.
    pub fn offer_constraints(mut self, constraints: OfferConstraints) -> Self {
        self.offer_constraints = Some(constraints);
        self
    }

    /// Calls [`Scheduler::tick`] this often.
    pub fn tick(mut self, interval: Duration) -> Self {
        self.tick = Some(interval);
        self
    }

    /// Keeps resources of unused offers away for this long.
    pub fn decline_filter(mut self, duration: Duration) -> Self {
        self.decline_filter = duration;
        self
    }
}

/// Sends the framework its own messages, from any task or thread. Cheap to clone.
#[derive(Debug)]
pub struct Sender<M> {
    messages: mpsc::UnboundedSender<M>,
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Sender {
            messages: self.messages.clone(),
        }
    }
}

impl<M> Sender<M> {
    pub(crate) fn new(messages: mpsc::UnboundedSender<M>) -> Self {
        Sender { messages }
    }

    /// Wakes the scheduler with a message; gives the message back where the scheduler has ended.
    pub fn send(&self, message: M) -> Result<(), M> {
        self.messages.send(message).map_err(|refused| refused.0)
    }
}

/// How a run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Stop,
    Teardown,
}

/// What a handler may do: it queues calls, which are sent when the handler has returned.
#[derive(Debug)]
pub struct Context<M> {
    pub(crate) framework_id: Option<FrameworkId>,
    pub(crate) framework: FrameworkInfo,
    pub(crate) connected: bool,
    pub(crate) tasks: TaskTable,
    pub(crate) operations: OperationTable,
    pub(crate) suppressed: BTreeSet<String>,
    pub(crate) constraints: Option<OfferConstraints>,
    pub(crate) launches: Vec<(Placement, TaskInfo)>,
    pub(crate) outbox: Outbox,
    pub(crate) ending: Option<Ending>,
    sender: Sender<M>,
}

impl<M> Context<M> {
    pub(crate) fn new(options: &Options, outbox: Outbox, sender: Sender<M>) -> Self {
        let mut tasks = TaskTable::default();
        for known in &options.known_tasks {
            tasks.insert(known.clone());
        }
        Context {
            framework_id: options.framework.id.clone(),
            framework: options.framework.clone(),
            connected: false,
            tasks,
            operations: OperationTable::default(),
            suppressed: options.suppressed_roles.iter().cloned().collect(),
            constraints: options.offer_constraints.clone(),
            launches: Vec::new(),
            outbox,
            ending: None,
            sender,
        }
    }

    /// The id of the framework, once it has one.
    pub fn framework_id(&self) -> Option<&FrameworkId> {
        self.framework_id.as_ref()
    }

    /// Whether there is a subscription now.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The tasks that have not ended.
    pub fn tasks(&self) -> &TaskTable {
        &self.tasks
    }

    /// Reaches the scheduler's own [`Scheduler::message`] from elsewhere.
    pub fn sender(&self) -> Sender<M> {
        self.sender.clone()
    }

    /// Launches a task where a [`Matcher`](crate::offers::Matcher) placed it, and returns its id.
    ///
    /// All launches of one handler on the same agent become one ACCEPT, as an offer can be used once only.
    pub fn launch(&mut self, placement: Placement, task: impl Into<Task>) -> TaskId {
        let info = task.into().at(&placement);
        let task_id = info.task_id.clone();
        self.outbox.use_up(&placement.offer_ids);
        self.launches.push((placement, info));
        task_id
    }

    /// Uses offers, all of one agent, for operations in order; what is left of them is declined with the filters.
    pub fn accept(&mut self, offer_ids: Vec<OfferId>, operations: Vec<offer::Operation>, filters: Option<Filters>) {
        self.outbox.use_up(&offer_ids);
        self.queue(build::accept(offer_ids, operations, filters));
    }

    /// Launches a [`Gang`](crate::Gang) on offers of any agents to one role, or on none, and whatever else is free; what is not used of the
    /// offers is declined. A gang that waits ends with the subscription: each member is then told to be dropped, and the scheduler may
    /// launch the gang again.
    pub fn launch_gang(&mut self, offer_ids: Vec<OfferId>, gang: Gang) {
        self.outbox.use_up(&offer_ids);
        self.queue(build::launch_gang(offer_ids, gang.build(), None));
    }

    /// Makes any other call, after those that were queued before.
    pub fn submit(&mut self, call: Call) {
        self.queue(call);
    }

    /// Gives offers back that were kept.
    pub fn decline(&mut self, offer_ids: Vec<OfferId>, filters: Option<Filters>) {
        self.outbox.use_up(&offer_ids);
        self.queue(build::decline(offer_ids, filters));
    }

    /// Drops all filters and wants offers again for all roles. Remembered over subscriptions.
    pub fn revive(&mut self) {
        self.suppressed.clear();
        self.queue(build::revive(Vec::new()));
    }

    /// Wants no more offers for any role. Remembered over subscriptions.
    pub fn suppress(&mut self) {
        self.suppressed = self.framework.roles.iter().cloned().collect();
        self.queue(build::suppress(Vec::new()));
    }

    /// Drops the filters of some roles and wants offers for them again.
    pub fn revive_roles(&mut self, roles: Vec<String>) {
        for role in &roles {
            self.suppressed.remove(role);
        }
        self.queue(build::revive(roles));
    }

    /// Wants no more offers for some roles.
    pub fn suppress_roles(&mut self, roles: Vec<String>) {
        self.suppressed.extend(roles.iter().cloned());
        self.queue(build::suppress(roles));
    }

    /// Ends a task. Sent again over subscriptions and lost messages until the task has ended.
    pub fn kill(&mut self, task_id: &TaskId) {
        self.kill_with(task_id, None);
    }

    /// Ends a task with a grace period of this call.
    pub fn kill_with(&mut self, task_id: &TaskId, policy: Option<KillPolicy>) {
        let agent_id = self.tasks.get(task_id).and_then(|known| known.agent_id.clone());
        self.queue(build::kill(task_id.clone(), agent_id, policy));
    }

    /// Asks for the latest state of tasks; of all where the list is empty.
    pub fn reconcile(&mut self, task_ids: &[TaskId]) {
        let tasks = task_ids
            .iter()
            .map(|task_id| {
                let known = self.tasks.get(task_id);
                (task_id.clone(), known.and_then(|known| known.agent_id.clone()))
            })
            .collect();
        self.queue(build::reconcile(tasks));
    }

    /// Asks how operations stand that an earlier process began; of all where the list is empty. Those of this process are asked
    /// for after every new subscription anyway.
    pub fn reconcile_operations(&mut self, operations: Vec<(OperationId, Option<AgentId>)>) {
        self.queue(build::reconcile_operations(operations));
    }

    /// Forgets a task that will not be heard of again.
    pub fn forget(&mut self, task_id: &TaskId) {
        self.tasks.remove(task_id);
    }

    /// Sends data to an executor, at most once.
    pub fn message(&mut self, agent_id: AgentId, executor_id: ExecutorId, data: Vec<u8>) {
        self.queue(build::message(agent_id, executor_id, data));
    }

    /// Changes what the framework says of itself.
    pub fn update_framework(&mut self, framework: impl Into<FrameworkInfo>) {
        self.framework = framework.into();
        self.framework.id = self.framework_id.clone();
        self.tell();
    }

    /// Changes which agents are offered, by role; [`crate::wishes`] makes constraints.
    pub fn constrain(&mut self, constraints: Option<OfferConstraints>) {
        self.constraints = constraints;
        self.tell();
    }

    fn tell(&mut self) {
        let suppressed = self.suppressed.iter().cloned().collect();
        let update = build::update_framework(self.framework.clone(), suppressed, self.constraints.clone());
        self.queue(update);
    }

    /// Declares what the framework waits for: see [`Calls::request`](crate::Calls::request). To be declared again when the framework has
    /// subscribed again.
    pub fn request(&mut self, requests: Vec<Request>) {
        self.queue(build::request(requests));
    }

    /// Makes any other call. The framework id is filled in.
    pub fn call(&mut self, call: Call) {
        if let Some(accept) = &call.accept {
            self.outbox.use_up(&accept.offer_ids);
        }
        self.queue(call);
    }

    /// Ends the run once the queued calls are sent. The tasks go on until the failover timeout; another process may take over.
    pub fn stop(&mut self) {
        self.ending.get_or_insert(Ending::Stop);
    }

    /// Ends the framework with all its tasks, then the run.
    pub fn teardown(&mut self) {
        self.ending = Some(Ending::Teardown);
    }

    fn queue(&mut self, call: Call) {
        self.tasks.observe_call(&call);
        self.operations.observe_call(&call);
        self.outbox.push(call);
    }
}

/// Queues calls for the driver, and knows which offers are still unused. Shared with every [`Offers`].
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    calls: mpsc::UnboundedSender<Call>,
    unused: Arc<Mutex<HashSet<String>>>,
}

impl Outbox {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Call>) {
        let (calls, queue) = mpsc::unbounded_channel();
        let unused = Arc::default();
        (Outbox { calls, unused }, queue)
    }

    pub(crate) fn push(&self, call: Call) {
        // Nobody listens only where the run has ended.
        let _ = self.calls.send(call);
    }

    fn unused(&self) -> MutexGuard<'_, HashSet<String>> {
        self.unused.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn use_up(&self, offer_ids: &[OfferId]) {
        let mut unused = self.unused();
        for offer_id in offer_ids {
            unused.remove(&offer_id.value);
        }
    }

    /// No offer from before is valid.
    pub(crate) fn forget_offers(&self) {
        self.unused().clear();
    }
}

/// Offers handed to a scheduler, read as a slice. Dropping it declines those that were neither used nor taken.
///
/// A scheduler that wants to wait keeps the whole value, or takes single offers out of it.
#[derive(Debug)]
pub struct Offers {
    offers: Vec<Offer>,
    filter: Duration,
    outbox: Outbox,
}

impl Offers {
    pub(crate) fn new(offers: Vec<Offer>, filter: Duration, outbox: Outbox) -> Self {
        let mut unused = outbox.unused();
        unused.extend(offers.iter().map(|offer| offer.id.value.clone()));
        drop(unused);
        Offers { offers, filter, outbox }
    }

    /// Takes an offer out; it is then the scheduler's to use or to decline.
    pub fn take(&mut self, offer_id: &OfferId) -> Option<Offer> {
        let position = self.offers.iter().position(|offer| offer.id == *offer_id)?;
        self.outbox.use_up(std::slice::from_ref(offer_id));
        Some(self.offers.remove(position))
    }

    /// Takes all offers out; they are then the scheduler's to use or to decline.
    pub fn take_all(mut self) -> Vec<Offer> {
        let offers = std::mem::take(&mut self.offers);
        let ids: Vec<_> = offers.iter().map(|offer| offer.id.clone()).collect();
        self.outbox.use_up(&ids);
        offers
    }

    /// Keeps the resources of what is not used away for this long, instead of [`Options::decline_filter`].
    pub fn refuse_for(&mut self, duration: Duration) {
        self.filter = duration;
    }
}

impl Deref for Offers {
    type Target = [Offer];

    fn deref(&self) -> &[Offer] {
        &self.offers
    }
}

impl<'a> IntoIterator for &'a Offers {
    type Item = &'a Offer;
    type IntoIter = std::slice::Iter<'a, Offer>;

    fn into_iter(self) -> Self::IntoIter {
        self.offers.iter()
    }
}

impl Drop for Offers {
    fn drop(&mut self) {
        let mut unused = self.outbox.unused();
        let ids: Vec<_> = self
            .offers
            .drain(..)
            .map(|offer| offer.id)
            .filter(|id| unused.remove(&id.value))
            .collect();
        drop(unused);
        if !ids.is_empty() {
            self.outbox.push(build::decline(ids, Some(filters(self.filter))));
        }
    }
}

/// Filters that refuse for this long.
pub(crate) fn filters(duration: Duration) -> Filters {
    Filters {
        refuse_seconds: Some(duration.as_secs_f64()),
    }
}

/// Whether a call can wait for the next subscription: what the driver repeats by itself, or what is void, cannot.
pub(crate) fn outlives_subscription(call: &Call) -> bool {
    matches!(
        call.r#type(),
        call::Type::Teardown | call::Type::Shutdown | call::Type::Message | call::Type::AcknowledgeOperationStatus
    )
}

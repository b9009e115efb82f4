//! The driver against a scripted master.

use std::time::Duration;

use proffer_proto::v1::scheduler::call;
use proffer_proto::v1::{
    AgentId, FrameworkId, OfferId, OperationState, OperationStatus, TaskId, TaskState, TaskStatus, task_status,
};
use proffer_sdk::offers::{Matcher, TaskShape};
use proffer_sdk::testing::{self, FakeMaster};
use proffer_sdk::{
    CallError, Context, Driver, Framework, Gang, KnownTask, Masters, Offers, Options, RunError, Scheduler, Sender,
    Task, connect, operations,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What the recorder heard, as short lines.
type Heard = mpsc::UnboundedReceiver<String>;

/// Does what it is told by messages, and writes down what it hears.
struct Recorder {
    heard: mpsc::UnboundedSender<String>,
    kept: Vec<Offers>,
    keep_offers: bool,
    /// Kills this task as soon as it hears of it.
    unwanted: Option<&'static str>,
}

enum Do {
    KeepOffers,
    DropOffers,
    /// Launches tasks with these ids on the kept offers.
    Launch(Vec<&'static str>),
    /// Accepts these offers by id, kept or not, to launch a task.
    AcceptBlindly(&'static str, &'static str),
    /// Launches a gang of tasks with these ids.
    Gang(Vec<&'static str>),
    Kill(&'static str),
    /// Kills this task as soon as it is heard of.
    KillUnknown(&'static str),
    /// Reserves resources of the kept offers, under these ids.
    Reserve(Vec<&'static str>),
    Suppress,
    Stop,
    Teardown,
}

impl Recorder {
    fn note(&self, line: impl Into<String>) {
        let _ = self.heard.send(line.into());
    }
}

impl Scheduler for Recorder {
    type Message = Do;

    async fn registered(&mut self, _: &mut Context<Do>, framework_id: &FrameworkId) {
        self.note(format!("registered {}", framework_id.value));
    }

    async fn reregistered(&mut self, _: &mut Context<Do>) {
        self.note("reregistered");
    }

    async fn offers(&mut self, _: &mut Context<Do>, offers: Offers) {
        self.note(format!("offers {}", offers.len()));
        if self.keep_offers {
            self.kept.push(offers);
        }
    }

    async fn rescinded(&mut self, _: &mut Context<Do>, offer_id: OfferId) {
        self.note(format!("rescinded {}", offer_id.value));
    }

    async fn update(&mut self, context: &mut Context<Do>, status: TaskStatus) {
        if self.unwanted == Some(status.task_id.value.as_str()) {
            context.kill(&status.task_id);
        }
        self.note(format!("{} {}", status.task_id.value, status.state().as_str_name()));
    }

    async fn operation(&mut self, _: &mut Context<Do>, status: OperationStatus) {
        let id = status.operation_id.as_ref().map_or("none", |id| id.value.as_str());
        self.note(format!("{id} {}", status.state().as_str_name()));
    }

    async fn message(&mut self, context: &mut Context<Do>, message: Do) {
        match message {
            Do::KeepOffers => self.keep_offers = true,
            Do::DropOffers => self.kept.clear(),
            Do::Launch(ids) => {
                let offers: Vec<_> = self.kept.iter().flat_map(|offers| offers.iter()).collect();
                let mut matcher = Matcher::new(offers);
                for id in ids {
                    let task = Task::command("t", "true").with_id(id).cpus(0.5).mem(16.0).port("http");
                    match matcher.place(task.shape()) {
                        Some(place) => drop(context.launch(place, task)),
                        None => self.note(format!("no room for {id}")),
                    }
                }
                self.kept.clear();
            }
            Do::AcceptBlindly(offer, task) => {
                let offers = [testing::offer(offer, "a1", 1.0, 64.0, 31000..=31000)];
                let shape = TaskShape::default().cpus(0.1);
                let place = Matcher::new(&offers).place(&shape).expect("it fits");
                context.launch(place, Task::command("t", "true").with_id(task));
            }
            Do::Gang(ids) => {
                let member = |id| Task::command("t", "true").with_id(id).cpus(0.5).port("http");
                context.launch_gang(
                    Vec::new(),
                    Gang::new("g").members(ids.into_iter().map(member)).together(),
                );
            }
            Do::Kill(task) => context.kill(&task_id(task)),
            Do::KillUnknown(task) => self.unwanted = Some(task),
            Do::Reserve(ids) => {
                let space = operations::reserved(operations::scalar("disk", 8.0), "test");
                let reserve = |id: &str| operations::named(operations::reserve(vec![space.clone()]), id);
                let offers = self.kept.iter().flat_map(|offers| offers.iter());
                let offers = offers.map(|offer| offer.id.clone()).collect();
                context.accept(offers, ids.into_iter().map(reserve).collect(), None);
                self.kept.clear();
            }
            Do::Suppress => context.suppress(),
            Do::Stop => context.stop(),
            Do::Teardown => context.teardown(),
        }
    }

    async fn rejected(&mut self, _: &mut Context<Do>, call: &proffer_proto::v1::scheduler::Call, reason: &str) {
        self.note(format!("rejected {} {reason}", call.r#type().as_str_name()));
    }

    async fn error(&mut self, _: &mut Context<Do>, message: &str) {
        self.note(format!("error {message}"));
    }

    async fn disconnected(&mut self, _: &mut Context<Do>) {
        self.note("disconnected");
    }
}

struct Running {
    heard: Heard,
    sender: Sender<Do>,
    task: JoinHandle<Result<Recorder, RunError>>,
}

impl Running {
    async fn hear(&mut self) -> String {
        tokio::time::timeout(Duration::from_secs(20), self.heard.recv())
            .await
            .expect("something is heard in time")
            .expect("the scheduler runs")
    }

    async fn hears(&mut self, expected: &str) {
        assert_eq!(self.hear().await, expected);
    }

    fn tell(&self, what: Do) {
        assert!(self.sender.send(what).is_ok(), "the scheduler runs");
    }

    async fn end(self) -> Result<(), RunError> {
        let ended = tokio::time::timeout(Duration::from_secs(20), self.task).await;
        ended.expect("the run ends in time").expect("no panic").map(drop)
    }
}

fn start(masters: Masters, change: impl FnOnce(Options) -> Options) -> Running {
    let (heard_sender, heard) = mpsc::unbounded_channel();
    let recorder = Recorder {
        heard: heard_sender,
        kept: Vec::new(),
        keep_offers: false,
        unwanted: None,
    };
    let mut options = Options::new(masters, Framework::new("recorder").role("test"));
    options.reconcile_backoff = (Duration::from_millis(20), Duration::from_millis(100));
    let driver = Driver::new(recorder, change(options));
    let sender = driver.sender();
    Running {
        heard,
        sender,
        task: tokio::spawn(driver.run()),
    }
}

/// A master with a registered recorder.
async fn registered() -> (FakeMaster, Running) {
    let mut master = FakeMaster::start().await;
    let mut running = start(master.masters(), |options| options);
    master.subscribe().await;
    running.hears("registered framework-1").await;
    (master, running)
}

fn task_id(value: &str) -> TaskId {
    TaskId { value: value.into() }
}

fn reconciled(task: &str, state: TaskState) -> TaskStatus {
    TaskStatus {
        uuid: None,
        reason: Some(task_status::Reason::Reconciliation.into()),
        ..testing::status(&task_id(task), "a1", state)
    }
}

fn ids(reconcile: &call::Reconcile) -> Vec<&str> {
    let mut ids: Vec<_> = reconcile.tasks.iter().map(|task| task.task_id.value.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn an_update_is_acknowledged_and_a_repeated_one_is_told_once() {
    let (mut master, mut running) = registered().await;
    let status = testing::status(&task_id("t1"), "a1", TaskState::TaskRunning);
    for _ in 0..2 {
        master.update(status.clone());
        let acknowledged = master.acknowledge().await;
        assert_eq!(Some(acknowledged.uuid), status.uuid);
        assert_eq!(acknowledged.agent_id.value, "a1");
    }
    master.update(testing::status(&task_id("t1"), "a1", TaskState::TaskFinished));
    running.hears("t1 TASK_RUNNING").await;
    running.hears("t1 TASK_FINISHED").await;
}

#[tokio::test]
async fn the_outcome_of_an_operation_is_told_once_acknowledged_and_asked_for_until_it_is_known() {
    let (mut master, mut running) = registered().await;
    running.tell(Do::KeepOffers);
    master.offers(vec![testing::offer("o1", "a1", 1.0, 64.0, 31000..=31000)]);
    running.hears("offers 1").await;
    running.tell(Do::Reserve(vec!["first", "second", "third"]));
    let accept = master.accept().await;
    let named = accept.operations.iter();
    let named = named.filter_map(|operation| Some(operation.id.as_ref()?.value.as_str()));
    assert_eq!(named.collect::<Vec<_>>(), ["first", "second", "third"]);

    // How it stands, and what was refused, is told without a uuid.
    let tell = |id, state| master.operation(testing::operation_status(id, "a1", state));
    tell("first", OperationState::OperationPending);
    running.hears("first OPERATION_PENDING").await;
    tell("third", OperationState::OperationError);
    running.hears("third OPERATION_ERROR").await;
    let finished = testing::operation_status("first", "a1", OperationState::OperationFinished);
    for _ in 0..2 {
        master.operation(finished.clone());
        let acknowledged = master.acknowledge_operation().await;
        assert_eq!(acknowledged.operation_id.value, "first");
        let uuid = finished.uuid.as_ref().map(|uuid| &uuid.value);
        assert_eq!(Some(&acknowledged.uuid), uuid);
    }
    running.hears("first OPERATION_FINISHED").await;

    // After a new subscription only that is asked for of which no outcome is known.
    master.break_stream();
    running.hears("disconnected").await;
    master.subscribe().await;
    running.hears("reregistered").await;
    let asked = master.reconcile_operations().await.operations;
    let asked: Vec<_> = asked
        .iter()
        .map(|operation| operation.operation_id.value.as_str())
        .collect();
    assert_eq!(asked, ["second"]);
    master.operation(testing::operation_status(
        "second",
        "a1",
        OperationState::OperationUnknown,
    ));
    running.hears("second OPERATION_UNKNOWN").await;
    let unasked = master.calls_so_far(call::Type::AcknowledgeOperationStatus);
    assert!(unasked.is_empty(), "{unasked:?}");
}

#[tokio::test]
async fn an_update_without_uuid_is_not_acknowledged() {
    let (mut master, mut running) = registered().await;
    master.update(reconciled("t1", TaskState::TaskRunning));
    running.hears("t1 TASK_RUNNING").await;
    master.update(testing::status(&task_id("t2"), "a1", TaskState::TaskRunning));
    assert_eq!(master.acknowledge().await.task_id.value, "t2");
}

#[tokio::test]
async fn a_broken_stream_is_subscribed_again_with_the_same_id() {
    let (mut master, mut running) = registered().await;
    master.break_stream();
    running.hears("disconnected").await;
    let subscribe = master.subscribe().await;
    assert_eq!(subscribe.framework_info.id.unwrap().value, "framework-1");
    running.hears("reregistered").await;
}

#[tokio::test]
async fn missed_heartbeats_end_a_subscription() {
    let mut master = FakeMaster::start().await;
    master.promise_heartbeats(Duration::from_millis(10));
    let mut running = start(master.masters(), |options| options);
    master.subscribe().await;
    running.hears("registered framework-1").await;
    running.hears("disconnected").await;
    master.subscribe().await;
}

#[tokio::test]
async fn the_leader_is_found_and_followed() {
    let mut first = FakeMaster::start().await;
    let mut second = FakeMaster::start().await;
    first.follow(Some(second.address()));
    // Only the first is configured: the second is known by the redirect alone.
    let mut running = start(first.masters(), |options| options);
    second.subscribe().await;
    running.hears("registered framework-1").await;
    first.lead();
    second.follow(Some(first.address()));
    running.hears("disconnected").await;
    assert_eq!(first.subscribe().await.framework_info.id.unwrap().value, "framework-1");
    running.hears("reregistered").await;
}

#[tokio::test]
async fn a_leader_is_waited_for() {
    let mut master = FakeMaster::start().await;
    master.follow(None);
    let mut running = start(master.masters(), |options| options);
    running.tell(Do::KeepOffers);
    master.lead();
    master.subscribe().await;
    running.hears("registered framework-1").await;
    running.tell(Do::Teardown);
    master.call(call::Type::Teardown).await;
    running.end().await.unwrap();
}

#[tokio::test]
async fn unused_offers_are_declined_and_kept_ones_are_not() {
    let (mut master, mut running) = registered().await;
    master.offers(vec![
        testing::offer("o1", "a1", 1.0, 64.0, 31000..=31000),
        testing::offer("o2", "a2", 1.0, 64.0, 31000..=31000),
    ]);
    let decline = master.decline().await;
    assert_eq!(decline.offer_ids.len(), 2);
    assert_eq!(decline.filters.unwrap().refuse_seconds, Some(5.0));
    running.hears("offers 2").await;

    running.tell(Do::KeepOffers);
    master.offers(vec![testing::offer("o3", "a1", 1.0, 64.0, 31000..=31000)]);
    master.offers(vec![testing::offer("o4", "a2", 1.0, 64.0, 31000..=31000)]);
    running.hears("offers 1").await;
    running.hears("offers 1").await;
    master.rescind("o3");
    running.hears("rescinded o3").await;
    running.tell(Do::DropOffers);
    let declined: Vec<_> = master
        .decline()
        .await
        .offer_ids
        .into_iter()
        .map(|id| id.value)
        .collect();
    assert_eq!(declined, ["o4"]);
}

#[tokio::test]
async fn launches_on_one_agent_become_one_accept() {
    let (mut master, mut running) = registered().await;
    running.tell(Do::KeepOffers);
    master.offers(vec![
        testing::offer("o1", "a1", 1.0, 64.0, 31000..=31009),
        testing::offer("o2", "a2", 0.5, 64.0, 31000..=31009),
    ]);
    running.hears("offers 2").await;
    running.tell(Do::Launch(vec!["t1", "t2", "t3", "t4"]));
    running.hears("no room for t4").await;
    let mut accepts = [master.accept().await, master.accept().await];
    accepts.sort_by_key(|accept| accept.offer_ids[0].value.clone());
    let tasks = |accept: &call::Accept| accept.operations[0].launch.clone().unwrap().task_infos;
    assert_eq!(accepts[0].offer_ids[0].value, "o1");
    let on_first = tasks(&accepts[0]);
    assert_eq!(on_first.len(), 2);
    assert!(on_first.iter().all(|task| task.agent_id.value == "a1"));
    assert_ne!(
        on_first[0].resources, on_first[1].resources,
        "each has a port of its own"
    );
    assert_eq!(tasks(&accepts[1]).len(), 1);
    assert!(master.calls_so_far(call::Type::Decline).is_empty());
}

#[tokio::test]
async fn tasks_are_reconciled_after_a_new_subscription_until_each_is_answered() {
    let (mut master, mut running) = registered().await;
    for task in ["t1", "t2"] {
        master.update(testing::status(&task_id(task), "a1", TaskState::TaskRunning));
        running.hears(&format!("{task} TASK_RUNNING")).await;
    }
    master.break_stream();
    running.hears("disconnected").await;
    master.subscribe().await;
    running.hears("reregistered").await;
    let mut asked = master.reconcile().await;
    // The framework has an id, so tasks that it does not know are asked for too.
    if asked.tasks.is_empty() {
        asked = master.reconcile().await;
    }
    assert_eq!(ids(&asked), ["t1", "t2"]);
    assert_eq!(asked.tasks[0].agent_id.as_ref().unwrap().value, "a1");
    master.update(reconciled("t1", TaskState::TaskRunning));
    while ids(&master.reconcile().await) != ["t2"] {}
    master.update(reconciled("t2", TaskState::TaskGone));
    // Nothing new of t1 is told.
    running.hears("t2 TASK_GONE").await;
}

#[tokio::test]
async fn tasks_of_an_earlier_process_are_reconciled() {
    let mut master = FakeMaster::start().await;
    let known = KnownTask::new(task_id("old"), Some(AgentId { value: "a1".into() }));
    let mut running = start(master.masters(), |options| {
        let id = FrameworkId {
            value: "framework-9".into(),
        };
        options.framework_id(Some(id)).known_tasks([known])
    });
    assert_eq!(master.subscribe().await.framework_info.id.unwrap().value, "framework-9");
    running.hears("registered framework-9").await;
    let asked = [master.reconcile().await, master.reconcile().await];
    assert!(
        asked.iter().any(|reconcile| reconcile.tasks.is_empty()),
        "also what this process does not know"
    );
    assert!(asked.iter().any(|reconcile| ids(reconcile) == ["old"]));
    master.update(reconciled("old", TaskState::TaskRunning));
    running.hears("old TASK_RUNNING").await;
    running.tell(Do::Kill("old"));
    assert_eq!(master.kill().await.agent_id.unwrap().value, "a1");
}

#[tokio::test]
async fn what_a_broken_subscription_left_open_is_taken_up_again() {
    let (mut master, mut running) = registered().await;
    master.update(testing::status(&task_id("t1"), "a1", TaskState::TaskRunning));
    running.hears("t1 TASK_RUNNING").await;
    running.tell(Do::Kill("t1"));
    running.tell(Do::Suppress);
    master.kill().await;
    master.call(call::Type::Suppress).await;
    master.break_stream();
    assert_eq!(master.subscribe().await.suppressed_roles, ["test"]);
    assert_eq!(master.kill().await.task_id.value, "t1");
}

#[tokio::test]
async fn a_kill_on_the_first_news_of_a_task_is_repeated() {
    let mut master = FakeMaster::start().await;
    let mut running = start(master.masters(), |mut options| {
        options.kill_interval = Duration::from_millis(20);
        options
    });
    master.subscribe().await;
    running.hears("registered framework-1").await;
    running.tell(Do::KillUnknown("stray"));
    // Told after the message has been handled.
    running.tell(Do::Suppress);
    master.call(call::Type::Suppress).await;
    master.update(testing::status(&task_id("stray"), "a1", TaskState::TaskRunning));
    running.hears("stray TASK_RUNNING").await;
    for _ in 0..3 {
        let kill = master.kill().await;
        assert_eq!(kill.task_id.value, "stray");
        assert_eq!(kill.agent_id.expect("the update named it").value, "a1");
    }
}

#[tokio::test]
async fn a_call_that_finds_no_subscription_leads_to_a_new_one() {
    let (mut master, mut running) = registered().await;
    master.update(testing::status(&task_id("t1"), "a1", TaskState::TaskRunning));
    running.hears("t1 TASK_RUNNING").await;
    let reason = "`mesos-stream-id` is not that of the framework's subscription";
    master.refuse(call::Type::Kill, tonic::Status::failed_precondition(reason));
    running.tell(Do::Kill("t1"));
    master.kill().await;
    running.hears("disconnected").await;
    master.subscribe().await;
    running.hears("reregistered").await;
    assert_eq!(
        master.kill().await.task_id.value,
        "t1",
        "what was refused is made again"
    );
}

#[tokio::test]
async fn a_teardown_before_the_first_subscription_ends_the_run() {
    let master = FakeMaster::start().await;
    master.follow(None);
    let running = start(master.masters(), |options| options);
    running.tell(Do::Teardown);
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_launch_without_subscription_is_settled_by_reconciliation() {
    let (mut master, mut running) = registered().await;
    master.follow(None);
    running.hears("disconnected").await;
    running.tell(Do::AcceptBlindly("o1", "t1"));
    master.lead();
    master.subscribe().await;
    running.hears("reregistered").await;
    loop {
        if ids(&master.reconcile().await) == ["t1"] {
            break;
        }
    }
    master.update(reconciled("t1", TaskState::TaskGone));
    running.hears("t1 TASK_GONE").await;
}

#[tokio::test]
async fn a_rejected_accept_drops_its_tasks() {
    let (mut master, mut running) = registered().await;
    master.refuse(
        call::Type::Accept,
        tonic::Status::invalid_argument("`accept.offer_ids[0]` is unknown"),
    );
    running.tell(Do::AcceptBlindly("o1", "t1"));
    master.accept().await;
    running.hears("rejected ACCEPT `accept.offer_ids[0]` is unknown").await;
    running.hears("t1 TASK_DROPPED").await;
}

#[tokio::test]
async fn a_gang_that_ended_with_its_subscription_is_dropped() {
    let (mut master, mut running) = registered().await;
    running.tell(Do::Gang(vec!["t1", "t2"]));
    let accept = master.accept().await;
    let gang = accept.gang.expect("a gang");
    assert!(accept.offer_ids.is_empty() && accept.operations.is_empty() && gang.together());
    let member = &gang.members[1];
    assert_eq!(
        (member.task_id.value.as_str(), member.agent_id.value.as_str()),
        ("t2", "")
    );
    let named = |name: &str| member.resources.iter().find(|resource| resource.name == name);
    let amount = |name: &str| {
        named(name)
            .and_then(|resource| resource.scalar)
            .map(|scalar| scalar.value)
    };
    assert_eq!((amount("cpus"), amount("ports")), (Some(0.5), Some(1.0)));

    master.update(testing::status(&task_id("t1"), "a1", TaskState::TaskRunning));
    running.hears("t1 TASK_RUNNING").await;
    master.break_stream();
    running.hears("disconnected").await;
    master.subscribe().await;
    running.hears("reregistered").await;
    while ids(&master.reconcile().await) != ["t1", "t2"] {}
    // Nobody was ever heard to have it.
    master.update(TaskStatus {
        agent_id: None,
        ..reconciled("t2", TaskState::TaskUnknown)
    });
    running.hears("t2 TASK_DROPPED").await;
}

#[tokio::test]
async fn a_rejected_subscription_ends_the_run() {
    let master = FakeMaster::start().await;
    let reason = "`framework_info.roles[0]` is not a role name";
    master.refuse(call::Type::Subscribe, tonic::Status::invalid_argument(reason));
    let error = start(master.masters(), |options| options).end().await.unwrap_err();
    assert!(matches!(error, RunError::Rejected(_)), "{error:?}");
    assert!(error.to_string().contains(reason));
}

#[tokio::test]
async fn an_error_event_ends_the_run() {
    let (master, mut running) = registered().await;
    master.error("Framework failed over");
    running.hears("error Framework failed over").await;
    let error = running.end().await.unwrap_err();
    assert_eq!(error, RunError::Ended("Framework failed over".into()));
}

#[tokio::test]
async fn a_stop_sends_what_is_queued_and_no_teardown() {
    let (mut master, running) = registered().await;
    running.tell(Do::Suppress);
    running.tell(Do::Stop);
    running.end().await.unwrap();
    master.call(call::Type::Suppress).await;
    assert!(master.calls_so_far(call::Type::Teardown).is_empty());
}

#[tokio::test]
async fn a_teardown_is_repeated_until_the_leader_takes_it() {
    let (mut master, mut running) = registered().await;
    master.refuse(call::Type::Teardown, tonic::Status::unavailable("resigning"));
    running.tell(Do::Teardown);
    master.call(call::Type::Teardown).await;
    running.hears("disconnected").await;
    master.subscribe().await;
    master.call(call::Type::Teardown).await;
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_teardown_that_was_carried_out_without_an_answer_ends_the_run() {
    let (mut master, mut running) = registered().await;
    master.refuse(call::Type::Teardown, tonic::Status::unavailable("resigning"));
    let reason = "Framework has been removed";
    master.refuse(call::Type::Subscribe, tonic::Status::invalid_argument(reason));
    running.tell(Do::Teardown);
    master.call(call::Type::Teardown).await;
    running.hears("disconnected").await;
    running.end().await.unwrap();
}

#[tokio::test]
async fn the_stream_outlives_the_teardown() {
    let (mut master, running) = registered().await;
    running.tell(Do::Teardown);
    // A master that had seen the end of the stream would refuse it.
    master.call(call::Type::Teardown).await;
    let Running { mut heard, task, .. } = running;
    task.await.unwrap().unwrap();
    assert_eq!(heard.recv().await, None, "it was never disconnected");
}

#[tokio::test]
async fn calls_of_a_former_subscription_are_refused() {
    let master = FakeMaster::start().await;
    let (mut events, former) = connect(&master.masters(), Framework::new("f")).await.unwrap();
    assert!(events.next().await.unwrap().subscribed.is_some());
    let framework = Framework::new("f").id(former.framework_id().clone());
    let (_events, current) = connect(&master.masters(), framework).await.unwrap();
    assert!(matches!(former.revive(vec![]).await, Err(CallError::NotSubscribed(_))));
    current.revive(vec![]).await.unwrap();
    assert!(events.next().await.is_err(), "the former stream has ended");
}

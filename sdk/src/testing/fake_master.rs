//! A master in this process that answers SUBSCRIBE by itself and for the rest does what a test tells it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use proffer_proto::api::operator_server::{Operator, OperatorServer};
use proffer_proto::api::scheduler_server::{Scheduler, SchedulerServer};
use proffer_proto::api::state_server::{self, StateServer};
use proffer_proto::v1::scheduler::{Call, Event, Response as CallResponse, call, event};
use proffer_proto::v1::{FrameworkId, Offer, OfferId, OperationStatus, TaskStatus, master};
use proffer_proto::{calls, state as wire};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::fake_state::{FakeState, Mishap};
use super::mailbox::Mailbox;
use crate::calls::STREAM_ID_METADATA;
use crate::masters::{LEADER_METADATA, Masters};

type EventSender = mpsc::UnboundedSender<Result<Event, Status>>;

/// A scripted master on a port that the kernel chose. It leads, and ends when dropped.
///
/// The methods that expect something panic after 20 seconds, saying what came instead.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use proffer_proto::v1::{TaskState, scheduler::call};
/// use proffer_sdk::testing::{self, FakeMaster};
/// use proffer_sdk::{Context, Framework, Offers, Options, Scheduler, Task, offers::Matcher, run};
///
/// struct Once;
/// impl Scheduler for Once {
///     type Message = ();
///     async fn offers(&mut self, context: &mut Context<()>, offers: Offers) {
///         let task = Task::command("once", "true").cpus(0.1).mem(16.0);
///         let place = Matcher::new(&offers).place(task.shape()).unwrap();
///         context.launch(place, task);
///     }
///     async fn update(&mut self, context: &mut Context<()>, _: proffer_proto::v1::TaskStatus) {
///         context.teardown();
///     }
/// }
///
/// let mut master = FakeMaster::start().await;
/// let running = tokio::spawn(run(Once, Options::new(master.masters(), Framework::new("once"))));
/// master.subscribe().await;
/// master.offers(vec![testing::offer("o1", "agent1", 1.0, 64.0, 31000..=31000)]);
/// let accept = master.accept().await;
/// let task = &accept.operations[0].launch.as_ref().unwrap().task_infos[0];
/// master.update(testing::status(&task.task_id, "agent1", TaskState::TaskFinished));
/// master.acknowledge().await;
/// master.call(call::Type::Teardown).await;
/// running.await.unwrap().unwrap();
/// # });
/// ```
#[derive(Debug)]
pub struct FakeMaster {
    address: SocketAddr,
    state: Shared,
    calls: Mailbox<Call>,
    server: tokio::task::AbortHandle,
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Where this master does not lead: whom it names as the leader.
    follows: Option<Option<String>>,
    heartbeat_interval: Duration,
    stream: Option<(String, EventSender)>,
    frameworks: usize,
    received: mpsc::UnboundedSender<Call>,
    /// What is answered to the next calls of a kind instead of OK.
    refusals: Vec<(call::Type, Status)>,
    operator_answers: HashMap<i32, master::Response>,
    kept: FakeState,
    takes_no_streams: bool,
}

impl FakeMaster {
    /// Starts one on the loopback interface.
    pub async fn start() -> Self {
        Self::start_with(FakeState::default()).await
    }

    /// Starts another master of the same cluster: what is written to the [`State`](crate::State) of one is in that of the other.
    pub async fn start_beside(&self) -> Self {
        let kept = self.state.lock().kept.clone();
        Self::start_with(kept).await
    }

    async fn start_with(kept: FakeState) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (received, calls) = mpsc::unbounded_channel();
        let state = Shared(Arc::new(Mutex::new(State {
            follows: None,
            heartbeat_interval: Duration::from_secs(15),
            stream: None,
            frameworks: 0,
            received,
            refusals: Vec::new(),
            operator_answers: HashMap::new(),
            kept,
            takes_no_streams: false,
        })));
        let server = tonic::transport::Server::builder()
            .add_service(SchedulerServer::new(state.clone()))
            .add_service(OperatorServer::new(state.clone()))
            .add_service(StateServer::new(state.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(server).abort_handle();
        FakeMaster {
            address,
            state,
            calls: Mailbox::new(calls),
            server,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A list of this master alone.
    pub fn masters(&self) -> Masters {
        self.address.into()
    }

    /// Stops leading: breaks the streams and from now on answers every call with the leader, where it knows one.
    pub fn follow(&self, leader: Option<SocketAddr>) {
        let mut state = self.state.lock();
        state.follows = Some(leader.map(|leader| leader.to_string()));
        state.stream = None;
        state.kept.break_watches();
    }

    /// Leads again.
    pub fn lead(&self) {
        self.state.lock().follows = None;
    }

    /// The interval of heartbeats that it promises from the next subscription on; it sends none by itself.
    pub fn promise_heartbeats(&self, interval: Duration) {
        self.state.lock().heartbeat_interval = interval;
    }

    /// Refuses the next call of a kind. Further refusals of the kind queue up.
    pub fn refuse(&self, kind: call::Type, status: Status) {
        self.state.lock().refusals.push((kind, status));
    }

    /// Refuses the next call to the [`State`](crate::State). Further mishaps queue up.
    pub fn refuse_state(&self, status: Status) {
        self.state.lock().kept.plan(Mishap::Refused(status));
    }

    /// Carries out the next write to the [`State`](crate::State), and answers it as if the master had gone meanwhile.
    pub fn lose_state_answer(&self) {
        self.state.lock().kept.plan(Mishap::AnswerLost);
    }

    /// From now on does not know streams of calls, neither of schedulers nor to the [`State`](crate::State), as masters before they were there.
    pub fn take_no_streams(&self) {
        self.state.lock().takes_no_streams = true;
    }

    /// Ends every watch of the [`State`](crate::State).
    pub fn break_watches(&self) {
        self.state.lock().kept.break_watches();
    }

    /// Answers operator calls of this kind with this.
    pub fn answer_operator(&self, kind: master::call::Type, answer: master::Response) {
        self.state.lock().operator_answers.insert(kind.into(), answer);
    }

    /// Sends any event to the subscribed framework. Nothing where there is none.
    pub fn send(&self, event: Event) {
        if let Some((_, stream)) = &self.state.lock().stream {
            // The framework may be gone already, which is not the master's concern.
            let _ = stream.send(Ok(event));
        }
    }

    /// Makes offers.
    pub fn offers(&self, offers: Vec<Offer>) {
        self.send(Event {
            offers: Some(event::Offers { offers }),
            ..event_of(event::Type::Offers)
        });
    }

    /// Takes an offer back.
    pub fn rescind(&self, offer_id: &str) {
        let offer_id = OfferId { value: offer_id.into() };
        self.send(Event {
            rescind: Some(event::Rescind { offer_id }),
            ..event_of(event::Type::Rescind)
        });
    }

    /// Sends a status update.
    pub fn update(&self, status: TaskStatus) {
        self.send(Event {
            update: Some(event::Update { status }),
            ..event_of(event::Type::Update)
        });
    }

    /// Says how an operation stands.
    pub fn operation(&self, status: OperationStatus) {
        self.send(Event {
            update_operation_status: Some(event::UpdateOperationStatus { status }),
            ..event_of(event::Type::UpdateOperationStatus)
        });
    }

    /// Sends an ERROR event.
    pub fn error(&self, message: &str) {
        let message = message.to_owned();
        self.send(Event {
            error: Some(event::Error { message }),
            ..event_of(event::Type::Error)
        });
    }

    /// Breaks the stream; calls with its id are refused from now on.
    pub fn break_stream(&self) {
        self.state.lock().stream = None;
    }

    /// Waits for a call of this kind, passing over calls of other kinds, which may be waited for later.
    pub async fn call(&mut self, kind: call::Type) -> Call {
        self.calls.next(kind.as_str_name(), |call| call.r#type() == kind).await
    }

    /// All calls of this kind that have come and were not waited for.
    pub fn calls_so_far(&mut self, kind: call::Type) -> Vec<Call> {
        self.calls.so_far(|call| call.r#type() == kind)
    }

    /// Waits for a subscription, which it has answered.
    pub async fn subscribe(&mut self) -> call::Subscribe {
        let call = self.call(call::Type::Subscribe).await;
        *call.subscribe.expect("checked on receipt")
    }

    /// Waits for an ACCEPT.
    pub async fn accept(&mut self) -> call::Accept {
        self.call(call::Type::Accept)
            .await
            .accept
            .expect("an ACCEPT has its field")
    }

    /// Waits for a DECLINE.
    pub async fn decline(&mut self) -> call::Decline {
        self.call(call::Type::Decline)
            .await
            .decline
            .expect("a DECLINE has its field")
    }

    /// Waits for an ACKNOWLEDGE.
    pub async fn acknowledge(&mut self) -> call::Acknowledge {
        let call = self.call(call::Type::Acknowledge).await;
        call.acknowledge.expect("an ACKNOWLEDGE has its field")
    }

    /// Waits for a RECONCILE.
    pub async fn reconcile(&mut self) -> call::Reconcile {
        self.call(call::Type::Reconcile)
            .await
            .reconcile
            .expect("a RECONCILE has its field")
    }

    /// Waits for an ACKNOWLEDGE_OPERATION_STATUS.
    pub async fn acknowledge_operation(&mut self) -> call::AcknowledgeOperationStatus {
        let call = self.call(call::Type::AcknowledgeOperationStatus).await;
        call.acknowledge_operation_status.expect("it has its field")
    }

    /// Waits for a RECONCILE_OPERATIONS.
    pub async fn reconcile_operations(&mut self) -> call::ReconcileOperations {
        let call = self.call(call::Type::ReconcileOperations).await;
        call.reconcile_operations.expect("it has its field")
    }

    /// Waits for a KILL.
    pub async fn kill(&mut self) -> call::Kill {
        self.call(call::Type::Kill).await.kill.expect("a KILL has its field")
    }
}

impl Drop for FakeMaster {
    fn drop(&mut self) {
        self.server.abort();
        self.break_stream();
    }
}

fn event_of(kind: event::Type) -> Event {
    Event {
        r#type: Some(kind.into()),
        ..Default::default()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn check_leads(&self) -> Result<(), Status> {
        let Some(leader) = &self.follows else { return Ok(()) };
        let mut status = Status::unavailable("this master does not lead");
        if let Some(leader) = leader {
            let leader = leader.parse().expect("an address is ASCII");
            status.metadata_mut().insert(LEADER_METADATA, leader);
        }
        Err(status)
    }

    fn check_refused(&mut self, kind: call::Type) -> Result<(), Status> {
        match self.refusals.iter().position(|(refused, _)| *refused == kind) {
            Some(index) => Err(self.refusals.remove(index).1),
            None => Ok(()),
        }
    }

    /// Takes any call but SUBSCRIBE.
    fn take(&mut self, stream_id: Option<&str>, call: Call) -> Result<(), Status> {
        self.check_leads()?;
        let open = self.stream.as_ref().filter(|(_, events)| !events.is_closed());
        let current = open.map(|(id, _)| id.as_str());
        if current.is_none() || stream_id != current {
            return Err(Status::failed_precondition(format!(
                "`{STREAM_ID_METADATA}` is not that of a subscription"
            )));
        }
        let refused = self.check_refused(call.r#type());
        self.note(call);
        refused
    }

    fn note(&self, call: Call) {
        // The test may have ended.
        let _ = self.received.send(call);
    }
}

#[tonic::async_trait]
impl Scheduler for Shared {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;
    type SubmitManyStream = Pin<Box<dyn Stream<Item = Result<calls::Answers, Status>> + Send>>;

    async fn subscribe(&self, request: Request<Call>) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut state = self.lock();
        state.check_leads()?;
        let call = request.into_inner();
        let subscribe = call.subscribe.as_ref();
        let subscribe = subscribe.ok_or_else(|| Status::invalid_argument("`subscribe` is missing"))?;
        state.check_refused(call::Type::Subscribe)?;
        let framework_id = subscribe.framework_info.id.clone().unwrap_or_else(|| {
            state.frameworks += 1;
            FrameworkId {
                value: format!("framework-{}", state.frameworks),
            }
        });
        let stream_id = uuid::Uuid::new_v4().to_string();
        let (sender, events) = mpsc::unbounded_channel();
        let subscribed = event::Subscribed {
            framework_id,
            heartbeat_interval_seconds: Some(state.heartbeat_interval.as_secs_f64()),
            master_info: None,
        };
        let subscribed = Event {
            subscribed: Some(Box::new(subscribed)),
            ..event_of(event::Type::Subscribed)
        };
        sender.send(Ok(subscribed)).expect("the receiver is here");
        let mut response = Response::new(Box::pin(UnboundedReceiverStream::new(events)) as Self::SubscribeStream);
        let stream_id_value = stream_id.parse().expect("a uuid is ASCII");
        response.metadata_mut().insert(STREAM_ID_METADATA, stream_id_value);
        state.stream = Some((stream_id, sender));
        state.note(call);
        Ok(response)
    }

    async fn submit(&self, request: Request<Call>) -> Result<Response<CallResponse>, Status> {
        let stream_id = stream_id(request.metadata());
        self.lock().take(stream_id.as_deref(), request.into_inner())?;
        Ok(Response::new(CallResponse::default()))
    }

    async fn submit_many(
        &self,
        request: Request<Streaming<calls::Calls>>,
    ) -> Result<Response<Self::SubmitManyStream>, Status> {
        if self.lock().takes_no_streams {
            return Err(Status::unimplemented("there is no such method"));
        }
        let stream_id = stream_id(request.metadata());
        let state = self.clone();
        let answers = request.into_inner().map(move |calls| {
            let mut state = state.lock();
            let answer = |call: calls::NumberedCall| {
                let taken = state.take(stream_id.as_deref(), call.call);
                calls::NumberedAnswer {
                    number: call.number,
                    refusal: taken.err().map(|status| refusal(&status)),
                }
            };
            let answers = calls?.calls.into_iter().map(answer).collect();
            Ok(calls::Answers { answers })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn stream_id(metadata: &MetadataMap) -> Option<String> {
    let text = metadata.get(STREAM_ID_METADATA)?.to_str().ok()?;
    Some(text.to_owned())
}

#[tonic::async_trait]
impl Operator for Shared {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<master::Event, Status>> + Send>>;

    async fn submit(&self, request: Request<master::Call>) -> Result<Response<master::Response>, Status> {
        let state = self.lock();
        state.check_leads()?;
        let kind = request.into_inner().r#type();
        let answer = state.operator_answers.get(&kind.into()).cloned();
        let unknown = || Status::invalid_argument(format!("`type`: the test has no answer to {}", kind.as_str_name()));
        answer.map(Response::new).ok_or_else(unknown)
    }

    async fn subscribe(&self, _: Request<master::Call>) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("the operator's event stream is not faked"))
    }
}

#[tonic::async_trait]
impl state_server::State for Shared {
    type SubmitManyStream = Pin<Box<dyn Stream<Item = Result<wire::Answers, Status>> + Send>>;
    type WatchStream = Pin<Box<dyn Stream<Item = Result<wire::Event, Status>> + Send>>;

    async fn submit(&self, request: Request<wire::Call>) -> Result<Response<wire::Answer>, Status> {
        let state = self.lock();
        state.check_leads()?;
        state.kept.submit(request.into_inner()).map(Response::new)
    }

    async fn submit_many(
        &self,
        request: Request<Streaming<wire::Calls>>,
    ) -> Result<Response<Self::SubmitManyStream>, Status> {
        if self.lock().takes_no_streams {
            return Err(Status::unimplemented("there is no such method"));
        }
        let state = self.clone();
        let answers = request.into_inner().map(move |calls| {
            let state = state.lock();
            let answer = |call: wire::NumberedCall| {
                let answered = state.check_leads().and_then(|()| state.kept.submit(call.call));
                answered_in_many(call.number, answered)
            };
            let answers = calls?.calls.into_iter().map(answer).collect();
            Ok(wire::Answers { answers })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn watch(&self, request: Request<wire::Watch>) -> Result<Response<Self::WatchStream>, Status> {
        let state = self.lock();
        state.check_leads()?;
        let events = state.kept.watch(request.into_inner())?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(events))))
    }
}

/// An answer as it stands among others.
fn answered_in_many(number: u64, answered: Result<wire::Answer, Status>) -> wire::NumberedAnswer {
    let body = match answered {
        Ok(answer) => wire::numbered_answer::Body::Answer(answer),
        Err(status) => wire::numbered_answer::Body::Refusal(refusal(&status)),
    };
    wire::NumberedAnswer {
        number,
        body: Some(body),
    }
}

fn refusal(status: &Status) -> wire::Refusal {
    let leader = status.metadata().get(LEADER_METADATA);
    wire::Refusal {
        code: status.code().into(),
        message: status.message().to_owned(),
        leader: leader.and_then(|leader| leader.to_str().ok()).map(str::to_owned),
    }
}

//! An agent in this process that says to an executor what a test wants, and hears what it answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use proffer_proto::api::Accepted;
use proffer_proto::api::executor_server::{Executor, ExecutorServer};
use proffer_proto::v1::executor::{Call, Event, call, event};
use proffer_proto::v1::{
    AgentInfo, ExecutorInfo, FrameworkInfo, KillPolicy, TaskGroupInfo, TaskId, TaskInfo, TaskStatus,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::mailbox::Mailbox;
use crate::executor::Options;

const TOKEN: &str = "the executor's token";

/// A scripted agent on a port that the kernel chose, for one executor. It ends when dropped.
///
/// The methods that expect something panic after 20 seconds, saying what came instead.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use proffer_sdk::testing::FakeAgent;
///
/// let agent = FakeAgent::start().await;
/// assert_eq!(agent.options().executor_id.value, "executor-1");
/// # });
/// ```
#[derive(Debug)]
pub struct FakeAgent {
    address: SocketAddr,
    state: Shared,
    calls: Mailbox<Call>,
    server: tokio::task::AbortHandle,
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    stream: Option<mpsc::UnboundedSender<Result<Event, Status>>>,
    /// What is answered to SUBSCRIBE.
    away: Option<Status>,
    received: mpsc::UnboundedSender<Call>,
}

impl FakeAgent {
    /// Starts one on the loopback interface.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (received, calls) = mpsc::unbounded_channel();
        let state = Shared(Arc::new(Mutex::new(State {
            stream: None,
            away: None,
            received,
        })));
        let server = tonic::transport::Server::builder()
            .add_service(ExecutorServer::new(state.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(server).abort_handle();
        FakeAgent {
            address,
            state,
            calls: Mailbox::new(calls),
            server,
        }
    }

    /// What an executor needs to be this agent's.
    pub fn options(&self) -> Options {
        let variable = |name| match name {
            "MESOS_FRAMEWORK_ID" => Some("framework-1".into()),
            "MESOS_EXECUTOR_ID" => Some("executor-1".into()),
            "MESOS_AGENT_ENDPOINT" => Some(self.address.to_string()),
            "MESOS_EXECUTOR_AUTHENTICATION_TOKEN" => Some(TOKEN.into()),
            _ => None,
        };
        Options::from_variables(variable).expect("all that is required is there")
    }

    /// Breaks the stream, and refuses SUBSCRIBE with this status until [`FakeAgent::come_back`].
    pub fn go_away(&self, status: Status) {
        let mut state = self.state.lock();
        state.away = Some(status);
        state.stream = None;
    }

    /// Takes subscriptions again.
    pub fn come_back(&self) {
        self.state.lock().away = None;
    }

    /// Sends any event to the subscribed executor. Nothing where there is none.
    pub fn send(&self, event: Event) {
        if let Some(stream) = &self.state.lock().stream {
            // The executor may be gone already, which is not the agent's concern.
            let _ = stream.send(Ok(event));
        }
    }

    /// Gives it a task.
    pub fn launch(&self, task: TaskInfo) {
        self.send(Event {
            launch: Some(event::Launch { task }),
            ..of(event::Type::Launch)
        });
    }

    /// Gives it a group of tasks.
    pub fn launch_group(&self, tasks: Vec<TaskInfo>) {
        let task_group = TaskGroupInfo { tasks };
        self.send(Event {
            launch_group: Some(event::LaunchGroup { task_group }),
            ..of(event::Type::LaunchGroup)
        });
    }

    /// Asks it to end a task.
    pub fn kill(&self, task_id: &str, kill_policy: Option<KillPolicy>) {
        let task_id = TaskId { value: task_id.into() };
        self.send(Event {
            kill: Some(event::Kill { task_id, kill_policy }),
            ..of(event::Type::Kill)
        });
    }

    /// Passes on data of the framework.
    pub fn message(&self, data: impl Into<Vec<u8>>) {
        let data = data.into();
        self.send(Event {
            message: Some(event::Message { data }),
            ..of(event::Type::Message)
        });
    }

    /// Acknowledges an update.
    pub fn acknowledge(&self, status: &TaskStatus) {
        let (task_id, uuid) = (status.task_id.clone(), status.uuid.clone().unwrap_or_default());
        self.send(Event {
            acknowledged: Some(event::Acknowledged { task_id, uuid }),
            ..of(event::Type::Acknowledged)
        });
    }

    /// Asks it to end.
    pub fn shut_down(&self) {
        self.send(of(event::Type::Shutdown));
    }

    /// Waits for a call of this kind, passing over others, which may be waited for later.
    pub async fn call(&mut self, kind: call::Type) -> Call {
        self.calls.next(kind.as_str_name(), |call| call.r#type() == kind).await
    }

    /// Waits for a subscription, which it has answered.
    pub async fn subscribed(&mut self) -> call::Subscribe {
        self.call(call::Type::Subscribe).await.subscribe.unwrap_or_default()
    }

    /// Waits for an update outside of SUBSCRIBE.
    pub async fn update(&mut self) -> TaskStatus {
        let call = self.call(call::Type::Update).await;
        call.update.expect("an UPDATE has its field").status
    }

    /// Waits for data for the framework.
    pub async fn data(&mut self) -> Vec<u8> {
        let call = self.call(call::Type::Message).await;
        call.message.expect("a MESSAGE has its field").data
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.server.abort();
        self.state.lock().stream = None;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn of(kind: event::Type) -> Event {
    Event {
        r#type: Some(kind.into()),
        ..Default::default()
    }
}

fn check_token(metadata: &tonic::metadata::MetadataMap) -> Result<(), Status> {
    let shown = metadata.get("authorization").and_then(|value| value.to_str().ok());
    match shown.and_then(|shown| shown.strip_prefix("Bearer ")) {
        Some(TOKEN) => Ok(()),
        _ => Err(Status::unauthenticated("the token is not this executor's")),
    }
}

#[tonic::async_trait]
impl Executor for Shared {
    type SubscribeStream = UnboundedReceiverStream<Result<Event, Status>>;

    async fn subscribe(&self, request: Request<Call>) -> Result<Response<Self::SubscribeStream>, Status> {
        check_token(request.metadata())?;
        let call = request.into_inner();
        let mut state = self.lock();
        if let Some(status) = &state.away {
            return Err(status.clone());
        }
        let (stream, events) = mpsc::unbounded_channel();
        let subscribed = event::Subscribed {
            executor_info: ExecutorInfo {
                executor_id: call.executor_id.clone(),
                ..Default::default()
            },
            framework_info: FrameworkInfo {
                id: Some(call.framework_id.clone()),
                ..Default::default()
            },
            agent_info: AgentInfo::default(),
            container_id: None,
        };
        let _ = stream.send(Ok(Event {
            subscribed: Some(subscribed),
            ..of(event::Type::Subscribed)
        }));
        state.stream = Some(stream);
        let _ = state.received.send(call);
        Ok(Response::new(UnboundedReceiverStream::new(events)))
    }

    async fn submit(&self, request: Request<Call>) -> Result<Response<Accepted>, Status> {
        check_token(request.metadata())?;
        let state = self.lock();
        if state.stream.is_none() {
            return Err(Status::failed_precondition("the executor is not subscribed"));
        }
        let _ = state.received.send(request.into_inner());
        Ok(Response::new(Accepted {}))
    }
}

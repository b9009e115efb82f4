//! A scripted master of one agent: admits it, sends it tasks, and acknowledges what it says.

use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use proffer_proto::api::agent_link_server::{AgentLink, AgentLinkServer};
use proffer_proto::link::{self, AgentMessage, MasterMessage, agent_message, master_message};
use proffer_proto::v1;
use proffer_tests::bench::Stamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

const DEADLINE: Duration = Duration::from_secs(120);
const FRAMEWORK: &str = "bench";
const AGENT: &str = "agent";
/// Each task's.
const CPUS: f64 = 0.1;
const MEM_MIB: f64 = 16.0;
const DISK_MIB: f64 = 64.0;

type Sender = mpsc::Sender<Result<MasterMessage, Status>>;

/// A master that waits for its agent.
pub(crate) struct Master {
    pub(crate) address: String,
    links: mpsc::Receiver<Link>,
}

impl Master {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (attached, links) = mpsc::channel(1);
        let service = AgentLinkServer::new(Service { attached });
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        Ok(Master { address, links })
    }

    pub(crate) async fn attached(mut self) -> anyhow::Result<Link> {
        let link = tokio::time::timeout(DEADLINE, self.links.recv()).await;
        link.ok().flatten().context("the agent did not register in time")
    }
}

/// The stream of a registered agent.
pub(crate) struct Link {
    messages: Sender,
    /// The ids of tasks that ended.
    ended: mpsc::UnboundedReceiver<String>,
}

impl Link {
    /// Sends the payload as a task.
    pub(crate) async fn launch(&self, stamp: &Stamp, id: &str, stay_seconds: u64) -> anyhow::Result<()> {
        let program = stamp.program.display().to_string();
        let mut arguments = vec![program.clone()];
        arguments.extend(stamp.arguments(id, stay_seconds));
        let command = v1::CommandInfo {
            shell: Some(false),
            value: Some(program),
            arguments,
            ..Default::default()
        };
        let info = v1::TaskInfo {
            name: id.to_owned(),
            task_id: v1::TaskId { value: id.to_owned() },
            agent_id: v1::AgentId {
                value: AGENT.to_owned(),
            },
            resources: vec![scalar("cpus", CPUS), scalar("mem", MEM_MIB), scalar("disk", DISK_MIB)],
            command: Some(command),
            ..Default::default()
        };
        let framework = v1::FrameworkInfo {
            user: "nobody".to_owned(),
            name: FRAMEWORK.to_owned(),
            id: Some(framework_id()),
            ..Default::default()
        };
        self.send(master_message::Body::Launch(link::Launch {
            framework,
            tasks: vec![info],
            ..Default::default()
        }))
        .await
    }

    pub(crate) async fn kill(&self, id: &str) -> anyhow::Result<()> {
        self.send(master_message::Body::Kill(link::Kill {
            framework_id: framework_id(),
            task_id: v1::TaskId { value: id.to_owned() },
            kill_policy: None,
            drain: None,
        }))
        .await
    }

    /// Waits until so many more tasks have ended.
    pub(crate) async fn ended(&mut self, tasks: usize) -> anyhow::Result<()> {
        for _ in 0..tasks {
            let ended = tokio::time::timeout(DEADLINE, self.ended.recv()).await;
            ended.ok().flatten().context("a task did not end in time")?;
        }
        Ok(())
    }

    async fn send(&self, body: master_message::Body) -> anyhow::Result<()> {
        let message = MasterMessage { body: Some(body) };
        self.messages.send(Ok(message)).await.context("the agent left")
    }
}

struct Service {
    attached: mpsc::Sender<Link>,
}

#[tonic::async_trait]
impl AgentLink for Service {
    type AttachStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<MasterMessage, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut incoming = request.into_inner();
        incoming.message().await?;
        let (messages, outgoing) = mpsc::channel(4096);
        let (tell, ended) = mpsc::unbounded_channel();
        let registered = link::Registered {
            agent_id: v1::AgentId {
                value: AGENT.to_owned(),
            },
            ping_interval_seconds: 60.0,
        };
        let body = Some(master_message::Body::Registered(registered));
        let _ = messages.send(Ok(MasterMessage { body })).await;
        let acknowledgements = messages.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if let Some(agent_message::Body::StatusUpdate(update)) = message.body {
                    hear(update, &acknowledgements, &tell).await;
                }
            }
        });
        let _ = self.attached.send(Link { messages, ended }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

/// Acknowledges, and tells of the first word of an end: a repeated update has an acknowledged one before it.
async fn hear(update: link::StatusUpdate, acknowledgements: &Sender, ended: &mpsc::UnboundedSender<String>) {
    let status = update.status;
    if proffer_sdk::is_terminal(status.state()) {
        let _ = ended.send(status.task_id.value.clone());
    }
    let acknowledge = link::Acknowledge {
        framework_id: update.framework_id,
        task_id: status.task_id,
        uuid: status.uuid.unwrap_or_default(),
    };
    let body = Some(master_message::Body::Acknowledge(acknowledge));
    let _ = acknowledgements.send(Ok(MasterMessage { body })).await;
}

fn framework_id() -> v1::FrameworkId {
    v1::FrameworkId {
        value: FRAMEWORK.to_owned(),
    }
}

fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    }
}

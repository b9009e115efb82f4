//! What the tests of a whole master share.

use std::path::Path;
use std::time::Duration;

use proffer_master::{Config, Server};
use proffer_proto::api::agent_link_client::AgentLinkClient;
use proffer_proto::api::operator_client::OperatorClient;
use proffer_proto::api::scheduler_client::SchedulerClient;
use proffer_proto::v1::scheduler::{Call, Event, call, event};
use proffer_proto::v1::{self, FrameworkId, FrameworkInfo};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A master on a port of the kernel's choice.
pub(crate) async fn master(directory: &Path) -> anyhow::Result<Server> {
    Server::start(Config::in_directory(directory)).await
}

pub(crate) async fn connect(server: &Server) -> anyhow::Result<Channel> {
    let endpoint = format!("http://{}", server.address());
    Ok(Channel::from_shared(endpoint)?.connect().await?)
}

pub(crate) async fn scheduler(server: &Server) -> anyhow::Result<SchedulerClient<Channel>> {
    Ok(SchedulerClient::new(connect(server).await?))
}

pub(crate) async fn operator(server: &Server) -> anyhow::Result<OperatorClient<Channel>> {
    Ok(OperatorClient::new(connect(server).await?))
}

pub(crate) async fn link(server: &Server) -> anyhow::Result<AgentLinkClient<Channel>> {
    Ok(AgentLinkClient::new(connect(server).await?))
}

pub(crate) fn framework(name: &str, failover_timeout: f64) -> FrameworkInfo {
    FrameworkInfo {
        user: "nobody".to_owned(),
        name: name.to_owned(),
        failover_timeout: Some(failover_timeout),
        roles: vec!["test".to_owned()],
        capabilities: vec![v1::framework_info::Capability {
            r#type: Some(v1::framework_info::capability::Type::MultiRole as i32),
        }],
        ..FrameworkInfo::default()
    }
}

pub(crate) fn subscribe(info: FrameworkInfo) -> Call {
    Call {
        framework_id: info.id.clone(),
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(Box::new(call::Subscribe {
            framework_info: info,
            ..call::Subscribe::default()
        })),
        ..Call::default()
    }
}

/// A subscribed framework.
#[derive(Debug)]
pub(crate) struct Subscribed {
    pub(crate) id: FrameworkId,
    pub(crate) stream_id: String,
    pub(crate) events: Streaming<Event>,
}

pub(crate) async fn subscribed(
    client: &mut SchedulerClient<Channel>,
    info: FrameworkInfo,
) -> Result<Subscribed, Status> {
    let response = client.subscribe(subscribe(info)).await?;
    let stream_id = response
        .metadata()
        .get("mesos-stream-id")
        .map(|id| id.to_str().unwrap_or_default().to_owned());
    let mut events = response.into_inner();
    let first = next(&mut events).await?;
    let id = first
        .filter(|event| event.r#type() == event::Type::Subscribed)
        .and_then(|event| event.subscribed)
        .map(|subscribed| subscribed.framework_id);
    Ok(Subscribed {
        id: id.ok_or_else(|| Status::internal("the first event is not SUBSCRIBED"))?,
        stream_id: stream_id.ok_or_else(|| Status::internal("there is no mesos-stream-id"))?,
        events,
    })
}

pub(crate) async fn next(events: &mut Streaming<Event>) -> Result<Option<Event>, Status> {
    let next = tokio::time::timeout(PATIENCE, events.message()).await;
    next.map_err(|_| Status::deadline_exceeded("no event came"))?
}

/// A call with the stream id where it belongs.
pub(crate) fn on_stream(stream_id: &str, call: Call) -> Request<Call> {
    let mut request = Request::new(call);
    if let Ok(value) = stream_id.parse() {
        request.metadata_mut().insert("mesos-stream-id", value);
    }
    request
}

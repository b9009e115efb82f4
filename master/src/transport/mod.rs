//! One port for everything: gRPC, and over plain HTTP the pages. Handlers decode, enqueue and encode; they decide nothing.

mod link;
mod listener;
mod operator;
mod pages;
mod scheduler;
mod status;

use axum::Router;
use axum::routing::get;
use proffer_proto::api::agent_link_server::AgentLinkServer;
use proffer_proto::api::operator_server::OperatorServer;
use proffer_proto::api::scheduler_server::SchedulerServer;
use tonic::service::Routes;

pub use listener::serve;

use crate::driver::Handle;
use crate::outbox::Bounds;

/// The response metadata and call metadata that name a scheduler's event stream.
pub const STREAM_ID: &str = "mesos-stream-id";
/// The metadata of a refusal that says where the leader is.
pub const LEADER: &str = "proffer-leader";

/// The largest call of a scheduler or an operator.
const CALL_BYTES_MAX: usize = 16 << 20;
/// The largest message of an agent: a registration lists all of its tasks.
const AGENT_MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What the pages say of this master.
#[derive(Debug, Clone)]
pub struct About {
    /// Its version.
    pub version: &'static str,
    /// The cluster's name.
    pub cluster: String,
    /// Where it is reached.
    pub advertise: String,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
struct PeerAddress(std::net::SocketAddr);

/// Every service and page.
pub fn router(handle: Handle, about: About, bounds: Bounds) -> Router {
    let scheduler = SchedulerServer::new(scheduler::Service::new(handle.clone(), bounds));
    let operator = OperatorServer::new(operator::Service::new(handle.clone()));
    let link = AgentLinkServer::new(link::Service::new(handle.clone(), bounds));
    Routes::new(scheduler.max_decoding_message_size(CALL_BYTES_MAX))
        .add_service(operator.max_decoding_message_size(CALL_BYTES_MAX))
        .add_service(link.max_decoding_message_size(AGENT_MESSAGE_BYTES_MAX))
        .into_axum_router()
        .route("/health", get(pages::health))
        .route("/version", get(pages::version))
        .fallback(pages::unknown)
        .layer(axum::Extension(pages::Context { handle, about }))
}

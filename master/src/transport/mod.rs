//! One port for everything: gRPC, and over plain HTTP the pages. Handlers decode, enqueue and encode; they decide nothing.

mod cluster;
mod forming;
mod link;
mod listener;
mod many;
mod masters;
mod operator;
mod pages;
mod raft;
mod scheduler;
mod state;
mod status;

use axum::Router;
use axum::routing::{any, get};
use proffer_proto::api::agent_link_server::AgentLinkServer;
use proffer_proto::api::masters_server::MastersServer;
use proffer_proto::api::operator_server::OperatorServer;
use proffer_proto::api::raft_server::RaftServer;
use proffer_proto::api::scheduler_server::SchedulerServer;
use proffer_proto::api::state_server::StateServer;
use tonic::service::Routes;

pub use self::raft::Founders;
pub use forming::forming;
pub use listener::serve;

use crate::driver::Handle;
use crate::outbox::Bounds;
use crate::peers::Incoming;

/// The response metadata and call metadata that name a scheduler's event stream.
pub const STREAM_ID: &str = "mesos-stream-id";

/// The largest call of a scheduler or an operator.
const CALL_BYTES_MAX: usize = 16 << 20;
/// The largest message of an agent: a registration lists all of its tasks.
const AGENT_MESSAGE_BYTES_MAX: usize = 64 << 20;
/// The largest envelope of another master: it holds one entry at least, however large that is.
const ENVELOPE_BYTES_MAX: usize = 64 << 20;

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

/// Every service and page of a master that is of a cluster.
pub fn router(handle: Handle, incoming: Incoming, founders: Founders, about: About, bounds: Bounds) -> Router {
    let scheduler = SchedulerServer::new(scheduler::Service::new(handle.clone(), bounds));
    let operator = OperatorServer::new(operator::Service::new(handle.clone()));
    let me = incoming.me().clone();
    let cluster = cluster::Cluster::new(&me.cluster_id, &about.cluster);
    let link = AgentLinkServer::new(link::Service::new(handle.clone(), me.address.clone(), bounds));
    let state = StateServer::new(state::Service::new(handle.clone(), bounds));
    let masters = MastersServer::new(masters::Service::new(handle.clone()));
    let raft = RaftServer::new(raft::Service::new(handle.clone(), incoming, founders));
    Routes::new(scheduler.max_decoding_message_size(CALL_BYTES_MAX))
        .add_service(operator.max_decoding_message_size(CALL_BYTES_MAX))
        .add_service(link.max_decoding_message_size(AGENT_MESSAGE_BYTES_MAX))
        .add_service(state)
        .add_service(masters)
        .add_service(raft.max_decoding_message_size(ENVELOPE_BYTES_MAX))
        .into_axum_router()
        .route("/health", get(pages::health))
        .route("/version", get(pages::version))
        .route("/api/v1", any(pages::api))
        .route("/api/v1/{*rest}", any(pages::api))
        .fallback(pages::unknown)
        .layer(axum::Extension(pages::Context { handle, me }))
        .layer(axum::Extension(about))
        .layer(axum::middleware::from_fn_with_state(cluster, cluster::guard))
}

//! Plain HTTP: health, version, the way to the leader, and a 404 that programs can read.

use std::time::Duration;

use axum::extract::Extension;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use proffer_proto::masters::MastersList;
use proffer_proto::masters::master::Role;
use serde_json::json;
use tonic::Status;

use super::{About, masters};
use crate::driver::{Handle, MastersCall};
use crate::peers::Me;

/// How long the driver may take to say how it is.
const SAYS_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) handle: Handle,
    pub(super) me: Me,
}

/// Answers as long as the process does; whether there is a leader is a field of the answer. `role` and `term` are missing where
/// the driver is too busy to say.
pub(super) async fn health(Extension(context): Extension<Context>) -> Response {
    let Context { handle, me } = context;
    let leader = handle.leader();
    let leading = leader.as_deref() == Some(me.address.as_str());
    let group = tokio::time::timeout(SAYS_WITHIN, masters::list(&handle, MastersCall::List)).await;
    let group = group.ok().and_then(Result::ok);
    let role = group.as_ref().map(|group| role(group, me.member));
    Json(json!({
        "healthy": true,
        "forming": false,
        "leading": leading,
        "leader": leader,
        "role": role,
        "term": group.map(|group| group.term),
        "member": me.member,
        "cluster_id": me.cluster_id,
        "address": me.address,
        "log": handle.log(),
    }))
    .into_response()
}

fn role(group: &MastersList, member: u64) -> &'static str {
    let Some(master) = group.masters.iter().find(|master| master.id == member) else {
        return "unknown";
    };
    match master.role() {
        _ if master.leads => "leader",
        Role::Voter => "follower",
        Role::Learner => "learner",
        Role::Leaving => "leaving",
        Role::Unknown => "unknown",
    }
}

pub(super) async fn version(Extension(about): Extension<About>) -> Response {
    let About { version, cluster, .. } = about;
    Json(json!({ "version": version, "cluster": cluster })).into_response()
}

/// The v1 API over HTTP, which is the leader's: the others say where that is.
pub(super) async fn api(Extension(context): Extension<Context>, uri: Uri) -> Response {
    let Some(leader) = context.handle.leader() else {
        let error = "no master leads at the moment; try again";
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error }))).into_response();
    };
    if leader == context.me.address {
        let error = "the v1 API is served over gRPC only, on the same port";
        return (StatusCode::NOT_IMPLEMENTED, Json(json!({ "error": error }))).into_response();
    }
    let path = uri.path_and_query().map_or_else(|| uri.path(), |path| path.as_str());
    let body = json!({ "error": format!("this master does not lead; {leader} does"), "leader": leader });
    let location = [(header::LOCATION, format!("//{leader}{path}"))];
    (StatusCode::TEMPORARY_REDIRECT, location, Json(body)).into_response()
}

/// tonic's own fallback would answer every unknown path as gRPC does, with status 200.
pub(super) async fn unknown(uri: Uri, headers: HeaderMap) -> Response {
    if is_grpc(&headers) {
        return Status::unimplemented(format!("there is no method {}", uri.path())).into_http();
    }
    let body =
        json!({ "error": format!("there is nothing at {}", uri.path()), "paths": ["/health", "/version", "/api/v1"] });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

/// The answer of a handler that panicked.
pub(super) fn broken(grpc: bool) -> Response {
    let error = "the master failed to handle this call; its log says more";
    if grpc {
        return Status::internal(error).into_http();
    }
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": error }))).into_response()
}

/// The answer to a call that came to the wrong cluster.
pub(super) fn misdirected(grpc: bool, error: String) -> Response {
    if grpc {
        return Status::unavailable(error).into_http();
    }
    (StatusCode::MISDIRECTED_REQUEST, Json(json!({ "error": error }))).into_response()
}

/// Whether a request is a call of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    content_type.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

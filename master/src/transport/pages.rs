//! Plain HTTP: health, version, and a 404 that programs can read.

use axum::extract::Extension;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use tonic::Status;

use super::About;
use crate::driver::Handle;

#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) handle: Handle,
    pub(super) about: About,
}

/// Answers as long as the process does; whether there is a leader is a field of the answer.
pub(super) async fn health(Extension(context): Extension<Context>) -> Response {
    let leader = context.handle.leader();
    let leading = leader.as_deref() == Some(context.about.advertise.as_str());
    Json(json!({ "healthy": true, "leading": leading, "leader": leader })).into_response()
}

pub(super) async fn version(Extension(context): Extension<Context>) -> Response {
    let About { version, cluster, .. } = context.about;
    Json(json!({ "version": version, "cluster": cluster })).into_response()
}

/// tonic's own fallback would answer every unknown path as gRPC does, with status 200.
pub(super) async fn unknown(uri: Uri, headers: HeaderMap) -> Response {
    if is_grpc(&headers) {
        return Status::unimplemented(format!("there is no method {}", uri.path())).into_http();
    }
    let body = json!({ "error": format!("there is nothing at {}", uri.path()), "paths": ["/health", "/version"] });
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

/// Whether a request is a call of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    content_type.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

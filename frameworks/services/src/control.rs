//! The control port: specifications and the catalogue over HTTP, as JSON.
//!
//! ```text
//! GET    /v1/services                  all services with their instances
//! GET    /v1/services/{id}             one of them
//! PUT    /v1/services/{id}             a specification, JSON or YAML; makes or changes the service
//! DELETE /v1/services/{id}             ends it
//! GET    /v1/services/{id}/versions    what was wanted when
//! POST   /v1/services/{id}/plan        a specification: what it would do, and where instances would go
//! POST   /v1/services/{id}/scale       {"instances": 3}
//! POST   /v1/services/{id}/restart     all instances anew
//! POST   /v1/services/{id}/rollback    {"version": 2}, or nothing for the one before
//! GET    /v1/discovery                 ready instances with a number, which grows with every change; may wait for a change
//! GET    /v1/endpoints                 the ports of ready instances; ?service=<id> for one service
//! GET    /v1/catalogue                 all of this at once
//! GET    /health                       whether the scheduler is subscribed
//! ```
//!
//! A change with `?version=N` is made only where that is the service's version, and answered by 409 where it is not.
//! A rejection is a status 400 with `{"error": ..., "field": ...}`.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use proffer_proto::Rejection;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::discovery;
use crate::spec::ServiceSpec;
use crate::versions::Change;
use crate::{ChangeError, Remote, RequestError};

/// The longest specification that is read, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What answers at the control port of an active scheduler.
pub(crate) fn router(remote: Remote) -> Router {
    Router::new()
        .route("/v1/services", get(services))
        .route("/v1/services/{id}", get(service).put(put).delete(remove))
        .route("/v1/services/{id}/versions", get(versions))
        .route("/v1/services/{id}/plan", post(plan))
        .route("/v1/services/{id}/scale", post(scale))
        .route("/v1/services/{id}/restart", post(restart))
        .route("/v1/services/{id}/rollback", post(rollback))
        .route("/v1/endpoints", get(endpoints))
        .route(
            "/v1/catalogue",
            get(async |State(remote): State<Remote>| Json(remote.catalogue()).into_response()),
        )
        .route("/health", get(health))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(remote.clone())
        .merge(discovery::http::router(remote.directory()))
}

async fn services(State(remote): State<Remote>) -> Response {
    Json(remote.catalogue().services).into_response()
}

async fn service(State(remote): State<Remote>, Path(id): Path<String>) -> Response {
    match remote.catalogue().services.remove(&id) {
        Some(service) => Json(service).into_response(),
        None => unknown(&id, &remote.catalogue()),
    }
}

/// What a change expects.
#[derive(Deserialize)]
struct Expected {
    /// The version that the service has.
    version: Option<u64>,
}

async fn put(
    State(remote): State<Remote>,
    Path(id): Path<String>,
    Query(expected): Query<Expected>,
    body: Bytes,
) -> Response {
    match read(&id, &body) {
        Ok(spec) => change(&remote, &id, Change::Spec(Box::new(spec)), &expected).await,
        Err(rejection) => rejected(&rejection),
    }
}

async fn plan(State(remote): State<Remote>, Path(id): Path<String>, body: Bytes) -> Response {
    let spec = match read(&id, &body) {
        Ok(spec) => spec,
        Err(rejection) => return rejected(&rejection),
    };
    match remote.preview(&spec).await {
        Ok(preview) => Json(preview).into_response(),
        Err(error) => failed(error),
    }
}

async fn scale(
    State(remote): State<Remote>,
    Path(id): Path<String>,
    Query(expected): Query<Expected>,
    body: Bytes,
) -> Response {
    let accepted = "{\"instances\": N} with N from 0 to 100000";
    match number(&body, "instances", accepted) {
        Ok(Some(instances)) => {
            let instances = u32::try_from(instances).unwrap_or(u32::MAX);
            change(&remote, &id, Change::Scale(instances), &expected).await
        }
        Ok(None) => rejected(&Rejection::new("instances", "is missing", accepted)),
        Err(rejection) => rejected(&rejection),
    }
}

async fn restart(State(remote): State<Remote>, Path(id): Path<String>, Query(expected): Query<Expected>) -> Response {
    change(&remote, &id, Change::Restart, &expected).await
}

async fn rollback(
    State(remote): State<Remote>,
    Path(id): Path<String>,
    Query(expected): Query<Expected>,
    body: Bytes,
) -> Response {
    match number(&body, "version", "{\"version\": N}, or nothing for the one before") {
        Ok(version) => change(&remote, &id, Change::Rollback(version), &expected).await,
        Err(rejection) => rejected(&rejection),
    }
}

async fn versions(State(remote): State<Remote>, Path(id): Path<String>) -> Response {
    match remote.versions(&id).await {
        Ok(Some(versions)) => Json(versions).into_response(),
        Ok(None) => unknown(&id, &remote.catalogue()),
        Err(error) => failed(error),
    }
}

async fn change(remote: &Remote, id: &str, change: Change, expected: &Expected) -> Response {
    match remote.change(id, change, expected.version).await {
        Ok(accepted) if accepted.created => (StatusCode::CREATED, Json(accepted)).into_response(),
        Ok(accepted) => Json(accepted).into_response(),
        Err(RequestError::Change(ChangeError::Unknown(id))) => unknown(&id, &remote.catalogue()),
        Err(error) => failed(error),
    }
}

/// The one number that a small body may hold; nothing where the body is empty.
fn number(body: &[u8], name: &'static str, accepted: &str) -> Result<Option<u64>, Rejection> {
    if body.is_empty() {
        return Ok(None);
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Rejection::new("", format!("is not JSON ({error})"), accepted))?;
    let fields = value.as_object();
    let fields = fields.ok_or_else(|| Rejection::new("", "is no map of fields", accepted))?;
    if let Some(other) = fields.keys().find(|known| known.as_str() != name) {
        return Err(Rejection::new(other, "is not a field", accepted));
    }
    let number = fields.get(name).map(|value| {
        let problem = || Rejection::new(name, format!("is {value}"), accepted);
        value.as_u64().ok_or_else(problem)
    });
    number.transpose()
}

async fn remove(State(remote): State<Remote>, Path(id): Path<String>) -> Response {
    match remote.remove(&id).await {
        Ok(true) => StatusCode::ACCEPTED.into_response(),
        Ok(false) => unknown(&id, &remote.catalogue()),
        Err(error) => failed(error),
    }
}

/// Which endpoints are wanted.
#[derive(Deserialize)]
struct Wanted {
    service: Option<String>,
}

async fn endpoints(State(remote): State<Remote>, Query(wanted): Query<Wanted>) -> Response {
    let mut endpoints = remote.catalogue().endpoints();
    if let Some(service) = wanted.service {
        endpoints.retain(|endpoint| endpoint.service == service);
    }
    Json(endpoints).into_response()
}

async fn health(State(remote): State<Remote>) -> Response {
    let connected = remote.catalogue().connected;
    let status = if connected {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "connected": connected }))).into_response()
}

fn read(id: &str, body: &[u8]) -> Result<ServiceSpec, Rejection> {
    let text =
        std::str::from_utf8(body).map_err(|_| Rejection::new("", "is not UTF-8", "one service in YAML or JSON"))?;
    let spec = ServiceSpec::from_yaml(text)?;
    if spec.id != id {
        return Err(Rejection::new(
            "id",
            format!("is {:?}", spec.id),
            format!("the id in the path, {id:?}"),
        ));
    }
    Ok(spec)
}

pub(crate) fn rejected(rejection: &Rejection) -> Response {
    let body = json!({ "error": rejection.to_string(), "field": rejection.field });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn unknown(id: &str, catalogue: &Catalogue) -> Response {
    let known: Vec<_> = catalogue.services.keys().take(20).map(String::as_str).collect();
    let error = format!("no service `{id}`; there are: {}", known.join(", "));
    (StatusCode::NOT_FOUND, Json(json!({ "error": error, "field": "id" }))).into_response()
}

fn failed(error: RequestError) -> Response {
    match error {
        RequestError::Rejected(rejection) => rejected(&rejection),
        RequestError::Change(ChangeError::Conflict { found, .. }) => {
            let body = json!({ "error": error.to_string(), "field": "version", "version": found });
            (StatusCode::CONFLICT, Json(body)).into_response()
        }
        error => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": text }))).into_response()
        }
    }
}

//! The executor API: gRPC `Executor` and HTTP at `/api/v1/executor`, on the agent's port and on a unix socket.
//!
//! Whoever speaks for an executor shows the token that its environment holds, as `authorization: Bearer`. A SUBSCRIBE is answered
//! by a stream of events, in HTTP framed as RecordIO; any other call is answered when what it says is in the journal.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use proffer_proto::api::Accepted;
use proffer_proto::api::executor_server::{Executor, ExecutorServer, SERVICE_NAME};
use proffer_proto::recordio;
use proffer_proto::v1::executor::call::Type;
use proffer_proto::v1::executor::{Call, Event, event};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::core::Refusal;
use crate::core::executors::RefusalKind;
use crate::driver;

/// Events that an executor may be behind before its stream is closed.
const EVENTS_MAX: usize = 1024;
/// How often an idle stream shows that it is open.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Passes calls on to the loop.
#[derive(Clone)]
struct Api {
    inbox: mpsc::Sender<driver::Event>,
}

const PATH: &str = "/api/v1/executor";

/// Whether a path is one of this API's.
pub(crate) fn is_own(path: &str) -> bool {
    let service = path.strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME));
    path == PATH || service.is_some_and(|method| method.starts_with('/'))
}

/// The routes of the API.
pub(crate) fn router(inbox: mpsc::Sender<driver::Event>) -> axum::Router {
    let api = Api { inbox };
    let grpc = tonic::service::Routes::new(ExecutorServer::new(api.clone()));
    // What is found nowhere is the port's business, of which this is a part.
    axum::Router::new()
        .route(PATH, axum::routing::post(over_http).with_state(api))
        .merge(grpc.into_axum_router().reset_fallback())
}

impl Api {
    async fn call(&self, token: String, call: Call, events: Option<mpsc::Sender<Event>>) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        let event = driver::Event::Executor {
            token,
            call: Box::new(call),
            answer,
            events,
        };
        self.inbox.send(event).await.map_err(|_| Failure::Stopping)?;
        answered.await.map_err(|_| Failure::Stopping)?.map_err(Failure::Refused)
    }

    async fn subscribe(&self, token: String, call: Call) -> Result<impl Stream<Item = Event> + use<>, Failure> {
        let (events, received) = mpsc::channel(EVENTS_MAX);
        self.call(token, call, Some(events)).await?;
        Ok(with_heartbeats(received))
    }
}

/// Adds a heartbeat wherever nothing was said for a while.
fn with_heartbeats(received: mpsc::Receiver<Event>) -> impl Stream<Item = Event> {
    futures_util::stream::unfold(received, async |mut received| {
        let event = match tokio::time::timeout(HEARTBEAT, received.recv()).await {
            Ok(event) => event?,
            Err(_nothing) => Event {
                r#type: Some(event::Type::Heartbeat.into()),
                ..Event::default()
            },
        };
        Some((event, received))
    })
}

/// Why a call is not carried out.
enum Failure {
    Refused(Refusal),
    Stopping,
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(Refusal { kind, message }) => match kind {
                RefusalKind::Unauthenticated => Status::unauthenticated(message),
                RefusalKind::NotSubscribed => Status::failed_precondition(message),
                RefusalKind::Invalid => Status::invalid_argument(message),
            },
            Failure::Stopping => Status::unavailable("the agent stops"),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Failure::Refused(Refusal { kind, message }) => match kind {
                RefusalKind::Unauthenticated => (StatusCode::UNAUTHORIZED, message),
                RefusalKind::NotSubscribed => (StatusCode::FORBIDDEN, message),
                RefusalKind::Invalid => (StatusCode::BAD_REQUEST, message),
            },
            Failure::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "the agent stops".into()),
        };
        (status, message).into_response()
    }
}

#[tonic::async_trait]
impl Executor for Api {
    type SubscribeStream = std::pin::Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn subscribe(&self, request: tonic::Request<Call>) -> Result<tonic::Response<Self::SubscribeStream>, Status> {
        let token = bearer(&request.metadata().clone().into_headers());
        let call = request.into_inner();
        if call.r#type() != Type::Subscribe {
            return Err(Status::invalid_argument("`type` must be SUBSCRIBE here"));
        }
        let events = Api::subscribe(self, token, call).await?;
        Ok(tonic::Response::new(Box::pin(events.map(Ok))))
    }

    async fn submit(&self, request: tonic::Request<Call>) -> Result<tonic::Response<Accepted>, Status> {
        let token = bearer(&request.metadata().clone().into_headers());
        self.call(token, request.into_inner(), None).await?;
        Ok(tonic::Response::new(Accepted {}))
    }
}

/// The token that a caller shows; empty where there is none.
fn bearer(headers: &HeaderMap) -> String {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|shown| shown.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim().to_owned(),
        _ => String::new(),
    }
}

async fn over_http(axum::extract::State(api): axum::extract::State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    match answer(api, &headers, body).await {
        Ok(response) | Err(response) => response,
    }
}

async fn answer(api: Api, headers: &HeaderMap, body: Bytes) -> Result<Response, Response> {
    let kind = |name| headers.get(name).and_then(|kind| kind.to_str().ok());
    let content = kind(header::CONTENT_TYPE).and_then(Encoding::named).ok_or_else(|| {
        let text = "Content-Type: application/json or application/x-protobuf is accepted";
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response()
    })?;
    let call = match content {
        Encoding::Json => proffer_proto::json::from_slice::<Call>(&body),
        Encoding::Protobuf => proffer_proto::required::decode::<Call>(body),
    };
    let call = call.map_err(|rejection| (StatusCode::BAD_REQUEST, rejection.to_string()).into_response())?;
    let token = bearer(headers);
    if call.r#type() != Type::Subscribe {
        api.call(token, call, None).await.map_err(IntoResponse::into_response)?;
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let accepted = Encoding::accepted(kind(header::ACCEPT)).ok_or_else(|| {
        let text = "Accept: application/json or application/x-protobuf must be acceptable";
        (StatusCode::NOT_ACCEPTABLE, text).into_response()
    })?;
    let events = api.subscribe(token, call).await.map_err(IntoResponse::into_response)?;
    let records = events.map(move |event| Ok::<_, Infallible>(recordio::encode(&accepted.encode(&event))));
    Ok(([(header::CONTENT_TYPE, accepted.name())], Body::from_stream(records)).into_response())
}

/// How messages are written in HTTP.
#[derive(Debug, Clone, Copy)]
enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    fn named(name: &str) -> Option<Self> {
        match name.split(';').next().unwrap_or_default().trim() {
            "application/json" => Some(Self::Json),
            "application/x-protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }

    /// JSON where both will do, or nothing is said.
    fn accepted(header: Option<&str>) -> Option<Self> {
        let Some(header) = header else { return Some(Self::Json) };
        let named = |name: &str| {
            let ranges = header
                .split(',')
                .map(|range| range.split(';').next().unwrap_or_default().trim());
            ranges
                .into_iter()
                .any(|range| range == name || range == "*/*" || range == "application/*")
        };
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|encoding| named(encoding.name()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    fn encode(self, event: &Event) -> Vec<u8> {
        match self {
            Self::Json => proffer_proto::json::to_vec(event),
            Self::Protobuf => event.encode_to_vec(),
        }
    }
}

//! Streams over gRPC and, as RecordIO, over HTTP.

use std::pin::Pin;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::{Stream, StreamExt};
use proffer_proto::recordio::{self, Decoder};
use proffer_proto::v1::agent::call::{AttachContainerInput, Type, attach_container_input};
use proffer_proto::v1::agent::{Call, ProcessIo};
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Api, refusal};
use crate::sessions::{Input, Outbound, names};

const RECORDIO: &str = "application/recordio";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
/// The largest piece of input.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// What a gRPC caller reads.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<ProcessIo, Status>> + Send>>;

pub(super) fn messages(outbound: Outbound) -> Messages {
    Box::pin(ReceiverStream::new(outbound).map(Ok))
}

/// The `authorization` of a gRPC call.
pub(super) fn bearer(metadata: &tonic::metadata::MetadataMap) -> Option<&[u8]> {
    metadata.get("authorization").map(|value| value.as_encoded_bytes())
}

/// Whether the body is a stream of calls.
pub(super) fn is_streamed(headers: &HeaderMap) -> bool {
    text(headers, header::CONTENT_TYPE.as_str()) == RECORDIO
}

/// Whether the answer is a stream.
pub(super) fn is_output(call: &Call) -> bool {
    matches!(
        call.r#type(),
        Type::LaunchNestedContainerSession | Type::AttachContainerOutput
    )
}

/// Answers with a stream of RecordIO, in the encoding that `Message-Accept` names, or else `Accept`; JSON by default.
pub(super) async fn output_over_http(api: &Api, headers: &HeaderMap, call: Call) -> HttpResponse {
    let inner = match text(headers, "message-accept") {
        "" => text(headers, header::ACCEPT.as_str()),
        inner => inner,
    };
    let is_json = match inner {
        PROTOBUF => false,
        "" | JSON | RECORDIO | "*/*" => true,
        _ => {
            return (
                StatusCode::NOT_ACCEPTABLE,
                format!("Message-Accept: {JSON} or {PROTOBUF} is accepted"),
            )
                .into_response();
        }
    };
    let outbound = match api.stream(call).await {
        Ok(outbound) => outbound,
        Err(status) => return refusal(&status),
    };
    let frames = ReceiverStream::new(outbound).map(move |message| {
        let bytes = match is_json {
            true => proffer_proto::json::to_vec(&message),
            false => message.encode_to_vec(),
        };
        Ok::<Bytes, std::convert::Infallible>(recordio::encode(&bytes))
    });
    let inner = if is_json { JSON } else { PROTOBUF };
    let head = [
        (header::CONTENT_TYPE.as_str(), RECORDIO),
        ("message-content-type", inner),
    ];
    (head, Body::from_stream(frames)).into_response()
}

/// ATTACH_CONTAINER_INPUT as a stream of RecordIO.
pub(super) async fn feed_over_http(api: &Api, headers: &HeaderMap, body: Body) -> HttpResponse {
    let is_json = match text(headers, "message-content-type") {
        JSON => true,
        PROTOBUF => false,
        _ => {
            let text = format!("Message-Content-Type: {JSON} or {PROTOBUF} is accepted");
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
        }
    };
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    if let Err(status) = api.authorize(Type::AttachContainerInput, authorization) {
        return refusal(&status);
    }
    let calls = records(body.into_data_stream()).map(move |record| {
        let record = record?;
        let call = match is_json {
            true => proffer_proto::json::from_slice::<Call>(&record).map_err(|error| error.to_string()),
            false => proffer_proto::required::decode::<Call>(record).map_err(|error| error.to_string()),
        };
        call.map_err(Status::invalid_argument)
    });
    match api.feed(Box::pin(calls)).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(status) => refusal(&status),
    }
}

/// Takes the records out of a body.
fn records(body: axum::body::BodyDataStream) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    let state = (body, Decoder::new(RECORD_BYTES_MAX));
    futures_util::stream::try_unfold(state, |(mut body, mut decoder)| async move {
        loop {
            let next = decoder
                .next_record()
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            if let Some(record) = next {
                return Ok(Some((record, (body, decoder))));
            }
            match body.next().await {
                Some(Ok(chunk)) => decoder.push(&chunk),
                Some(Err(error)) => return Err(Status::cancelled(error.to_string())),
                None => {
                    let whole = decoder.finish();
                    whole.map_err(|error| Status::invalid_argument(error.to_string()))?;
                    return Ok(None);
                }
            }
        }
    })
}

impl Api {
    /// ATTACH_CONTAINER_INPUT: the first call names the container, the others are its input.
    pub(super) async fn feed(
        &self,
        mut calls: impl Stream<Item = Result<Call, Status>> + Send + Unpin,
    ) -> Result<(), Status> {
        let mut input: Option<Input> = None;
        while let Some(call) = calls.next().await {
            let call = attach_input(call?)?;
            match (call.r#type(), &mut input) {
                (attach_container_input::Type::ContainerId, None) => input = Some(self.attach(call)?),
                (attach_container_input::Type::ProcessIo, Some(input)) => {
                    let message = call.process_io;
                    let missing = || Status::invalid_argument("attach_container_input.process_io: must be set");
                    input.take(message.ok_or_else(missing)?).await?;
                }
                (_, None) => {
                    let text = "attach_container_input.type: must be CONTAINER_ID in the first call";
                    return Err(Status::invalid_argument(text));
                }
                (_, Some(_)) => {
                    let text = "attach_container_input.type: must be PROCESS_IO after the first call";
                    return Err(Status::invalid_argument(text));
                }
            }
        }
        Ok(())
    }

    fn attach(&self, call: AttachContainerInput) -> Result<Input, Status> {
        let id = call.container_id;
        let id = id.ok_or_else(|| Status::invalid_argument("attach_container_input.container_id: must be set"))?;
        if let Some(container) = self.in_pod(&id) {
            return self.inputs.feed(&self.launcher.containerizer, &container);
        }
        match names(&id)? {
            (_, Some(nested)) => self.sessions.find(&nested)?.feed(),
            (container, None) => self.inputs.feed(&self.launcher.containerizer, &container),
        }
    }
}

fn attach_input(call: Call) -> Result<AttachContainerInput, Status> {
    if call.r#type() != Type::AttachContainerInput {
        return Err(Status::invalid_argument("type: must be ATTACH_CONTAINER_INPUT"));
    }
    let missing = || Status::invalid_argument("attach_container_input: must be set");
    call.attach_container_input.ok_or_else(missing)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

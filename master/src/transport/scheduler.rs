//! The scheduler API over gRPC.

use std::pin::Pin;

use proffer_proto::api::scheduler_server::Scheduler;
use proffer_proto::calls::{Answers, Calls, NumberedAnswer, NumberedCall};
use proffer_proto::v1::scheduler::{Call, Event, Response as CallResponse};
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use super::{STREAM_ID, many, status};
use crate::answers::{Answered, answers};
use crate::driver::{self, Ended, Handle};
use crate::outbox::{Bounds, Reader, outbox};

#[derive(Debug)]
pub(super) struct Service {
    handle: Handle,
    bounds: Bounds,
}

impl Service {
    pub(super) fn new(handle: Handle, bounds: Bounds) -> Self {
        Self { handle, bounds }
    }
}

#[tonic::async_trait]
impl Scheduler for Service {
    type SubscribeStream = Reader<Event>;
    type SubmitManyStream = Pin<Box<dyn Stream<Item = Result<Answers, Status>> + Send>>;

    async fn subscribe(&self, request: Request<Call>) -> Result<Response<Reader<Event>>, Status> {
        let stream = self.handle.new_stream();
        let handle = self.handle.clone();
        let (outbox, reader) = outbox(self.bounds, move || handle.end(Ended::Scheduler(stream)));
        let text = uuid::Uuid::new_v4().to_string();
        let metadata = MetadataValue::try_from(text.as_str())
            .map_err(|_| Status::internal("a stream id cannot be sent as metadata"))?;
        let (reply, answered) = oneshot::channel();
        let subscribe = driver::Request::Subscribe {
            stream,
            text,
            call: Box::new(request.into_inner()),
            outbox,
            reply,
        };
        status::ask(&self.handle, answered, subscribe).await?;
        let mut response = Response::new(reader);
        response.metadata_mut().insert(STREAM_ID, metadata);
        Ok(response)
    }

    async fn submit(&self, request: Request<Call>) -> Result<Response<CallResponse>, Status> {
        let stream = stream_id(request.metadata());
        let (reply, answered) = oneshot::channel();
        let call = driver::Request::SchedulerCall {
            stream,
            call: Box::new(request.into_inner()),
            reply,
        };
        status::ask(&self.handle, answered, call).await?;
        Ok(Response::new(CallResponse::default()))
    }

    async fn submit_many(
        &self,
        request: Request<Streaming<Calls>>,
    ) -> Result<Response<Self::SubmitManyStream>, Status> {
        let stream = stream_id(request.metadata());
        let (intake, output) = answers();
        let take = many::take(self.handle.clone(), request.into_inner(), intake, move |calls| {
            let stream = stream.clone();
            driver::Request::SchedulerCalls { stream, calls }
        });
        tokio::spawn(take);
        let handle = self.handle.clone();
        let answers = output.map(move |answered| {
            let answers = answered?.into_iter().map(|answered| to_wire(&handle, answered));
            let answers = answers.collect();
            Ok(Answers { answers })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The subscription that the caller says it has.
fn stream_id(metadata: &MetadataMap) -> Option<String> {
    let text = metadata.get(STREAM_ID)?.to_str().ok()?;
    Some(text.to_owned())
}

impl many::Message for Calls {
    type Call = Box<Call>;

    fn calls(self) -> Result<Vec<(u64, Box<Call>)>, Status> {
        let boxed = |call: NumberedCall| (call.number, Box::new(call.call));
        Ok(self.calls.into_iter().map(boxed).collect())
    }
}

fn to_wire(handle: &Handle, (number, answer): Answered) -> NumberedAnswer {
    let accepted = match answer {
        Some(answer) => status::accepted(handle, answer),
        None => Err(status::stopping()),
    };
    NumberedAnswer {
        number,
        refusal: accepted.err().map(|status| many::refusal(&status)),
    }
}

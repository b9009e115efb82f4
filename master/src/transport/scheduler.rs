//! The scheduler API over gRPC.

use proffer_proto::api::scheduler_server::Scheduler;
use proffer_proto::v1::scheduler::{Call, Event, Response as CallResponse};
use tokio::sync::oneshot;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use super::{STREAM_ID, status};
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
        let stream = request.metadata().get(STREAM_ID).and_then(|text| text.to_str().ok());
        let (reply, answered) = oneshot::channel();
        let call = driver::Request::SchedulerCall {
            stream: stream.map(str::to_owned),
            call: Box::new(request.into_inner()),
            reply,
        };
        status::ask(&self.handle, answered, call).await?;
        Ok(Response::new(CallResponse::default()))
    }
}

//! The operator API over gRPC.

use std::pin::Pin;

use proffer_master_core::Answer;
use proffer_proto::api::operator_server::Operator;
use proffer_proto::v1::master::{Call, Event, Response as CallResponse};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::status;
use crate::driver::{self, Handle};

#[derive(Debug)]
pub(super) struct Service {
    handle: Handle,
}

impl Service {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    async fn call(&self, request: Request<Call>) -> Result<CallResponse, Status> {
        let (reply, answered) = oneshot::channel();
        let call = driver::Request::Operator {
            call: Box::new(request.into_inner()),
            reply,
        };
        match status::ask(&self.handle, answered, call).await? {
            Answer::Response(response) => Ok(*response),
            _ => Ok(CallResponse::default()),
        }
    }
}

#[tonic::async_trait]
impl Operator for Service {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn submit(&self, request: Request<Call>) -> Result<Response<CallResponse>, Status> {
        Ok(Response::new(self.call(request).await?))
    }

    async fn subscribe(&self, request: Request<Call>) -> Result<Response<Self::SubscribeStream>, Status> {
        // The core has no events for operators yet, and says so.
        self.call(request).await?;
        Err(Status::unimplemented("this master has no event stream for operators"))
    }
}

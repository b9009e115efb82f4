//! The frameworks' state, at the leading master.

use proffer_master_core::Answer;
use proffer_proto::api::state_server::State;
use proffer_proto::state::{self, Call, Event, Watch};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::status;
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
impl State for Service {
    type WatchStream = Reader<Event>;

    async fn submit(&self, request: Request<Call>) -> Result<Response<state::Answer>, Status> {
        let (reply, answered) = oneshot::channel();
        let call = Box::new(request.into_inner());
        match status::ask(&self.handle, answered, driver::Request::State { call, reply }).await? {
            Answer::State(answer) => Ok(Response::new(*answer)),
            _ => Err(Status::internal("the master has no answer to this call")),
        }
    }

    async fn watch(&self, request: Request<Watch>) -> Result<Response<Reader<Event>>, Status> {
        let stream = self.handle.new_stream();
        let handle = self.handle.clone();
        let (outbox, reader) = outbox(self.bounds, move || handle.end(Ended::Watch(stream)));
        let (reply, answered) = oneshot::channel();
        let watch = driver::Request::Watch {
            stream,
            watch: Box::new(request.into_inner()),
            outbox,
            reply,
        };
        status::ask(&self.handle, answered, watch).await?;
        Ok(Response::new(reader))
    }
}

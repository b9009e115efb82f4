//! The frameworks' state, at the leading master.

use proffer_master_core::Answer;
use proffer_proto::api::state_server::State;
use proffer_proto::state::{self, Call, Calls, Event, NumberedAnswer, Watch, call, numbered_answer};
use tokio::sync::oneshot;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::{many, status};
use crate::answers::{Answered, answers};
use crate::driver::{self, Ended, Handle};
use crate::outbox::{Bounds, Reader, outbox};

type Answers = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<state::Answers, Status>> + Send>>;

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
    type SubmitManyStream = Answers;

    async fn submit(&self, request: Request<Call>) -> Result<Response<state::Answer>, Status> {
        let (reply, answered) = oneshot::channel();
        let call = Box::new(request.into_inner());
        match status::ask(&self.handle, answered, driver::Request::State { call, reply }).await? {
            Answer::State(answer) => Ok(Response::new(*answer)),
            _ => Err(unknown()),
        }
    }

    async fn submit_many(&self, request: Request<Streaming<Calls>>) -> Result<Response<Answers>, Status> {
        let (intake, output) = answers();
        let take = many::take(
            self.handle.clone(),
            request.into_inner(),
            intake,
            driver::Request::StateCalls,
        );
        tokio::spawn(take);
        let handle = self.handle.clone();
        let answers = output.map(move |answered| {
            let answers = answered?.into_iter().map(|answered| to_wire(&handle, answered));
            let answers = answers.collect();
            Ok(state::Answers { answers })
        });
        Ok(Response::new(Box::pin(answers)))
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

impl many::Message for Calls {
    type Call = Call;

    fn calls(self) -> Result<Vec<(u64, Call)>, Status> {
        let is_list = |call: &Call| matches!(call.body, Some(call::Body::List(_)));
        match self.calls.iter().position(|call| is_list(&call.call)) {
            Some(index) => Err(Status::invalid_argument(format!(
                "calls[{index}].call.list: a list is accepted by Submit only"
            ))),
            None => Ok(self.calls.into_iter().map(|call| (call.number, call.call)).collect()),
        }
    }
}

fn to_wire(handle: &Handle, (number, answer): Answered) -> NumberedAnswer {
    let accepted = match answer {
        Some(answer) => status::accepted(handle, answer),
        None => Err(status::stopping()),
    };
    let body = match accepted {
        Ok(Answer::State(answer)) => numbered_answer::Body::Answer(*answer),
        Ok(_) => numbered_answer::Body::Refusal(many::refusal(&unknown())),
        Err(status) => numbered_answer::Body::Refusal(many::refusal(&status)),
    };
    NumberedAnswer {
        number,
        body: Some(body),
    }
}

fn unknown() -> Status {
    Status::internal("the master has no answer to this call")
}

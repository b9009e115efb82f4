//! The frameworks' state, at the leading master.

use proffer_master_core::Answer;
use proffer_proto::api::state_server::State;
use proffer_proto::metadata::LEADER;
use proffer_proto::state::{self, Call, Calls, Event, NumberedAnswer, Refusal, Watch, call, numbered_answer};
use tokio::sync::oneshot;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::status;
use crate::answers::{Answered, Intake, PLACES, answers};
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
        tokio::spawn(take(self.handle.clone(), request.into_inner(), intake));
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

/// Hands calls over until the caller ends the stream or reads no answers any more.
async fn take(handle: Handle, mut incoming: Streaming<Calls>, intake: Intake) {
    loop {
        let message = tokio::select! {
            message = incoming.message() => message,
            () = handle.stopped() => return,
        };
        let calls = match message {
            Ok(Some(message)) => check(message),
            Ok(None) => return,
            Err(status) => Err(status),
        };
        let calls = match calls {
            Ok(calls) if calls.calls.is_empty() => continue,
            Ok(calls) => calls.calls,
            Err(status) => return intake.fail(status),
        };
        if !intake.wait(calls.len() as u32).await {
            return;
        }
        let calls = calls.into_iter().map(|call| (intake.ticket(call.number), call.call));
        if handle.send(driver::Request::StateCalls(calls.collect())).await.is_err() {
            return;
        }
    }
}

/// What would take more room than there is for it.
fn check(calls: Calls) -> Result<Calls, Status> {
    let count = calls.calls.len();
    if count > PLACES as usize {
        return Err(Status::invalid_argument(format!(
            "calls: it has {count}, and at most {PLACES} are accepted in a message"
        )));
    }
    let is_list = |call: &Call| matches!(call.body, Some(call::Body::List(_)));
    match calls.calls.iter().position(|call| is_list(&call.call)) {
        Some(index) => Err(Status::invalid_argument(format!(
            "calls[{index}].call.list: a list is accepted by Submit only"
        ))),
        None => Ok(calls),
    }
}

fn to_wire(handle: &Handle, (number, answer): Answered) -> NumberedAnswer {
    let accepted = match answer {
        Some(answer) => status::accepted(handle, answer),
        None => Err(status::stopping()),
    };
    let body = match accepted {
        Ok(Answer::State(answer)) => numbered_answer::Body::Answer(*answer),
        Ok(_) => numbered_answer::Body::Refusal(refusal(&unknown())),
        Err(status) => numbered_answer::Body::Refusal(refusal(&status)),
    };
    NumberedAnswer {
        number,
        body: Some(body),
    }
}

fn refusal(status: &Status) -> Refusal {
    let leader = status.metadata().get(LEADER).and_then(|leader| leader.to_str().ok());
    Refusal {
        code: status.code().into(),
        message: status.message().to_owned(),
        leader: leader.map(str::to_owned),
    }
}

fn unknown() -> Status {
    Status::internal("the master has no answer to this call")
}

//! Streams of calls: what is the same whatever the calls are about.

use proffer_proto::metadata::LEADER;
use proffer_proto::state::Refusal;
use tonic::{Status, Streaming};

use crate::answers::{CALLS_MAX, Intake, Ticket};
use crate::driver::{Handle, Request};

/// What the messages of such a stream hold.
pub(super) trait Message: Send + 'static {
    /// One of the calls.
    type Call: Send;

    /// The calls with their numbers.
    ///
    /// # Errors
    /// A call that is not taken on a stream.
    fn calls(self) -> Result<Vec<(u64, Self::Call)>, Status>;
}

/// Hands calls over until the caller ends the stream or reads no answers any more.
pub(super) async fn take<M: Message>(
    handle: Handle,
    mut incoming: Streaming<M>,
    intake: Intake,
    request: impl Fn(Vec<(Ticket, M::Call)>) -> Request,
) {
    loop {
        let message = tokio::select! {
            message = incoming.message() => message,
            () = handle.stopped() => return,
        };
        let calls = match message {
            Ok(Some(message)) => message.calls().and_then(check),
            Ok(None) => return,
            Err(status) => Err(status),
        };
        let calls = match calls {
            Ok(calls) if calls.is_empty() => continue,
            Ok(calls) => calls,
            Err(status) => return intake.fail(status),
        };
        if !intake.wait(calls.len() as u32).await {
            return;
        }
        let tickets = intake.tickets(calls.iter().map(|(number, _)| *number));
        let calls = tickets.into_iter().zip(calls.into_iter().map(|(_, call)| call));
        if handle.send(request(calls.collect())).await.is_err() {
            return;
        }
    }
}

/// A message is one step of the master: a large one would keep all others waiting.
fn check<C>(calls: Vec<(u64, C)>) -> Result<Vec<(u64, C)>, Status> {
    if calls.len() > CALLS_MAX as usize {
        return Err(Status::invalid_argument(format!(
            "calls: it has {}, and at most {CALLS_MAX} are accepted in a message",
            calls.len()
        )));
    }
    Ok(calls)
}

/// What a call alone would have been answered with.
pub(super) fn refusal(status: &Status) -> Refusal {
    let leader = status.metadata().get(LEADER).and_then(|leader| leader.to_str().ok());
    Refusal {
        code: status.code().into(),
        message: status.message().to_owned(),
        leader: leader.map(str::to_owned),
    }
}

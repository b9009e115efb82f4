//! Answers of the driver as gRPC has them.

use proffer_master_core::Answer;
use proffer_proto::metadata::LEADER;
use tokio::sync::oneshot;
use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::driver::{Handle, Request};

/// Hands a request to the driver and waits for its answer.
pub(super) async fn send<T>(handle: &Handle, answered: oneshot::Receiver<T>, request: Request) -> Result<T, Status> {
    handle.send(request).await.map_err(|_| stopping())?;
    answered.await.map_err(|_| stopping())
}

/// Nothing is answered any more.
pub(super) fn stopping() -> Status {
    Status::unavailable("the master is stopping")
}

/// As [`send`], to the core; an answer that refuses is an error.
pub(super) async fn ask(
    handle: &Handle,
    answered: oneshot::Receiver<Answer>,
    request: Request,
) -> Result<Answer, Status> {
    accepted(handle, send(handle, answered, request).await?)
}

/// The answer, or the status of one that refuses.
pub(super) fn accepted(handle: &Handle, answer: Answer) -> Result<Answer, Status> {
    match answer {
        Answer::Rejected(rejection) => Err(Status::invalid_argument(rejection.to_string())),
        Answer::NotSubscribed(reason) | Answer::Refused(reason) => Err(Status::failed_precondition(reason)),
        Answer::Exhausted(reason) => Err(Status::resource_exhausted(reason)),
        Answer::NotLeader => Err(not_leader(handle.leader())),
        answer => Ok(answer),
    }
}

/// Where to go instead.
pub(super) fn not_leader(leader: Option<String>) -> Status {
    let Some(leader) = leader else {
        return Status::unavailable("no master leads at the moment; try again");
    };
    let mut status = Status::unavailable(format!("this master does not lead; {leader} does"));
    if let Ok(value) = MetadataValue::try_from(leader) {
        status.metadata_mut().insert(LEADER, value);
    }
    status
}

//! Answers of the core as gRPC has them.

use proffer_master_core::Answer;
use proffer_proto::v1;
use tokio::sync::oneshot;
use tonic::Status;
use tonic::metadata::MetadataValue;

use super::LEADER;
use crate::driver::{Handle, Request};

/// Hands a request to the driver and waits for its answer: what an operator asked for, where there is something.
pub(super) async fn ask(
    handle: &Handle,
    answered: oneshot::Receiver<Answer>,
    request: Request,
) -> Result<Option<v1::master::Response>, Status> {
    let stopping = |_| Status::unavailable("the master is stopping");
    handle.send(request).await.map_err(|_| stopping(()))?;
    match answered.await.map_err(|_| stopping(()))? {
        Answer::Accepted => Ok(None),
        Answer::Response(response) => Ok(Some(*response)),
        Answer::Rejected(rejection) => Err(Status::invalid_argument(rejection.to_string())),
        Answer::NotSubscribed(reason) => Err(Status::failed_precondition(reason)),
        Answer::NotLeader => Err(not_leader(handle.leader())),
    }
}

fn not_leader(leader: Option<String>) -> Status {
    let Some(leader) = leader else {
        return Status::unavailable("no master leads at the moment; try again");
    };
    let mut status = Status::unavailable(format!("this master does not lead; {leader} does"));
    if let Ok(value) = MetadataValue::try_from(leader) {
        status.metadata_mut().insert(LEADER, value);
    }
    status
}

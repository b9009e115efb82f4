//! The group of masters, for operators.

use proffer_proto::api::masters_server::Masters;
use proffer_proto::masters::{AddMaster, GroupChanged, ListMasters, MastersList, RemoveMaster, TransferLeadership};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::status;
use crate::driver::{self, Handle, MastersCall, MastersError};

#[derive(Debug)]
pub(super) struct Service {
    handle: Handle,
}

impl Service {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    async fn change(&self, call: MastersCall) -> Result<Response<GroupChanged>, Status> {
        let masters = list(&self.handle, call).await?;
        Ok(Response::new(GroupChanged { masters }))
    }
}

/// Asks the driver about the group.
pub(super) async fn list(handle: &Handle, call: MastersCall) -> Result<MastersList, Status> {
    let (reply, answered) = oneshot::channel();
    let answer = status::send(handle, answered, driver::Request::Masters { call, reply }).await?;
    answer.map_err(|error| match error {
        MastersError::NotLeader => status::not_leader(handle.leader()),
        MastersError::Wrong(text) => Status::invalid_argument(text),
        MastersError::Refused(text) => Status::failed_precondition(text),
        MastersError::Uncertain(text) => Status::aborted(text),
    })
}

#[tonic::async_trait]
impl Masters for Service {
    async fn list(&self, _: Request<ListMasters>) -> Result<Response<MastersList>, Status> {
        list(&self.handle, MastersCall::List).await.map(Response::new)
    }

    async fn add(&self, request: Request<AddMaster>) -> Result<Response<GroupChanged>, Status> {
        self.change(MastersCall::Add(request.into_inner())).await
    }

    async fn remove(&self, request: Request<RemoveMaster>) -> Result<Response<GroupChanged>, Status> {
        self.change(MastersCall::Remove(request.into_inner())).await
    }

    async fn transfer(&self, request: Request<TransferLeadership>) -> Result<Response<GroupChanged>, Status> {
        self.change(MastersCall::Transfer(request.into_inner())).await
    }
}

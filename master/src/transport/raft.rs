//! What other masters ask of a master that is of a cluster.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use proffer_proto::api::raft_server::Raft;
use proffer_proto::raft::{
    Envelope, Founded, Founding, Introduction, JoinAnswer, JoinRequest, SnapshotPiece, StreamEnd,
};
use proffer_proto::registry::Member;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use super::status;
use crate::config::host_and_port;
use crate::driver::{self, Handle};
use crate::formation::{self, PROTOCOL};
use crate::peers::{Dial, Incoming};

/// What this master says to those that have not heard of the cluster yet, and which of them it is saying it to.
#[derive(Debug, Clone)]
pub struct Founders {
    members: Arc<[Member]>,
    dial: Dial,
    telling: Arc<Mutex<BTreeSet<u64>>>,
}

impl Founders {
    /// `members` began the cluster together; nobody, where this master was not one of several.
    pub fn new(members: Vec<Member>, dial: Dial) -> Self {
        Self {
            members: members.into(),
            dial,
            telling: Arc::default(),
        }
    }

    /// Tells a member at an address that the cluster is founded, unless that is under way.
    pub fn tell(&self, id: u64, address: String, cluster_id: String, cluster: String) {
        let telling = || self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        if !telling().insert(id) {
            return;
        }
        let founding = Founding {
            protocol: PROTOCOL,
            cluster_id,
            cluster,
            members: self.members.to_vec(),
        };
        let all = self.clone();
        tokio::spawn(async move {
            match formation::tell(&all.dial, &address, founding).await {
                Ok(()) => tracing::info!(member = id, address, "a master knows that the group is formed"),
                // It asks again.
                Err(reason) => tracing::warn!(
                    member = id,
                    address,
                    reason,
                    "a master does not take the founding of the group"
                ),
            }
            all.telling.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
    }

    /// Everyone but this master.
    pub fn others(&self, me: u64) -> Vec<(u64, String)> {
        let others = self.members.iter().filter(|member| member.id != me);
        others.map(|member| (member.id, member.address.clone())).collect()
    }

    fn contain(&self, id: u64) -> bool {
        self.members.iter().any(|member| member.id == id)
    }
}

#[derive(Debug)]
pub(super) struct Service {
    handle: Handle,
    incoming: Incoming,
    founders: Founders,
}

impl Service {
    pub(super) fn new(handle: Handle, incoming: Incoming, founders: Founders) -> Self {
        Self {
            handle,
            incoming,
            founders,
        }
    }

    /// Answers a master that is of no cluster yet.
    fn greet(&self, who: &Introduction) -> Result<Introduction, Status> {
        let me = self.incoming.me();
        if !self.founders.contain(who.member) {
            return Err(Status::failed_precondition(format!(
                "this master is of cluster {} ({}), which has no member {}, the master at {}: its work directory is new. \
                 To let it in, start it with --join={} instead of --peers; if it was a member before it lost its work directory, also \
                 take the member that it was out of the group with `proffer masters rm`",
                me.cluster_id, me.cluster, who.member, who.address, me.address
            )));
        }
        let (cluster_id, cluster) = (me.cluster_id.clone(), me.cluster.clone());
        self.founders.tell(who.member, who.address.clone(), cluster_id, cluster);
        Ok(me.introduction(self.handle.leader()))
    }
}

#[tonic::async_trait]
impl Raft for Service {
    async fn deliver(&self, request: Request<Streaming<Envelope>>) -> Result<Response<StreamEnd>, Status> {
        self.incoming.deliver(request.into_inner()).await.map(Response::new)
    }

    async fn send_snapshot(&self, request: Request<Streaming<SnapshotPiece>>) -> Result<Response<StreamEnd>, Status> {
        self.incoming.snapshot(request.into_inner()).await.map(Response::new)
    }

    async fn introduce(&self, request: Request<Introduction>) -> Result<Response<Introduction>, Status> {
        let who = request.into_inner();
        check(&who)?;
        let me = self.incoming.me();
        match &who.cluster_id {
            None => return self.greet(&who).map(Response::new),
            Some(theirs) if *theirs == me.cluster_id => {
                let heard = self.incoming.heard(who.member, &who.address);
                heard.map_err(Status::failed_precondition)?;
            }
            Some(theirs) => {
                self.incoming.tell_stranger(&who.address, theirs);
                let text = format!("this master is of cluster {}, not {theirs}", me.cluster_id);
                return Err(Status::failed_precondition(text));
            }
        }
        let (reply, answered) = oneshot::channel();
        let request = driver::Request::Introduce { who, reply };
        let answer = status::send(&self.handle, answered, request).await?;
        Ok(Response::new(answer))
    }

    async fn found(&self, request: Request<Founding>) -> Result<Response<Founded>, Status> {
        let founding = request.into_inner();
        let me = self.incoming.me();
        let refusal = if founding.cluster_id == me.cluster_id {
            formation::check(&founding, me.member).err()
        } else {
            Some(format!("this master is of cluster {}", me.cluster_id))
        };
        Ok(Response::new(Founded { refusal }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinAnswer>, Status> {
        let newcomer = request.into_inner().newcomer;
        check(&newcomer)?;
        let (reply, answered) = oneshot::channel();
        let request = driver::Request::Join { newcomer, reply };
        let answer = status::send(&self.handle, answered, request).await?;
        Ok(Response::new(answer))
    }
}

/// Whether a master could be who it says.
pub(super) fn check(who: &Introduction) -> Result<(), Status> {
    if who.protocol != PROTOCOL {
        return Err(Status::invalid_argument(format!(
            "protocol: it is {}, and {PROTOCOL} is accepted",
            who.protocol
        )));
    }
    if who.member == 0 {
        return Err(Status::invalid_argument("member: 0 is no master's id"));
    }
    host_and_port(&who.address).map_err(|accepted| Status::invalid_argument(format!("address: {accepted}")))?;
    Ok(())
}

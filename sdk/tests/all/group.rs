//! The client of the group of masters against scripted masters.

use std::net::SocketAddr;
use std::time::Duration;

use proffer_proto::api::masters_server::{self, MastersServer};
use proffer_proto::masters::{
    AddMaster, GroupChanged, ListMasters, Master, MastersList, RemoveMaster, TransferLeadership, master,
};
use proffer_sdk::operator::{GroupClient, GroupError};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A master that knows of a group of two and refuses every change in its own way.
struct Knows {
    list: MastersList,
    refusal: Status,
}

#[tonic::async_trait]
impl masters_server::Masters for Knows {
    async fn list(&self, _: Request<ListMasters>) -> Result<Response<MastersList>, Status> {
        Ok(Response::new(self.list.clone()))
    }

    async fn add(&self, _: Request<AddMaster>) -> Result<Response<GroupChanged>, Status> {
        Err(self.refusal.clone())
    }

    async fn remove(&self, _: Request<RemoveMaster>) -> Result<Response<GroupChanged>, Status> {
        Err(self.refusal.clone())
    }

    async fn transfer(&self, _: Request<TransferLeadership>) -> Result<Response<GroupChanged>, Status> {
        let masters = self.list.clone();
        Ok(Response::new(GroupChanged { masters }))
    }
}

/// What a master says of the group of these addresses, of which the first leads.
fn list(addresses: [SocketAddr; 2], term: u64, by_the_leader: bool) -> MastersList {
    let master = |id: u64| Master {
        id,
        address: addresses[id as usize - 1].to_string(),
        version: "1.0.0".into(),
        level: 2,
        role: master::Role::Voter.into(),
        leads: id == 1,
        reachable: by_the_leader.then_some(true),
        behind_entries: by_the_leader.then_some(0),
        receives_snapshot: None,
    };
    MastersList {
        cluster_id: "c".into(),
        cluster: "test".into(),
        term,
        leader: Some(1),
        level: 2,
        masters: vec![master(1), master(2)],
    }
}

/// A leader and a follower that names it; the servers end with the runtime of the test.
async fn group(refusal: Status) -> [SocketAddr; 2] {
    let listeners = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let mut not_leading = Status::unavailable("this master does not lead");
    let leader = addresses[0].to_string().parse().unwrap();
    not_leading.metadata_mut().insert(proffer_sdk::LEADER_METADATA, leader);
    for (listener, (leads, refusal)) in listeners.into_iter().zip([(true, refusal), (false, not_leading)]) {
        let knows = Knows {
            list: list(addresses, 7, leads),
            refusal,
        };
        let server = tonic::transport::Server::builder()
            .add_service(MastersServer::new(knows))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
    }
    addresses
}

#[tokio::test]
async fn a_follower_is_enough_to_hear_what_the_leader_knows() {
    let [_, follower] = group(Status::failed_precondition("no")).await;
    let list = GroupClient::new(follower.into()).list().await.unwrap();
    assert!(list.masters.iter().all(|master| master.reachable == Some(true)));
}

#[tokio::test]
async fn a_change_finds_the_leader_and_tells_why_it_was_not_made() {
    for (status, expected) in [
        (
            Status::failed_precondition("it lags"),
            GroupError::Refused("it lags".into()),
        ),
        (
            Status::invalid_argument("`master`"),
            GroupError::Rejected("`master`".into()),
        ),
        (Status::aborted("resigned"), GroupError::Uncertain("resigned".into())),
    ] {
        let [_, follower] = group(status).await;
        let mut group = GroupClient::new(follower.into());
        assert_eq!(group.add("10.0.0.1:5050", None).await, Err(expected.clone()));
        assert_eq!(group.remove("1").await, Err(expected));
        assert_eq!(group.transfer(None).await.unwrap().leader, Some(1));
    }
}

#[tokio::test]
async fn nobody_there_is_said_within_the_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut group = GroupClient::new(address.into()).timeout(Duration::from_millis(300));
    assert!(matches!(group.list().await, Err(GroupError::Unavailable(_))));
    assert!(matches!(group.transfer(None).await, Err(GroupError::Unavailable(_))));
}

#[tokio::test]
async fn a_master_that_ends_leaves_nothing_uncertain() {
    let ending = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let former = ending.local_addr().unwrap();
    tokio::spawn(async move { while ending.accept().await.is_ok() {} });
    let [leader, _] = group(Status::failed_precondition("it lags")).await;
    let mut group = GroupClient::new(format!("{former},{leader}").parse().unwrap());
    assert_eq!(group.remove("1").await, Err(GroupError::Refused("it lags".into())));
}

//! The operator's client against scripted masters.

use proffer_proto::v1::master::{Response, call, response};
use proffer_sdk::operator::OperatorClient;
use proffer_sdk::testing::FakeMaster;
use proffer_sdk::{CallError, Framework, Masters, State, connect};
use tokio::net::TcpListener;

fn no_agents() -> Response {
    Response {
        r#type: Some(response::Type::GetAgents.into()),
        get_agents: Some(response::GetAgents::default()),
        ..Default::default()
    }
}

#[tokio::test]
async fn the_operator_follows_the_leader() {
    let [first, second] = [FakeMaster::start().await, FakeMaster::start().await];
    for master in [&first, &second] {
        master.answer_operator(call::Type::GetAgents, no_agents());
    }
    first.follow(Some(second.address()));
    let mut operator = OperatorClient::new(first.masters());
    operator.get_agents().await.unwrap();
    assert_eq!(operator.leader(), Some(second.address().to_string().as_str()));
    first.lead();
    second.follow(None);
    operator.get_agents().await.unwrap();
    assert_eq!(operator.leader(), Some(first.address().to_string().as_str()));
}

#[tokio::test]
async fn a_rejection_is_final_and_a_cluster_without_leader_is_given_up() {
    let master = FakeMaster::start().await;
    let mut operator = OperatorClient::new(master.masters());
    assert!(matches!(operator.get_tasks().await, Err(CallError::Rejected(_))));
    master.follow(None);
    let mut operator = OperatorClient::new(master.masters()).timeout(std::time::Duration::from_millis(200));
    let error = operator.get_tasks().await.unwrap_err();
    assert!(!error.is_rejection(), "{error}");
}

#[tokio::test]
async fn a_master_that_stands_still_is_left() {
    // The kernel takes the connections that nobody accepts.
    let still = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let leader = FakeMaster::start().await;
    leader.answer_operator(call::Type::GetAgents, no_agents());
    let list = format!("{},{}", still.local_addr().unwrap(), leader.address());
    let masters: Masters = list.parse().unwrap();
    let mut operator = OperatorClient::new(masters.clone());
    let state = State::of(masters.clone(), "test");
    let (agents, version, subscription) = tokio::join!(
        operator.get_agents(),
        state.put("k", "v"),
        connect(&masters, Framework::new("f"))
    );
    assert!(agents.is_ok() && version.is_ok() && subscription.is_ok());
}

//! The calls of one subscription, many at a time and one after the other.

use proffer_proto::v1::scheduler::call;
use proffer_proto::v1::{AgentId, TaskId};
use proffer_sdk::testing::FakeMaster;
use proffer_sdk::{CallError, Framework, connect};
use tokio::task::JoinSet;
use tonic::Status;

/// More than one message holds.
const MANY: usize = 3000;

#[tokio::test]
async fn many_calls_at_a_time_all_arrive_and_each_has_its_own_answer() {
    let mut master = FakeMaster::start().await;
    master.refuse(call::Type::Kill, Status::not_found("no such task"));
    let (_events, calls) = connect(&master.masters(), Framework::new("many")).await.unwrap();
    let mut under_way = JoinSet::new();
    for number in 0..MANY {
        let calls = calls.clone();
        under_way.spawn(async move {
            let (agent, task) = (AgentId::from("a"), TaskId::from(number.to_string()));
            match number {
                1000 => calls.kill(task, None, None).await,
                _ => calls.acknowledge(agent, task, vec![0; 16]).await,
            }
        });
    }
    let outcomes = under_way.join_all().await;
    let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(
        matches!(&failed[..], [CallError::Rejected(text)] if text == "no such task"),
        "{failed:?}"
    );
    assert_eq!(master.calls_so_far(call::Type::Acknowledge).len(), MANY - 1);
}

#[tokio::test]
async fn calls_are_made_alone_at_a_master_that_takes_no_streams() {
    let mut master = FakeMaster::start().await;
    master.take_no_streams();
    let (_events, calls) = connect(&master.masters(), Framework::new("alone")).await.unwrap();
    calls.revive(Vec::new()).await.unwrap();
    master.refuse(call::Type::Suppress, Status::invalid_argument("suppress.roles[0]"));
    let refused = calls.suppress(vec!["other".to_owned()]).await.unwrap_err();
    assert!(refused.is_rejection(), "{refused:?}");
    calls.teardown().await.unwrap();
    for kind in [call::Type::Revive, call::Type::Suppress, call::Type::Teardown] {
        assert_eq!(master.calls_so_far(kind).len(), 1);
    }
}

#[tokio::test]
async fn a_call_after_the_subscription_has_ended_says_so() {
    let master = FakeMaster::start().await;
    let (_events, calls) = connect(&master.masters(), Framework::new("late")).await.unwrap();
    calls.revive(Vec::new()).await.unwrap();
    master.break_stream();
    let late = calls.revive(Vec::new()).await.unwrap_err();
    assert!(matches!(late, CallError::NotSubscribed(_)), "{late:?}");
}

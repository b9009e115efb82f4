//! The scheduler API of a real master over gRPC.

use crate::common::{framework, master, next, on_stream, scheduler, subscribe, subscribed};
use proffer_proto::v1::scheduler::{Call, call};
use tonic::Code;

fn call_of(kind: call::Type, framework: &proffer_proto::v1::FrameworkId) -> Call {
    Call {
        framework_id: Some(framework.clone()),
        r#type: Some(kind as i32),
        ..Call::default()
    }
}

#[tokio::test]
async fn a_framework_subscribes_and_tears_itself_down() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut client = scheduler(&server).await?;
    let mut framework = subscribed(&mut client, framework("first", 60.0)).await?;
    assert!(!framework.id.value.is_empty());
    let teardown = call_of(call::Type::Teardown, &framework.id);
    client.submit(on_stream(&framework.stream_id, teardown)).await?;
    // The stream ends; events that were under way may come before.
    while next(&mut framework.events).await?.is_some() {}
    server.stop().await
}

#[tokio::test]
async fn a_call_without_its_stream_id_is_told_to_subscribe() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut client = scheduler(&server).await?;
    let framework = subscribed(&mut client, framework("first", 60.0)).await?;
    let revive = call_of(call::Type::Revive, &framework.id);
    let without = client.submit(revive.clone()).await.unwrap_err();
    assert_eq!(without.code(), Code::FailedPrecondition, "{without:?}");
    assert!(without.message().contains("stream"), "{without:?}");
    let wrong = client
        .submit(on_stream("no-such-stream", revive.clone()))
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::FailedPrecondition, "{wrong:?}");
    client.submit(on_stream(&framework.stream_id, revive)).await?;
    server.stop().await
}

#[tokio::test]
async fn a_bad_call_is_rejected_by_the_name_of_its_field() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut client = scheduler(&server).await?;
    let mut bad = subscribe(framework("first", 60.0));
    bad.subscribe = None;
    let refused = client.subscribe(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("subscribe"), "{refused:?}");
    let negative = client.subscribe(subscribe(framework("first", -1.0))).await.unwrap_err();
    assert_eq!(negative.code(), Code::InvalidArgument, "{negative:?}");
    assert!(negative.message().contains("failover_timeout"), "{negative:?}");
    // The master goes on.
    subscribed(&mut client, framework("second", 60.0)).await?;
    server.stop().await
}

#[tokio::test]
async fn an_oversized_call_is_refused_with_the_limit() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut client = scheduler(&server).await?;
    let mut info = framework("big", 60.0);
    info.hostname = Some("x".repeat(17 << 20));
    let refused = client.subscribe(subscribe(info)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    assert!(refused.message().contains("limit"), "{refused:?}");
    server.stop().await
}

#[tokio::test]
async fn streams_end_when_the_master_stops() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut client = scheduler(&server).await?;
    let mut framework = subscribed(&mut client, framework("first", 60.0)).await?;
    server.stop().await?;
    while let Ok(Some(_)) = next(&mut framework.events).await {}
    Ok(())
}

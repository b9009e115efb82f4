//! The scheduler API of a real master over gRPC.

use std::collections::BTreeMap;

use crate::common::{PATIENCE, framework, master, next, on_stream, scheduler, subscribe, subscribed};
use proffer_proto::calls::{Calls, NumberedCall};
use proffer_proto::v1::scheduler::{Call, call};
use tokio_stream::wrappers::UnboundedReceiverStream;
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

#[tokio::test]
async fn calls_on_a_stream_are_taken_together_and_each_has_its_answer() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut client = scheduler(&server).await?;
    let framework = subscribed(&mut client, framework("first", 60.0)).await?;
    let unknown_role = Call {
        suppress: Some(call::Suppress {
            roles: vec!["other".to_owned()],
        }),
        ..call_of(call::Type::Suppress, &framework.id)
    };
    let kinds = [call::Type::Revive, call::Type::Teardown];
    let mut calls: Vec<_> = kinds.iter().map(|kind| call_of(*kind, &framework.id)).collect();
    calls.insert(1, unknown_role);
    let numbered = (7..).zip(calls).map(|(number, call)| NumberedCall { number, call });
    let message = Calls {
        calls: numbered.collect(),
    };
    // The stream stays open until all is answered.
    let (sender, outgoing) = tokio::sync::mpsc::unbounded_channel();
    sender.send(message)?;
    let mut request = tonic::Request::new(UnboundedReceiverStream::new(outgoing));
    let stream_id = framework.stream_id.parse()?;
    request.metadata_mut().insert("mesos-stream-id", stream_id);
    let mut answers = client.submit_many(request).await?.into_inner();
    let mut refusals = BTreeMap::new();
    while refusals.len() < 3 {
        let answered = tokio::time::timeout(PATIENCE, answers.message()).await??;
        for answer in answered.expect("every call has an answer").answers {
            refusals.insert(
                answer.number,
                answer
                    .refusal
                    .map(|refusal| (Code::from(refusal.code), refusal.message)),
            );
        }
    }
    assert_eq!((&refusals[&7], &refusals[&9]), (&None, &None), "{refusals:?}");
    let (code, text) = refusals[&8].clone().expect("a role that is not the framework's");
    assert!(
        code == Code::InvalidArgument && text.contains("suppress.roles[0]"),
        "{text}"
    );
    drop(sender);
    server.stop().await
}

#[tokio::test]
async fn a_stream_of_calls_that_names_no_subscription_is_told_so_for_each_call() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut client = scheduler(&server).await?;
    let framework = subscribed(&mut client, framework("first", 60.0)).await?;
    let call = call_of(call::Type::Revive, &framework.id);
    let calls = Calls {
        calls: vec![NumberedCall { number: 1, call }],
    };
    let mut answers = client.submit_many(tokio_stream::iter([calls])).await?.into_inner();
    let answered = answers.message().await?.expect("an answer").answers;
    let refusal = answered[0].refusal.clone().expect("a refusal");
    assert_eq!(Code::from(refusal.code), Code::FailedPrecondition, "{refusal:?}");
    assert!(
        answers.message().await?.is_none(),
        "the stream ends after the last answer"
    );
    server.stop().await
}

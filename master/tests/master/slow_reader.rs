//! A scheduler that does not read costs bounded memory and is disconnected; others notice nothing.

use proffer_master::outbox::Bounds;
use proffer_master::{Config, Server};
use proffer_proto::v1;
use proffer_proto::v1::scheduler::{Call, call};
use tonic::Code;

use crate::common::{framework, next, on_stream, scheduler, subscribed};

fn reconcile(framework: &proffer_proto::v1::FrameworkId) -> Call {
    let tasks = (0..2000).map(|number| call::reconcile::Task {
        task_id: format!("{number}-{}", "x".repeat(100)).into(),
        agent_id: None,
    });
    Call {
        framework_id: Some(framework.clone()),
        r#type: Some(call::Type::Reconcile as i32),
        reconcile: Some(call::Reconcile { tasks: tasks.collect() }),
        ..Call::default()
    }
}

/// Launches on an offer of an earlier leader: each task is told to be lost.
fn launch(framework: &proffer_proto::v1::FrameworkId) -> Call {
    let tasks = (0..2000).map(|number| v1::TaskInfo {
        name: "late".into(),
        task_id: format!("{number}-{}", "x".repeat(100)).as_str().into(),
        agent_id: "earlier-S0".into(),
        ..Default::default()
    });
    let operation = v1::offer::Operation {
        r#type: Some(v1::offer::operation::Type::Launch.into()),
        launch: Some(v1::offer::operation::Launch {
            task_infos: tasks.collect(),
        }),
        ..Default::default()
    };
    Call {
        framework_id: Some(framework.clone()),
        r#type: Some(call::Type::Accept as i32),
        accept: Some(call::Accept {
            offer_ids: vec!["earlier-O1".to_owned().into()],
            operations: vec![operation],
            ..Default::default()
        }),
        ..Call::default()
    }
}

#[tokio::test]
async fn a_slow_reader_is_disconnected_and_the_master_goes_on() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut config = Config::in_directory(directory.path());
    config.stream_bounds = Bounds {
        messages: 100_000,
        bytes: 2 << 20,
    };
    let server = Server::start(config).await?;
    let mut slow_client = scheduler(&server).await?;
    let mut slow = subscribed(&mut slow_client, framework("slow", 60.0)).await?;
    // What it asks for is told as it reads, and no more is taken than can be remembered.
    let mut calls = 0;
    let refused = loop {
        let call = on_stream(&slow.stream_id, reconcile(&slow.id));
        match scheduler(&server).await?.submit(call).await {
            Ok(_) => calls += 1,
            Err(refused) => break refused,
        }
        assert!(calls < 1000, "all is taken");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    // What it has to be told waits in the stream, until the master has had enough.
    let mut calls = 0;
    let refused = loop {
        let call = on_stream(&slow.stream_id, launch(&slow.id));
        match scheduler(&server).await?.submit(call).await {
            Ok(_) => calls += 1,
            Err(refused) => break refused,
        }
        assert!(calls < 1000, "the stream is never cut off");
    };
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let end = loop {
        match next(&mut slow.events).await {
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("the stream ended without saying why"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
    let mut client = scheduler(&server).await?;
    subscribed(&mut client, framework("other", 60.0)).await?;
    server.stop().await
}

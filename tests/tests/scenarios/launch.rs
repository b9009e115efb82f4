//! Offers, launches, outcomes, output.

use std::time::Duration;

use proffer_proto::v1::TaskState;
use proffer_tests::{Cluster, require_isolation};

use crate::shell;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_runs_and_its_outcome_is_told() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("outcome").start().await?;
    let mut framework = cluster.framework("outcome").await?;

    let offer = framework.next_offer().await?;
    let good = framework.launch(offer, shell("echo hello; echo oops >&2")).await?;
    framework.wait_for(&good, TaskState::TaskRunning).await?;
    framework.wait_for(&good, TaskState::TaskFinished).await?;

    let offer = framework.next_offer().await?;
    let bad = framework.launch(offer, shell("exit 3")).await?;
    let status = framework.wait_for(&bad, TaskState::TaskFailed).await?;
    assert!(
        status.message().contains('3'),
        "the exit code is told: {}",
        status.message()
    );

    let path = format!("/frameworks/{}/executors/{}/runs/latest", framework.id(), good.task_id);
    let mut agent = cluster.agent_client(0).await?;
    assert_eq!(
        agent.read_file(&format!("{path}/stdout"), 0, None).await?.data,
        b"hello\n"
    );
    assert_eq!(
        agent.read_file(&format!("{path}/stderr"), 0, None).await?.data,
        b"oops\n"
    );
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freed_resources_are_offered_again() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("freed").cpus(1.0).start().await?;
    let mut framework = cluster.framework("freed").await?;
    for _ in 0..5 {
        let offer = framework.next_offer_of(0.9, 32.0).await?;
        let whole = shell("true").cpus(0.9);
        let task = framework.launch(offer, whole).await?;
        framework.wait_for(&task, TaskState::TaskFinished).await?;
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declined_resources_stay_away_until_revived() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("declined").start().await?;
    let mut framework = cluster.framework("declined").await?;
    let offer = framework.next_offer().await?;
    framework.decline(offer, 3600.0).await?;
    framework.calls().revive(Vec::new()).await?;
    framework.next_offer().await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_frameworks_share_a_cluster() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("share").agents(2).start().await?;
    let (mut one, mut two) = (cluster.framework("one").await?, cluster.framework("two").await?);
    // The first may be offered both agents; what it gives back goes to the second.
    let offer = one.next_offer().await?;
    let first = one.launch(offer, shell("sleep 60")).await?;
    one.wait_for(&first, TaskState::TaskRunning).await?;
    one.calls().suppress(Vec::new()).await?;
    one.listen_for(Duration::from_millis(100)).await?;
    while let Ok(offer) = tokio::time::timeout(Duration::from_millis(300), one.next_offer()).await {
        one.decline(offer?, 3600.0).await?;
    }
    let offer = two.next_offer().await?;
    let second = two.launch(offer, shell("sleep 60")).await?;
    two.wait_for(&second, TaskState::TaskRunning).await?;
    cluster.stop().await
}

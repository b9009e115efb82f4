//! A framework's scheduler may come and go; its tasks stay as long as it asked for.

use std::time::Duration;

use proffer_proto::v1::TaskState;
use proffer_sdk::Framework;
use proffer_tests::{Cluster, TestFramework, require_isolation};

use crate::shell;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_outlives_its_scheduler_and_is_handed_over() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("handover").start().await?;
    let mut framework = cluster.framework("handover").await?;
    let offer = framework.next_offer().await?;
    let task = framework.launch(offer, shell("sleep 1000")).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;

    let mut framework = framework.fail_over().await?;
    framework.calls().reconcile(Vec::new()).await?;
    let status = framework.wait_for_reconciliation(&task.task_id).await?;
    assert_eq!(status.state(), TaskState::TaskRunning);
    framework.kill(&task, None).await?;
    framework.wait_for(&task, TaskState::TaskKilled).await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_of_two_schedulers_is_told_that_it_was_replaced() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("replaced").start().await?;
    let mut older = cluster.framework("replaced").await?;
    let newer = TestFramework::subscribe(cluster.masters(), older.info().clone()).await?;
    assert!(older.wait_for_error().await?.to_lowercase().contains("failed over"));
    assert_eq!(older.id(), newer.id());
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_framework_that_stays_away_too_long_is_removed_with_its_tasks() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("away").start().await?;
    let info = Framework::new("away")
        .failover_timeout(Duration::from_millis(200))
        .build();
    let mut framework = TestFramework::subscribe(cluster.masters(), info).await?;
    let offer = framework.next_offer().await?;
    let task = framework.launch(offer, shell("sleep 1000")).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    let info = framework.info().clone();
    drop(framework);

    let mut operator = cluster.operator();
    let deadline = std::time::Instant::now() + proffer_tests::DEADLINE;
    while !operator.get_frameworks().await?.frameworks.is_empty() {
        anyhow::ensure!(std::time::Instant::now() < deadline, "the framework is still there");
        tokio::task::yield_now().await;
    }
    let refused = TestFramework::subscribe(cluster.masters(), info)
        .await
        .expect_err("its id is used up");
    assert!(refused.to_string().contains("removed"), "{refused:#}");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_teardown_ends_all_tasks() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("teardown").start().await?;
    let mut framework = cluster.framework("teardown").await?;
    let offer = framework.next_offer().await?;
    let task = framework.launch(offer, shell("sleep 1000")).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    framework.calls().teardown().await?;
    let mut agent = cluster.agent_client(0).await?;
    let deadline = std::time::Instant::now() + proffer_tests::DEADLINE;
    while !agent.get_containers().await?.containers.is_empty() {
        anyhow::ensure!(std::time::Instant::now() < deadline, "a container is left");
        tokio::task::yield_now().await;
    }
    cluster.stop().await
}

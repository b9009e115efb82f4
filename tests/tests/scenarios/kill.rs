//! Ending tasks politely and by force.

use proffer_proto::v1::TaskState;
use proffer_tests::{Cluster, require_isolation};

use crate::{grace, shell};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_task_may_clean_up_within_its_grace_period() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("polite").start().await?;
    let mut framework = cluster.framework("polite").await?;
    let offer = framework.next_offer().await?;
    let line = "trap 'echo cleaned; exit 0' TERM; echo ready; while true; do sleep 0.05; done";
    let task = framework.launch(offer, shell(line)).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    let path = format!(
        "/frameworks/{}/executors/{}/runs/latest/stdout",
        framework.id(),
        task.task_id
    );
    let mut agent = cluster.agent_client(0).await?;
    while agent.read_file(&path, 0, None).await?.data.is_empty() {
        tokio::task::yield_now().await;
    }
    framework.kill(&task, Some(grace(30_000))).await?;
    framework.wait_for(&task, TaskState::TaskKilled).await?;
    assert_eq!(agent.read_file(&path, 0, None).await?.data, b"ready\ncleaned\n");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_does_not_listen_is_killed_with_its_whole_tree() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("force").start().await?;
    let mut framework = cluster.framework("force").await?;
    let offer = framework.next_offer().await?;
    let line = "trap '' TERM; (trap '' TERM; setsid sleep 1234.5) & while true; do sleep 0.05; done";
    let task = framework.launch(offer, shell(line)).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    framework.kill(&task, Some(grace(100))).await?;
    framework.wait_for(&task, TaskState::TaskKilled).await?;
    assert!(
        !command_lines().iter().any(|line| line.contains("1234.5")),
        "a process of the task is left"
    );
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_an_unknown_task_is_answered() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("unknown").start().await?;
    let mut framework = cluster.framework("unknown").await?;
    framework.calls().kill("nobody".into(), None, None).await?;
    let status = framework.wait_for_reconciliation(&"nobody".into()).await?;
    assert!(
        proffer_sdk::is_terminal(status.state()) || status.state() == TaskState::TaskUnknown,
        "{status:?}"
    );
    cluster.stop().await
}

pub(crate) fn command_lines() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

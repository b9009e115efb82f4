//! No task dies because an agent died.

use proffer_proto::v1::TaskState;
use proffer_tests::{Cluster, require_isolation};

use crate::shell;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_outlives_a_killed_agent() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("outlives").start().await?;
    let mut framework = cluster.framework("outlives").await?;
    let offer = framework.next_offer().await?;
    let line = "echo started >> runs; while [ ! -e go ]; do sleep 0.05; done; exit 7";
    let task = framework.launch(offer, shell(line)).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;

    cluster.restart_agent(0).await?;
    let path = format!("/frameworks/{}/executors/{}/runs/latest", framework.id(), task.task_id);
    let runs = cluster
        .agent_client(0)
        .await?
        .read_file(&format!("{path}/runs"), 0, None)
        .await?
        .data;
    assert_eq!(runs, b"started\n", "the task was not started again");

    let sandbox = sandbox_of(&mut cluster, &task.task_id.value)?;
    std::fs::write(sandbox.join("go"), "")?;
    let status = framework.wait_for(&task, TaskState::TaskFailed).await?;
    assert!(
        status.message().contains('7'),
        "its true exit code is told: {}",
        status.message()
    );
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_ends_while_the_agent_is_away_is_told_with_its_exit_code() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("meanwhile").start().await?;
    let mut framework = cluster.framework("meanwhile").await?;
    let offer = framework.next_offer().await?;
    let line = "while [ ! -e go ]; do sleep 0.05; done; touch gone; exit 9";
    let task = framework.launch(offer, shell(line)).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;

    let sandbox = sandbox_of(&mut cluster, &task.task_id.value)?;
    cluster.agent(0).kill();
    std::fs::write(sandbox.join("go"), "")?;
    let deadline = std::time::Instant::now() + proffer_tests::DEADLINE;
    while !sandbox.join("gone").exists() {
        anyhow::ensure!(
            std::time::Instant::now() < deadline,
            "the task did not go on without its agent"
        );
        tokio::task::yield_now().await;
    }
    cluster.agent(0).restart()?;
    cluster.agent(0).address(proffer_tests::DEADLINE).await?;
    let status = framework.wait_for(&task, TaskState::TaskFailed).await?;
    assert!(
        status.message().contains('9'),
        "its true exit code is told: {}",
        status.message()
    );
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unacknowledged_update_is_told_again_by_a_restarted_agent() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("again").start().await?;
    let mut framework = cluster.framework("again").await?;
    framework.set_acknowledge(false);
    let offer = framework.next_offer().await?;
    let task = framework.launch(offer, shell("sleep 1000")).await?;
    let first = framework.wait_for(&task, TaskState::TaskRunning).await?;
    let seen = framework.updates().len();
    cluster.restart_agent(0).await?;
    framework
        .until("the same update", |framework| {
            (framework.updates().len() > seen).then_some(())
        })
        .await?;
    assert!(
        framework.updates()[seen..]
            .iter()
            .any(|status| status.uuid == first.uuid),
        "{:?}",
        framework.updates()
    );
    cluster.stop().await
}

/// The sandbox of a task on the first agent.
pub(crate) fn sandbox_of(cluster: &mut Cluster, task: &str) -> anyhow::Result<std::path::PathBuf> {
    let root = cluster.local().agent_work_directory(0).join("sandboxes");
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory)?.flatten() {
            if entry.file_type()?.is_dir() {
                if entry.path().join("stdout").exists() && entry.path().to_string_lossy().contains(task) {
                    return Ok(entry.path());
                }
                directories.push(entry.path());
            }
        }
    }
    anyhow::bail!("no sandbox of {task} under {}", root.display())
}

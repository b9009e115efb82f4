//! What a master must remember, and what it learns again.

use proffer_proto::v1::TaskState;
use proffer_tests::{Cluster, require_isolation};

use crate::shell;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_and_framework_ids_survive_a_killed_master() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("master").start().await?;
    let mut framework = cluster.framework("master").await?;
    let offer = framework.next_offer().await?;
    let task = framework.launch(offer, shell("sleep 1000")).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    let id = framework.id().clone();

    cluster.restart_master().await?;
    let mut framework = framework.fail_over().await?;
    assert_eq!(*framework.id(), id);
    // The agent comes back by itself; until then there is no answer, or one that the task's agent is away.
    let deadline = std::time::Instant::now() + proffer_tests::DEADLINE;
    let mut operator = cluster.operator();
    while !operator
        .get_tasks()
        .await?
        .tasks
        .iter()
        .any(|known| known.task_id == task.task_id)
    {
        anyhow::ensure!(
            std::time::Instant::now() < deadline,
            "the agent did not come back with its task"
        );
        tokio::task::yield_now().await;
    }
    framework
        .calls()
        .reconcile(vec![(task.task_id.clone(), Some(task.agent_id.clone()))])
        .await?;
    assert_eq!(
        framework.wait_for_reconciliation(&task.task_id).await?.state(),
        TaskState::TaskRunning
    );
    let offer = framework.next_offer().await?;
    let second = framework.launch(offer, shell("true")).await?;
    framework.wait_for(&second, TaskState::TaskFinished).await?;
    cluster.stop().await
}

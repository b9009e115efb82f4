//! What a framework is told of tasks that it asks for.

use proffer_proto::v1::TaskState;
use proffer_tests::{Cluster, require_isolation};

use crate::shell;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explicit_reconciliation_tells_the_state_of_known_and_unknown_tasks() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("explicit").start().await?;
    let mut framework = cluster.framework("explicit").await?;
    let offer = framework.next_offer().await?;
    let agent = offer.agent_id.clone();
    let task = framework.launch(offer, shell("sleep 1000")).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;

    framework.calls().reconcile(vec![(task.task_id.clone(), None)]).await?;
    let known = framework.wait_for_reconciliation(&task.task_id).await?;
    assert_eq!(known.state(), TaskState::TaskRunning);

    framework.calls().reconcile(vec![("never".into(), Some(agent))]).await?;
    assert_eq!(
        framework.wait_for_reconciliation(&"never".into()).await?.state(),
        TaskState::TaskGone
    );

    framework
        .calls()
        .reconcile(vec![("never2".into(), Some("no-such-agent".into()))])
        .await?;
    assert_eq!(
        framework.wait_for_reconciliation(&"never2".into()).await?.state(),
        TaskState::TaskUnknown
    );
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn implicit_reconciliation_tells_every_task() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("implicit").start().await?;
    let mut framework = cluster.framework("implicit").await?;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let offer = framework.next_offer().await?;
        let task = framework.launch(offer, shell("sleep 1000")).await?;
        framework.wait_for(&task, TaskState::TaskRunning).await?;
        tasks.push(task);
    }
    let seen = framework.updates().len();
    framework.calls().reconcile(Vec::new()).await?;
    framework
        .until("an answer for each task", |framework| {
            let answers = &framework.updates()[seen..];
            tasks
                .iter()
                .all(|task| {
                    answers
                        .iter()
                        .any(|s| s.task_id == task.task_id && s.state() == TaskState::TaskRunning)
                })
                .then_some(())
        })
        .await?;
    cluster.stop().await
}

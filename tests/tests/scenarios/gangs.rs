//! Gangs: launched whole over several agents, or not at all.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{AgentId, Offer, TaskInfo, TaskState, TaskStatus};
use proffer_sdk::gang::is_lent;
use proffer_sdk::{Framework, Gang, Task};
use proffer_tests::{Cluster, TestFramework, require_isolation};

use crate::{grace, shell};

/// The latest word of the master about a task, which is to come.
async fn told(framework: &mut TestFramework, id: &str, reason: Reason) -> anyhow::Result<TaskStatus> {
    let about = |status: &&TaskStatus| status.task_id.value == id && status.reason() == reason;
    framework
        .until(&format!("{reason:?} of {id}"), |framework| {
            framework.updates().iter().rev().find(about).cloned()
        })
        .await
}

/// A task of a gang as it runs, by its id.
async fn running(framework: &mut TestFramework, id: &str) -> anyhow::Result<(TaskInfo, AgentId)> {
    let mut info = TaskInfo {
        task_id: id.into(),
        ..TaskInfo::default()
    };
    let status = framework.wait_for(&info, TaskState::TaskRunning).await?;
    let agent = status.agent_id.context("an update names its agent")?;
    info.agent_id = agent.clone();
    Ok((info, agent))
}

fn cpus(offer: &Offer) -> f64 {
    let cpus = offer.resources.iter().filter(|resource| resource.name == "cpus");
    cpus.filter_map(|resource| resource.scalar.as_ref())
        .map(|scalar| scalar.value)
        .sum()
}

async fn subscribed(cluster: &mut Cluster, framework: Framework) -> anyhow::Result<TestFramework> {
    TestFramework::subscribe(cluster.masters(), framework.build()).await
}

/// A framework that uses up one of the agents, and wants no more.
async fn other(cluster: &mut Cluster) -> anyhow::Result<(TestFramework, TaskInfo)> {
    let mut other = subscribed(cluster, Framework::new("other")).await?;
    let whole = |other: &mut TestFramework| other.take_offer(|offer| cpus(offer) == 2.0);
    let offer = other.until("a whole agent", whole).await?;
    let busy = other.launch(offer, shell("sleep 1000").cpus(2.0)).await?;
    other.wait_for(&busy, TaskState::TaskRunning).await?;
    other.calls().suppress(Vec::new()).await?;
    while let Some(offer) = other.take_offer(|_| true) {
        other.decline(offer, 3600.0).await?;
    }
    Ok((other, busy))
}

fn member(id: &str) -> Task {
    shell("sleep 1000").cpus(1.5).mem(64.0).port("data").with_id(id)
}

/// A framework with a gang that waits: one agent is free, and it needs both.
async fn waiting(cluster: &mut Cluster) -> anyhow::Result<TestFramework> {
    let mut framework = subscribed(cluster, Framework::new("gang")).await?;
    let gang = Gang::new("pair").member(member("left")).member(member("right"));
    let gang = gang.max_wait(Duration::from_secs(600)).together();
    framework.calls().launch_gang(Vec::new(), gang, None).await?;
    framework.calls().reconcile(vec![("left".into(), None)]).await?;
    let status = told(&mut framework, "left", Reason::Reconciliation).await?;
    ensure!(status.state() == TaskState::TaskStaging, "{status:?}");
    framework.calls().suppress(Vec::new()).await?;
    while let Some(offer) = framework.take_offer(|_| true) {
        framework.decline(offer, 3600.0).await?;
    }
    Ok(framework)
}

/// A framework with a task on what the gang holds.
async fn borrower(cluster: &mut Cluster) -> anyhow::Result<(TestFramework, TaskInfo)> {
    let mut backfill = subscribed(cluster, Framework::new("backfill").backfill()).await?;
    let lent = backfill
        .until("what is lent", |backfill| backfill.take_offer(is_lent))
        .await?;
    let short = shell("sleep 1000").max_completion_time(Duration::from_secs(300));
    let short = backfill.launch(lent, short.with_id("short")).await?;
    backfill.wait_for(&short, TaskState::TaskRunning).await?;
    backfill.calls().suppress(Vec::new()).await?;
    Ok((backfill, short))
}

/// A gang for which there is no room in time is told so, and nothing of it runs.
async fn late(cluster: &mut Cluster, framework: &mut TestFramework) -> anyhow::Result<()> {
    let trio = (0..3).map(|index| member(&format!("late-{index}")));
    let trio = Gang::new("trio").members(trio).max_wait(Duration::from_millis(200));
    framework.calls().launch_gang(Vec::new(), trio, None).await?;
    for index in 0..3 {
        let status = told(framework, &format!("late-{index}"), Reason::GangDeadline).await?;
        ensure!(status.state() == TaskState::TaskDropped, "{status:?}");
    }
    let tasks = cluster.operator().get_tasks().await?;
    let all = tasks.tasks.iter().chain(&tasks.completed_tasks);
    let late = all.filter(|task| task.task_id.value.starts_with("late"));
    ensure!(late.count() == 0, "a member of a gang that was given up is known");
    Ok(())
}

// Each part on the heap: together they are more than the stack of a test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gang_waits_lends_what_it_holds_and_is_launched_whole() -> anyhow::Result<()> {
    require_isolation!();
    let start = Cluster::builder("gangs").agents(2).cpus(2.0).mem(512).start();
    let mut cluster = Box::pin(start).await?;
    let (mut other, busy) = Box::pin(other(&mut cluster)).await?;
    let mut gang = Box::pin(waiting(&mut cluster)).await?;
    let (mut backfill, short) = Box::pin(borrower(&mut cluster)).await?;

    Box::pin(other.kill(&busy, Some(grace(0)))).await?;
    Box::pin(other.wait_for(&busy, TaskState::TaskKilled)).await?;
    let called_back = Box::pin(backfill.wait_for(&short, TaskState::TaskKilled)).await?;
    ensure!(called_back.reason() == Reason::ContainerPreempted, "{called_back:?}");
    let (left, first) = Box::pin(running(&mut gang, "left")).await?;
    let (right, second) = Box::pin(running(&mut gang, "right")).await?;
    ensure!(first != second, "both are on {first}");

    Box::pin(late(&mut cluster, &mut gang)).await?;
    for task in [left, right] {
        Box::pin(gang.kill(&task, Some(grace(0)))).await?;
        Box::pin(gang.wait_for(&task, TaskState::TaskKilled)).await?;
    }
    Box::pin(cluster.stop()).await
}

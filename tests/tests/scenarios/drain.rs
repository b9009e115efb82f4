//! Agents that operators drain, and machines that they take down.

use anyhow::{Context as _, ensure};
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{TaskState, scheduler};
use proffer_tests::cluster::built;
use proffer_tests::{Cluster, TestFramework, require_isolation};
use serde_json::Value;
use tokio::process::Command;

use crate::{shell, until};

async fn proffer(master: &str, args: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(built("proffer-under-test")?)
        .args(args)
        .env("PROFFER_MASTER", master)
        .output();
    let output = tokio::time::timeout(proffer_tests::DEADLINE, output).await??;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

async fn agent_row(master: &str) -> anyhow::Result<Value> {
    let rows: Vec<Value> = serde_json::from_slice(&proffer(master, &["agents", "-o", "json"]).await?)?;
    rows.into_iter().next().context("an agent is listed")
}

/// Launches a task that does not end by itself when it is asked to.
async fn stubborn(framework: &mut TestFramework, id: &str) -> anyhow::Result<proffer_proto::v1::TaskInfo> {
    let offer = framework.next_offer().await?;
    let task = shell("trap : TERM; while :; do sleep 0.05; done").with_id(id);
    let task = framework.launch(offer, task).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    Ok(task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_agent_has_no_tasks_and_gets_none_until_it_is_reactivated() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("drain").start().await?;
    let master = cluster.masters().to_string();
    let mut framework = cluster.framework("drained").await?;
    let task = stubborn(&mut framework, "stubborn").await?;

    let id = agent_row(&master).await?["id"].as_str().context("an id")?.to_owned();
    // Its own grace period is the agent's, 5 s; the drain allows less.
    let draining = tokio::spawn({
        let (master, id) = (master.clone(), id.clone());
        async move { proffer(&master, &["agents", "drain", &id, "--grace", "1"]).await }
    });
    let killed = framework.wait_for(&task, TaskState::TaskKilled).await?;
    ensure!(killed.reason() == Reason::AgentDraining, "{killed:?}");
    draining.await??;
    ensure!(agent_row(&master).await?["state"] == "drained");

    // The order outlives the master and the agent.
    cluster.restart_master().await?;
    cluster.restart_agent(0).await?;
    until("the agent to be back", async || {
        Ok(agent_row(&master).await?["state"] == "drained")
    })
    .await?;
    let mut framework = framework.fail_over().await?;
    proffer(&master, &["agents", "reactivate", &id]).await?;
    let task = stubborn(&mut framework, "after").await?;
    proffer(&master, &["agents", "deactivate", &id]).await?;
    ensure!(agent_row(&master).await?["state"] == "deactivated");
    framework.kill(&task, Some(crate::grace(0))).await?;
    framework.wait_for(&task, TaskState::TaskKilled).await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_runs_on_a_machine_is_asked_to_leave_before_it_is_taken_down() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("maintenance").start().await?;
    let master = cluster.masters().to_string();
    let mut framework = cluster.framework("asked").await?;
    let task = stubborn(&mut framework, "stubborn").await?;
    let host = agent_row(&master).await?["hostname"]
        .as_str()
        .context("a host")?
        .to_owned();

    proffer(
        &master,
        &["maintenance", "schedule", &host, "--in", "3600", "--for", "60"],
    )
    .await?;
    let asked = framework
        .until("an inverse offer", |framework| {
            framework.inverse_offers().last().cloned()
        })
        .await?;
    ensure!(
        asked
            .unavailability
            .duration
            .is_some_and(|span| span.nanoseconds == 60_000_000_000)
    );
    let offer = framework
        .until("an offer with the window", |framework| {
            framework.take_offer(|offer| offer.unavailability == Some(asked.unavailability))
        })
        .await?;
    framework.decline(offer, 3600.0).await?;
    let accept = scheduler::Call {
        r#type: Some(scheduler::call::Type::AcceptInverseOffers.into()),
        accept_inverse_offers: Some(scheduler::call::AcceptInverseOffers {
            inverse_offer_ids: vec![asked.id],
            filters: None,
        }),
        ..scheduler::Call::default()
    };
    framework.calls().submit(accept).await?;
    let rows: Vec<Value> = serde_json::from_slice(&proffer(&master, &["maintenance", "ls", "-o", "json"]).await?)?;
    ensure!(
        rows.len() == 1 && rows[0]["state"] == "draining" && rows[0]["accepted"][0] == framework.id().value.as_str(),
        "{rows:?}"
    );

    cluster.expect_error("the master rejected this agent");
    proffer(&master, &["maintenance", "start", &host]).await?;
    framework.wait_for(&task, TaskState::TaskGoneByOperator).await?;
    let rows: Vec<Value> = serde_json::from_slice(&proffer(&master, &["maintenance", "ls", "-o", "json"]).await?)?;
    ensure!(rows[0]["state"] == "down", "{rows:?}");
    proffer(&master, &["maintenance", "stop", &host]).await?;
    until("the agent to register anew", async || {
        let rows: Vec<Value> = serde_json::from_slice(&proffer(&master, &["agents", "-o", "json"]).await?)?;
        Ok(rows.len() == 1 && rows[0]["state"] == "active")
    })
    .await?;
    cluster.stop().await
}

//! Agents that are going to be taken away are left in order: the replacement first.

use anyhow::{Context as _, ensure};
use proffer_tests::cluster::built;
use proffer_tests::{Cluster, DEADLINE, require_isolation};
use serde_json::{Value, json};
use tokio::process::Command;

use super::Services;
use crate::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_leave_a_machine_before_it_is_maintained_or_drained() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("services-leaving").agents(2).start().await?;
    // Machines are told apart by the host names of their agents.
    for agent in 0..2 {
        cluster.agent(agent).kill();
        cluster
            .agent(agent)
            .spec_mut()
            .args
            .push(format!("--hostname=machine{agent}"));
        cluster.agent(agent).restart()?;
        cluster.agent(agent).address(DEADLINE).await?;
    }
    let master = cluster.masters().to_string();
    until("both machines", async || Ok(hosts(&master).await?.len() == 2)).await?;
    let services = Services::start(&mut cluster).await?;
    let spec = json!({
        "id": "web", "command": "exec sleep 100000", "instances": 2, "mem": 32, "kill_grace_seconds": 1,
        "backoff": {"initial_ms": 50, "max_ms": 500}, "update": {"over_capacity": 0.5},
    });
    services.put("web", &spec).await?;
    services.running(2).await?;

    proffer(&master, &["maintenance", "schedule", "machine0", "--in", "3600"]).await?;
    let least = leaves(&services, "machine0").await?;
    ensure!(least == 2, "so many were ready at any time: {least}");
    until("nobody to be asked for the machine", async || {
        let rows = proffer(&master, &["maintenance", "ls", "-o", "json"]).await?;
        let said = ["asked", "accepted", "declined"].map(|name| rows[0][name].as_array().map(Vec::len));
        Ok(said == [Some(0); 3])
    })
    .await?;

    proffer(&master, &["maintenance", "unschedule", "machine0"]).await?;
    let agents = hosts(&master).await?;
    let (_, drained) = agents
        .iter()
        .find(|(host, _)| host == "machine1")
        .context("a machine")?;
    proffer(&master, &["agents", "drain", drained]).await?;
    leaves(&services, "machine1").await?;
    let service = services.ask("GET", "/v1/services/web", "", 200).await?;
    let failures = service["instances"].as_array().into_iter().flatten();
    ensure!(
        failures.map(|one| &one["failures"]).all(|failures| *failures == 0),
        "{service:#}"
    );
    services.ask("DELETE", "/v1/services/web", "", 202).await?;
    services.stop().await?;
    cluster.stop().await
}

/// Waits until all instances are elsewhere. Returns the fewest that were ready meanwhile.
async fn leaves(services: &Services, host: &str) -> anyhow::Result<u64> {
    let mut least = u64::MAX;
    until("the instances to be elsewhere", async || {
        let service = services.ask("GET", "/v1/services/web", "", 200).await?;
        let instances = service["instances"].as_array().cloned().unwrap_or_default();
        least = least.min(service["ready"].as_u64().unwrap_or_default());
        let away = instances.iter().all(|one| one["host"] != host && one["ready"] == true);
        Ok(away && instances.len() == 2 && service["update"]["state"] == "done")
    })
    .await?;
    Ok(least)
}

/// The active agents' host names and ids.
async fn hosts(master: &str) -> anyhow::Result<Vec<(String, String)>> {
    let rows = proffer(master, &["agents", "-o", "json"]).await?;
    let rows = rows
        .as_array()
        .into_iter()
        .flatten()
        .filter(|row| row["state"] == "active");
    let rows = rows.filter_map(|row| Some((row["hostname"].as_str()?.to_owned(), row["id"].as_str()?.to_owned())));
    Ok(rows.filter(|(host, _)| host.starts_with("machine")).collect())
}

async fn proffer(master: &str, args: &[&str]) -> anyhow::Result<Value> {
    let mut command = Command::new(built("proffer-under-test")?);
    let output = command.args(args).env("PROFFER_MASTER", master).output();
    let output = tokio::time::timeout(DEADLINE, output).await??;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
}

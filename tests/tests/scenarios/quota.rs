//! Quotas and weights of roles, as operators set and see them.

use std::process::Output;

use anyhow::{Context as _, ensure};
use proffer_proto::resources::Resources;
use proffer_proto::v1::TaskState;
use proffer_sdk::Framework;
use proffer_tests::cluster::built;
use proffer_tests::{Cluster, TestFramework, require_isolation};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{shell, until};

async fn proffer(master: &str, args: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new(built("proffer-under-test")?)
        .args(args)
        .env("PROFFER_MASTER", master)
        .output();
    Ok(tokio::time::timeout(proffer_tests::DEADLINE, output).await??)
}

/// What a command that succeeds prints as JSON.
async fn rows(master: &str, args: &[&str]) -> anyhow::Result<Value> {
    let output = proffer(master, &[args, &["-o", "json"]].concat()).await?;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

async fn done(master: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = proffer(master, args).await?;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_set_of_roles_outlives_the_leader() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("quota").masters(3).agents(0).start().await?;
    let masters = cluster.masters().to_string();
    until("the level to be raised", async || {
        Ok(proffer(&masters, &["weights", "set", "ads=2.5", "web=0.5"])
            .await?
            .status
            .success())
    })
    .await?;
    done(&masters, &["quota", "set", "ads", "--limit", "cpus:2;ports:3"]).await?;

    // There is no agent that could keep the promise.
    let more = ["quota", "set", "ads", "--guarantee", "cpus:1.5"];
    let refused = proffer(&masters, &more).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(5) && said.contains("the cluster has 0"),
        "{said}"
    );
    let tried = proffer(&masters, &[&more[..], &["--dry-run", "-o", "json"]].concat()).await?;
    let violations: Value = serde_json::from_slice(&tried.stdout)?;
    ensure!(tried.status.code() == Some(5), "{tried:?}");
    ensure!(
        violations.as_array().is_some_and(|list| list.len() == 1)
            && violations[0]["role"] == "ads"
            && violations[0]["resource"] == "cpus"
            && violations[0]["forcible"] == true,
        "{violations}"
    );
    done(&masters, &[&more[..], &["--force"]].concat()).await?;
    let set = json!([{
        "role": "ads", "guarantees": {"cpus": 1.5}, "limits": {"cpus": 2.0, "ports": 3.0},
        "allocated": {}, "offered": {}, "reserved": {},
    }]);
    ensure!(rows(&masters, &["quota", "ls"]).await? == set);

    let leader = cluster.leader().await?;
    cluster.local().master_at(leader).kill();
    ensure!(rows(&masters, &["quota", "ls"]).await? == set);
    let weights = json!([{"role": "ads", "weight": 2.5}, {"role": "web", "weight": 0.5}]);
    ensure!(rows(&masters, &["weights", "ls"]).await? == weights);
    let roles = rows(&masters, &["roles"]).await?;
    ensure!(
        roles[0]["role"] == "ads" && roles[0]["weight"] == 2.5 && roles[0]["limits"]["ports"] == 3.0,
        "{roles}"
    );

    // What is listed can be put back.
    let file = std::env::temp_dir().join(format!("proffer-quota-{}.json", std::process::id()));
    std::fs::write(&file, serde_json::to_vec(&set)?)?;
    done(&masters, &["quota", "rm", "ads"]).await?;
    ensure!(rows(&masters, &["quota", "ls"]).await? == json!([]));
    let name = file.display().to_string();
    done(&masters, &["quota", "set", "--file", &name, "--force"]).await?;
    std::fs::remove_file(&file)?;
    ensure!(rows(&masters, &["quota", "ls"]).await? == set);
    let table = String::from_utf8(proffer(&masters, &["quota", "ls"]).await?.stdout)?;
    ensure!(table.starts_with("ROLE") && table.contains("cpus:2;ports:3"), "{table}");
    cluster.local().restart_master(leader).await?;
    cluster.stop().await
}

/// How many agents a reason is about.
async fn agents_for(masters: &str, target: &str, reason: &str) -> anyhow::Result<u64> {
    let told = rows(masters, &["why", target]).await?;
    let list = told.as_array().context("a list")?;
    let of_kind = list.iter().filter(|row| row["reason"] == reason);
    Ok(of_kind.filter_map(|row| row["agents"].as_u64()).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_over_a_killed_leader_and_is_told_as_the_reason() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("limit").masters(3).cpus(2.0).start().await?;
    let masters = cluster.masters().to_string();
    until("the level to be raised", async || {
        let set = ["quota", "set", "ads", "--limit", "cpus:0.5;mem:128"];
        Ok(proffer(&masters, &set).await?.status.success())
    })
    .await?;
    let info = Framework::new("limited").role("ads/etl").build();
    let mut framework = TestFramework::subscribe(cluster.masters(), info).await?;
    let offer = framework.next_offer().await?;
    let offered = Resources::from_wire(&offer.resources)?;
    ensure!(
        offered.cpus().as_f64() == 0.5 && offered.mem().as_f64() == 128.0,
        "{offered}"
    );
    let task = shell("sleep 1000").cpus(0.4).mem(128.0).with_id("within");
    let task = framework.launch(offer, task).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    until("the limit to be the reason", async || {
        Ok(agents_for(&masters, "limited", "LIMIT").await? + agents_for(&masters, "limited", "OFFERED").await? == 1)
    })
    .await?;

    let killed = cluster.kill_leader().await?;
    let mut framework = framework.fail_over().await?;
    // The agent brings its task, and only what the limit leaves is offered.
    let offer = framework.next_offer().await?;
    let offered = Resources::from_wire(&offer.resources)?;
    ensure!(offered.cpus().as_f64() <= 0.1 && offered.mem().is_zero(), "{offered}");
    let quotas = rows(&masters, &["quota", "ls"]).await?;
    ensure!(quotas[0]["allocated"]["mem"] == 128.0, "{quotas}");
    let lower = proffer(&masters, &["quota", "set", "ads", "--limit", "cpus:0.1"]).await?;
    let said = String::from_utf8_lossy(&lower.stderr).into_owned();
    ensure!(
        lower.status.code() == Some(5) && said.contains("less than the 0.4 in use"),
        "{said}"
    );
    framework.calls().suppress(Vec::new()).await?;
    framework.decline(offer, 0.0).await?;
    until("it to be suppressed", async || {
        Ok(agents_for(&masters, "ads/etl", "SUPPRESSED").await? == 1)
    })
    .await?;
    let table = String::from_utf8(proffer(&masters, &["why", "limited"]).await?.stdout)?;
    ensure!(table.starts_with("ROLE") && table.contains("SUPPRESS"), "{table}");
    framework.kill(&task, Some(crate::grace(0))).await?;
    framework.wait_for(&task, TaskState::TaskKilled).await?;
    cluster.local().restart_master(killed).await?;
    cluster.stop().await
}

//! The `proffer` command as a person and a program use it.

use std::process::Output;

use anyhow::ensure;
use proffer_proto::v1::TaskState;
use proffer_tests::cluster::built;
use proffer_tests::{Cluster, require_isolation};
use serde_json::Value;
use tokio::process::Command;

use crate::shell;

async fn proffer(master: &str, args: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new(built("proffer-under-test")?)
        .args(args)
        .env("PROFFER_MASTER", master)
        .output();
    Ok(tokio::time::timeout(proffer_tests::DEADLINE, output).await??)
}

async fn json(master: &str, args: &[&str]) -> anyhow::Result<Vec<Value>> {
    let output = proffer(master, &[args, &["-o", "json"]].concat()).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_listed_read_and_steered() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("command").start().await?;
    let master = cluster.masters().to_string();
    let mut framework = cluster.framework("listed").await?;
    let offer = framework.next_offer().await?;
    let task = framework
        .launch(offer, shell("echo line one; sleep 1000").with_id("steered.0"))
        .await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;

    let agents = json(&master, &["agents"]).await?;
    ensure!(agents.len() == 1 && agents[0]["state"] == "active", "{agents:?}");
    let frameworks = json(&master, &["frameworks"]).await?;
    ensure!(
        frameworks[0]["name"] == "listed" && frameworks[0]["state"] == "active",
        "{frameworks:?}"
    );
    let tasks = json(&master, &["tasks"]).await?;
    ensure!(
        tasks[0]["id"] == "steered.0" && tasks[0]["state"] == "RUNNING",
        "{tasks:?}"
    );
    let _rest = framework.next_offer().await?;
    let offers = json(&master, &["offers"]).await?;
    ensure!(offers[0]["framework"] == "listed", "{offers:?}");
    let table = String::from_utf8(proffer(&master, &["tasks"]).await?.stdout)?;
    ensure!(
        table.starts_with("ID") && table.contains("steered.0") && table.contains("RUNNING"),
        "{table}"
    );

    // A followed log ends when its task does.
    let followed = tokio::spawn({
        let master = master.clone();
        async move { proffer(&master, &["logs", "-f", "steered"]).await }
    });
    let killed = proffer(&master, &["kill", "steered.0"]).await?;
    ensure!(killed.status.success(), "{}", String::from_utf8_lossy(&killed.stderr));
    framework.wait_for(&task, TaskState::TaskKilled).await?;
    ensure!(followed.await??.stdout == b"line one\n");
    let ended = json(&master, &["tasks", "--all"]).await?;
    ensure!(ended[0]["state"] == "KILLED", "{ended:?}");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_have_exit_codes_and_say_what_to_do() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("codes").start().await?;
    let master = cluster.masters().to_string();
    let cases: [(&str, &[&str], i32, &str); 4] = [
        (&master, &["logs", "nobody"], 4, "no task is named `nobody`"),
        (&master, &["kill", "nobody"], 4, "no task is named `nobody`"),
        (
            "127.0.0.1:1",
            &["agents", "--timeout", "1"],
            3,
            "no leading master answered at 127.0.0.1:1",
        ),
        ("not an address", &["agents"], 2, "host:port"),
    ];
    for (master, args, code, text) in cases {
        let output = proffer(master, args).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(code),
            "{args:?} ended with {:?}: {said}",
            output.status
        );
        ensure!(said.contains(text), "{args:?} said: {said}");
    }
    let completions = proffer(&master, &["completions", "bash"]).await?;
    ensure!(String::from_utf8_lossy(&completions.stdout).contains("_proffer"));
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_holds() -> anyhow::Result<()> {
    require_isolation!();
    let output = proffer("", &["demo", "--requests", "3000", "--json"]).await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{told}");
    let printed = String::from_utf8(output.stdout)?;
    let summary: Value = serde_json::from_str(printed.lines().last().unwrap_or_default())?;
    ensure!(summary["requests_sent"] == summary["requests_counted"], "{summary}");
    ensure!(summary["requests_answered"] == 3000, "{summary}");
    ensure!(
        summary["restarts"].as_u64() >= Some(1) && summary["denied_binds"].as_u64() >= Some(1),
        "{summary}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_root_the_demo_says_what_is_missing() -> anyhow::Result<()> {
    require_isolation!();
    let program = built("proffer-under-test")?;
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .arg("demo")
        .output()
        .await;
    let Ok(output) = output else {
        println!("skipped: setpriv is not installed");
        return Ok(());
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("Permission denied") {
        println!("skipped: {} cannot be executed by another user", program.display());
        return Ok(());
    }
    ensure!(output.status.code() == Some(6), "{:?}: {said}", output.status);
    ensure!(
        said.contains("missing: root") && said.contains("how to get it: run it with sudo"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_starts_a_cluster_and_ends_it_with_its_tasks() -> anyhow::Result<()> {
    require_isolation!();
    let directory = format!("/var/tmp/proffer-test-{}-dev", std::process::id());
    let mut child = Command::new(built("proffer-under-test")?)
        .args([
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--resources",
            "cpus:1;mem:256;ports:[19900-19909]",
        ])
        .args(["--allow-root-tasks", "--dir", &directory])
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stderr.take().expect("piped")));
    let mut master = None;
    while let Some(line) = tokio::time::timeout(proffer_tests::DEADLINE, lines.next_line()).await?? {
        if let Some(address) = line.trim().strip_prefix("master  ") {
            master = Some(address.to_owned());
        }
        if line.contains("Ctrl-C") {
            break;
        }
    }
    let master = master.expect("dev tells where its master is");
    let info = proffer_sdk::Framework::new("dev").build();
    let mut framework = proffer_tests::TestFramework::subscribe(master.parse()?, info).await?;
    let offer = framework.next_offer().await?;
    let task = framework.launch(offer, shell("exec sleep 4321.5")).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    let pid = rustix::process::Pid::from_raw(child.id().expect("it runs").cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let status = tokio::time::timeout(proffer_tests::DEADLINE, child.wait()).await??;
    ensure!(status.success(), "{status:?}");
    ensure!(
        !crate::kill::command_lines().iter().any(|line| line.contains("4321.5")),
        "a task is left"
    );
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

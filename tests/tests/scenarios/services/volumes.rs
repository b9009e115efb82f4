//! What a service keeps in persistent volumes is there again, whatever ends or is changed meanwhile.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use proffer_tests::{Cluster, DEADLINE, require_isolation};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Services, kill_instance};
use crate::until;

const REDIS: &str = "/usr/bin/redis-server";
const REDIS_CLI: &str = "/usr/bin/redis-cli";

/// How many rows are written between one fault and the next.
const ROWS: u64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_has_every_row_after_restarts_an_update_and_a_kill() -> anyhow::Result<()> {
    require_isolation!();
    if !Path::new(REDIS).exists() || !Path::new(REDIS_CLI).exists() {
        println!("skipped: {REDIS} and {REDIS_CLI} are not there (Debian: redis-server)");
        return Ok(());
    }
    let mut cluster = Cluster::builder("services-volumes").agents(2).start().await?;
    let mut services = Services::start_with(&mut cluster, "services", &["--role", "db"]).await?;
    put(&services, 64, 1, "keep").await?;
    let mut database = Database::of(&services, "").await?;
    let home = database.agent.clone();
    let mut rows = 0;
    database.write(&mut rows).await?;

    let agent = agent_of(&mut cluster, &home).await?;
    cluster.restart_agent(agent).await?;
    database.write(&mut rows).await?;

    put(&services, 65, 1, "keep").await?;
    database = Database::of(&services, &database.task).await?;
    ensure!(
        database.rows().await? == rows,
        "after an update: {} of {rows}",
        database.rows().await?
    );
    database.write(&mut rows).await?;

    kill_instance(&mut cluster, &database.task).await?;
    database = Database::of(&services, &database.task).await?;
    ensure!(
        database.rows().await? == rows,
        "after a kill: {} of {rows}",
        database.rows().await?
    );

    services.restart().await?;
    services.ask("POST", "/v1/services/db/restart", "", 200).await?;
    database = Database::of(&services, &database.task).await?;
    ensure!(
        database.rows().await? == rows,
        "after all of it: {} of {rows}",
        database.rows().await?
    );
    ensure!(database.agent == home, "it is where its volume is");

    // With no instance left it is kept, and found again; then it is not wanted any more.
    put(&services, 65, 0, "keep").await?;
    let kept = kept(&services, 0).await?;
    ensure!(kept["agent_id"] == home.as_str(), "{kept}");
    put(&services, 65, 1, "keep").await?;
    database = Database::of(&services, "").await?;
    ensure!(
        database.rows().await? == rows,
        "after nothing ran: {} of {rows}",
        database.rows().await?
    );
    put(&services, 65, 0, "delete").await?;
    until("no volume", async || {
        let agents = cluster.operator().get_agents().await?.agents;
        let all = agents.iter().flat_map(|agent| &agent.total_resources);
        Ok(all.into_iter().all(|resource| resource.reservations.is_empty()))
    })
    .await?;
    services.ask("DELETE", "/v1/services/db", "", 202).await?;
    services.stop().await?;
    cluster.stop().await
}

async fn put(services: &Services, mem: u64, instances: u64, scale_down: &str) -> anyhow::Result<()> {
    let spec = json!({
        "id": "db",
        "command": format!(
            "exec {REDIS} --port $PORT0 --bind 127.0.0.1 --dir $MESOS_SANDBOX/data --appendonly yes --appendfsync always --save ''"
        ),
        "init": [{"name": "look", "command": "test -d data"}, {"name": "count", "argv": ["touch", "data/started"]}],
        "instances": instances, "mem": mem, "cpus": 0.2, "ports": [{"name": "redis"}],
        "volumes": [{"persistent": {"size": 64}, "path": "data"}],
        "persistence": {"scale_down": scale_down},
        "readiness": {"command": format!("{REDIS_CLI} -p $PORT0 ping | grep -q PONG"), "interval_seconds": 0.2},
        "backoff": {"initial_ms": 50, "max_ms": 500},
    });
    services.put("db", &spec).await
}

/// The database, as it is now.
struct Database {
    task: String,
    agent: String,
    port: String,
}

impl Database {
    /// Waits until it is ready and no longer this task.
    async fn of(services: &Services, task: &str) -> anyhow::Result<Self> {
        let mut found = None;
        until("the database to be ready", async || {
            let service = services.ask("GET", "/v1/services/db", "", 200).await?;
            let instance = &service["instances"][0];
            let known = instance["task_id"].as_str().unwrap_or_default();
            if instance["ready"] == true && known != task && service["update"]["state"] == "done" {
                found = Some(Self {
                    task: known.to_owned(),
                    agent: instance["agent_id"].as_str().context("an agent")?.to_owned(),
                    port: instance["ports"][0]["port"].to_string(),
                });
            }
            Ok(found.is_some())
        })
        .await?;
        found.context("it is ready")
    }

    async fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(REDIS_CLI);
        command
            .args(["-e", "-p", &self.port])
            .args(arguments)
            .stdin(Stdio::null());
        let output = tokio::time::timeout(DEADLINE, command.output()).await??;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    async fn write(&self, rows: &mut u64) -> anyhow::Result<()> {
        let script = "for i = ARGV[1], ARGV[2] do redis.call('SET', 'row:' .. i, i) end return ARGV[2]";
        let (first, last) = ((*rows + 1).to_string(), (*rows + ROWS).to_string());
        self.ask(&["EVAL", script, "0", &first, &last]).await?;
        *rows += ROWS;
        ensure!(self.rows().await? == *rows, "all rows were written");
        Ok(())
    }

    async fn rows(&self) -> anyhow::Result<u64> {
        Ok(self.ask(&["DBSIZE"]).await?.parse()?)
    }
}

/// The volumes of an index that has no instance.
async fn kept(services: &Services, index: u64) -> anyhow::Result<Value> {
    let mut found = Value::Null;
    until("volumes without an instance", async || {
        let service = services.ask("GET", "/v1/services/db", "", 200).await?;
        let kept = service["kept_volumes"].as_array().cloned().unwrap_or_default();
        found = kept.into_iter().find(|one| one["index"] == index).unwrap_or_default();
        Ok(found.is_object())
    })
    .await?;
    Ok(found)
}

/// Which of the cluster's agents has this id.
async fn agent_of(cluster: &mut Cluster, id: &str) -> anyhow::Result<usize> {
    let agents = cluster.operator().get_agents().await?.agents;
    let agent = agents
        .iter()
        .find(|agent| agent.agent_info.id.as_ref().is_some_and(|known| known.value == id));
    let port = agent.and_then(|agent| agent.agent_info.port).context("a port")?;
    let addresses = cluster.local().agent_addresses();
    let index = addresses
        .iter()
        .position(|address| address.ends_with(&format!(":{port}")));
    index.context("an agent of the cluster")
}

//! Updates that look at the new version before it gets all requests.

use std::collections::BTreeSet;

use anyhow::ensure;
use proffer_tests::{Cluster, require_isolation};
use serde_json::{Value, json};

use super::{Services, Tasks};
use crate::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_fails_is_taken_back_and_a_new_side_takes_over_at_once() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("services-updates").agents(2).start().await?;
    let mut services = Services::start(&mut cluster).await?;
    let canary = json!({"canary": {"count": 1, "watch_seconds": 1}});
    put(&services, "exec sleep 100000", &canary).await?;
    let first = services.running(3).await?;

    // It is ready, and ends while it is watched.
    put(&services, "sleep 0.3; exit 7", &canary).await?;
    until("the update to be taken back", async || {
        let service = services.ask("GET", "/v1/services/web", "", 200).await?;
        Ok(service["update"]["reverts"]
            .as_str()
            .is_some_and(|why| why.contains("ended by themselves")))
    })
    .await?;
    ensure!(services.running(3).await? == first, "nobody else noticed");
    put(&services, "exec sleep 200000", &canary).await?;
    let second = services.done(3).await?;
    ensure!(second.values().all(|task| !first.values().any(|old| old == task)));

    // All of the other side serve when none of this side does, also when the scheduler dies on the way.
    let blue_green = json!({"strategy": "blue-green"});
    put(&services, "exec sleep 300000", &blue_green).await?;
    services.restart().await?;
    let mut seen = BTreeSet::new();
    until("the update to be done", async || {
        let (status, service) = proffer_tests::http::request(&services.control, "GET", "/v1/services/web", "").await?;
        let ready = ready(&service);
        if status == 200 && ready.len() == 3 {
            seen.insert(ready);
        }
        Ok(status == 200 && service["update"]["state"] == "done" && seen.len() == 2)
    })
    .await?;
    let third = services.done(3).await?;
    let sides = [second, third].map(|tasks| tasks.into_values().collect::<BTreeSet<_>>());
    ensure!(seen == sides.into(), "{seen:?}");
    services.ask("DELETE", "/v1/services/web", "", 202).await?;
    services.stop().await?;
    cluster.stop().await
}

async fn put(services: &Services, command: &str, update: &Value) -> anyhow::Result<()> {
    let spec = json!({
        "id": "web", "command": command, "instances": 3, "mem": 32, "kill_grace_seconds": 1, "update": update,
        "backoff": {"initial_ms": 50, "max_ms": 500},
    });
    services.put("web", &spec).await
}

fn ready(service: &Value) -> BTreeSet<String> {
    let instances = service["instances"].as_array().into_iter().flatten();
    let ready = instances.filter(|instance| instance["ready"] == true);
    ready
        .filter_map(|one| Some(one["task_id"].as_str()?.to_owned()))
        .collect()
}

impl Services {
    /// The tasks of the service when its update is done.
    async fn done(&self, instances: usize) -> anyhow::Result<Tasks> {
        until("the update to be done", async || {
            let service = self.ask("GET", "/v1/services/web", "", 200).await?;
            Ok(service["update"]["state"] == "done")
        })
        .await?;
        self.running(instances).await
    }
}

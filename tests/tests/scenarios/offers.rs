//! Who is offered what: frameworks that are shown the same, fault domains, constraints and declared demand.

use anyhow::ensure;
use proffer_proto::v1::TaskState;
use proffer_proto::v1::framework_info::capability::Type as Capability;
use proffer_sdk::Framework;
use proffer_sdk::offers::is_conflict;
use proffer_sdk::wishes::{Attribute, constraints, demand};
use proffer_tests::cluster::built;
use proffer_tests::{Cluster, TestFramework, require_isolation};
use tokio::process::Command;

use crate::{shell, until};

/// Waits until `proffer why` says so of a framework.
async fn told(masters: &str, framework: &str, why: &str) -> anyhow::Result<()> {
    until(why, async || {
        let output = Command::new(built("proffer-under-test")?)
            .args(["why", framework])
            .env("PROFFER_MASTER", masters)
            .output();
        let output = tokio::time::timeout(proffer_tests::DEADLINE, output).await??;
        Ok(String::from_utf8_lossy(&output.stdout).contains(why))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_optimistic_frameworks_who_accepts_first_has_what_both_are_shown() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("optimistic").cpus(1.0).mem(256).start().await?;
    let mut all = Vec::new();
    for name in ["first", "second"] {
        let info = Framework::new(name).optimistic().build();
        all.push(TestFramework::subscribe(cluster.masters(), info).await?);
    }
    let [mut first, mut second] = <[TestFramework; 2]>::try_from(all).map_err(|_| anyhow::anyhow!("two"))?;
    let (one, other) = (first.next_offer().await?, second.next_offer().await?);
    ensure!(
        one.shared() && other.shared() && one.agent_id == other.agent_id,
        "{one:?}, {other:?}"
    );

    let task = || shell("sleep 1000").cpus(1.0).mem(64.0);
    let won = first.launch(one, task()).await?;
    first.wait_for(&won, TaskState::TaskRunning).await?;
    let lost = second.launch(other, task()).await?;
    let dropped = second.wait_for(&lost, TaskState::TaskDropped).await?;
    ensure!(is_conflict(&dropped), "{dropped:?}");

    // What the first leaves is there for the second at once.
    first.kill(&won, None).await?;
    first.wait_for(&won, TaskState::TaskKilled).await?;
    let fits = |offer: &proffer_proto::v1::Offer| {
        let mut cpus = offer.resources.iter().filter(|resource| resource.name == "cpus");
        cpus.any(|cpus| cpus.scalar.is_some_and(|scalar| scalar.value >= 1.0))
    };
    let offer = second
        .until("all of the agent", |second| second.take_offer(fits))
        .await?;
    let again = second.launch(offer, task()).await?;
    second.wait_for(&again, TaskState::TaskRunning).await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_constraints_and_demand_decide_what_is_offered() -> anyhow::Result<()> {
    require_isolation!();
    let builder = Cluster::builder("wishes").cpus(2.0).mem(512);
    let builder = builder.master_arg("--domain=eu/a").agent_arg("--domain=us/b");
    let mut cluster = builder.start().await?;
    let masters = cluster.masters().to_string();

    let _plain = cluster.framework("plain").await?;
    told(&masters, "plain", "they are in another region").await?;

    let info = Framework::new("aware").capability(Capability::RegionAware).build();
    let elsewhere = constraints([("*", [vec![Attribute::zone().equals("c")]])]);
    let mut aware = TestFramework::subscribe(cluster.masters(), info.clone()).await?;
    let offer = aware.next_offer().await?;
    let calls = aware.calls().clone();
    calls
        .update_framework_with(aware.info().clone(), Vec::new(), elsewhere)
        .await?;
    aware.decline(offer, 0.0).await?;
    told(&masters, "aware", "its offer constraints do not accept them").await?;
    let here = constraints([(
        "*",
        [vec![Attribute::zone().equals("b"), Attribute::region().matches("u.")]],
    )]);
    calls
        .update_framework_with(aware.info().clone(), Vec::new(), here)
        .await?;
    let offer = aware.next_offer().await?;

    calls.request(vec![demand("cpus:64", 1)?]).await?;
    aware.decline(offer, 0.0).await?;
    told(&masters, "aware", "nothing that it asked for (REQUEST) fits").await?;
    calls.request(vec![demand("cpus:0.1;mem:32", 1)?]).await?;
    let offer = aware.next_offer().await?;
    let task = aware.launch(offer, shell("sleep 1000")).await?;
    aware.wait_for(&task, TaskState::TaskRunning).await?;
    told(&masters, "aware", "all that it asked for (REQUEST) was launched").await?;
    cluster.stop().await
}

//! Two schedulers of one name: one is active, the other takes over.

use anyhow::ensure;
use proffer_tests::{Cluster, DEADLINE, cluster, require_isolation};
use rustix::process::Signal;

use proffer_tests::http::request;

use super::Services;
use crate::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_schedulers_takes_over_and_no_instance_notices() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("services-standby").agents(2).start().await?;
    let mut first = Services::start(&mut cluster).await?;
    first.scale(2).await?;
    let tasks = first.running(2).await?;
    let mut second = Services::start_as(&mut cluster, "services-2").await?;
    sends_to(&second, &first).await?;
    // Whoever asks the one that stands by reaches the active one all the same.
    let shown = command(&mut cluster, &["ls", "--control", &second.control]).await?;
    ensure!(shown.contains("web"), "{shown}");

    first.process.kill();
    leads(&second).await?;
    ensure!(second.running(2).await? == tasks, "running instances do not notice");
    let shown = command(&mut cluster, &["scale", "web", "3", "--wait", "60"]).await?;
    ensure!(shown.contains("3 of 3 ready"), "the active one is found: {shown}");
    let tasks = second.running(3).await?;

    first.process.restart()?;
    first.control = first.process.address(DEADLINE).await?;
    sends_to(&first, &second).await?;
    second.process.signal(Signal::STOP);
    leads(&first).await?;
    ensure!(first.running(3).await? == tasks, "one that stands still is replaced");
    second.process.signal(Signal::CONT);
    sends_to(&second, &first).await?;
    let (status, answer) = request(&first.control, "GET", "/v1/catalogue", "").await?;
    ensure!(
        status == 200 && answer["connected"] == true,
        "it is still the active one: {answer}"
    );

    // One that ends in order leaves nothing to wait for.
    first.stop().await?;
    leads(&second).await?;
    ensure!(second.running(3).await? == tasks, "{tasks:?}");
    second.ask("DELETE", "/v1/services/web", "", 202).await?;
    until("no service", async || {
        let (_, services) = request(&second.control, "GET", "/v1/services", "").await?;
        Ok(services.as_object().is_some_and(serde_json::Map::is_empty))
    })
    .await?;
    second.stop().await?;
    cluster.stop().await
}

/// Waits until one of them sends whoever asks to the other.
async fn sends_to(standby: &Services, active: &Services) -> anyhow::Result<()> {
    until("one to stand by", async || {
        let (status, answer) = request(&standby.control, "GET", "/v1/services/web", "").await?;
        Ok(status == 307 && answer["active"] == active.control.as_str())
    })
    .await
}

async fn leads(active: &Services) -> anyhow::Result<()> {
    until("one to be active", async || {
        Ok(request(&active.control, "GET", "/v1/services/web", "").await?.0 == 200)
    })
    .await
}

async fn command(cluster: &mut Cluster, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = tokio::process::Command::new(cluster::built("proffer-under-test")?);
    let master = cluster.local().master_address().to_owned();
    command.env("PROFFER_MASTER", master).arg("service").args(arguments);
    let output = tokio::time::timeout(2 * DEADLINE, command.output()).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

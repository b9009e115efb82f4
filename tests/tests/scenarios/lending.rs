//! What is idle is lent as revocable, and taken back.

use anyhow::ensure;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{Offer, TaskState};
use proffer_sdk::Framework;
use proffer_tests::cluster::built;
use proffer_tests::{Cluster, TestFramework, require_isolation};
use tokio::process::Command;

use crate::{shell, until};

/// What the command prints, and what it says beside it.
async fn proffer(masters: &str, args: &[&str]) -> anyhow::Result<(String, String)> {
    let output = Command::new(built("proffer-under-test")?)
        .args(args)
        .env("PROFFER_MASTER", masters)
        .output();
    let output = tokio::time::timeout(proffer_tests::DEADLINE, output).await??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, beside) = (text(output.stdout), text(output.stderr));
    ensure!(output.status.success(), "{args:?}: {beside}");
    Ok((out, beside))
}

fn is_revocable(offer: &Offer) -> bool {
    offer.resources.iter().any(|resource| resource.revocable.is_some())
}

async fn revocable_offer(framework: &mut TestFramework) -> anyhow::Result<Offer> {
    let find = |framework: &mut TestFramework| framework.take_offer(is_revocable);
    framework.until("an offer of what is revocable", find).await
}

/// One task leaves when it is asked to, the other is killed; the role that is guaranteed the resources has them then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_for_a_role_is_lent_until_the_role_wants_it() -> anyhow::Result<()> {
    require_isolation!();
    let builder = Cluster::builder("lending").cpus(2.0).mem(512);
    let mut cluster = builder.master_arg("--revocable-grace=1s").start().await?;
    let masters = cluster.masters().to_string();
    proffer(&masters, &["quota", "set", "ads", "--guarantee", "cpus:2;mem:512"]).await?;

    let info = Framework::new("borrower").revocable().build();
    let mut borrower = TestFramework::subscribe(cluster.masters(), info).await?;
    let offer = revocable_offer(&mut borrower).await?;
    let task = |line: &str| shell(line).cpus(1.0).mem(256.0).revocable();
    let stays = borrower.launch(offer, task("sleep 1000")).await?;
    borrower.wait_for(&stays, TaskState::TaskRunning).await?;
    let offer = revocable_offer(&mut borrower).await?;
    let leaves = borrower.launch(offer, task("sleep 1000")).await?;
    borrower.wait_for(&leaves, TaskState::TaskRunning).await?;
    let (table, _) = proffer(&masters, &["lent"]).await?;
    ensure!(
        table.contains(&stays.task_id.value) && table.contains(&leaves.task_id.value),
        "{table}"
    );

    let info = Framework::new("owner").role("ads").build();
    let mut owner = TestFramework::subscribe(cluster.masters(), info).await?;
    let asked = |framework: &mut TestFramework| framework.inverse_offers().first().cloned();
    let asked = borrower.until("an inverse offer", asked).await?;
    ensure!(
        asked.resources.iter().any(|resource| resource.revocable.is_some()),
        "{asked:?}"
    );
    let (table, _) = proffer(&masters, &["why", "owner"]).await?;
    ensure!(table.contains("lent as revocable to borrower (*)"), "{table}");
    borrower.kill(&leaves, None).await?;
    let left = borrower.wait_for(&leaves, TaskState::TaskKilled).await?;
    ensure!(left.reason() != Reason::ContainerPreempted, "{left:?}");
    let killed = borrower.wait_for(&stays, TaskState::TaskKilled).await?;
    ensure!(killed.reason() == Reason::ContainerPreempted, "{killed:?}");

    let firm = shell("true").cpus(2.0).mem(256.0);
    let offer = owner.next_offer_of(2.0, 256.0).await?;
    let task = owner.launch(offer, firm).await?;
    owner.wait_for(&task, TaskState::TaskFinished).await?;
    until("the counts", async || {
        let (_, beside) = proffer(&masters, &["lent"]).await?;
        Ok(beside.contains("2 tasks asked back, of which 1 were returned and 1 killed"))
    })
    .await?;
    cluster.stop().await
}

/// A reservation that nobody uses is lent; a task on it outlives the leader, and is taken back by the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_reservation_is_lent_over_an_election() -> anyhow::Result<()> {
    require_isolation!();
    let builder = Cluster::builder("lent").masters(3).cpus(1.0).mem(256);
    let builder = builder.master_arg("--revocable-grace=1s").master_arg("--idle-after=1s");
    let mut cluster = builder.start().await?;
    let masters = cluster.masters().to_string();
    let mut operator = cluster.operator();
    until("the level to be raised, and the agent to be there", async || {
        let agents = operator.get_agents().await?;
        let Some(id) = agents.agents.first().and_then(|agent| agent.agent_info.id.clone()) else {
            return Ok(false);
        };
        let reserve = ["reserve", &id.value, "cpus:1;mem:256", "--role", "ads"];
        Ok(proffer(&masters, &reserve).await.is_ok())
    })
    .await?;
    let info = Framework::new("borrower").revocable().build();
    let mut borrower = TestFramework::subscribe(cluster.masters(), info).await?;
    let offer = revocable_offer(&mut borrower).await?;
    let task = borrower
        .launch(offer, shell("sleep 1000").cpus(1.0).mem(256.0).revocable())
        .await?;
    borrower.wait_for(&task, TaskState::TaskRunning).await?;

    cluster.kill_leader().await?;
    until("the next leader to know of it", async || {
        match proffer(&masters, &["lent"]).await {
            Ok((table, _)) => Ok(table.contains(&task.task_id.value)),
            Err(_) => Ok(false),
        }
    })
    .await?;
    let mut borrower = borrower.fail_over().await?;
    let info = Framework::new("owner").role("ads").build();
    let mut owner = TestFramework::subscribe(cluster.masters(), info).await?;
    let killed = borrower.wait_for(&task, TaskState::TaskKilled).await?;
    ensure!(killed.reason() == Reason::ContainerPreempted, "{killed:?}");
    let offer = owner.next_offer_of(1.0, 64.0).await?;
    let own = owner.launch(offer, shell("true").cpus(1.0)).await?;
    owner.wait_for(&own, TaskState::TaskFinished).await?;
    cluster.stop().await
}

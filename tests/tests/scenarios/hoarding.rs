//! Offers that nobody answers: they end at their deadline, and earlier where another framework waits.

use anyhow::ensure;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{Offer, TaskState};
use proffer_sdk::offers::{deadline, patient_until};
use proffer_tests::{Cluster, require_isolation};
use tokio::process::Command;

use crate::shell;

/// What the command says that explains a framework: its table, and what is beside it.
async fn why(masters: &str, framework: &str) -> anyhow::Result<(String, String)> {
    let output = Command::new(proffer_tests::cluster::built("proffer-under-test")?)
        .args(["why", framework])
        .env("PROFFER_MASTER", masters)
        .output();
    let output = tokio::time::timeout(proffer_tests::DEADLINE, output).await??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    ensure!(output.status.success(), "{}", text(output.stderr));
    Ok((text(output.stdout), text(output.stderr)))
}

fn held_apart(offer: &Offer) -> bool {
    deadline(offer).is_some() && patient_until(offer) < deadline(offer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_is_not_answered_goes_to_who_waits() -> anyhow::Result<()> {
    require_isolation!();
    let builder = Cluster::builder("hoarding").master_arg("--offer-patience=200ms");
    let mut cluster = builder.start().await?;
    let masters = cluster.masters().to_string();
    let mut sitter = cluster.framework("sitter").await?;
    let held = sitter.next_offer().await?;
    ensure!(held_apart(&held), "{held:?}");

    // Its deadline is minutes away.
    let mut worker = cluster.framework("worker").await?;
    let offer = worker.next_offer().await?;
    sitter.wait_for_rescind(&held.id).await?;
    let (table, beside) = why(&masters, "sitter").await?;
    ensure!(
        table.contains("in the offers of worker (*, 1 offers, held for"),
        "{table}"
    );
    ensure!(beside.contains("is served last for"), "{beside}");

    // An ACCEPT that crossed the RESCIND.
    let late = sitter.launch(held, shell("true")).await?;
    let status = sitter.until("the task to be dropped", |sitter| {
        let mut updates = sitter.updates().iter();
        updates.find(|status| status.task_id == late.task_id).cloned()
    });
    let status = status.await?;
    ensure!(
        status.state() == TaskState::TaskDropped && status.reason() == Reason::InvalidOffers,
        "{status:?}"
    );
    let task = worker.launch(offer, shell("true")).await?;
    worker.wait_for(&task, TaskState::TaskFinished).await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_ends_at_its_deadline() -> anyhow::Result<()> {
    require_isolation!();
    let builder = Cluster::builder("deadline").master_arg("--offer-timeout=300ms");
    let mut cluster = builder.start().await?;
    let mut sitter = cluster.framework("sitter").await?;
    let first = sitter.next_offer().await?;
    sitter.wait_for_rescind(&first.id).await?;
    // Nobody else is there.
    let next = sitter.next_offer().await?;
    ensure!(next.id != first.id && deadline(&next) > deadline(&first));
    cluster.stop().await
}

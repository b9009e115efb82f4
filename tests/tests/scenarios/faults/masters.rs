//! A master of three ends at any place of its daily work.

use anyhow::Context;
use proffer_faults::Place;
use proffer_master::faults::*;
use proffer_sdk::operator::GroupClient;
use proffer_tests::{Cluster, faults, require_isolation};

use super::Tasks;
use super::writes::Writes;
use crate::failover::Playing;

/// Where any master comes.
pub(super) const ANYWHERE: &[Place] = &[
    LOG_BEFORE_WRITE,
    LOG_WRITTEN,
    LOG_SYNCED,
    COMMITTED,
    SNAPSHOT_BEFORE_RENAME,
    SNAPSHOT_RENAMED,
    LOG_COMPACTED,
    KEEPER_BEFORE_BATCH,
    KEEPER_BEFORE_FLUSH,
    KEEPER_FLUSHED,
];
/// Where only a leader comes.
pub(super) const LEADING: &[Place] = &[BEFORE_ANSWER];
/// Where a master comes when another one is to lead.
pub(super) const VOTING: &[Place] = &[VOTE_BEFORE_WRITE];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_ends_at_any_place_costs_nothing() -> anyhow::Result<()> {
    require_isolation!();
    let cluster = Cluster::builder("faults-masters").masters(3).faults();
    let mut cluster = cluster.master_arg("--snapshot-entries=30").start().await?;
    let mut framework = Playing::start(cluster.masters(), "faults").await?;
    let mut tasks = Tasks::below(cluster.local().directory().to_owned());
    let writes = Writes::begin(cluster.masters());

    for (index, place) in [ANYWHERE, LEADING, VOTING].concat().into_iter().enumerate() {
        let leader = cluster.leader().await?;
        let ends = match index % 2 {
            _ if LEADING.contains(&place) => leader,
            0 if !VOTING.contains(&place) => leader,
            _ => (leader + 1) % 3,
        };
        framework.launch(tasks.gated()).await?;
        let process = cluster.local().master_at(ends);
        let before = faults::ends_at(process, place);
        faults::arm(process, &faults::end_at(place))?;
        if VOTING.contains(&place) {
            let other = cluster.local().master_addresses()[(leader + 2) % 3].clone();
            // Whether it succeeds is not what is looked at.
            let _ = GroupClient::new(cluster.masters()).transfer(Some(&other)).await;
        }
        faults::ended_at(cluster.local().master_at(ends), place, before).await?;
        tasks.open()?;
        cluster.local().restart_master(ends).await?;
        let checked = async {
            cluster.caught_up().await?;
            writes.are_there().await
        };
        checked
            .await
            .with_context(|| format!("after master {ends} ended at {}", place.0))?;
    }
    tasks.ended(&mut framework, false).await?;
    cluster.stop().await
}

/// Errors of the disk, which a master cannot do without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_whose_disk_fails_ends_with_advice_and_comes_back() -> anyhow::Result<()> {
    const ENOSPC: i32 = 28;
    const EIO: i32 = 5;
    let cluster = Cluster::builder("faults-disk").masters(3).agents(0).faults();
    let mut cluster = cluster.master_arg("--snapshot-entries=30").start().await?;
    let writes = Writes::begin(cluster.masters());
    for (place, error) in [
        (LOG_BEFORE_WRITE, ENOSPC),
        (LOG_WRITTEN, EIO),
        (SNAPSHOT_BEFORE_RENAME, ENOSPC),
    ] {
        let ends = cluster.leader().await?;
        faults::arm(cluster.local().master_at(ends), &format!("{}=error({error})", place.0))?;
        let process = cluster.local().master_at(ends);
        let status = process.wait(proffer_tests::DEADLINE).await.context("it has ended")?;
        let said = process.log_tail();
        anyhow::ensure!(
            status.code() == Some(1) && said.contains("Start it again when its disk works and has room"),
            "{}: {status}\n{said}",
            place.0
        );
        cluster.local().restart_master(ends).await?;
        cluster.caught_up().await?;
        writes.are_there().await?;
    }
    cluster.expect_error("when its disk works and has room");
    cluster.stop().await
}

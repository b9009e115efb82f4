//! A small campaign of the bench `services-chaos`.

use anyhow::ensure;
use proffer_tests::chaos::{self, Campaign};
use proffer_tests::{Cluster, require_isolation};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_exactly_what_is_wanted_after_a_few_kills_during_updates() -> anyhow::Result<()> {
    require_isolation!();
    let campaign = Campaign {
        seed: 7,
        kills: 5,
        instances: 4,
        agents: 2,
    };
    let cluster = Cluster::builder("services-chaos-small")
        .masters(3)
        .agents(campaign.agents);
    let (cluster, outcome) = chaos::run(cluster.start().await?, 3, campaign).await?;
    ensure!(outcome.duplicates == 0 && outcome.wrong == 0, "{outcome:?}");
    cluster.stop().await
}

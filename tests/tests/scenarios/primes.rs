//! The example framework with a custom executor on a real cluster.

use proffer_examples::primes;
use proffer_tests::{Cluster, DEADLINE, require_isolation};

use crate::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executors_count_on_while_their_agent_is_killed_and_each_part_counts_once() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("primes").start().await?;
    let args = primes::Args {
        master: cluster.masters(),
        below: 300_000,
        parts: 60,
        executor_command: Some(format!(
            "exec '{}' example-primes --as-executor",
            proffer_tests::cluster::built("proffer-under-test")?.display()
        )),
        as_executor: false,
    };
    let counting = tokio::spawn(tokio::time::timeout(DEADLINE, primes::run(args)));
    let mut operator = cluster.operator();
    until("a part to be counted", async || {
        Ok(!operator.get_tasks().await?.completed_tasks.is_empty())
    })
    .await?;
    for _ in 0..3 {
        cluster.restart_agent(0).await?;
    }
    assert_eq!(counting.await???, 25_997, "the primes below 300,000");
    until("the framework to be completed", async || {
        Ok(operator.get_frameworks().await?.frameworks.is_empty())
    })
    .await?;
    cluster.stop().await
}

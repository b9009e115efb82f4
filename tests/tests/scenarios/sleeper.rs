//! The example framework on a real cluster.

use proffer_examples::sleeper;
use proffer_tests::{Cluster, DEADLINE, require_isolation};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_framework_finishes_its_tasks_and_is_gone() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("sleeper").start().await?;
    let args = sleeper::Args {
        master: cluster.masters(),
        tasks: 5,
        seconds: 0.0,
        role: "*".to_owned(),
    };
    tokio::time::timeout(DEADLINE, sleeper::run(args)).await??;
    let completed = cluster.operator().get_frameworks().await?.completed_frameworks;
    let names: Vec<_> = completed
        .iter()
        .map(|framework| framework.framework_info.name.as_str())
        .collect();
    assert_eq!(names, ["sleeper"]);
    cluster.stop().await
}

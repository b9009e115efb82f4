//! The example framework on a real cluster.

use proffer_examples::sleeper;
use proffer_tests::{Cluster, DEADLINE, require_isolation};

use crate::until;

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
    let mut operator = cluster.operator();
    until("the framework to be completed", async || {
        let frameworks = operator.get_frameworks().await?;
        let completed = frameworks.completed_frameworks.iter();
        let names = completed.map(|framework| framework.framework_info.name.as_str());
        Ok(frameworks.frameworks.is_empty() && names.eq(["sleeper"]))
    })
    .await?;
    cluster.stop().await
}

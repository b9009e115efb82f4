//! An agent ends at any place of its work.

use anyhow::Context;
use proffer_agent::faults::*;
use proffer_faults::Place;
use proffer_tests::{Cluster, DEADLINE, faults, require_isolation};

use super::Tasks;
use crate::failover::Playing;

/// Where it comes while tasks begin and end.
pub(super) const RUNNING: &[Place] = &[
    JOURNAL_BEFORE_WRITE,
    JOURNAL_WRITTEN,
    JOURNAL_SYNCED,
    LAUNCH_BEFORE_ORDER,
    LAUNCHED,
    EXITED,
    ACKNOWLEDGED,
    RELEASE_BEFORE_RECORDS,
    RECORDS_BEFORE_LAID_BY,
];
/// Where it comes when it is started.
pub(super) const STARTING: &[Place] = &[JOURNAL_BEFORE_RENAME, JOURNAL_RENAMED];
/// Where it comes when it removes old sandboxes.
pub(super) const CLEANING: &[Place] = &[SANDBOX_BEFORE_REMOVAL, SANDBOX_REMOVED];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_ends_at_any_place_loses_no_task_and_starts_none_twice() -> anyhow::Result<()> {
    require_isolation!();
    let cluster = Cluster::builder("faults-agent").faults().agent_arg("--gc-delay=1");
    let mut cluster = cluster.start().await?;
    let mut framework = Playing::start(cluster.masters(), "faults").await?;
    let mut tasks = Tasks::below(cluster.local().directory().to_owned());

    // At the first hit, and at a later one.
    for (place, hit) in RUNNING.iter().flat_map(|place| [(*place, 1), (*place, 2)]) {
        let begun = |tasks: &mut Tasks, framework: &Playing| framework.want(tasks.short()).map(drop);
        begun(&mut tasks, &framework)?;
        framework.launch(tasks.gated()).await?;
        let agent = cluster.agent(0);
        let before = faults::ends_at(agent, place);
        faults::arm(agent, &format!("{}@{hit}", faults::end_at(place)))?;
        tasks.open()?;
        for _ in 0..2 {
            begun(&mut tasks, &framework)?;
        }
        faults::ended_at(cluster.agent(0), place, before).await?;
        started(&mut cluster)
            .await
            .with_context(|| format!("after it ended at {}", place.0))?;
        tasks
            .ended(&mut framework, true)
            .await
            .with_context(|| format!("after it ended at {}", place.0))?;
    }
    for place in STARTING {
        framework.launch(tasks.gated()).await?;
        let agent = cluster.agent(0);
        agent.kill();
        faults::arm_next(agent, &faults::end_at(*place));
        agent.restart()?;
        faults::ended_at(agent, *place, 0).await?;
        faults::arm_next(agent, "");
        started(&mut cluster).await?;
        tasks.open()?;
        tasks.ended(&mut framework, true).await?;
    }
    for place in CLEANING {
        framework.launch(tasks.gated()).await?;
        faults::arm(cluster.agent(0), &faults::end_at(*place))?;
        faults::ended_at(cluster.agent(0), *place, 0).await?;
        started(&mut cluster).await?;
        tasks.open()?;
        tasks.ended(&mut framework, true).await?;
    }
    let dropped = tasks.ended(&mut framework, true).await?;
    anyhow::ensure!(dropped < tasks.begun.len() / 2, "{dropped} tasks were not started");
    cluster.stop().await
}

async fn started(cluster: &mut Cluster) -> anyhow::Result<()> {
    let agent = cluster.agent(0);
    agent.restart()?;
    agent.address(DEADLINE).await?;
    Ok(())
}

//! The leading master is killed in mid-flow: how long nobody leads, and what that costs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proffer_examples::load::Load;
use proffer_sdk::operator::OperatorClient;

use super::stage::Stage;
use super::witness::Witness;
use super::{DEADLINE, failed, say, with_deadline};
use crate::commands::{all_tasks, is_active};
use crate::exit::Failure;

/// Tasks that end while nobody leads.
pub(crate) const WITNESSES: usize = 8;

/// What the loss of the leader cost.
pub(crate) struct Gap {
    /// From the kill until another master answered a call.
    pub(crate) calls_ms: f64,
    /// Requests that the service answered meanwhile.
    pub(crate) requests_answered: u64,
    /// Requests whose answer was lost meanwhile.
    pub(crate) requests_failed: u64,
    /// Tasks that ran before and did not run afterwards, or ended otherwise than they should.
    pub(crate) tasks_lost: u64,
    /// Tasks whose end was never told.
    pub(crate) updates_lost: u64,
    /// From the start of the killed master until it served again.
    pub(crate) back_ms: f64,
}

/// Kills the leader, waits for the next, and starts the killed one again.
pub(crate) async fn kill_the_leader(stage: &mut Stage, load: &Load) -> Result<Gap, Failure> {
    let masters = stage.masters();
    let mut operator = OperatorClient::new(masters.clone()).timeout(DEADLINE);
    let mut witness = Witness::start(masters, WITNESSES);
    with_deadline(
        "the witnesses to run",
        witness.wait_for(|heard| heard.began == WITNESSES),
    )
    .await?;
    let ran = running(&mut operator, "demo-witness").await?;
    let leader = stage.cluster().leader(DEADLINE).await?;

    let before = load.progress();
    say(format!("kill -9 of master {leader}, which leads"));
    stage.cluster().kill_master(leader);
    let killed = Instant::now();
    let answered = operator.get_master().await;
    let calls_ms = killed.elapsed().as_secs_f64() * 1e3;
    answered.map_err(|error| failed("find another leading master", error))?;
    let after = load.progress();
    let next = operator.leader().unwrap_or_default().to_owned();
    say(format!(
        "the master at {next} leads after {calls_ms:.0} ms; {} requests were answered meanwhile",
        after.answered - before.answered
    ));

    let began = Instant::now();
    stage.cluster().restart_master(leader).await?;
    let back_ms = began.elapsed().as_secs_f64() * 1e3;
    // A task that is still missing when the time is up is lost.
    let ended = with_deadline(
        "the ends of the witnesses",
        witness.wait_for(|heard| heard.ended == WITNESSES),
    )
    .await;
    let heard = *witness.heard.borrow();
    if ended.is_ok() {
        let torn_down = with_deadline("the witness to end", witness.running).await?;
        let torn_down = torn_down.map_err(|error| failed("end the witness", error))?;
        torn_down.map_err(|error| failed("end the witness", error))?;
    }
    let missing = missing(&mut operator, &ran).await?;
    let gap = Gap {
        calls_ms,
        requests_answered: after.answered - before.answered,
        requests_failed: after.ambiguous - before.ambiguous,
        tasks_lost: missing + heard.badly as u64,
        updates_lost: (WITNESSES - heard.ended) as u64,
        back_ms,
    };
    say(format!(
        "master {leader} is back after {back_ms:.0} ms; {} tasks lost, {} updates lost",
        gap.tasks_lost, gap.updates_lost
    ));
    Ok(gap)
}

/// The tasks that run, without those of a framework of this name.
async fn running(operator: &mut OperatorClient, without: &str) -> Result<BTreeSet<String>, Failure> {
    let asked = |error| failed("list the tasks", error);
    let frameworks = operator.get_frameworks().await.map_err(asked)?;
    let left_out: BTreeSet<String> = frameworks
        .frameworks
        .into_iter()
        .filter(|framework| framework.framework_info.name == without)
        .filter_map(|framework| framework.framework_info.id.map(|id| id.value))
        .collect();
    let tasks = all_tasks(operator.get_tasks().await.map_err(asked)?);
    let counted = tasks
        .into_iter()
        .filter(|task| is_active(task) && !left_out.contains(&task.framework_id.value));
    Ok(counted.map(|task| task.task_id.value).collect())
}

/// How many of the tasks do not run; agents have some time to come back with theirs.
async fn missing(operator: &mut OperatorClient, ran: &BTreeSet<String>) -> Result<u64, Failure> {
    let began = Instant::now();
    loop {
        let missing = ran.difference(&running(operator, "").await?).count() as u64;
        if missing == 0 || began.elapsed() > DEADLINE {
            return Ok(missing);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

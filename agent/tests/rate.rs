//! Measures launches; run by hand with `--ignored --nocapture`, in the release profile.

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proffer_proto::v1::TaskState;
use support::{AgentProcess, FakeMaster, can_contain, shell, until};

fn show(what: &str, mut spans: Vec<Duration>) {
    spans.sort_unstable();
    let at = |part: usize| spans[(spans.len() * part / 100).min(spans.len() - 1)];
    eprintln!(
        "{what}: p50 {:?} p90 {:?} p99 {:?} of {}",
        at(50),
        at(90),
        at(99),
        spans.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn launches() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let mut spans = Vec::new();
    for number in 0..50 {
        let name = format!("one-{number}");
        let start = Instant::now();
        master.launch(shell(&name, "sleep 0.01")).await?;
        let seen = master.seen(&name, TaskState::TaskRunning).await?;
        spans.push(seen - start);
        master.seen(&name, TaskState::TaskFinished).await?;
    }
    show("launch sent -> running heard, one at a time", spans);

    let count = 500;
    let mut starts = HashMap::new();
    let start = Instant::now();
    for number in 0..count {
        let name = format!("many-{number}");
        starts.insert(name.clone(), Instant::now());
        master.launch(shell(&name, "exec sleep 300")).await?;
    }
    let running = || {
        master.look(|state| {
            state
                .seen
                .iter()
                .filter(|((name, state), _)| name.starts_with("many") && *state == i32::from(TaskState::TaskRunning))
                .count()
        })
    };
    until("all run", || (running() == count).then_some(())).await?;
    let span = start.elapsed();
    eprintln!(
        "{count} launches in {span:?}: {:.0} a second",
        count as f64 / span.as_secs_f64()
    );
    eprintln!("agent: {}", agent.memory()?);
    Ok(())
}

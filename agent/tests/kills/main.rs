//! The agent is killed again and again at random moments, also while it starts, under a load of short tasks.
//!
//! The test command kills it twenty times. The campaign:
//! `PROFFER_KILLS=1000 cargo test -p proffer-agent --test kills -- --ignored --nocapture`, with `PROFFER_SEED` to take the same
//! decisions again; the moments are then the same and what they meet is not.

#![allow(clippy::print_stdout, reason = "a campaign tells its seed and its figures")]

mod book;
mod master;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use support::{AgentProcess, can_contain, until};

use book::Book;
use master::Master;

/// Tasks that have not ended at the same time.
const TASKS_MAX: usize = 8;
/// Half of the agents are killed within this time of their start, which is about how long a start takes.
const START: Duration = Duration::from_millis(250);
/// The others within this time of their registration.
const LIFE: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_cost_no_task() -> anyhow::Result<()> {
    campaign(20).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn many_kills_cost_no_task() -> anyhow::Result<()> {
    campaign(number("PROFFER_KILLS")?.unwrap_or(1000)).await
}

fn number(name: &str) -> anyhow::Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    Ok(Some(
        text.parse().with_context(|| format!("{name}: a number is accepted"))?,
    ))
}

async fn campaign(kills: u64) -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let seed = match number("PROFFER_SEED")? {
        Some(seed) => seed,
        None => std::time::UNIX_EPOCH.elapsed()?.as_nanos() as u64,
    };
    println!("seed {seed}, {kills} kills");
    let mounts = mounts()?;
    let master = Master::start(Book::new(seed)).await?;
    let mut agent = AgentProcess::start_with(master.address())?;
    let began = Instant::now();
    let loading = AtomicBool::new(true);
    let killed = async {
        let mut random = Random(seed ^ 1);
        for kill in 1..=kills {
            if random.below(2) == 0 {
                tokio::time::sleep(START.mul_f64(random.fraction())).await;
            } else {
                let registered = || master.look(|book| book.is_attended().then_some(()));
                until("the agent is registered", registered).await?;
                tokio::time::sleep(LIFE.mul_f64(random.fraction())).await;
            }
            agent.kill().await?;
            master.look(Book::abandoned);
            agent.restart()?;
            let faults = master.look(|book| book.faults().to_vec());
            ensure!(faults.is_empty(), "after {kill} kills: {faults:#?}");
        }
        loading.store(false, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let loaded = async {
        while loading.load(Ordering::Relaxed) {
            master.look(|book| book.load(TASKS_MAX));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    let told = tokio::try_join!(killed, loaded).map(drop);
    let told = match told {
        Ok(()) => {
            until("every task has ended", || {
                master.look(|book| {
                    book.end_all();
                    (book.open() == 0 || !book.faults().is_empty()).then_some(())
                })
            })
            .await
        }
        failed => failed,
    };
    let outcome = told.and_then(|()| master.look(|book| book.check(&agent.path("work/sandboxes"))));
    let figures = master.look(|book| book.figures());
    println!("{kills} kills in {:.0} s: {figures}", began.elapsed().as_secs_f64());
    if outcome.is_err() {
        println!(
            "--- the agent's log ---\n{}",
            std::fs::read_to_string(agent.path("log"))?
        );
        println!("open: {}", master.look(|book| format!("{:#?}", book.open_tasks())));
    }
    outcome?;

    // Nothing is left of what has ended while an agent runs, and nothing at all when it has left.
    until("the containers are gone", || {
        agent.cgroups_left().is_empty().then_some(())
    })
    .await?;
    agent.signal(rustix::process::Signal::USR1)?;
    ensure!(agent.ended().await?.success(), "the agent did not leave in order");
    let left = agent.cgroups_left();
    ensure!(left.is_empty(), "cgroups are left: {left:?}");
    let now = self::mounts()?;
    let new: Vec<&String> = now.iter().filter(|mount| !mounts.contains(mount)).collect();
    let ours = |mount: &&&String| mount.contains(&agent.path("").display().to_string());
    ensure!(!new.iter().any(|mount| ours(&mount)), "mounts are left: {new:?}");
    let records: Vec<_> = std::fs::read_dir(agent.path("run/containers"))?.flatten().collect();
    let records = records
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let records: Vec<String> = records.filter(|name| !name.starts_with(".spare-")).collect();
    ensure!(records.is_empty(), "records of containers are left: {records:?}");
    let marks = ["work", "run"].map(|name| agent.path(name).display().to_string());
    until("no process is left", || processes_of(&marks).is_empty().then_some(()))
        .await
        .with_context(|| format!("{:?}", processes_of(&marks)))
}

fn mounts() -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The processes whose program, directory or arguments name one of these paths.
fn processes_of(marks: &[String]) -> Vec<String> {
    let names = |path: &Path| {
        let program = std::fs::read_link(path.join("exe")).unwrap_or_default();
        let arguments = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let directory = std::fs::read_link(path.join("cwd")).unwrap_or_default();
        let (program, directory) = (program.display(), directory.display());
        format!("{program} {directory} {}", String::from_utf8_lossy(&arguments))
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    pids.filter(|entry| *entry.file_name().to_string_lossy() != *std::process::id().to_string())
        .map(|entry| format!("{} {}", entry.file_name().to_string_lossy(), names(&entry.path())))
        .filter(|process| marks.iter().any(|mark| process.contains(mark)))
        .collect()
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// In [0, 1).
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

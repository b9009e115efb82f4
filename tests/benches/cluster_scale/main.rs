//! How many launches a second a master sustains, how long a freed share of an agent waits until it is offered, and how both grow
//! with the number of agents.
//!
//! `cargo bench -p proffer-tests --bench cluster-scale [-- --quick | --agents=N] [--rate=N] [--tasks=N] [--frameworks=N] [--seconds=N]
//! [--spread-percent=N] [--agents-per-connection=N] [--program=PATH]`, where the path is that of another build of
//! `proffer-under-test`, to compare masters in turn.
//!
//! One master is a process, with a durable registry. The agents are simulated by this process over the real protocol; the
//! frameworks are in this process too and speak the real scheduler API. Every agent is full of tasks that end after a while: at
//! 1,000, 10,000 and 50,000 agents there are 100,000 tasks of 10 s, so that 10,000 have to be launched every second if the master
//! and its load keep up. Each launch is a task that runs and finishes, and both updates are acknowledged.
//!
//! The offer latency is the span from when an agent says that a task's share is free to when a framework has the OFFERS event
//! that holds the share. Master and load share the processors, so the processor time that the master takes for a launch is
//! the figure to compare.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use proffer_tests::load::{Churn, ChurnOptions, Counts, Fleet, FleetOptions};
use proffer_tests::{Cluster, bench};

/// What a load of many small messages spends on memory is not what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BENCH: &str = "cluster-scale";
const DEADLINE: Duration = Duration::from_secs(300);
/// What one task asks for.
const CPUS: f64 = 0.1;
const MEM_MIB: f64 = 32.0;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is run.
struct Shape {
    agents: usize,
    agents_per_connection: usize,
    frameworks: usize,
    /// All that can run at a time.
    tasks: usize,
    /// Launches a second, if master and load keep up.
    rate: usize,
    spread: f64,
    seconds: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    bench::print_machine(BENCH);
    let quick = bench::is_quick();
    let only = bench::number::<usize>("--agents=")?;
    let agents = match only {
        Some(agents) => vec![agents],
        None if quick => vec![500],
        None => vec![1_000, 10_000, 50_000],
    };
    let (tasks, rate, seconds) = if quick {
        (5_000, 2_500, 5)
    } else {
        (100_000, 10_000, 20)
    };
    for agents in agents {
        let shape = Shape {
            agents,
            agents_per_connection: bench::number("--agents-per-connection=")?.unwrap_or(100),
            frameworks: bench::number("--frameworks=")?.unwrap_or(10),
            tasks: bench::number("--tasks=")?.unwrap_or(tasks),
            rate: bench::number("--rate=")?.unwrap_or(rate),
            spread: bench::number::<u32>("--spread-percent=")?.map_or(0.5, |percent| f64::from(percent) / 100.0),
            seconds: bench::number("--seconds=")?.unwrap_or(seconds),
        };
        shape.run().await?;
    }
    Ok(())
}

/// What was used up to some moment.
struct Mark {
    at: Instant,
    counts: Counts,
    master_seconds: f64,
    load_seconds: f64,
}

impl Shape {
    async fn run(&self) -> anyhow::Result<()> {
        let mut cluster = Cluster::builder("bench-cluster-scale")
            .masters(1)
            .agents(0)
            .program(program())
            .start()
            .await?;
        let master = cluster.master().pid().context("the master runs")?;
        let shares = (self.tasks / self.agents).max(1);
        let idle_mib = bench::resident_mib(master)?;
        let options = FleetOptions {
            agents_per_connection: self.agents_per_connection,
            cpus: shares as f64 * CPUS,
            mem_mib: shares as f64 * MEM_MIB,
            disk_mib: 0.0,
            remembers: false,
            // No faster than launches are to go on, or the rush is what is measured.
            coming: Duration::from_secs_f64(self.tasks as f64 / self.rate as f64),
            ..FleetOptions::new(cluster.masters(), self.agents)
        };
        let capacity = (self.agents * shares) as u64;
        let mut churn = Churn::start(
            &ChurnOptions {
                masters: cluster.masters(),
                frameworks: self.frameworks,
                cpus: CPUS,
                mem_mib: MEM_MIB,
                life: Duration::from_secs_f64(capacity as f64 / self.rate as f64),
                spread: self.spread,
            },
            &options.freed,
        );
        // The agents are divided among all frameworks as they come.
        while churn.subscribed() < self.frameworks {
            churn.pass(LOOK_EVERY).await?;
        }
        let began = Instant::now();
        let fleet = Fleet::start(&options)?;
        while churn.counts().launched < capacity {
            ensure!(began.elapsed() < DEADLINE, "{:?} after {DEADLINE:?}", churn.counts());
            churn.pass(LOOK_EVERY).await?;
        }
        let filled = began.elapsed().as_secs_f64();
        self.print("registered_and_filled_s", filled, "s", capacity as usize);
        // Until those tasks have ended that were launched in the rush.
        churn.pass(Duration::from_secs(self.seconds / 2)).await?;
        let before = mark(master, &churn)?;
        drop(churn.take_offered_ms());
        churn.pass(Duration::from_secs(self.seconds)).await?;
        let after = mark(master, &churn)?;
        let mut offered_ms = churn.take_offered_ms();
        let full_mib = bench::resident_mib(master)?;
        self.print_rates(&before, &after);
        ensure!(!offered_ms.is_empty(), "nothing was offered");
        let figure = format!("freed_to_offered_{}", self.name());
        bench::print_percentiles(BENCH, &figure, "ms", &mut offered_ms);
        self.print("master_resident_mib", full_mib - idle_mib, "MiB", 1);
        churn.stop();
        let drained = fleet.all_acknowledged(DEADLINE);
        tokio::select! {
            drained = drained => drained?,
            ended = churn.pass(DEADLINE) => ended?,
        }
        cluster.stop().await
    }

    fn print_rates(&self, before: &Mark, after: &Mark) {
        let seconds = (after.at - before.at).as_secs_f64();
        let since = |count: fn(&Counts) -> u64| (count(&after.counts) - count(&before.counts)) as f64;
        let launches = since(|counts| counts.launched);
        let samples = launches as usize;
        self.print("launches_per_s", launches / seconds, "1/s", samples);
        let updates = since(|counts| counts.acknowledged) / seconds;
        self.print("updates_acknowledged_per_s", updates, "1/s", samples);
        let heard = since(|counts| counts.updates) / seconds;
        self.print("updates_heard_per_s", heard, "1/s", samples);
        let per_accept = launches / since(|counts| counts.accepts).max(1.0);
        self.print("launches_per_accept", per_accept, "1", samples);
        let master = after.master_seconds - before.master_seconds;
        let load = after.load_seconds - before.load_seconds;
        self.print("master_processors", master / seconds, "1", samples);
        self.print("load_processors", load / seconds, "1", samples);
        self.print("master_us_per_launch", master * 1e6 / launches, "us", samples);
        self.print("load_us_per_launch", load * 1e6 / launches, "us", samples);
    }

    fn name(&self) -> String {
        format!("{}_agents", self.agents)
    }

    fn print(&self, figure: &str, value: f64, unit: &str, samples: usize) {
        bench::print(BENCH, &format!("{}_{figure}", self.name()), value, unit, samples);
    }
}

fn program() -> Option<PathBuf> {
    std::env::args().find_map(|arg| arg.strip_prefix("--program=").map(PathBuf::from))
}

fn mark(master: u32, churn: &Churn) -> anyhow::Result<Mark> {
    Ok(Mark {
        at: Instant::now(),
        counts: churn.counts(),
        master_seconds: bench::processor_seconds(master)?,
        load_seconds: bench::processor_seconds(std::process::id())?,
    })
}

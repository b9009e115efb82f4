//! Runs the simulator: one seed with its history, or a campaign over many.
//!
//! `cargo run --release -p proffer-tests --bin proffer-sim -- --seed 17 --trace`
//! `cargo run --release -p proffer-tests --bin proffer-sim -- --from 0 --seeds 100000`

use std::process::ExitCode;

use clap::Parser;
use proffer_tests::sim::{self, Options};

#[derive(Debug, Parser)]
#[command(about = "Runs the deterministic simulator of the master core")]
struct Args {
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every line of the history to standard error.
    #[arg(long)]
    trace: bool,
    /// The first seed of a campaign.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds a campaign has.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// Model agents.
    #[arg(long, default_value_t = Options::default().agents)]
    agents: usize,
    /// Model frameworks.
    #[arg(long, default_value_t = Options::default().frameworks)]
    frameworks: usize,
    /// Tasks that each framework wants finished.
    #[arg(long, default_value_t = Options::default().tasks)]
    tasks: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        agents: args.agents,
        frameworks: args.frameworks,
        tasks: args.tasks,
        print: args.trace,
        ..Options::default()
    };
    let (from, count) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let (mut events, mut virtual_ms, mut tasks, mut failures) = (0, 0, 0, 0);
    for seed in from..from + count {
        match sim::run(seed, &options) {
            Ok(report) => {
                events += report.events;
                virtual_ms += report.virtual_ms;
                tasks += report.tasks;
            }
            Err(failure) => {
                failures += 1;
                if args.seed.is_some() {
                    eprintln!("{failure}");
                } else {
                    eprintln!("seed {seed}: {}: {}", failure.violation.checker, failure.violation.what);
                }
            }
        }
    }
    eprintln!(
        "{count} seeds, {events} events, {tasks} tasks, {} virtual seconds, {failures} failures",
        virtual_ms / 1000
    );
    ExitCode::from(u8::from(failures > 0))
}

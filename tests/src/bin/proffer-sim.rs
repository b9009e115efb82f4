//! Runs the simulator: one seed with its history, a campaign over many, or one without end.
//!
//! `cargo run -p proffer-tests --bin proffer-sim -- --seed 17 --trace`
//! `cargo run --release -p proffer-tests --bin proffer-sim -- --from 0 --seeds 100000`
//! `cargo run --release -p proffer-tests --bin proffer-sim -- --forever`

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use proffer_tests::sim::{Campaign, Options, Planted, run};

#[derive(Debug, Parser)]
#[command(about = "Runs the deterministic simulator of groups of masters")]
struct Args {
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every line of the history to standard error; with --seed.
    #[arg(long)]
    trace: bool,
    /// The first seed of a campaign; from the time of day for --forever.
    #[arg(long)]
    from: Option<u64>,
    /// How many seeds a campaign has.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// Goes on until it is interrupted, and tells every so often how far it is.
    #[arg(long)]
    forever: bool,
    /// How many seeds run side by side.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How many masters a group begins with; 3 or 5 by the seed if unset.
    #[arg(long)]
    masters: Option<usize>,
    /// Model agents.
    #[arg(long, default_value_t = Options::default().agents)]
    agents: usize,
    /// Model frameworks.
    #[arg(long, default_value_t = Options::default().frameworks)]
    frameworks: usize,
    /// Tasks that each framework wants finished.
    #[arg(long, default_value_t = Options::default().tasks)]
    tasks: u64,
    /// Clients of the frameworks' state.
    #[arg(long, default_value_t = Options::default().state_clients)]
    state_clients: usize,
    /// Answered calls that each of them wants.
    #[arg(long, default_value_t = Options::default().state_calls)]
    state_calls: u64,
    /// Virtual milliseconds of faults.
    #[arg(long, default_value_t = Options::default().faults_ms)]
    faults_ms: u64,
    /// A bug to plant, to see how it is found.
    #[arg(long, value_parser = planted)]
    planted: Option<Planted>,
}

fn planted(name: &str) -> Result<Planted, String> {
    let known: Vec<&str> = Planted::ALL.iter().map(|(name, _)| *name).collect();
    let found = Planted::ALL.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, planted)| *planted)
        .ok_or_else(|| format!("there are {}", known.join(", ")))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        masters: args.masters,
        agents: args.agents,
        frameworks: args.frameworks,
        tasks: args.tasks,
        state_clients: args.state_clients,
        state_calls: args.state_calls,
        faults_ms: args.faults_ms,
        planted: args.planted,
        print: args.trace,
        ..Options::default()
    };
    match args.seed {
        Some(seed) => one(seed, &options),
        None => many(&args, &options),
    }
}

fn one(seed: u64, options: &Options) -> ExitCode {
    match run(seed, options) {
        Ok(report) => {
            eprintln!("{report}trace hash {:016x}, violations 0", report.trace_hash);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn many(args: &Args, options: &Options) -> ExitCode {
    let begun = Instant::now();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let from = args
        .from
        .unwrap_or(if args.forever { since.as_secs() << 20 } else { 0 });
    let mut campaign = Campaign::default();
    let mut next = from;
    while args.forever || next < from + args.seeds {
        let count = if args.forever { 1_000 } else { args.seeds };
        let part = Campaign::run(next..next + count, options, args.threads, |failure| {
            eprintln!(
                "seed {}: {}: {}",
                failure.seed, failure.violation.checker, failure.violation.what
            );
        });
        campaign.add(&part);
        next += count;
        eprintln!(
            "{}violations {}, in {} s\n",
            campaign.report,
            campaign.violations,
            begun.elapsed().as_secs()
        );
    }
    ExitCode::from(u8::from(campaign.violations > 0))
}

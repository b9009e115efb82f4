//! A framework with a custom executor: counts primes in parts, each of which is a task of a process that stays.
//!
//! The same program is both: the scheduler divides the numbers and adds up, and each agent runs it once more, as the executor,
//! which counts the parts that it is given in threads of its own. A part that is lost is counted again.

mod executor;
mod scheduler;

use std::ops::Range;

use anyhow::Context as _;
use proffer_sdk::Masters;

/// Counts primes, each part of the numbers in a task.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "primes", version)]
pub struct Args {
    /// The masters, as `host:port,host:port`.
    #[arg(long, default_value = "127.0.0.1:5050", env = "PROFFER_MASTER")]
    pub master: Masters,
    /// Numbers below this are looked at.
    #[arg(long, default_value_t = 1_000_000)]
    pub below: u64,
    /// How many parts they are divided into.
    #[arg(long, default_value_t = 20)]
    pub parts: u64,
    /// The shell command that starts the executor on an agent; this program there, unless told otherwise.
    #[arg(long)]
    pub executor_command: Option<String>,
    /// Be the executor: what an agent starts.
    #[arg(long)]
    pub as_executor: bool,
}

/// Runs the framework until all is counted, or the executor until it is shut down, on a runtime of its own.
///
/// # Errors
/// The master refuses the framework, a part cannot be counted, or the environment is not that of an executor.
pub fn main_with(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if args.as_executor {
        return runtime.block_on(executor::run());
    }
    let primes = runtime.block_on(run(args))?;
    tracing::info!(primes, "all is counted");
    Ok(())
}

/// Runs the framework, and says how many primes there are.
///
/// # Errors
/// The master refuses the framework, or a part cannot be counted.
pub async fn run(args: Args) -> anyhow::Result<u64> {
    let command = match args.executor_command {
        Some(command) => command,
        None => {
            let program = std::env::current_exe().context("find this program")?;
            format!("exec '{}' --as-executor", program.display())
        }
    };
    scheduler::run(args.master, parts(args.below, args.parts.max(1)), command).await
}

fn parts(below: u64, count: u64) -> Vec<Range<u64>> {
    let size = below.div_ceil(count).max(1);
    (0..below)
        .step_by(usize::try_from(size).unwrap_or(usize::MAX))
        .map(|from| from..(from + size).min(below))
        .collect()
}

/// As the data of a task.
fn write(part: &Range<u64>) -> String {
    format!("{}..{}", part.start, part.end)
}

fn read(data: &[u8]) -> Option<Range<u64>> {
    let (start, end) = std::str::from_utf8(data).ok()?.split_once("..")?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        for (below, count) in [(0, 3), (10, 3), (10, 10), (10, 20), (11, 4)] {
            let parts = parts(below, count);
            assert!(parts.len() as u64 <= count);
            let numbers: Vec<u64> = parts.iter().cloned().flatten().collect();
            assert_eq!(numbers, (0..below).collect::<Vec<_>>());
            assert!(
                parts
                    .iter()
                    .all(|part| read(write(part).as_bytes()).as_ref() == Some(part))
            );
        }
        assert_eq!(read(b"1.2"), None);
    }
}

//! Scenarios on local clusters of real processes.

// Tests tell why they are skipped, benchmarks their figures.
#![allow(clippy::print_stdout)]

mod agent_recovery;
mod bad_calls;
mod cgroup_v2;
mod clusters;
mod command;
mod drain;
mod examples;
mod exec;
mod failover;
mod faults;
mod framework_failover;
mod front;
mod gangs;
mod gpus;
mod hoarding;
mod isolation;
mod kill;
mod launch;
mod lending;
mod master_restart;
mod masters;
mod offers;
mod primes;
mod quota;
mod reconciliation;
mod services;
mod sleeper;
mod state;
mod systemd;
mod upgrade;
mod volumes;

use proffer_proto::v1::{DurationInfo, KillPolicy};
use proffer_sdk::Task;

/// A small task of a shell line.
fn shell(line: &str) -> Task {
    Task::command("test", line).cpus(0.1).mem(32.0)
}

fn grace(millis: i64) -> KillPolicy {
    KillPolicy {
        grace_period: Some(DurationInfo {
            nanoseconds: millis * 1_000_000,
        }),
    }
}

/// Looks until a condition holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let looking = async {
        while !holds().await? {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    let looked = tokio::time::timeout(proffer_tests::DEADLINE, looking).await;
    looked.map_err(|_| anyhow::anyhow!("waited for {what} in vain"))?
}

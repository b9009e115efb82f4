//! `proffer stats`: what tasks use.

use std::time::Duration;

use proffer_proto::v1::agent::response::get_containers::Container;
use proffer_proto::v1::cgroup_info::blkio::Operation;
use proffer_proto::v1::{ResourceStatistics, master};
use proffer_sdk::operator::AgentClient;
use serde::Serialize;

use super::{ClusterArgs, OutputArgs, agents, all_tasks, find_task};
use crate::exit::{Failure, FailureKind};
use crate::output::{self, Row};

#[derive(Debug, clap::Args)]
pub(crate) struct StatsArgs {
    /// The task's id, or the beginning of one task's id alone; all tasks that run, if left out.
    task: Option<String>,
    /// The framework of the task, where several have one of that id.
    #[arg(long)]
    framework: Option<String>,
    /// Over how many seconds the use of CPU is measured.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    interval: f64,
}

#[derive(Debug, Default, Serialize)]
struct StatsRow {
    framework_id: String,
    task_id: String,
    container_id: String,
    cpus: Option<f64>,
    cpus_limit: Option<f64>,
    throttled_percent: Option<f64>,
    mem_bytes: Option<u64>,
    mem_peak_bytes: Option<u64>,
    mem_limit_bytes: Option<u64>,
    processes: Option<u32>,
    threads: Option<u32>,
    disk_read_bytes: Option<u64>,
    disk_written_bytes: Option<u64>,
    net_rx_bytes: Option<u64>,
    net_tx_bytes: Option<u64>,
    cpu_pressure_percent: Option<f64>,
    memory_pressure_percent: Option<f64>,
    io_pressure_percent: Option<f64>,
}

impl Row for StatsRow {
    const TITLES: &'static [&'static str] = &[
        "TASK",
        "CPUS",
        "LIMIT",
        "THROTTLED",
        "MEM",
        "PEAK",
        "LIMIT",
        "THREADS",
        "READ",
        "WRITTEN",
        "RECEIVED",
        "SENT",
        "WAITS",
    ];

    fn cells(&self) -> Vec<String> {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        let percent = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.0}%"));
        let bytes = |value: Option<u64>| value.map_or("-".into(), size);
        let waits = [
            self.cpu_pressure_percent,
            self.memory_pressure_percent,
            self.io_pressure_percent,
        ];
        vec![
            self.task_id.clone(),
            number(self.cpus),
            number(self.cpus_limit),
            percent(self.throttled_percent),
            bytes(self.mem_bytes),
            bytes(self.mem_peak_bytes),
            bytes(self.mem_limit_bytes),
            self.threads.map_or("-".into(), |count| count.to_string()),
            bytes(self.disk_read_bytes),
            bytes(self.disk_written_bytes),
            bytes(self.net_rx_bytes),
            bytes(self.net_tx_bytes),
            // For CPU, memory and disk.
            waits.map(percent).join("/"),
        ]
    }
}

pub(crate) async fn run(cluster: &ClusterArgs, output: &OutputArgs, args: &StatsArgs) -> Result<(), Failure> {
    let interval = Duration::try_from_secs_f64(args.interval)
        .map_err(|_| Failure::new(FailureKind::Failed, "--interval: a number of seconds, zero or more"))?;
    let mut operator = cluster.operator();
    let wanted = match &args.task {
        Some(text) => {
            let tasks = operator.get_tasks().await.map_err(|error| cluster.failure(error))?;
            Some(find_task(&all_tasks(tasks), text, args.framework.as_deref())?)
        }
        None => None,
    };
    let all = operator.get_agents().await.map_err(|error| cluster.failure(error))?;
    let of_task = |agent: &&master::response::get_agents::Agent| {
        let id = agent.agent_info.id.as_ref();
        wanted.as_ref().is_none_or(|task| id == Some(&task.agent_id))
    };
    let mut rows = Vec::new();
    for agent in all.agents.iter().filter(of_task) {
        let address = agents::address(agent);
        match containers(&address, interval).await {
            Ok((before, now)) => rows.extend(now.iter().map(|now| row(now, &before))),
            Err(problem) => eprintln!(
                "agent {} does not answer at {address}: {problem}",
                agent.agent_info.hostname
            ),
        }
    }
    if let Some(task) = &wanted {
        let executor = task.executor_id.as_ref().map_or(&task.task_id.value, |id| &id.value);
        rows.retain(|row| row.framework_id == task.framework_id.value && row.task_id == *executor);
        if rows.is_empty() {
            let text = format!("task {} has no container now", task.task_id);
            return Err(Failure::new(FailureKind::NotFound, text));
        }
    } else if let Some(framework) = &args.framework {
        rows.retain(|row| row.framework_id == *framework);
    }
    Ok(output::print(output.output, &rows)?)
}

/// Twice, an interval apart.
async fn containers(address: &str, interval: Duration) -> Result<(Vec<Container>, Vec<Container>), String> {
    let mut agent = AgentClient::connect(address).await.map_err(|error| error.to_string())?;
    let before = agent.get_containers().await.map_err(|error| error.to_string())?;
    tokio::time::sleep(interval).await;
    let now = agent.get_containers().await.map_err(|error| error.to_string())?;
    Ok((before.containers, now.containers))
}

fn row(now: &Container, before: &[Container]) -> StatsRow {
    let earlier = before.iter().find(|other| other.container_id == now.container_id);
    let earlier = earlier
        .and_then(|other| other.resource_statistics.clone())
        .unwrap_or_default();
    let id = StatsRow {
        framework_id: now.framework_id.clone().unwrap_or_default().value,
        task_id: now.executor_id.clone().unwrap_or_default().value,
        container_id: now.container_id.value.clone(),
        ..StatsRow::default()
    };
    let Some(now) = &now.resource_statistics else { return id };
    let disk = |operation| disk_bytes(now, operation);
    let pressure = now.pressure.unwrap_or_default();
    let some =
        |pressure: Option<proffer_proto::v1::pressure_statistics::Pressure>| pressure.and_then(|one| one.some_percent);
    StatsRow {
        cpus: cpus(&earlier, now),
        cpus_limit: now.cpus_limit,
        throttled_percent: throttled(&earlier, now),
        mem_bytes: now.mem_total_bytes,
        mem_peak_bytes: now.mem_peak_bytes,
        mem_limit_bytes: now.mem_limit_bytes,
        processes: now.processes,
        threads: now.threads,
        disk_read_bytes: disk(Operation::Read),
        disk_written_bytes: disk(Operation::Write),
        net_rx_bytes: now.net_rx_bytes,
        net_tx_bytes: now.net_tx_bytes,
        cpu_pressure_percent: some(pressure.cpu),
        memory_pressure_percent: some(pressure.memory),
        io_pressure_percent: some(pressure.io),
        ..id
    }
}

/// CPUs in use between two samples.
fn cpus(earlier: &ResourceStatistics, now: &ResourceStatistics) -> Option<f64> {
    let seconds = |sample: &ResourceStatistics| Some(sample.cpus_user_time_secs? + sample.cpus_system_time_secs?);
    let span = now.timestamp - earlier.timestamp;
    (span > 0.0).then_some((seconds(now)? - seconds(earlier)?) / span)
}

/// Of the quota's periods between two samples.
fn throttled(earlier: &ResourceStatistics, now: &ResourceStatistics) -> Option<f64> {
    let between = |now: Option<u32>, earlier: Option<u32>| now?.checked_sub(earlier?);
    let periods = between(now.cpus_nr_periods, earlier.cpus_nr_periods)?;
    let throttled = between(now.cpus_nr_throttled, earlier.cpus_nr_throttled)?;
    (periods > 0).then(|| f64::from(throttled) / f64::from(periods) * 100.0)
}

fn disk_bytes(statistics: &ResourceStatistics, operation: Operation) -> Option<u64> {
    let all = statistics.blkio_statistics.iter().flat_map(|disks| &disks.throttling);
    let values = all.flat_map(|disk| &disk.io_service_bytes);
    let own = values.filter(|value| value.op() == operation);
    own.filter_map(|value| value.value).reduce(|sum, value| sum + value)
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_what_lies_between_two_samples() {
        let sample = |timestamp, user, periods, throttled| ResourceStatistics {
            timestamp,
            cpus_user_time_secs: Some(user),
            cpus_system_time_secs: Some(1.0),
            cpus_nr_periods: Some(periods),
            cpus_nr_throttled: Some(throttled),
            ..Default::default()
        };
        let (earlier, now) = (sample(10.0, 5.0, 100, 10), sample(12.0, 6.0, 120, 15));
        assert_eq!(cpus(&earlier, &now), Some(0.5));
        assert_eq!(throttled(&earlier, &now), Some(25.0));
        assert_eq!(cpus(&now, &now), None);
        assert_eq!(
            throttled(&ResourceStatistics::default(), &now),
            None,
            "it was not there before"
        );
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(
            [0, 1023, 1024, 5 << 30].map(size),
            ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]
        );
    }
}

//! `proffer maintenance`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proffer_proto::v1::allocator::inverse_offer_status::Status;
use proffer_proto::v1::maintenance::{Schedule, Window};
use proffer_proto::v1::{DurationInfo, MachineId, TimeInfo, Unavailability};
use serde::Serialize;

use super::{ClusterArgs, OutputArgs};
use crate::exit::{Failure, FailureKind};
use crate::output::{self, Row};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum MaintenanceCommand {
    /// List the machines that are planned to be away, and what frameworks said to that.
    Ls {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Plan when machines are away: frameworks are asked to leave them before.
    Schedule {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// The host names of their agents, or their addresses.
        #[arg(required = true, value_name = "MACHINE")]
        machines: Vec<String>,
        /// Seconds from now until they go.
        #[arg(long = "in", default_value_t = 0, value_name = "SECONDS")]
        delay: u32,
        /// Seconds for which they are away; unset: nobody knows.
        #[arg(long = "for", value_name = "SECONDS")]
        duration: Option<u32>,
    },
    /// Take machines out of the plan again.
    Unschedule {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// The host names of their agents, or their addresses.
        #[arg(required = true, value_name = "MACHINE")]
        machines: Vec<String>,
    },
    /// Take planned machines down: their agents are gone, with their tasks, and none may register from there.
    Start {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// As they were planned.
        #[arg(required = true, value_name = "MACHINE")]
        machines: Vec<String>,
    },
    /// Let the agents of machines that are down register again.
    Stop {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// As they were planned.
        #[arg(required = true, value_name = "MACHINE")]
        machines: Vec<String>,
    },
}

#[derive(Debug, Serialize)]
struct MachineRow {
    machine: String,
    state: &'static str,
    /// Milliseconds since 1970.
    from_ms: Option<i64>,
    for_seconds: Option<i64>,
    accepted: Vec<String>,
    declined: Vec<String>,
    asked: Vec<String>,
}

impl Row for MachineRow {
    const TITLES: &'static [&'static str] = &["MACHINE", "STATE", "IN", "FOR", "ACCEPTED", "DECLINED", "ASKED"];

    fn cells(&self) -> Vec<String> {
        let seconds = |seconds: i64| format!("{seconds} s");
        let until = self.from_ms.map(|from| (from - now().as_millis() as i64).max(0) / 1000);
        vec![
            self.machine.clone(),
            self.state.to_owned(),
            until.map_or("-".to_owned(), seconds),
            self.for_seconds.map_or("-".to_owned(), seconds),
            self.accepted.join(","),
            self.declined.join(","),
            self.asked.join(","),
        ]
    }
}

pub(crate) async fn run(command: MaintenanceCommand) -> Result<(), Failure> {
    match command {
        MaintenanceCommand::Ls { cluster, output } => list(&cluster, &output).await,
        MaintenanceCommand::Schedule {
            cluster,
            machines,
            delay,
            duration,
        } => {
            let nanoseconds = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
            let start = now() + Duration::from_secs(delay.into());
            let unavailability = Unavailability {
                start: TimeInfo {
                    nanoseconds: nanoseconds(start),
                },
                duration: duration.map(|seconds| DurationInfo {
                    nanoseconds: nanoseconds(Duration::from_secs(seconds.into())),
                }),
            };
            plan(&cluster, &machines, Some(unavailability)).await
        }
        MaintenanceCommand::Unschedule { cluster, machines } => plan(&cluster, &machines, None).await,
        MaintenanceCommand::Start { cluster, machines } => {
            let done = cluster.operator().start_maintenance(named(&machines)).await;
            done.map_err(|error| cluster.failure(error))
        }
        MaintenanceCommand::Stop { cluster, machines } => {
            let done = cluster.operator().stop_maintenance(named(&machines)).await;
            done.map_err(|error| cluster.failure(error))
        }
    }
}

fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// An address is one, everything else is a host name.
fn named(machines: &[String]) -> Vec<MachineId> {
    let of = |text: &String| match text.parse::<std::net::IpAddr>() {
        Ok(_) => MachineId {
            hostname: None,
            ip: Some(text.clone()),
        },
        Err(_) => MachineId {
            hostname: Some(text.clone()),
            ip: None,
        },
    };
    machines.iter().map(of).collect()
}

/// The schedule is one document: it is read, changed and put back.
async fn plan(cluster: &ClusterArgs, machines: &[String], when: Option<Unavailability>) -> Result<(), Failure> {
    let mut operator = cluster.operator();
    let schedule = operator.get_maintenance_schedule().await;
    let mut windows = schedule.map_err(|error| cluster.failure(error))?.windows;
    let machine_ids = named(machines);
    let known = |machine: &MachineId| windows.iter().any(|window| window.machine_ids.contains(machine));
    if when.is_none()
        && let Some(unknown) = machine_ids.iter().find(|machine| !known(machine))
    {
        let text = format!(
            "{} is not in the schedule; `proffer maintenance ls` shows it",
            show(unknown)
        );
        return Err(Failure::new(FailureKind::NotFound, text));
    }
    for window in &mut windows {
        window.machine_ids.retain(|machine| !machine_ids.contains(machine));
    }
    windows.retain(|window| !window.machine_ids.is_empty());
    windows.extend(when.map(|unavailability| Window {
        machine_ids,
        unavailability,
    }));
    let done = operator.update_maintenance_schedule(Schedule { windows }).await;
    done.map_err(|error| cluster.failure(error))
}

fn show(machine: &MachineId) -> String {
    match (machine.hostname(), machine.ip()) {
        (name, "") => name.to_owned(),
        ("", ip) => ip.to_owned(),
        (name, ip) => format!("{name} ({ip})"),
    }
}

async fn list(cluster: &ClusterArgs, output: &OutputArgs) -> Result<(), Failure> {
    let mut operator = cluster.operator();
    let schedule = operator.get_maintenance_schedule().await;
    let schedule = schedule.map_err(|error| cluster.failure(error))?;
    let status = operator.get_maintenance_status().await;
    let status = status.map_err(|error| cluster.failure(error))?;
    let mut rows = BTreeMap::new();
    for window in &schedule.windows {
        for machine in &window.machine_ids {
            let down = status.down_machines.contains(machine);
            let row = MachineRow {
                machine: show(machine),
                state: if down { "down" } else { "draining" },
                from_ms: Some(window.unavailability.start.nanoseconds / 1_000_000),
                for_seconds: window
                    .unavailability
                    .duration
                    .map(|span| span.nanoseconds / 1_000_000_000),
                accepted: Vec::new(),
                declined: Vec::new(),
                asked: Vec::new(),
            };
            rows.insert(show(machine), row);
        }
    }
    for machine in status.draining_machines {
        let Some(row) = rows.get_mut(&show(&machine.id)) else {
            continue;
        };
        for said in machine.statuses {
            let framework = said.framework_id.value.clone();
            match said.status() {
                Status::Accept => row.accepted.push(framework),
                Status::Decline => row.declined.push(framework),
                Status::Unknown => row.asked.push(framework),
            }
        }
    }
    let rows: Vec<MachineRow> = rows.into_values().collect();
    Ok(output::print(output.output, &rows)?)
}

//! `proffer agents`.

use proffer_proto::v1::master::response::get_agents::Agent;
use serde::Serialize;

use super::{ClusterArgs, OutputArgs, show};
use crate::exit::Failure;
use crate::output::{self, Row};

#[derive(Debug, Serialize)]
struct AgentRow {
    id: String,
    hostname: String,
    address: String,
    state: &'static str,
    total: String,
    allocated: String,
    offered: String,
    version: String,
}

impl Row for AgentRow {
    const TITLES: &'static [&'static str] = &["ID", "HOST", "ADDRESS", "STATE", "TOTAL", "ALLOCATED", "OFFERED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.hostname.clone(),
            self.address.clone(),
            self.state.to_owned(),
            self.total.clone(),
            self.allocated.clone(),
            self.offered.clone(),
        ]
    }
}

/// The address at which an agent serves, from its registration.
pub(crate) fn address(agent: &Agent) -> String {
    match agent.pid().rsplit_once('@') {
        Some((_, address)) => address.to_owned(),
        None => format!("{}:{}", agent.agent_info.hostname, agent.agent_info.port()),
    }
}

pub(crate) async fn run(cluster: &ClusterArgs, output: &OutputArgs) -> Result<(), Failure> {
    let agents = cluster
        .operator()
        .get_agents()
        .await
        .map_err(|error| cluster.failure(error))?;
    let mut rows: Vec<AgentRow> = agents.agents.iter().map(row).collect();
    rows.extend(agents.recovered_agents.iter().map(|info| AgentRow {
        id: info.id.clone().unwrap_or_default().value,
        hostname: info.hostname.clone(),
        address: String::new(),
        state: "away",
        total: show(&info.resources),
        allocated: String::new(),
        offered: String::new(),
        version: String::new(),
    }));
    Ok(output::print(output.output, &rows)?)
}

fn row(agent: &Agent) -> AgentRow {
    AgentRow {
        id: agent.agent_info.id.clone().unwrap_or_default().value,
        hostname: agent.agent_info.hostname.clone(),
        address: address(agent),
        state: if agent.active { "active" } else { "away" },
        total: show(&agent.total_resources),
        allocated: show(&agent.allocated_resources),
        offered: show(&agent.offered_resources),
        version: agent.version.clone(),
    }
}

//! `proffer agents`.

use std::time::Duration;

use proffer_proto::v1::master::response::GetAgents;
use proffer_proto::v1::master::response::get_agents::Agent;
use proffer_proto::v1::{AgentId, AgentInfo, DrainState};
use proffer_sdk::operator::OperatorClient;
use serde::Serialize;

use super::{ClusterArgs, OutputArgs, show};
use crate::exit::{Failure, FailureKind};
use crate::output::{self, Row};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum AgentsCommand {
    /// End the tasks of an agent and offer nothing of it any more.
    Drain {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Its id, its host name, or the beginning of one agent's id alone.
        agent: String,
        /// Seconds that a task may take to end; tasks whose own grace period is shorter have that.
        #[arg(long, value_name = "SECONDS")]
        grace: Option<u32>,
        /// The agent can never come back once it is drained.
        #[arg(long)]
        mark_gone: bool,
        /// Return at once instead of waiting until nothing is left on the agent.
        #[arg(long)]
        no_wait: bool,
    },
    /// Offer nothing of an agent any more; its tasks run on.
    Deactivate {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Its id, its host name, or the beginning of one agent's id alone.
        agent: String,
    },
    /// Offer an agent again that was drained or deactivated, or is being drained.
    Reactivate {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Its id, its host name, or the beginning of one agent's id alone.
        agent: String,
    },
    /// Say that an agent never comes back: its tasks are gone, and its id is refused from then on.
    Gone {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Its id, its host name, or the beginning of one agent's id alone.
        agent: String,
    },
}

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

/// Changes how one agent is used.
pub(crate) async fn run(command: AgentsCommand) -> Result<(), Failure> {
    let (cluster, agent) = match &command {
        AgentsCommand::Drain { cluster, agent, .. }
        | AgentsCommand::Deactivate { cluster, agent }
        | AgentsCommand::Reactivate { cluster, agent }
        | AgentsCommand::Gone { cluster, agent } => (cluster.clone(), agent),
    };
    let mut operator = cluster.operator();
    let agents = operator.get_agents().await.map_err(|error| cluster.failure(error))?;
    let id = find(&agents, agent)?;
    let done = match &command {
        AgentsCommand::Drain { grace, mark_gone, .. } => {
            let grace = grace.map(|seconds| Duration::from_secs(seconds.into()));
            operator.drain_agent(id.clone(), grace, *mark_gone).await
        }
        AgentsCommand::Deactivate { .. } => operator.deactivate_agent(id.clone()).await,
        AgentsCommand::Reactivate { .. } => operator.reactivate_agent(id.clone()).await,
        AgentsCommand::Gone { .. } => operator.mark_agent_gone(id.clone()).await,
    };
    done.map_err(|error| cluster.failure(error))?;
    if matches!(command, AgentsCommand::Drain { no_wait: false, .. }) {
        drained(&cluster, &mut operator, &id).await?;
    }
    Ok(())
}

/// Waits until nothing is left on an agent.
async fn drained(cluster: &ClusterArgs, operator: &mut OperatorClient, id: &AgentId) -> Result<(), Failure> {
    loop {
        let agents = operator.get_agents().await.map_err(|error| cluster.failure(error))?;
        let known = |agent: &&Agent| agent.agent_info.id.as_ref() == Some(id);
        let away = agents.recovered_agents.iter().any(|info| info.id.as_ref() == Some(id));
        match agents.agents.iter().find(known).map(|agent| agent.drain_info) {
            Some(Some(drain)) if drain.state() == DrainState::Drained => {
                eprintln!("agent {id} is drained");
                return Ok(());
            }
            Some(None) => {
                let text = format!("agent {id} was reactivated before it was drained");
                return Err(Failure::new(FailureKind::Rejected, text));
            }
            None if !away => {
                eprintln!("agent {id} is gone");
                return Ok(());
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The one agent that a text names.
pub(crate) fn find(agents: &GetAgents, text: &str) -> Result<AgentId, Failure> {
    let attached = agents.agents.iter().map(|agent| &agent.agent_info);
    let all: Vec<&AgentInfo> = attached.chain(&agents.recovered_agents).collect();
    let id_of = |info: &&AgentInfo| info.id.clone().unwrap_or_default();
    let exact = all.iter().copied().find(|info| id_of(info).value == text);
    let named: Vec<&AgentInfo> = match exact {
        Some(one) => vec![one],
        None => {
            let named = |info: &&AgentInfo| info.hostname == text || id_of(info).value.starts_with(text);
            all.into_iter().filter(named).collect()
        }
    };
    match &named[..] {
        [one] => Ok(id_of(one)),
        [] => Err(Failure::new(
            FailureKind::NotFound,
            format!("no agent is named `{text}`; `proffer agents` lists them"),
        )),
        several => {
            let ids: Vec<String> = several.iter().take(8).map(|info| id_of(info).value).collect();
            let text = format!("`{text}` names {} agents: {}; use an id", several.len(), ids.join(", "));
            Err(Failure::new(FailureKind::Usage, text))
        }
    }
}

/// Lists the agents.
pub(crate) async fn list(cluster: &ClusterArgs, output: &OutputArgs) -> Result<(), Failure> {
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

/// How an agent is used, in one word.
fn state(agent: &Agent) -> &'static str {
    match agent.drain_info.map(|drain| drain.state()) {
        Some(DrainState::Drained) => "drained",
        Some(_) => "draining",
        None if agent.deactivated() => "deactivated",
        None if agent.active => "active",
        None => "away",
    }
}

fn row(agent: &Agent) -> AgentRow {
    AgentRow {
        id: agent.agent_info.id.clone().unwrap_or_default().value,
        hostname: agent.agent_info.hostname.clone(),
        address: address(agent),
        state: state(agent),
        total: show(&agent.total_resources),
        allocated: show(&agent.allocated_resources),
        offered: show(&agent.offered_resources),
        version: agent.version.clone(),
    }
}

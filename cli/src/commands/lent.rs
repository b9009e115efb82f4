//! `proffer lent`.

use proffer_proto::v1::master::response::get_loans::{Agent, Loan, Wanted};
use serde::Serialize;

use super::why::seconds_until;
use super::{ClusterArgs, OutputArgs, show};
use crate::exit::Failure;
use crate::output::{self, Row};

#[derive(Debug, Serialize)]
struct LoanRow {
    agent: String,
    agent_id: String,
    framework: String,
    framework_id: String,
    role: String,
    /// Unset for an offer that is not answered.
    task: Option<String>,
    resources: String,
    /// Who wants something of the agent back.
    wanted_by: Vec<String>,
    /// In how many seconds tasks are killed for that.
    killed_in: Option<f64>,
}

impl Row for LoanRow {
    const TITLES: &'static [&'static str] = &["AGENT", "FRAMEWORK", "ROLE", "TASK", "RESOURCES", "WANTED BY"];

    fn cells(&self) -> Vec<String> {
        let wanted = match self.killed_in {
            Some(left) => format!("{} in {left:.0} s", self.wanted_by.join(",")),
            None => "-".to_owned(),
        };
        vec![
            self.agent.clone(),
            self.framework.clone(),
            self.role.clone(),
            self.task.clone().unwrap_or_else(|| "(offered)".to_owned()),
            self.resources.clone(),
            wanted,
        ]
    }
}

fn row(agent: &Agent, loan: &Loan) -> LoanRow {
    let wanted = agent.recall.iter().flat_map(|recall| &recall.wanted);
    let name = |wanted: &Wanted| format!("{} ({})", wanted.framework_name, wanted.role);
    LoanRow {
        agent: agent.hostname.clone(),
        agent_id: agent.agent_id.value.clone(),
        framework: loan.framework_name.clone(),
        framework_id: loan.framework_id.value.clone(),
        role: loan.role.clone(),
        task: loan.task_id.as_ref().map(|id| id.value.clone()),
        resources: show(&loan.resources),
        wanted_by: wanted.map(name).collect(),
        killed_in: agent.recall.as_ref().and_then(|recall| seconds_until(recall.deadline)),
    }
}

pub(crate) async fn run(cluster: &ClusterArgs, output: &OutputArgs) -> Result<(), Failure> {
    let loans = cluster.operator().get_loans().await;
    let loans = loans.map_err(|error| cluster.failure(error))?;
    let rows = loans
        .agents
        .iter()
        .flat_map(|agent| agent.loans.iter().map(move |loan| row(agent, loan)));
    let rows: Vec<LoanRow> = rows.collect();
    output::print(output.output, &rows)?;
    eprintln!(
        "since the master was elected: {} offers of what was idle; {} tasks asked back, of which {} were returned and {} killed",
        loans.offers, loans.tasks_recalled, loans.tasks_returned, loans.tasks_killed
    );
    Ok(())
}

//! What operators are told of what is lent.

use proffer_proto::resources::Resources;
use proffer_proto::v1::master::response::GetLoans;
use proffer_proto::v1::master::response::get_loans;

use super::recall::Recall;
use crate::agents::Agent;
use crate::master::Leading;
use crate::slots::{AgentSlot, ClaimSlot};
use crate::time::Timestamp;

/// What happened since the election.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Offers of what was idle.
    pub(crate) offers: u64,
    /// Tasks whose frameworks were asked to end them.
    pub(crate) recalled: u64,
    /// Of these, the tasks that ended within the grace...
    pub(crate) returned: u64,
    /// ...and those that were killed.
    pub(crate) killed: u64,
}

/// Who has borrowed something on an agent, until when it is asked for at most, and for whom.
pub(crate) struct Loans {
    pub(crate) borrowers: Vec<(ClaimSlot, Resources)>,
    pub(crate) until: Option<Timestamp>,
}

/// What tasks hold on an agent that is lent.
pub(crate) fn loans_on(leading: &Leading, agent: AgentSlot) -> Loans {
    let tasks = leading.agents[agent].tasks.iter().map(|task| &leading.tasks[*task]);
    let held = tasks.filter(|task| task.held);
    let lent = held.map(|task| (task.claim, task.resources.revocable()));
    Loans {
        borrowers: lent.filter(|(_, resources)| !resources.is_empty()).collect(),
        until: leading.revocable.recalls.get(&agent).map(|recall| recall.deadline),
    }
}

/// Answers GET_LOANS.
pub(crate) fn status(leading: &Leading) -> GetLoans {
    let lending = leading.revocable.lending.iter();
    let agents = lending.filter_map(|slot| Some((*slot, leading.agents.get(*slot)?)));
    let totals = &leading.revocable.totals;
    GetLoans {
        agents: agents.map(|(slot, agent)| agent_of(leading, slot, agent)).collect(),
        offers: totals.offers,
        tasks_recalled: totals.recalled,
        tasks_returned: totals.returned,
        tasks_killed: totals.killed,
    }
}

fn agent_of(leading: &Leading, slot: AgentSlot, agent: &Agent) -> get_loans::Agent {
    let tasks = agent.tasks.iter().map(|task| &leading.tasks[*task]);
    let of_tasks = tasks.filter(|task| task.held).map(|task| get_loans::Loan {
        task_id: Some(task.record.id()),
        ..loan(leading, task.claim, &task.resources)
    });
    let offers = agent.offers.iter().map(|number| &leading.offers[number]);
    let of_offers = offers.map(|offer| loan(leading, offer.claim, &offer.resources));
    let loans = of_tasks.chain(of_offers).filter(|loan| !loan.resources.is_empty());
    get_loans::Agent {
        agent_id: agent.id.clone(),
        hostname: agent.info.hostname.clone(),
        backing: agent.backing.to_wire(),
        loans: loans.collect(),
        recall: leading
            .revocable
            .recalls
            .get(&slot)
            .map(|recall| recall_of(leading, recall)),
    }
}

fn loan(leading: &Leading, claim: ClaimSlot, resources: &Resources) -> get_loans::Loan {
    let state = &leading.claims[claim];
    let framework = &leading.frameworks[state.framework];
    get_loans::Loan {
        framework_id: framework.id.clone(),
        framework_name: framework.info.name.clone(),
        role: state.role.clone(),
        task_id: None,
        resources: resources.revocable().to_wire(),
    }
}

fn recall_of(leading: &Leading, recall: &Recall) -> get_loans::Recall {
    let wants = |(claim, resources): &(ClaimSlot, Resources)| {
        let state = &leading.claims[*claim];
        let framework = &leading.frameworks[state.framework];
        get_loans::Wanted {
            framework_id: framework.id.clone(),
            framework_name: framework.info.name.clone(),
            role: state.role.clone(),
            resources: resources.to_wire(),
        }
    };
    get_loans::Recall {
        deadline: recall.deadline.to_wire(),
        killed: recall.killed,
        wanted: recall.promised.iter().map(wants).collect(),
    }
}

//! Registry changes on their way: what waits for each, and what happens when it is committed or dropped.
//!
//! At most one change of an agent, and one of a framework, is on its way at a time (two where one follows from the
//! other); what comes meanwhile waits in a queue beside it. So a handler never has to reckon with a registry that is
//! about to change under it.

use proffer_proto::registry as wire;
use proffer_proto::registry::change::Body;
use proffer_proto::v1;

use crate::agents::{self, Registration};
use crate::effect::{Answer, Effect};
use crate::frameworks::{self, Subscription, Update};
use crate::input::{ProposalId, RequestId};
use crate::master::{Leading, Step};
use crate::operations::{self, Converting, feedback};
use crate::slots::{AgentSlot, FrameworkSlot};
use crate::state::{self, Write};
use crate::{drain, maintenance, roles};

/// What a proposed change is for.
#[derive(Debug)]
pub(crate) enum Proposal {
    /// A new agent.
    Admit(Box<Registration>, v1::AgentInfo),
    /// A known agent that was unreachable or has changed.
    Return(AgentSlot, Box<Registration>),
    /// An attached agent has other resources.
    Resize(AgentSlot),
    Unreachable(AgentSlot),
    /// An operator says that the agent is gone.
    Gone(AgentSlot, Option<RequestId>),
    /// An operator drains, deactivates or reactivates the agent, or it is drained.
    Stand(AgentSlot, Option<RequestId>),
    /// Operations make other resources of the agent's.
    Convert(AgentSlot, Box<Converting>),
    /// The status of an operation is acknowledged.
    Forget(AgentSlot),
    /// The agent leaves in order.
    Leave(AgentSlot),
    /// A new framework.
    Found(Box<Subscription>, v1::FrameworkInfo),
    /// A known framework subscribes again.
    Resubscribe(FrameworkSlot, Box<Subscription>),
    UpdateFramework(FrameworkSlot, Box<Update>),
    /// A framework's stream broke.
    Deadline(FrameworkSlot),
    Remove(FrameworkSlot, Removal),
    /// An operator changes the plan of maintenance.
    Maintain(RequestId),
    /// An operator sets quotas or weights of these roles.
    Roles(RequestId, Vec<String>),
    /// A write of the frameworks' state.
    Write(Box<Write>),
    /// Nothing waits for it.
    Alone,
}

/// Why a framework is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Its scheduler asked.
    Teardown(RequestId),
    /// An operator asked.
    Operator(RequestId),
    /// It did not come back in time.
    Timeout,
}

impl Removal {
    pub(crate) fn request(self) -> Option<RequestId> {
        match self {
            Removal::Teardown(request) | Removal::Operator(request) => Some(request),
            Removal::Timeout => None,
        }
    }
}

/// Proposes a change.
pub(crate) fn propose(leading: &mut Leading, step: &mut Step<'_>, body: Body, proposal: Proposal) {
    *step.proposed += 1;
    let id = ProposalId(*step.proposed);
    leading.proposals.insert(id, proposal);
    let change = Box::new(wire::Change { body: Some(body) });
    step.effects.push(Effect::Propose { id, change });
}

/// The change is in the registry.
pub(crate) fn committed(leading: &mut Leading, step: &mut Step<'_>, proposal: Proposal) {
    match proposal {
        Proposal::Admit(registration, info) => agents::admitted(leading, step, *registration, info),
        Proposal::Return(agent, registration) => agents::returned(leading, step, agent, *registration),
        Proposal::Resize(agent) => agents::resized(leading, step, agent),
        Proposal::Unreachable(agent) => agents::unreachable(leading, step, agent),
        Proposal::Gone(agent, request) => agents::gone(leading, step, agent, request),
        Proposal::Stand(agent, request) => drain::committed(leading, step, agent, request),
        Proposal::Convert(agent, converting) => operations::committed(leading, step, agent, *converting),
        Proposal::Forget(agent) => feedback::forgotten(leading, step, agent),
        Proposal::Leave(agent) => agents::left(leading, step, agent),
        Proposal::Found(subscription, info) => frameworks::founded(leading, step, *subscription, info),
        Proposal::Resubscribe(framework, subscription) => {
            frameworks::resubscribed(leading, step, framework, *subscription);
        }
        Proposal::UpdateFramework(framework, update) => frameworks::updated(leading, step, framework, *update),
        Proposal::Deadline(framework) => frameworks::deadline_set(leading, step, framework),
        Proposal::Remove(framework, removal) => frameworks::removed(leading, step, framework, removal),
        Proposal::Maintain(request) => maintenance::committed(leading, step, request),
        Proposal::Roles(request, named) => roles::committed(leading, step, request, &named),
        // A write's answer depends on what it did, which is told elsewhere.
        Proposal::Write(_) | Proposal::Alone => {}
    }
}

/// The change will not be committed, although this master still leads: whoever waits is told to try again.
pub(crate) fn dropped(leading: &mut Leading, step: &mut Step<'_>, proposal: Proposal) {
    if let Some(request) = proposal.request() {
        step.effects.answer(request, Answer::NotLeader);
    }
    match proposal {
        Proposal::Admit(registration, info) => {
            if let Some(id) = &info.id {
                leading.admitting.remove(id);
            }
            agents::close(leading, step, registration.connection);
        }
        Proposal::Return(agent, registration) => {
            agents::close(leading, step, registration.connection);
            agents::settled(leading, step, agent);
        }
        Proposal::Resize(agent)
        | Proposal::Unreachable(agent)
        | Proposal::Gone(agent, _)
        | Proposal::Stand(agent, _)
        | Proposal::Leave(agent) => {
            drain::dropped(leading, step, agent);
            agents::try_again(leading, step, agent);
        }
        Proposal::Convert(agent, converting) => {
            operations::dropped(leading, step, agent, *converting);
            agents::try_again(leading, step, agent);
        }
        Proposal::Forget(agent) => agents::try_again(leading, step, agent),
        Proposal::Found(subscription, _) => {
            leading.streams.remove(&subscription.stream);
        }
        Proposal::Resubscribe(framework, subscription) => {
            leading.streams.remove(&subscription.stream);
            frameworks::settled(leading, step, framework);
        }
        Proposal::UpdateFramework(framework, _) => frameworks::settled(leading, step, framework),
        Proposal::Deadline(framework) | Proposal::Remove(framework, _) => {
            frameworks::try_again(leading, step, framework);
        }
        Proposal::Maintain(_) => maintenance::dropped(leading, step),
        Proposal::Roles(..) => roles::settled(leading, step),
        Proposal::Write(write) => state::dropped(leading, &write),
        Proposal::Alone => {}
    }
}

impl Proposal {
    fn request(&self) -> Option<RequestId> {
        match self {
            Proposal::Gone(_, request) | Proposal::Stand(_, request) => *request,
            Proposal::Found(subscription, _) | Proposal::Resubscribe(_, subscription) => Some(subscription.request),
            Proposal::UpdateFramework(_, update) => Some(update.request),
            Proposal::Convert(_, converting) => converting.request(),
            Proposal::Remove(_, removal) => removal.request(),
            Proposal::Maintain(request) | Proposal::Roles(request, _) => Some(*request),
            Proposal::Write(write) => Some(write.request),
            _ => None,
        }
    }
}

/// Every request that waits for a change or a read.
pub(crate) fn waiting(leading: &Leading) -> Vec<RequestId> {
    let proposed = leading.proposals.values().filter_map(Proposal::request);
    let agents = leading.agents.iter().flat_map(|(_, agent)| agent.queue.iter());
    let frameworks = leading
        .frameworks
        .iter()
        .flat_map(|(_, framework)| framework.queue.iter());
    proposed
        .chain(agents.filter_map(agents::Deferred::request))
        .chain(frameworks.filter_map(frameworks::Deferred::request))
        .chain(leading.maintenance.waiting())
        .chain(leading.roles.waiting())
        .chain(leading.state.waiting())
        .collect()
}

/// Proposes to forget the oldest remembered ids beyond the bounds.
pub(crate) fn forget_excess(leading: &mut Leading, step: &mut Step<'_>) {
    let excess = step
        .registry
        .excess(step.config.completed_frameworks_max, step.config.gone_agents_max);
    if let Some(excess) = excess {
        propose(leading, step, Body::ForgetCompleted(excess), Proposal::Alone);
    }
}

//! REQUEST: what a framework says it waits for, as shapes and how often.
//!
//! The latest REQUEST counts, whole: one that asks for nothing takes the demand back. While there is demand, only agents on which
//! a shape fits are offered, and none when all of it is met. A launched task meets one shape that fits into it.

use proffer_proto::resources::Resources;
use proffer_proto::v1::scheduler::call::Request;
use proffer_proto::{Rejection, v1};

use super::Framework;
use crate::allocator::{Quantities, Shape};
use crate::effect::Answer;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};

/// More shapes than these are not taken of one framework: each is asked of every agent.
const SHAPES_MAX: usize = 64;

/// What a framework waits for.
#[derive(Debug, Default)]
pub(super) struct Demand {
    wanted: Vec<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    /// For this role only.
    role: Option<String>,
    shape: Shape,
}

impl Wanted {
    fn is_for(&self, role: &str) -> bool {
        self.role.as_deref().is_none_or(|own| own == role)
    }
}

impl Demand {
    /// What is left of it for a role.
    pub(super) fn of(&self, role: &str) -> Vec<Shape> {
        let wanted = self.wanted.iter();
        let wanted = wanted.filter(|wanted| wanted.is_for(role) && wanted.shape.count > 0);
        wanted.map(|wanted| wanted.shape.clone()).collect()
    }
}

/// What the framework waits for in a role; `None` where it did not say.
pub(crate) fn wanted(framework: &Framework, role: &str) -> Option<Vec<Shape>> {
    Some(framework.demand.as_ref()?.of(role))
}

/// A scheduler's REQUEST.
pub(crate) fn request(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    call: &Request,
) -> Result<(), Rejection> {
    if call.requests.len() > SHAPES_MAX {
        let problem = format!("holds {} requests", call.requests.len());
        return Err(Rejection::new("requests", problem, format!("up to {SHAPES_MAX}")));
    }
    let mut wanted = Vec::new();
    for (index, one) in call.requests.iter().enumerate() {
        let checked = check(leading, slot, one);
        wanted.push(checked.map_err(|rejection| rejection.at(index).within("requests"))?);
    }
    step.effects.answer(request, Answer::Accepted);
    leading.frameworks[slot].demand = (!wanted.is_empty()).then_some(Demand { wanted });
    super::refresh_wishes(leading, slot);
    Ok(())
}

fn check(leading: &Leading, slot: FrameworkSlot, request: &v1::Request) -> Result<Wanted, Rejection> {
    if request.resources.is_empty() {
        return Err(Rejection::new("resources", "is empty", "what is wanted at least"));
    }
    let resources = Resources::from_wire(&request.resources).map_err(|rejection| rejection.within("resources"))?;
    let mut roles = resources.iter().map(|entry| entry.key().allocation_role());
    let role = roles.next().flatten();
    if roles.any(|other| other != role) {
        let accepted = "the same role in all resources of a request, or none for all roles of the framework";
        return Err(Rejection::new("resources", "are for different roles", accepted));
    }
    let claims = &leading.frameworks[slot].claims;
    let is_role = |role: &str| claims.get(role).is_some_and(|claim| leading.claims[*claim].subscribed);
    if let Some(role) = role.filter(|role| !is_role(role)) {
        let problem = format!("is {role:?}, which is no role of the framework");
        return Err(Rejection::new(
            "resources[0].allocation_info.role",
            problem,
            "a role of the framework",
        ));
    }
    let agent = match &request.agent_id {
        None => None,
        Some(id) => match leading.agent_ids.get(id) {
            Some(agent) => Some(*agent),
            None => {
                let problem = format!("is {:?}, which names no agent", id.value);
                return Err(Rejection::new("agent_id", problem, "the id of an admitted agent"));
            }
        },
    };
    if request.count() == 0 {
        return Err(Rejection::new("count", "is 0", "1 or more"));
    }
    Ok(Wanted {
        role: role.map(str::to_owned),
        shape: Shape {
            agent,
            resources: Quantities::of(&resources),
            count: request.count(),
        },
    })
}

/// A task was launched for the claim: it meets one of the shapes.
pub(crate) fn met(leading: &mut Leading, claim: ClaimSlot, agent: AgentSlot, resources: &Resources) {
    let (slot, role) = (leading.claims[claim].framework, &leading.claims[claim].role);
    let Some(demand) = &mut leading.frameworks[slot].demand else {
        return;
    };
    let has = Quantities::of(resources);
    let fits = |shape: &Shape| {
        let mut wanted = shape.resources.iter();
        shape.count > 0
            && shape.agent.is_none_or(|at| at == agent)
            && wanted.all(|(name, amount)| has.get(name).thousandths() >= amount)
    };
    let mut all = demand.wanted.iter_mut();
    if let Some(wanted) = all.find(|wanted| wanted.is_for(role) && fits(&wanted.shape)) {
        wanted.shape.count -= 1;
        super::refresh_wishes(leading, slot);
    }
}

/// The agent is gone: nobody waits for it any more.
pub(crate) fn forget_agent(leading: &mut Leading, agent: AgentSlot) {
    let slots: Vec<FrameworkSlot> = leading.frameworks.iter().map(|(slot, _)| slot).collect();
    for slot in slots {
        let Some(demand) = &mut leading.frameworks[slot].demand else {
            continue;
        };
        let before = demand.wanted.len();
        demand.wanted.retain(|wanted| wanted.shape.agent != Some(agent));
        if demand.wanted.len() < before {
            super::refresh_wishes(leading, slot);
        }
    }
}

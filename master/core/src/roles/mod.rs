//! Roles: what operators set of them, their quota and weight, and what each uses.
//!
//! An order is checked against the registry and against what is known of agents and tasks at that moment, then proposed as one
//! change, so that all roles that it names change or none. One order is on its way at a time: the next is checked against
//! what the one before left.

mod answers;
mod checks;
mod quota;
mod told;
mod usage;
mod weights;

use std::collections::{BTreeSet, VecDeque};

use proffer_proto::Rejection;
use proffer_proto::registry as wire;
use proffer_proto::registry::change::Body;
use proffer_proto::v1::master::{Response, response};

use crate::effect::Answer;
use crate::input::RequestId;
use crate::level;
use crate::master::{Leading, Step};
use crate::proposals::{Proposal, propose};
use checks::Violation;

pub(crate) use answers::{get_quota, get_roles, get_weights};
pub(crate) use quota::{of_removal, of_request, of_update};
pub(crate) use told::{heard, recover, review, weigh};
pub(crate) use usage::is_plain;
pub(crate) use weights::of_call as weights;

/// The level of the registry that introduced quotas and weights.
const LEVEL: u32 = 3;

/// What a leader knows beside the registry.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    /// A change is proposed; what comes meanwhile waits in the queue.
    in_flight: bool,
    queue: VecDeque<(Order, RequestId)>,
    unheard: told::Unheard,
}

impl Roles {
    /// Every request that waits for a change of another.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = RequestId> {
        self.queue.iter().map(|(_, request)| *request)
    }
}

/// What an operator asks for; what can be checked without knowing the cluster is.
#[derive(Debug)]
pub(crate) enum Order {
    Quota(quota::Order),
    Weights(Vec<wire::Weight>),
}

/// An operator's order.
pub(crate) fn order(leading: &mut Leading, step: &mut Step<'_>, order: Order, request: RequestId) {
    if let Err(why) = level::check_at(step, LEVEL, "quotas and weights are set") {
        return step.effects.answer(request, Answer::Refused(why));
    }
    if leading.roles.in_flight {
        return leading.roles.queue.push_back((order, request));
    }
    match carry_out(leading, step, order) {
        Ok(Some(body)) => {
            leading.roles.in_flight = true;
            let roles = named(&body);
            propose(leading, step, body, Proposal::Roles(request, roles));
        }
        Ok(None) => step.effects.answer(request, Answer::Accepted),
        Err(answer) => step.effects.answer(request, answer),
    }
}

/// What is to be proposed; nothing where all is so already.
fn carry_out(leading: &Leading, step: &Step<'_>, order: Order) -> Result<Option<Body>, Answer> {
    let known = &step.registry.roles;
    match order {
        Order::Weights(mut weights) => {
            weights.retain(|weight| known.weight(&weight.role) != weight.thousandths);
            Ok((!weights.is_empty()).then(|| Body::SetWeights(wire::SetWeights { weights })))
        }
        Order::Quota(order) => {
            order.check_presence(known)?;
            let violations = checks::violations(leading, step, &order.asked);
            if order.dry_run {
                return Err(Answer::Response(Box::new(told(violations))));
            }
            if let Some(first) = violations.iter().find(|violation| !violation.forcible) {
                return Err(Answer::Rejected(first.rejection()));
            }
            if !violations.is_empty() && !order.force {
                return Err(Answer::Refused(refusal(&violations)));
            }
            let mut quotas: Vec<wire::Quota> = order.asked.into_iter().map(|asked| asked.quota).collect();
            quotas.retain(|quota| match known.quota(&quota.role) {
                Some(known) => known != quota,
                None => !quota.guarantees.is_empty() || !quota.limits.is_empty(),
            });
            Ok((!quotas.is_empty()).then(|| Body::SetQuotas(wire::SetQuotas { quotas })))
        }
    }
}

fn told(violations: Vec<Violation>) -> Response {
    Response {
        r#type: Some(response::Type::UpdateQuota as i32),
        update_quota: Some(response::UpdateQuota {
            violations: violations.into_iter().map(Violation::into_wire).collect(),
        }),
        ..Response::default()
    }
}

fn refusal(violations: &[Violation]) -> String {
    let list: Vec<String> = violations
        .iter()
        .map(|violation| violation.rejection().to_string())
        .collect();
    format!("{}; with `force` it is set all the same", list.join("; "))
}

/// The roles that a change is about.
fn named(body: &Body) -> Vec<String> {
    match body {
        Body::SetQuotas(set) => set.quotas.iter().map(|quota| quota.role.clone()).collect(),
        Body::SetWeights(set) => set.weights.iter().map(|weight| weight.role.clone()).collect(),
        _ => Vec::new(),
    }
}

/// The registry has what was proposed about these roles.
pub(crate) fn committed(leading: &mut Leading, step: &mut Step<'_>, request: RequestId, roles: &[String]) {
    step.effects.answer(request, Answer::Accepted);
    for role in roles {
        told::tell(leading, step, role);
    }
    for role in roles {
        told::take_back(leading, step, role);
    }
    settled(leading, step);
}

/// No order is on its way any more: the next one is carried out.
pub(crate) fn settled(leading: &mut Leading, step: &mut Step<'_>) {
    leading.roles.in_flight = false;
    while !leading.roles.in_flight
        && let Some((waiting, request)) = leading.roles.queue.pop_front()
    {
        order(leading, step, waiting, request);
    }
}

/// The name of a role in a field.
fn check_role(role: &str) -> Result<(), Rejection> {
    proffer_proto::roles::check(role, "role")
}

/// The name of a role in the field of a list that names each once; `seen` are those before it.
fn check_role_once<'a>(role: &'a str, seen: &mut BTreeSet<&'a str>) -> Result<(), Rejection> {
    check_role(role)?;
    if !seen.insert(role) {
        return Err(Rejection::new("role", format!("is {role:?} again"), "each role once"));
    }
    Ok(())
}

/// The role above a role.
fn parent(role: &str) -> Option<&str> {
    role.rsplit_once('/').map(|(parent, _)| parent)
}

/// A role and those above it.
fn and_above(role: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(role), |role| parent(role))
}

/// Whether what a role holds counts for another: itself, or one below it.
pub(crate) fn is_within(role: &str, top: &str) -> bool {
    role == top || proffer_proto::roles::is_below(role, top)
}

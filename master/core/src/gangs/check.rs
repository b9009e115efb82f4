//! What an ACCEPT with a gang must be.

use std::collections::BTreeMap;
use std::time::Duration;

use proffer_proto::resources::{Resources, Scalar};
use proffer_proto::v1::scheduler::call::{Accept, accept};
use proffer_proto::v1::value;
use proffer_proto::{Rejection, ids, v1};

use super::{Member, Shape};
use crate::accept::check_member;
use crate::master::{Leading, Step};
use crate::offers::{self, Found, OfferNumber};
use crate::slots::{ClaimSlot, FrameworkSlot};

/// A gang has no more members.
const MEMBERS_MAX: usize = 10_000;
/// No framework has more gangs that wait.
const WAITING_MAX: usize = 64;

/// What a well-formed call asks for.
pub(super) struct Checked {
    pub(super) refusal: Duration,
    pub(super) claim: ClaimSlot,
    /// Those that are open. What became of the others does not matter: the gang takes what is free.
    pub(super) offers: Vec<OfferNumber>,
    pub(super) members: Vec<Member>,
    pub(super) minimum: usize,
    pub(super) max_wait: Duration,
}

/// Checks the call; `accept` is without the gang.
pub(super) fn check(
    leading: &Leading,
    step: &Step<'_>,
    framework: FrameworkSlot,
    accept: &Accept,
    gang: &accept::Gang,
) -> Result<Checked, Rejection> {
    let refusal = offers::refusal(accept.filters.as_ref())?;
    if !accept.operations.is_empty() {
        let accepted = "either `operations` or `gang`";
        return Err(Rejection::new("operations", "are set beside `gang`", accepted));
    }
    let offers = open_offers(leading, framework, accept)?;
    let within = |rejection: Rejection| rejection.within("gang");
    name(leading, framework, gang).map_err(within)?;
    let claim = claim(leading, framework, &offers, gang).map_err(within)?;
    let minimum = minimum(gang).map_err(within)?;
    let max_wait = max_wait(step, gang).map_err(within)?;
    let members = members(leading, framework, claim, gang).map_err(within)?;
    Ok(Checked {
        refusal,
        claim,
        offers,
        members,
        minimum,
        max_wait,
    })
}

fn open_offers(leading: &Leading, framework: FrameworkSlot, accept: &Accept) -> Result<Vec<OfferNumber>, Rejection> {
    let mut open = Vec::new();
    for (index, id) in accept.offer_ids.iter().enumerate() {
        let field = || format!("offer_ids[{index}]");
        match offers::find(leading, framework, id) {
            Found::Open(number) if open.contains(&number) => {
                let problem = format!("is {:?} again", id.value);
                return Err(Rejection::new(field(), problem, "each offer once"));
            }
            Found::Open(number) => open.push(number),
            Found::Stale => {}
            Found::Unknown => return Err(offers::unknown(index, id)),
        }
        let Some(number) = open.last() else { continue };
        let (first, offer) = (&leading.offers[&open[0]], &leading.offers[number]);
        if offer.loan.is_some() {
            let accepted = "offers of what is free; what is lent is for tasks that end soon";
            return Err(Rejection::new(
                field(),
                "is an offer of what another gang lends",
                accepted,
            ));
        }
        if first.claim != offer.claim {
            let accepted = "offers to one role";
            return Err(Rejection::new(
                field(),
                "is an offer to another role than the first",
                accepted,
            ));
        }
    }
    Ok(open)
}

fn name(leading: &Leading, framework: FrameworkSlot, gang: &accept::Gang) -> Result<(), Rejection> {
    ids::check_chosen(&gang.id, "id")?;
    let waiting = leading.gangs.of(framework);
    let mut names = waiting.iter().map(|number| &leading.gangs.waiting[number].id);
    if names.any(|id| *id == gang.id) {
        let problem = format!("is {:?}, the id of a gang of the framework that waits", gang.id);
        return Err(Rejection::new("id", problem, "another id"));
    }
    if waiting.len() >= WAITING_MAX {
        let problem = format!("is one more than the {WAITING_MAX} gangs of the framework that wait");
        return Err(Rejection::new(
            "",
            problem,
            "a gang when one of them is launched or has ended",
        ));
    }
    Ok(())
}

/// The role of the gang: that of its offers, the one it names, or the only one that the framework has.
fn claim(
    leading: &Leading,
    framework: FrameworkSlot,
    offers: &[OfferNumber],
    gang: &accept::Gang,
) -> Result<ClaimSlot, Rejection> {
    let claims = &leading.frameworks[framework].claims;
    let subscribed = claims.iter().filter(|(_, claim)| leading.claims[**claim].subscribed);
    let subscribed: BTreeMap<&String, &ClaimSlot> = subscribed.collect();
    let offered = offers.first().map(|number| leading.offers[number].claim);
    match (offered, &gang.role) {
        (Some(claim), Some(role)) if leading.claims[claim].role != *role => {
            let problem = format!("is {role:?}, but the offers are to {:?}", leading.claims[claim].role);
            Err(Rejection::new("role", problem, "the role of the offers, or none"))
        }
        (Some(claim), _) => Ok(claim),
        (None, Some(role)) => subscribed.get(role).copied().copied().ok_or_else(|| {
            let problem = format!("is {role:?}, which is no role of the framework");
            Rejection::new("role", problem, "a role of the framework")
        }),
        (None, None) => match *subscribed.values().copied().collect::<Vec<_>>() {
            [only] => Ok(*only),
            _ => {
                let accepted = "one of the roles, as the framework has several and no offer is open that tells it";
                Err(Rejection::new("role", "is missing", accepted))
            }
        },
    }
}

fn minimum(gang: &accept::Gang) -> Result<usize, Rejection> {
    let count = gang.members.len();
    if count == 0 || count > MEMBERS_MAX {
        let problem = format!("holds {count} tasks");
        return Err(Rejection::new("members", problem, format!("1 to {MEMBERS_MAX} tasks")));
    }
    let minimum = gang.minimum.map_or(count, |minimum| minimum as usize);
    if minimum == 0 || minimum > count {
        let problem = format!("is {minimum}");
        let accepted = format!("1 to {count}, as many as there are members");
        return Err(Rejection::new("minimum", problem, accepted));
    }
    Ok(minimum)
}

fn max_wait(step: &Step<'_>, gang: &accept::Gang) -> Result<Duration, Rejection> {
    let nanoseconds = gang.max_wait.map_or(0, |wait| wait.nanoseconds);
    let most = step.config.gang_wait_max;
    let wait = u64::try_from(nanoseconds).map(Duration::from_nanos);
    wait.ok().filter(|wait| *wait <= most).ok_or_else(|| {
        let accepted = format!(
            "nanoseconds, from 0 to {} (the masters' --gang-wait-max)",
            most.as_nanos()
        );
        Rejection::new("max_wait.nanoseconds", format!("is {nanoseconds}"), accepted)
    })
}

fn members(
    leading: &Leading,
    framework: FrameworkSlot,
    claim: ClaimSlot,
    gang: &accept::Gang,
) -> Result<Vec<Member>, Rejection> {
    let mut seen = BTreeMap::new();
    let mut list = Vec::new();
    for (index, info) in gang.members.iter().enumerate() {
        let at = |rejection: Rejection| rejection.at(index).within("members");
        if let Some(first) = seen.insert(&info.task_id, index) {
            let problem = format!("is {:?}, like that of `members[{first}]`", info.task_id.value);
            return Err(at(Rejection::new(
                "task_id",
                problem,
                "an id that is new within the gang",
            )));
        }
        let mut info = info.clone();
        let shape = shape(leading, framework, claim, &mut info).map_err(at)?;
        list.push((info, shape));
    }
    // Who needs the most, or a certain agent, chooses first.
    list.sort_by_key(|(_, shape)| {
        let share = leading.allocator.share(&shape.resources);
        (shape.agent.is_none(), u64::MAX - share, u64::MAX - shape.ports)
    });
    let mut members: Vec<Member> = Vec::with_capacity(list.len());
    for (info, shape) in list {
        let alike = match members.last() {
            Some(last) => last.alike + usize::from(last.shape != shape),
            None => 0,
        };
        members.push(Member {
            info,
            shape,
            alike,
            place: None,
            gathers: None,
        });
    }
    Ok(members)
}

/// What a member needs; ports that it leaves open are taken out of its description.
fn shape(
    leading: &Leading,
    framework: FrameworkSlot,
    claim: ClaimSlot,
    info: &mut v1::TaskInfo,
) -> Result<Shape, Rejection> {
    let ports = take_ports(info)?;
    let agent = match info.agent_id.value.as_str() {
        "" => None,
        id => match leading.agent_ids.get(&info.agent_id) {
            Some(agent) => Some(*agent),
            None => {
                let problem = format!("is {id:?}, which names no agent");
                return Err(Rejection::new(
                    "agent_id.value",
                    problem,
                    "the id of an agent, or \"\" for any",
                ));
            }
        },
    };
    Ok(Shape {
        agent,
        resources: check_member(leading, framework, &leading.claims[claim].role, info)?,
        ports,
    })
}

/// Takes the `ports` that are given as a number.
fn take_ports(info: &mut v1::TaskInfo) -> Result<u64, Rejection> {
    let is_number = |resource: &v1::Resource| resource.name == "ports" && resource.r#type == value::Type::Scalar as i32;
    let mut ports = 0;
    for (index, resource) in info.resources.iter().enumerate().filter(|(_, one)| is_number(one)) {
        let amount = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
        let amount = Scalar::from_f64(amount).unwrap_or_default().thousandths();
        if amount == 0 || !amount.is_multiple_of(1000) || amount > 65_536_000 {
            let problem = "is no number of ports";
            let accepted = "a whole number, 1 or more, or ranges of ports";
            return Err(Rejection::new(format!("resources[{index}].scalar"), problem, accepted));
        }
        ports += amount / 1000;
    }
    info.resources.retain(|resource| !is_number(resource));
    Ok(ports)
}

impl Shape {
    /// What a member of this shape would have of these resources; `None` where they are too few.
    pub(super) fn of(&self, resources: &Resources) -> Option<Resources> {
        if !resources.contains(&self.resources) {
            return None;
        }
        if self.ports == 0 {
            return Some(self.resources.clone());
        }
        let open = resources.checked_sub(&self.resources)?.unreserved().non_revocable();
        let chosen = open.ports().lowest(self.ports)?;
        Some(self.resources.clone() + &Resources::of_ranges("ports", chosen))
    }
}

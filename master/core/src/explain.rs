//! EXPLAIN: why a claim is not offered more, agent by agent.
//!
//! The allocator judges every agent for a claim by the same code that decides, at the moment of the call: after every step all
//! that can be offered is offered, so what is free was judged and refused. What is not the allocator's to know is found here: why
//! an agent or a claim is inactive, and whose offers or gangs hold what is not free. Every agent is counted for one reason.

use std::collections::BTreeMap;

use proffer_proto::Rejection;
use proffer_proto::resources::Resources;
use proffer_proto::v1::master::call::Explain;
use proffer_proto::v1::master::response::explain::reason::Kind;
use proffer_proto::v1::master::response::{self, explain};

use crate::agents::{Agent, Phase};
use crate::allocator::Reason;
use crate::master::{Leading, Step};
use crate::offers::Offer;
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};
use crate::time::Timestamp;
use crate::{frameworks, gangs, optimistic, revocable};

/// So many times an agent is judged for a claim in one call, before claims are left out: a master has other things to do.
const JUDGEMENTS_MAX: usize = 500_000;

/// Answers the call.
pub(crate) fn explain(leading: &Leading, step: &Step<'_>, call: &Explain) -> Result<response::Explain, Rejection> {
    let mut claims = named(leading, step, call).map_err(|rejection| rejection.within("explain"))?;
    let agents = leading.agents.iter().count().max(1);
    let most = (JUDGEMENTS_MAX / agents).max(1);
    let omitted = claims.len().saturating_sub(most);
    claims.truncate(most);
    Ok(response::Explain {
        claims: claims
            .into_iter()
            .map(|claim| claim_of(leading, claim, step.now))
            .collect(),
        omitted: (omitted > 0).then(|| u32::try_from(omitted).unwrap_or(u32::MAX)),
    })
}

/// The claims that a call is about.
fn named(leading: &Leading, step: &Step<'_>, call: &Explain) -> Result<Vec<ClaimSlot>, Rejection> {
    let of_framework = |slot: FrameworkSlot| leading.frameworks[slot].claims.values().copied();
    let claims: Vec<ClaimSlot> = match &call.framework_id {
        Some(id) => of_framework(frameworks::find(leading, step, id)?).collect(),
        None if call.role.is_none() => {
            let accepted = "`framework_id`, `role`, or both";
            return Err(Rejection::new("", "names nothing to explain", accepted));
        }
        None => leading
            .frameworks
            .iter()
            .flat_map(|(slot, _)| of_framework(slot))
            .collect(),
    };
    let Some(role) = &call.role else { return Ok(claims) };
    let of_role = |claim: &ClaimSlot| leading.claims[*claim].role == *role;
    let claims: Vec<ClaimSlot> = claims.into_iter().filter(of_role).collect();
    if claims.is_empty() {
        let problem = format!("is {role:?}, which no such framework has");
        return Err(Rejection::new(
            "role",
            problem,
            "a role of a framework; GET_ROLES lists them",
        ));
    }
    Ok(claims)
}

fn claim_of(leading: &Leading, slot: ClaimSlot, now: Timestamp) -> explain::Claim {
    let claim = &leading.claims[slot];
    let framework = &leading.frameworks[claim.framework];
    let (mut allocated, mut offered) = (Resources::new(), Resources::new());
    for offer in framework.offers.iter().map(|number| &leading.offers[number]) {
        if offer.claim == slot {
            offered += &offer.resources;
        }
    }
    let held = leading.parked.values();
    for parked in held.filter(|parked| parked.owner.is_some_and(|(_, claim)| claim == slot)) {
        offered += &parked.resources;
    }
    for task in framework.tasks.values().map(|task| &leading.tasks[*task]) {
        if task.held && task.claim == slot {
            allocated += &task.resources;
        }
    }
    for (_, agent) in leading.agents.iter() {
        let executors = agent.executors.values();
        for executor in executors.filter(|executor| executor.claim == Some(slot)) {
            allocated += &executor.resources;
        }
    }
    let mut reasons: BTreeMap<Key, Found> = BTreeMap::new();
    for (agent, _) in leading.agents.iter() {
        let (key, detail) = judge(leading, slot, agent);
        reasons.entry(key).or_default().count(leading, agent, detail, now);
    }
    explain::Claim {
        framework_id: framework.id.clone(),
        framework_name: framework.info.name.clone(),
        role: claim.role.clone(),
        allocated: allocated.to_wire(),
        offered: offered.to_wire(),
        reasons: reasons
            .into_iter()
            .map(|(key, found)| found.into_wire(leading, key))
            .collect(),
        last_until: framework.trust.last_until().map(Timestamp::to_wire),
    }
}

/// What is counted together: the kind, and which limit it is.
type Key = (i32, Option<(String, String)>);

/// What is to be told of one agent.
#[derive(Default)]
struct Detail {
    /// What could be offered there if it were not for the reason.
    resources: Resources,
    until: Option<Timestamp>,
    /// By whom what is missing is held.
    holders: Vec<Holder>,
}

fn judge(leading: &Leading, slot: ClaimSlot, at: AgentSlot) -> (Key, Detail) {
    let agent = &leading.agents[at];
    let role = &leading.claims[slot].role;
    let free = leading.allocator.free(at).cloned().unwrap_or_default();
    let mut detail = Detail {
        resources: free.available_to(role),
        ..Detail::default()
    };
    let kind = match leading.allocator.verdict(slot, at) {
        Ok(resources) => {
            detail.resources = resources;
            Kind::Pending
        }
        Err(Reason::AgentInactive) => why_agent(agent),
        Err(Reason::ClaimInactive) => why_claim(leading, slot),
        Err(Reason::Limit { role, resource }) => {
            return ((Kind::Limit as i32, Some((role, resource))), detail);
        }
        Err(Reason::Refused(until)) => {
            detail.until = Some(until);
            Kind::Filtered
        }
        Err(Reason::Gpus) => Kind::Gpus,
        Err(Reason::Region) => Kind::Region,
        Err(Reason::Constraints) => Kind::Constraints,
        Err(Reason::Headroom) => Kind::Guarantees,
        Err(reason) => held(leading, slot, at, &reason, &mut detail),
    };
    ((kind as i32, None), detail)
}

/// What is free is not enough: the rest may be in offers, or held for gangs.
fn held(leading: &Leading, slot: ClaimSlot, at: AgentSlot, reason: &Reason, detail: &mut Detail) -> Kind {
    let agent = &leading.agents[at];
    let offers: Vec<&Offer> = agent.offers.iter().map(|number| &leading.offers[number]).collect();
    if offers.iter().any(|offer| offer.claim == slot) || optimistic::is_shown(leading, slot, at) {
        return Kind::Offered;
    }
    let role = &leading.claims[slot].role;
    let open = |offer: &&Offer| !offer.resources.available_to(role).is_empty();
    let holders = offers.into_iter().filter(open);
    let holders: Vec<Holder> = holders.map(Holder::of).collect();
    let of_gangs = gangs::holders(leading, at)
        .into_iter()
        .map(|(claim, resources)| Holder {
            claim,
            resources,
            since: None,
            patient_until: None,
            deadline: None,
        });
    let of_gangs: Vec<Holder> = of_gangs.collect();
    let loans = revocable::loans_on(leading, at);
    let behind = agent.backing.available_to(role);
    let lent = |(claim, _): (ClaimSlot, Resources)| Holder {
        claim,
        resources: behind.clone(),
        since: None,
        patient_until: None,
        deadline: loans.until,
    };
    let lent: Vec<Holder> = loans
        .borrowers
        .into_iter()
        .map(lent)
        .take(usize::from(!behind.is_empty()))
        .collect();
    for (kind, holders) in [(Kind::Held, holders), (Kind::Gang, of_gangs), (Kind::Lent, lent)] {
        let mut with_them = detail.resources.clone();
        for holder in &holders {
            with_them += holder.resources.available_to(role);
        }
        if !holders.is_empty() && leading.allocator.suffices(slot, &with_them) {
            detail.resources = with_them;
            detail.until = loans.until.filter(|_| kind == Kind::Lent);
            detail.holders = holders;
            return kind;
        }
    }
    match reason {
        Reason::NothingFree => Kind::InUse,
        Reason::Reserved => Kind::Reserved,
        Reason::NoShapeFits if leading.allocator.is_content(slot) => Kind::DemandMet,
        Reason::NoShapeFits => Kind::Demand,
        _ => Kind::TooSmall,
    }
}

fn why_agent(agent: &Agent) -> Kind {
    match agent.phase {
        Phase::Recovered => Kind::AgentNotBack,
        Phase::Unreachable { .. } => Kind::AgentUnreachable,
        Phase::Disconnected => Kind::AgentDisconnected,
        Phase::Attached(_) if agent.standing.drain.is_some() => Kind::AgentDraining,
        Phase::Attached(_) if !agent.is_offered() => Kind::AgentDeactivated,
        Phase::Attached(_) => Kind::AgentLeaving,
    }
}

fn why_claim(leading: &Leading, slot: ClaimSlot) -> Kind {
    let claim = &leading.claims[slot];
    let framework = &leading.frameworks[claim.framework];
    if framework.removing {
        Kind::FrameworkEnding
    } else if framework.stream().is_none() {
        Kind::FrameworkAway
    } else if !claim.subscribed {
        Kind::RoleLeft
    } else {
        Kind::Suppressed
    }
}

/// Who holds something on an agent: by an offer, or for gangs.
struct Holder {
    claim: ClaimSlot,
    resources: Resources,
    since: Option<Timestamp>,
    patient_until: Option<Timestamp>,
    deadline: Option<Timestamp>,
}

impl Holder {
    fn of(offer: &Offer) -> Self {
        Holder {
            claim: offer.claim,
            resources: offer.resources.clone(),
            since: Some(offer.made),
            patient_until: offer.patient_until,
            deadline: offer.deadline,
        }
    }
}

/// What was found for one reason.
#[derive(Default)]
struct Found {
    agents: u32,
    largest: Resources,
    largest_agent: Option<AgentSlot>,
    until: Option<Timestamp>,
    holders: BTreeMap<ClaimSlot, Holding>,
}

/// What of it is in the offers of one claim.
#[derive(Default)]
struct Holding {
    offers: u32,
    resources: Resources,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Holding {
    fn count(&mut self, holder: &Holder, now: Timestamp) {
        self.offers += 1;
        self.resources += &holder.resources;
        self.since = earlier(self.since, holder.since);
        // Who still waits when the patience is over has no better claim.
        let patient = holder.patient_until.filter(|until| *until > now);
        self.until = earlier(self.until, earlier(patient, holder.deadline));
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

impl Found {
    fn count(&mut self, leading: &Leading, agent: AgentSlot, detail: Detail, now: Timestamp) {
        self.agents += 1;
        if !detail.resources.is_empty()
            && leading.allocator.share(&detail.resources) > leading.allocator.share(&self.largest)
        {
            self.largest = detail.resources;
            self.largest_agent = Some(agent);
        }
        self.until = earlier(self.until, detail.until);
        for holder in &detail.holders {
            self.holders.entry(holder.claim).or_default().count(holder, now);
        }
    }

    fn into_wire(self, leading: &Leading, (kind, limit): Key) -> explain::Reason {
        let (role, resource) = limit.unzip();
        let holder = |(claim, holding): (ClaimSlot, Holding)| {
            let claim = &leading.claims[claim];
            let framework = &leading.frameworks[claim.framework];
            explain::Holder {
                framework_id: framework.id.clone(),
                framework_name: framework.info.name.clone(),
                role: claim.role.clone(),
                offers: holding.offers,
                resources: holding.resources.to_wire(),
                since: holding.since.map(Timestamp::to_wire),
                until: holding.until.map(Timestamp::to_wire),
            }
        };
        explain::Reason {
            kind,
            agents: self.agents,
            largest: self.largest.to_wire(),
            largest_agent_id: self.largest_agent.map(|agent| leading.agents[agent].id.clone()),
            until: self.until.map(Timestamp::to_wire),
            role,
            resource,
            holders: self.holders.into_iter().map(holder).collect(),
        }
    }
}

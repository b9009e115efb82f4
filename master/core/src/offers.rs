//! Offers: free resources of one agent, held for one role of one framework until it answers.
//!
//! An offer ends in exactly one way: accepted, declined, rescinded (the framework hears it), or withdrawn (its framework
//! has no stream on which it could hear it). Every way goes through [`take`].

use std::collections::BTreeMap;
use std::time::Duration;

use proffer_proto::resources::Resources;
use proffer_proto::{Rejection, v1};

use crate::agents::Agent;
use crate::allocator::Decision;
use crate::effect::Answer;
use crate::gangs::Loan;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};
use crate::time::Timestamp;
use crate::{books, events, frameworks, hoarding, inverse, optimistic, revocable};

/// `Filters.refuse_seconds` where none is given, or a negative one.
const REFUSE_DEFAULT: Duration = Duration::from_secs(5);
/// No refusal lasts longer.
const REFUSE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// More offers than these come in several events: a message has a limit at the reader.
const OFFERS_IN_EVENT_MAX: usize = 512;

/// Numbers the offers of one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OfferNumber(pub(crate) u64);

/// An offer that is not answered yet.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) framework: FrameworkSlot,
    pub(crate) claim: ClaimSlot,
    pub(crate) agent: AgentSlot,
    /// Without allocation role.
    pub(crate) resources: Resources,
    pub(crate) made: Timestamp,
    /// It is rescinded then.
    pub(crate) deadline: Option<Timestamp>,
    /// From then on it is rescinded when somebody waits for it.
    pub(crate) patient_until: Option<Timestamp>,
    /// It is of what a gang holds, and lends.
    pub(crate) loan: Option<Loan>,
}

/// Offers that were made in a step, to be told at its end.
pub(crate) type Made = BTreeMap<FrameworkSlot, Vec<v1::Offer>>;

/// Whether there is such an offer.
pub(crate) enum Found {
    Open(OfferNumber),
    /// It may have been, and has ended.
    Stale,
    /// It was never made for this framework.
    Unknown,
}

/// Offers what is free, after what is held too long was taken back from who does not answer.
pub(crate) fn allocate(leading: &mut Leading, step: &mut Step<'_>) {
    let mut made = Made::new();
    decide(leading, step, &mut made);
    let stirred = leading.allocator.take_stirred();
    hoarding::review(leading, step, stirred, &mut made);
    optimistic::review(leading, step, stirred, &mut made);
    revocable::review(leading, step, stirred, &mut made);
    for (framework, mut offers) in made {
        while !offers.is_empty() {
            let rest = offers.split_off(offers.len().min(OFFERS_IN_EVENT_MAX));
            frameworks::send(leading, step, framework, events::offers(offers));
            offers = rest;
        }
    }
}

/// Makes offers of what the allocator decides.
pub(crate) fn decide(leading: &mut Leading, step: &mut Step<'_>, made: &mut Made) {
    let mut decisions = std::mem::take(&mut leading.decisions);
    leading.allocator.allocate(&mut decisions);
    for decision in decisions.drain(..) {
        let Decision { agent, claim, .. } = decision;
        let number = make(leading, step, claim, agent, decision.resources, decision.used_up);
        let offer = &leading.offers[&number];
        made.entry(offer.framework)
            .or_default()
            .push(wire(leading, number, offer));
        optimistic::share(leading, step, number, made);
    }
    leading.decisions = decisions;
}

/// Makes an offer of what is free, which the claim is charged for already; in its turn, where it has one only.
pub(crate) fn make(
    leading: &mut Leading,
    step: &Step<'_>,
    claim: ClaimSlot,
    agent: AgentSlot,
    resources: Resources,
    in_turn: bool,
) -> OfferNumber {
    leading.made.offers += 1;
    let number = OfferNumber(leading.made.offers);
    let framework = leading.claims[claim].framework;
    let offer = Offer {
        framework,
        claim,
        agent,
        resources,
        made: step.now,
        deadline: step.config.offer_timeout.map(|timeout| step.now.plus(timeout)),
        patient_until: hoarding::made(leading, step, framework, number, in_turn),
        loan: None,
    };
    leading.agents[agent].offers.insert(number);
    leading.frameworks[framework].offers.insert(number);
    books::hold(leading, agent, &offer.resources);
    leading.offers.insert(number, offer);
    number
}

/// Takes offers back whose deadline is over.
pub(crate) fn expire(leading: &mut Leading, step: &mut Step<'_>) {
    // They all have the same time, so the first is the first to end.
    while let Some((number, offer)) = leading.offers.first_key_value()
        && offer.deadline.is_some_and(|deadline| deadline <= step.now)
    {
        let number = *number;
        hoarding::expired(leading, step, number);
        rescind(leading, step, number);
    }
}

/// Makes an offer of what a gang lends, which the claim is charged for already. The framework is to be told.
pub(crate) fn lend(
    leading: &mut Leading,
    step: &Step<'_>,
    decision: Decision,
    loan: Loan,
) -> (FrameworkSlot, v1::Offer) {
    let Decision { agent, claim, .. } = decision;
    let number = make(leading, step, claim, agent, decision.resources, false);
    if let Some(offer) = leading.offers.get_mut(&number) {
        offer.loan = Some(loan);
        // Nobody else waits for what is the gang's.
        offer.patient_until = None;
    }
    let offer = &leading.offers[&number];
    (offer.framework, wire(leading, number, offer))
}

/// As the framework sees it.
pub(crate) fn wire(leading: &Leading, number: OfferNumber, offer: &Offer) -> v1::Offer {
    let agent = &leading.agents[offer.agent];
    let role = &leading.claims[offer.claim].role;
    v1::Offer {
        id: id(leading, number),
        framework_id: leading.frameworks[offer.framework].id.clone(),
        agent_id: agent.id.clone(),
        hostname: agent.info.hostname.clone(),
        resources: offer.resources.clone().allocate(role).to_wire(),
        attributes: agent.info.attributes.clone(),
        url: Some(url(agent)),
        unavailability: leading.maintenance.window(offer.agent),
        allocation_info: Some(v1::resource::AllocationInfo {
            role: Some(role.clone()),
        }),
        domain: agent.info.domain.clone(),
        deadline: offer.deadline.map(Timestamp::to_wire),
        patient_until: offer.patient_until.map(Timestamp::to_wire),
        shared: optimistic::is_shared(leading, offer.claim).then_some(true),
        lent_until: offer.loan.map(|loan| v1::TimeInfo {
            nanoseconds: loan.until.as_nanos_i64(),
        }),
        ..v1::Offer::default()
    }
}

/// Where an agent serves.
pub(crate) fn url(agent: &Agent) -> v1::Url {
    v1::Url {
        scheme: "http".to_owned(),
        address: v1::Address {
            hostname: Some(agent.info.hostname.clone()),
            port: agent.info.port(),
            ..v1::Address::default()
        },
        ..v1::Url::default()
    }
}

pub(crate) fn id(leading: &Leading, number: OfferNumber) -> v1::OfferId {
    v1::OfferId::from(format!("{}-O{}", leading.incarnation, number.0))
}

/// The number in an id that this master may have given in this term.
pub(crate) fn number(leading: &Leading, wanted: &v1::OfferId) -> Option<OfferNumber> {
    let (incarnation, number) = wanted.value.rsplit_once("-O")?;
    let canonical = number.parse::<u64>().ok().filter(|parsed| parsed.to_string() == number);
    canonical
        .filter(|_| incarnation == leading.incarnation)
        .map(OfferNumber)
}

/// The offer of an id from outside.
pub(crate) fn find(leading: &Leading, framework: FrameworkSlot, wanted: &v1::OfferId) -> Found {
    let Some((incarnation, number)) = wanted.value.rsplit_once("-O") else {
        return Found::Unknown;
    };
    let canonical = number.parse::<u64>().ok().filter(|parsed| parsed.to_string() == number);
    let Some(number) = canonical.map(OfferNumber) else {
        return Found::Unknown;
    };
    if incarnation != leading.incarnation {
        // Made by another master, or by this one in an earlier term.
        return Found::Stale;
    }
    match leading.offers.get(&number) {
        Some(offer) if offer.framework == framework => Found::Open(number),
        None if number.0 > 0 && number.0 <= leading.made.offers => Found::Stale,
        _ => Found::Unknown,
    }
}

/// Ends an offer. Its resources stay counted as held until [`give_back`].
pub(crate) fn take(leading: &mut Leading, number: OfferNumber) -> Option<Offer> {
    let offer = leading.offers.remove(&number)?;
    leading.agents[offer.agent].offers.remove(&number);
    leading.frameworks[offer.framework].offers.remove(&number);
    optimistic::ended(leading, number);
    Some(offer)
}

/// Counts the resources of an ended offer as free.
pub(crate) fn give_back(leading: &mut Leading, offer: &Offer) {
    leading.allocator.credit(offer.claim, &offer.resources);
    books::unhold(leading, offer.agent, &offer.resources);
}

/// Ends offers of which nobody has heard yet.
pub(crate) fn give_all_back(leading: &mut Leading, numbers: Vec<OfferNumber>) {
    for number in numbers {
        if let Some(offer) = take(leading, number) {
            give_back(leading, &offer);
        }
    }
}

/// Takes an offer back and says so.
pub(crate) fn rescind(leading: &mut Leading, step: &mut Step<'_>, number: OfferNumber) {
    let Some(offer) = take(leading, number) else { return };
    give_back(leading, &offer);
    hoarding::unanswered(leading, step, number, &offer);
    let rescinded = events::rescind(id(leading, number));
    frameworks::send(leading, step, offer.framework, rescinded);
}

/// Takes all offers of an agent back.
pub(crate) fn rescind_agent(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    for number in leading.agents[slot].offers.clone() {
        rescind(leading, step, number);
    }
}

/// Takes all offers to a framework back.
pub(crate) fn rescind_framework(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    for number in leading.frameworks[slot].offers.clone() {
        rescind(leading, step, number);
    }
}

/// Ends all offers to a framework whose scheduler is not there to hear it.
pub(crate) fn withdraw_framework(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    for number in leading.frameworks[slot].offers.clone() {
        if let Some(offer) = take(leading, number) {
            give_back(leading, &offer);
            hoarding::unanswered(leading, step, number, &offer);
        }
    }
    optimistic::withdraw(leading, slot);
    inverse::withdraw(leading, slot);
}

/// How long declined resources are not to be offered again.
pub(crate) fn refusal(filters: Option<&v1::Filters>) -> Result<Duration, Rejection> {
    let Some(seconds) = filters.and_then(|filters| filters.refuse_seconds) else {
        return Ok(REFUSE_DEFAULT);
    };
    if seconds.is_nan() {
        return Err(Rejection::new("filters.refuse_seconds", "is NaN", "seconds"));
    }
    if seconds < 0.0 {
        return Ok(REFUSE_DEFAULT);
    }
    Ok(Duration::try_from_secs_f64(seconds).map_or(REFUSE_MAX, |span| span.min(REFUSE_MAX)))
}

/// A scheduler's DECLINE. An offer that has ended meanwhile is no fault of the caller.
pub(crate) fn decline(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    call: &v1::scheduler::call::Decline,
) {
    match check_decline(leading, slot, call) {
        Ok((refusal, open)) => {
            step.effects.answer(request, Answer::Accepted);
            // Even who refuses for no time at all is not asked again at once: it would decline again, without end.
            let until = step.now.plus(refusal.max(step.config.decline_pause));
            for number in open {
                if let Some(offer) = take(leading, number) {
                    give_back(leading, &offer);
                    hoarding::answered(leading, step, number, &offer);
                    revocable::answered(leading, step, offer.claim, offer.agent, false);
                    leading
                        .allocator
                        .refuse(offer.claim, offer.agent, offer.resources, until);
                }
            }
            for id in &call.offer_ids {
                optimistic::decline(leading, slot, id, until);
            }
        }
        Err(rejection) => {
            let rejection = rejection.within("decline");
            step.effects.answer(request, Answer::Rejected(rejection));
        }
    }
}

fn check_decline(
    leading: &Leading,
    slot: FrameworkSlot,
    call: &v1::scheduler::call::Decline,
) -> Result<(Duration, Vec<OfferNumber>), Rejection> {
    let refusal = refusal(call.filters.as_ref())?;
    if call.offer_ids.is_empty() {
        return Err(Rejection::new("offer_ids", "is empty", "the ids of one or more offers"));
    }
    let mut open = Vec::new();
    for (index, id) in call.offer_ids.iter().enumerate() {
        match find(leading, slot, id) {
            Found::Open(number) => open.push(number),
            Found::Stale => {}
            Found::Unknown => return Err(unknown(index, id)),
        }
    }
    Ok((refusal, open))
}

/// An offer id that was never given to this framework.
pub(crate) fn unknown(index: usize, id: &v1::OfferId) -> Rejection {
    let problem = format!("is {:?}, which names no offer to this framework", id.value);
    Rejection::new(
        format!("offer_ids[{index}]"),
        problem,
        "the id of an offer from an OFFERS event",
    )
}

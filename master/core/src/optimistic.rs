//! Optimistic offers: what is free is shown to all frameworks that opted in, and who commits first has it.
//!
//! Of these frameworks one *leads*, the first in the order of the policy: it has an ordinary offer, which holds the resources
//! before all that did not opt in. Each of the others that could have them, too, has a *copy* of the offer, which holds nothing.
//!
//! - An ACCEPT of a copy redeems it: what the framework may have of the offer at that instant becomes an offer to it, and the
//!   lead's offer is rescinded. Who comes later finds its offer or copy ended, and has lost, unless what it asks for is still in a
//!   newer one of the same agent: then that is taken instead.
//! - When an offer ends, what is left of it is given away as ever, in the same step, with new copies. A copy that would be made
//!   anew as it was goes on, and nobody is told; of the others a RESCIND is.
//!
//! Offers and their copies share one sequence of numbers. Copies are in no books; see [`check`] for what holds of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proffer_proto::resources::Resources;
use proffer_proto::v1;
use proffer_proto::v1::framework_info::capability::Type as Capability;
use proffer_proto::v1::offer::Operation;
use proffer_proto::v1::scheduler::call::Accept;

use crate::master::{Leading, Step};
use crate::offers::{self, Made, Offer, OfferNumber};
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};
use crate::time::Timestamp;
use crate::{events, frameworks, hoarding};

/// So many offers and copies that lost are remembered.
const LOST_MAX: usize = 10_000;
/// So many questions whether a claim could have an offer are asked whenever somebody may want more...
const QUESTIONS_MAX: usize = 2048;
/// ...and more than that only so often.
const PAUSE: Duration = Duration::from_millis(250);

/// What is shown to several frameworks.
#[derive(Debug, Default)]
pub(crate) struct Optimistic {
    /// The claims of frameworks that opted in.
    claims: BTreeSet<ClaimSlot>,
    copies: BTreeMap<OfferNumber, Copy>,
    /// The copies of each offer.
    by_offer: BTreeMap<OfferNumber, BTreeSet<OfferNumber>>,
    /// Copies whose offer ended in this step.
    orphans: BTreeMap<OfferNumber, Copy>,
    /// Offers and copies that ended because others had what was in them.
    lost: BTreeMap<OfferNumber, Lost>,
    /// Somebody may want what is offered since it was last asked...
    stirred: bool,
    /// ...which is not asked before this.
    next: Timestamp,
}

#[derive(Debug)]
struct Copy {
    offer: OfferNumber,
    framework: FrameworkSlot,
    claim: ClaimSlot,
    agent: AgentSlot,
    resources: Resources,
}

#[derive(Debug, Clone, Copy)]
struct Lost {
    claim: ClaimSlot,
    agent: AgentSlot,
}

impl Optimistic {
    fn insert(&mut self, number: OfferNumber, copy: Copy) {
        self.by_offer.entry(copy.offer).or_default().insert(number);
        self.copies.insert(number, copy);
    }

    fn remove(&mut self, number: OfferNumber) -> Option<Copy> {
        let copy = self.copies.remove(&number)?;
        if let Some(copies) = self.by_offer.get_mut(&copy.offer) {
            copies.remove(&number);
            if copies.is_empty() {
                self.by_offer.remove(&copy.offer);
            }
        }
        Some(copy)
    }

    fn lose(&mut self, number: OfferNumber, claim: ClaimSlot, agent: AgentSlot) {
        self.lost.insert(number, Lost { claim, agent });
        if self.lost.len() > LOST_MAX {
            self.lost.pop_first();
        }
    }

    /// The numbers of a framework's copies.
    fn of_framework(&self, slot: FrameworkSlot) -> Vec<OfferNumber> {
        let copies = self.copies.iter().filter(|(_, copy)| copy.framework == slot);
        copies.map(|(number, _)| *number).collect()
    }
}

/// The roles of a framework, or what it says of itself, may have changed.
pub(crate) fn enroll(leading: &mut Leading, slot: FrameworkSlot) {
    let framework = &leading.frameworks[slot];
    let opted_in = framework.has(Capability::OptimisticOffers);
    for claim in framework.claims.values() {
        if opted_in && leading.claims[*claim].subscribed {
            leading.optimistic.claims.insert(*claim);
        } else {
            leading.optimistic.claims.remove(claim);
        }
    }
    let optimistic = &mut leading.optimistic;
    for number in optimistic.of_framework(slot) {
        if !optimistic.claims.contains(&optimistic.copies[&number].claim)
            && let Some(copy) = optimistic.remove(number)
        {
            optimistic.orphans.insert(number, copy);
        }
    }
    // What it leads with no more is its own alone.
    let led = leading.frameworks[slot].offers.iter();
    let led = led.filter(|number| !leading.optimistic.claims.contains(&leading.offers[number].claim));
    for offer in led.copied().collect::<Vec<_>>() {
        ended(leading, offer);
    }
}

/// The framework is not there to hear of its copies' end.
pub(crate) fn withdraw(leading: &mut Leading, slot: FrameworkSlot) {
    let optimistic = &mut leading.optimistic;
    for number in optimistic.of_framework(slot) {
        optimistic.remove(number);
    }
    optimistic.orphans.retain(|_, copy| copy.framework != slot);
}

/// The framework is removed.
pub(crate) fn forget(leading: &mut Leading, slot: FrameworkSlot) {
    withdraw(leading, slot);
    for claim in leading.frameworks[slot].claims.values() {
        leading.optimistic.claims.remove(claim);
        leading.optimistic.lost.retain(|_, lost| lost.claim != *claim);
    }
}

/// Whether the framework opted in.
pub(crate) fn is_shared(leading: &Leading, claim: ClaimSlot) -> bool {
    leading.optimistic.claims.contains(&claim)
}

/// Whether something of the agent is shown to the claim by a copy.
pub(crate) fn is_shown(leading: &Leading, claim: ClaimSlot, agent: AgentSlot) -> bool {
    let copies = leading.optimistic.copies.values();
    is_shared(leading, claim)
        && copies
            .into_iter()
            .any(|copy| (copy.claim, copy.agent) == (claim, agent))
}

/// Who has a copy of an offer, and so does not wait for it.
pub(crate) fn viewers(leading: &Leading, offer: OfferNumber) -> impl Iterator<Item = ClaimSlot> {
    let copies = leading.optimistic.by_offer.get(&offer).into_iter().flatten();
    copies.map(|number| leading.optimistic.copies[number].claim)
}

/// An offer is made: shows it to the others that opted in.
pub(crate) fn share(leading: &mut Leading, step: &Step<'_>, offer: OfferNumber, made: &mut Made) {
    let lead = leading.offers[&offer].claim;
    if leading.optimistic.claims.len() < 2 || !is_shared(leading, lead) {
        return;
    }
    let others = leading.optimistic.claims.clone();
    for claim in others {
        show(leading, step, offer, claim, made);
    }
}

/// Shows an offer to a claim if it could have it.
fn show(leading: &mut Leading, step: &Step<'_>, number: OfferNumber, claim: ClaimSlot, made: &mut Made) {
    let framework = leading.claims[claim].framework;
    let offer = &leading.offers[&number];
    let is_last = |slot: FrameworkSlot| leading.frameworks[slot].trust.last_until().is_some();
    // Who is served last sees what nobody else wants.
    if offer.claim == claim || (is_last(framework) && !is_last(offer.framework)) {
        return;
    }
    let held = Some(offer.claim);
    let Some(resources) = leading.allocator.view(claim, offer.agent, held, &offer.resources) else {
        return;
    };
    let copy = Copy {
        offer: number,
        framework,
        claim,
        agent: offer.agent,
        resources,
    };
    let orphans = &mut leading.optimistic.orphans;
    let same = |orphan: &Copy| (orphan.claim, orphan.agent, &orphan.resources) == (claim, copy.agent, &copy.resources);
    if let Some(orphan) = orphans
        .iter()
        .find(|(_, orphan)| same(orphan))
        .map(|(number, _)| *number)
    {
        orphans.remove(&orphan);
        return leading.optimistic.insert(orphan, copy);
    }
    leading.made.offers += 1;
    let own = OfferNumber(leading.made.offers);
    let told = Offer {
        framework,
        claim,
        agent: copy.agent,
        resources: copy.resources.clone(),
        made: step.now,
        deadline: offer.deadline,
        patient_until: offer.patient_until,
        loan: None,
    };
    made.entry(framework)
        .or_default()
        .push(offers::wire(leading, own, &told));
    leading.optimistic.insert(own, copy);
}

/// Shows offers to those that may want them only now, and tells of copies that ended.
pub(crate) fn review(leading: &mut Leading, step: &mut Step<'_>, stirred: bool, made: &mut Made) {
    leading.optimistic.stirred |= stirred;
    if leading.optimistic.stirred && leading.optimistic.claims.len() > 1 {
        let shared = leading
            .offers
            .iter()
            .filter(|(_, offer)| is_shared(leading, offer.claim));
        let shared: Vec<OfferNumber> = shared.map(|(number, _)| *number).collect();
        let claims: Vec<ClaimSlot> = leading.optimistic.claims.iter().copied().collect();
        if shared.len() * claims.len() <= QUESTIONS_MAX || step.now >= leading.optimistic.next {
            leading.optimistic.stirred = false;
            leading.optimistic.next = step.now.plus(PAUSE);
            for offer in shared {
                let shown: BTreeSet<ClaimSlot> = viewers(leading, offer).collect();
                for claim in claims.iter().filter(|claim| !shown.contains(claim)) {
                    show(leading, step, offer, *claim, made);
                }
            }
        }
    }
    for (number, copy) in std::mem::take(&mut leading.optimistic.orphans) {
        leading.optimistic.lose(number, copy.claim, copy.agent);
        let rescinded = events::rescind(offers::id(leading, number));
        frameworks::send(leading, step, copy.framework, rescinded);
    }
}

/// When offers are to be shown that could not be at once.
pub(crate) fn due(leading: &Leading) -> Option<Timestamp> {
    let optimistic = &leading.optimistic;
    (optimistic.stirred && optimistic.claims.len() > 1).then_some(optimistic.next)
}

/// An offer ended: so do its copies, unless they go on with the next.
pub(crate) fn ended(leading: &mut Leading, offer: OfferNumber) {
    let optimistic = &mut leading.optimistic;
    for number in optimistic.by_offer.remove(&offer).into_iter().flatten() {
        if let Some(copy) = optimistic.copies.remove(&number) {
            optimistic.orphans.insert(number, copy);
        }
    }
}

/// The framework declines a copy, if it is one.
pub(crate) fn decline(leading: &mut Leading, slot: FrameworkSlot, id: &v1::OfferId, until: Timestamp) {
    let Some(number) = offers::number(leading, id) else {
        return;
    };
    let copies = &leading.optimistic.copies;
    if copies.get(&number).is_some_and(|copy| copy.framework == slot)
        && let Some(copy) = leading.optimistic.remove(number)
    {
        leading.allocator.refuse(copy.claim, copy.agent, copy.resources, until);
    }
}

/// An ACCEPT came: its copies become offers, as far as there still is what they show; those are returned.
pub(crate) fn redeem(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    call: &mut Accept,
) -> Vec<OfferNumber> {
    let mut redeemed = Vec::new();
    if leading.optimistic.copies.is_empty() && leading.optimistic.lost.is_empty() {
        return redeemed;
    }
    let wanted = asked(&call.operations);
    let mut ids: Vec<v1::OfferId> = Vec::new();
    let mut named: BTreeMap<OfferNumber, v1::OfferId> = BTreeMap::new();
    for id in std::mem::take(&mut call.offer_ids) {
        let Some(own) = offers::number(leading, &id) else {
            ids.push(id);
            continue;
        };
        // What is named twice stays so, to be rejected for that.
        if let Some(id) = named.get(&own) {
            ids.push(id.clone());
            continue;
        }
        let found = current(leading, slot, own, wanted.as_ref());
        if found != own {
            // An ACCEPT of that, too, may be on its way.
            let Lost { claim, agent } = leading.optimistic.lost[&own];
            leading.optimistic.lose(found, claim, agent);
        }
        let copy = leading.optimistic.copies.get(&found);
        let is_own = copy.is_some_and(|copy| copy.framework == slot);
        let taken = is_own.then(|| take_over(leading, step, found)).flatten();
        redeemed.extend(taken);
        let id = offers::id(leading, taken.unwrap_or(found));
        if found == own || !ids.contains(&id) {
            ids.push(id.clone());
        }
        named.insert(own, id);
    }
    call.offer_ids = ids;
    redeemed
}

/// The offer or copy itself; where it lost, a newer one of the same agent that has all that is wanted.
fn current(leading: &Leading, slot: FrameworkSlot, number: OfferNumber, wanted: Option<&Resources>) -> OfferNumber {
    let (Some(lost), Some(wanted)) = (leading.optimistic.lost.get(&number), wanted) else {
        return number;
    };
    let like =
        |claim, agent, resources: &Resources| (claim, agent) == (lost.claim, lost.agent) && resources.contains(wanted);
    let own = leading.frameworks[slot].offers.iter();
    let mut own = own.filter(|own| {
        let offer = &leading.offers[own];
        like(offer.claim, offer.agent, &offer.resources)
    });
    let mut copies = leading.optimistic.copies.iter();
    let copy = copies.find(|(_, copy)| like(copy.claim, copy.agent, &copy.resources));
    own.next()
        .copied()
        .or(copy.map(|(number, _)| *number))
        .unwrap_or(number)
}

/// What the tasks of a call ask for; `None` where it asks for something else, too.
fn asked(operations: &[Operation]) -> Option<Resources> {
    let mut wanted = Resources::new();
    for operation in operations {
        let (tasks, executor) = match (&operation.launch, &operation.launch_group) {
            (Some(launch), None) => (&launch.task_infos, None),
            (None, Some(group)) => (&group.task_group.tasks, Some(&group.executor)),
            _ => return None,
        };
        let executors = tasks.iter().filter_map(|task| task.executor.as_deref()).chain(executor);
        let lists = executors.map(|executor| &executor.resources);
        for list in lists.chain(tasks.iter().map(|task| &task.resources)) {
            wanted += &Resources::from_wire(list).ok()?.unallocate();
        }
    }
    Some(wanted)
}

/// The claim of a copy commits first: what it may have of the offer becomes its own.
fn take_over(leading: &mut Leading, step: &mut Step<'_>, number: OfferNumber) -> Option<OfferNumber> {
    let copy = leading.optimistic.remove(number)?;
    let offer = offers::take(leading, copy.offer)?;
    offers::give_back(leading, &offer);
    hoarding::unanswered(leading, step, copy.offer, &offer);
    leading.optimistic.lose(copy.offer, offer.claim, offer.agent);
    let rescinded = events::rescind(offers::id(leading, copy.offer));
    frameworks::send(leading, step, offer.framework, rescinded);
    let Some(resources) = leading.allocator.view(copy.claim, copy.agent, None, &offer.resources) else {
        leading.optimistic.lose(number, copy.claim, copy.agent);
        return None;
    };
    leading.allocator.charge(copy.claim, &resources);
    Some(offers::make(leading, step, copy.claim, copy.agent, resources, false))
}

/// Whether one of the offers lost.
pub(crate) fn has_lost(leading: &Leading, slot: FrameworkSlot, ids: &[v1::OfferId]) -> bool {
    let mut numbers = ids.iter().filter_map(|id| offers::number(leading, id));
    numbers.any(|number| {
        let lost = leading.optimistic.lost.get(&number);
        lost.is_some_and(|lost| leading.claims[lost.claim].framework == slot)
    })
}

/// What holds after every step: a copy is of an open offer on its agent to another claim that opted in, shows nothing that is not
/// in the offer, and its framework is there to commit it.
pub(crate) fn check(leading: &Leading) -> Result<(), String> {
    let optimistic = &leading.optimistic;
    if !optimistic.orphans.is_empty() {
        return Err("a copy ended, and nobody was told".to_owned());
    }
    let mut seen = BTreeSet::new();
    for (number, copy) in &optimistic.copies {
        let Some(offer) = leading.offers.get(&copy.offer) else {
            return Err(format!("{number:?} is a copy of an offer that has ended"));
        };
        let listed = optimistic
            .by_offer
            .get(&copy.offer)
            .is_some_and(|copies| copies.contains(number));
        let alike = offer.agent == copy.agent && offer.resources.contains(&copy.resources);
        let opted_in = optimistic.claims.contains(&copy.claim) && optimistic.claims.contains(&offer.claim);
        let other = offer.claim != copy.claim && seen.insert((copy.offer, copy.claim));
        let there = leading.frameworks[copy.framework].stream().is_some();
        if !(listed && alike && opted_in && other && there) {
            return Err(format!("{number:?} is a wrong copy of {:?}: {copy:?}", copy.offer));
        }
    }
    let listed: usize = optimistic.by_offer.values().map(BTreeSet::len).sum();
    if listed != optimistic.copies.len() {
        return Err("a copy that ended is still listed".to_owned());
    }
    Ok(())
}

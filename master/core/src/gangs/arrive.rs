//! ACCEPT with a gang: launched at once where there is room, or else it waits.

use proffer_proto::resources::Resources;
use proffer_proto::v1::scheduler::call::{Accept, accept};

use super::check::{self, Checked};
use super::{Gang, GangNumber, end, launch, review};
use crate::effect::Answer;
use crate::hoarding;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::offers::{self, Offer, OfferNumber};
use crate::slots::{AgentSlot, FrameworkSlot};
use crate::timers::Timer;

/// A scheduler's ACCEPT with a gang. `redeemed` are offers that were made of what was shown to several.
pub(crate) fn accept(
    leading: &mut Leading,
    step: &mut Step<'_>,
    framework: FrameworkSlot,
    request: RequestId,
    call: &Accept,
    wanted: &accept::Gang,
    redeemed: Vec<OfferNumber>,
) {
    let checked = match check::check(leading, step, framework, call, wanted) {
        Ok(checked) => checked,
        Err(rejection) => {
            offers::give_all_back(leading, redeemed);
            let rejection = rejection.within("accept");
            return step.effects.answer(request, Answer::Rejected(rejection));
        }
    };
    step.effects.answer(request, Answer::Accepted);
    let Checked {
        refusal,
        claim,
        offers,
        members,
        minimum,
        max_wait,
    } = checked;
    let taken: Vec<Offer> = offers
        .iter()
        .filter_map(|number| offers::take(leading, *number))
        .collect();
    for (number, offer) in offers.iter().zip(&taken) {
        offers::give_back(leading, offer);
        hoarding::answered(leading, step, *number, offer);
    }
    let number = leading.gangs.insert(Gang {
        id: wanted.id.clone(),
        framework,
        claim,
        members,
        minimum,
        arrived: step.now,
        deadline: step.now.plus(max_wait),
        together: wanted.together(),
        parked: Default::default(),
        has_held: false,
        best: 0,
    });
    // What was offered to it first, then whatever nobody wanted: as an ACCEPT of offers nobody comes before it there.
    let mut agents: Vec<AgentSlot> = taken.iter().map(|offer| offer.agent).collect();
    agents.dedup();
    let others: Vec<AgentSlot> = leading
        .agents
        .keys()
        .into_iter()
        .filter(|agent| !agents.contains(agent))
        .collect();
    agents.extend(others);
    let is_launched = review::try_whole(leading, number, &agents);
    let used = used(leading, number);
    if is_launched {
        launch::launch(leading, step, number);
    } else if max_wait.is_zero() {
        end::give_up(leading, step, number);
    } else {
        leading.timers.set(Timer::Gang(number), step.now.plus(max_wait));
        review::look_everywhere(leading);
    }
    let refusal = if is_launched {
        refusal
    } else {
        refusal.max(step.config.decline_pause)
    };
    refuse_rest(leading, step, taken, used, refusal);
}

/// What a gang has places for.
fn used(leading: &Leading, number: GangNumber) -> Vec<(AgentSlot, Resources)> {
    let gang = leading.gangs.waiting.get(&number);
    let members = gang.into_iter().flat_map(|gang| &gang.members);
    let places = members.filter_map(|member| member.place.as_ref());
    places.map(|place| (place.agent, place.resources.clone())).collect()
}

/// What is left of the offers is declined.
fn refuse_rest(
    leading: &mut Leading,
    step: &Step<'_>,
    taken: Vec<Offer>,
    used: Vec<(AgentSlot, Resources)>,
    refusal: std::time::Duration,
) {
    if refusal.is_zero() {
        return;
    }
    let until = step.now.plus(refusal);
    for offer in taken {
        let mut left = offer.resources;
        for (_, part) in used.iter().filter(|(agent, _)| *agent == offer.agent) {
            left = left.checked_sub(&left.common(part)).unwrap_or_default();
        }
        if !left.is_empty() {
            leading.allocator.refuse(offer.claim, offer.agent, left, until);
        }
    }
}

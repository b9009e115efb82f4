//! Finds places for the members of gangs, one agent at a time.
//!
//! What gangs hold on an agent is free for a moment there and goes to them anew, the oldest first: each keeps the places that it has
//! while there is room, and then finds some for members without one. So an older gang gets what a younger one holds.
//! A place may be on what is lent: then it is not held until that is back.

use std::collections::BTreeSet;

use proffer_proto::resources::Resources;

use super::{Gang, GangNumber, Place, Shape, gather, lend};
use crate::master::Leading;
use crate::operations::parked::{self, Parked};
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};

/// The agents on which gangs have places or hold something.
pub(super) fn taken(leading: &Leading) -> BTreeSet<AgentSlot> {
    let gangs = leading.gangs.waiting.values();
    let of = |gang: &Gang| {
        let places = gang.members.iter().filter_map(|member| member.place.as_ref());
        let agents: Vec<AgentSlot> = places
            .map(|place| place.agent)
            .chain(gang.parked.keys().copied())
            .collect();
        agents
    };
    gangs.flat_map(of).collect()
}

/// Gives an agent to the gangs. Says whether one lost a place. `is_taken` where one may have a place there.
pub(super) fn settle(
    leading: &mut Leading,
    agent: AgentSlot,
    is_taken: bool,
    resting: impl Fn(&Leading, GangNumber) -> bool,
) -> bool {
    let is_used_up = leading.allocator.free(agent).is_none_or(Resources::is_empty);
    let mut loans = lend::loans(leading, agent);
    if loans.is_empty() && is_used_up && !is_taken {
        return false;
    }
    let numbers: Vec<GangNumber> = leading.gangs.waiting.keys().copied().collect();
    for number in &numbers {
        let_go(leading, *number, agent);
    }
    let mut lost = false;
    for number in numbers {
        let rests = resting(leading, number);
        lost |= settle_gang(leading, number, agent, &mut loans, !rests);
    }
    lost
}

/// What of an agent is left for a gang.
pub(super) struct Left {
    pub(super) agent: AgentSlot,
    /// What is free, as far as it is open to the gang.
    pub(super) room: Resources,
    /// What is lent.
    lent: Resources,
    /// What the gang has of the first.
    pub(super) held: Resources,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.room.is_empty() && self.lent.is_empty()
    }

    /// A place for a member that needs so much: on what is free, where there is enough, or else partly on what is lent.
    fn take(&mut self, wanted: Resources) -> Option<Place> {
        let held = self.room.contains(&wanted);
        let part = if held {
            wanted.clone()
        } else {
            self.room.common(&wanted)
        };
        self.lent = self.lent.checked_sub(&wanted.checked_sub(&part)?)?;
        self.room = self.room.checked_sub(&part)?;
        self.held += &part;
        Some(Place {
            agent: self.agent,
            resources: wanted,
            held,
        })
    }

    /// A place for a member that has none.
    fn find(&mut self, shape: &Shape) -> Option<Place> {
        let wanted = shape.of(&self.room);
        let wanted = wanted.or_else(|| shape.of(&(self.room.clone() + &self.lent)))?;
        self.take(wanted)
    }
}

/// Gives a gang what it needs of what is free, and then of what is lent.
pub(super) fn settle_gang(
    leading: &mut Leading,
    number: GangNumber,
    agent: AgentSlot,
    loans: &mut Resources,
    may_grow: bool,
) -> bool {
    let_go(leading, number, agent);
    let Some(gang) = leading.gangs.waiting.get_mut(&number) else {
        return false;
    };
    let mut places = gang.members.iter().filter_map(|member| member.place.as_ref());
    let free = leading.allocator.free(agent).cloned().unwrap_or_default();
    if free.is_empty() && loans.is_empty() && !places.any(|place| place.agent == agent) {
        return false;
    }
    // Nothing is placed where nothing may be offered, whatever is lent there.
    let is_open = leading.allocator.is_open(gang.claim, agent);
    let room = leading.allocator.room(gang.claim, agent, &free);
    let is_cut = room != free.available_to(&leading.claims[gang.claim].role);
    let mut left = Left {
        agent,
        room,
        lent: if is_open {
            std::mem::take(loans)
        } else {
            Resources::new()
        },
        held: Resources::new(),
    };
    let mut lost = false;
    for member in &mut gang.members {
        if let Some(place) = member.place.take_if(|place| place.agent == agent) {
            member.place = left.take(place.resources);
            lost |= member.place.is_none();
        }
    }
    let mut in_vain = BTreeSet::new();
    // Who gathers here comes first, and who has pieces elsewhere last.
    let mut deserted = BTreeSet::new();
    for turn in 0..3 {
        let is_due = |gathers: Option<AgentSlot>| match gathers {
            Some(at) if at == agent => turn == 0,
            None => turn == 1,
            Some(_) => turn == 2,
        };
        let without = gang.members.iter_mut();
        let without = without.filter(|member| member.place.is_none() && may_grow && is_due(member.gathers));
        for member in without.filter(|member| member.shape.agent.is_none_or(|at| at == agent)) {
            if left.is_empty() {
                break;
            }
            if !in_vain.contains(&member.alike) {
                member.place = left.find(&member.shape);
                if member.place.is_none() {
                    in_vain.insert(member.alike);
                } else {
                    deserted.extend(member.gathers.take().filter(|at| *at != agent));
                }
            }
        }
    }
    // Where quota keeps something from the gang, it is not what ends there that helps.
    let role = &leading.claims[gang.claim].role;
    let capacity = match is_open && !is_cut {
        true => leading.agents[agent].total.available_to(role),
        false => Resources::new(),
    };
    gather::gather(&mut gang.members, &mut left, &capacity, may_grow);
    gang.has_held |= !left.held.is_empty();
    gang.best = gang.best.max(gang.placed().0);
    let owner = (gang.framework, gang.claim);
    if is_open {
        *loans = left.lent;
    }
    hold(leading, number, agent, owner, left.held);
    // What was gathered there is for others.
    leading.gangs.changed.extend(deserted);
    lost
}

fn hold(
    leading: &mut Leading,
    number: GangNumber,
    agent: AgentSlot,
    owner: (FrameworkSlot, ClaimSlot),
    resources: Resources,
) {
    if resources.is_empty() {
        return;
    }
    let parked = Parked {
        agent,
        owner: Some(owner),
        resources,
        operations: Vec::new(),
        waiting: Vec::new(),
        killed: BTreeSet::new(),
        is_for_gang: true,
    };
    let parked = parked::park(leading, parked);
    if let Some(gang) = leading.gangs.waiting.get_mut(&number) {
        gang.parked.insert(agent, parked);
    }
}

/// What a gang holds on an agent is free; its places there stay.
pub(super) fn let_go(leading: &mut Leading, number: GangNumber, agent: AgentSlot) {
    let gang = leading.gangs.waiting.get_mut(&number);
    if let Some(parked) = gang.and_then(|gang| gang.parked.remove(&agent)) {
        parked::unpark(leading, parked, None);
    }
}

/// All that a gang holds is free, and it has no places.
pub(super) fn clear(leading: &mut Leading, number: GangNumber) {
    let Some(gang) = leading.gangs.waiting.get_mut(&number) else {
        return;
    };
    for member in &mut gang.members {
        (member.place, member.gathers) = (None, None);
    }
    let agents: Vec<AgentSlot> = gang.parked.keys().copied().collect();
    for agent in agents {
        let_go(leading, number, agent);
    }
}

/// An agent offers nothing any more: no gang has a place there.
pub(crate) fn leave_agent(leading: &mut Leading, agent: AgentSlot) {
    let numbers: Vec<GangNumber> = leading.gangs.waiting.keys().copied().collect();
    for number in numbers {
        let_go(leading, number, agent);
        if let Some(gang) = leading.gangs.waiting.get_mut(&number) {
            for member in gang.members.iter_mut().filter(|member| member.gathers == Some(agent)) {
                member.gathers = None;
            }
            let here = gang.members.iter_mut();
            for member in here.filter(|member| member.place.as_ref().is_some_and(|place| place.agent == agent)) {
                member.place = None;
                leading.gangs.everywhere = true;
            }
        }
    }
    leading.gangs.changed.remove(&agent);
}

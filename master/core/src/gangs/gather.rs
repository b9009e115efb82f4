//! Gathers room for members piece by piece.
//!
//! Where tasks come and go that are smaller than a member, room for a whole one is never free at once: what one task leaves,
//! the next takes. So each member without a place gathers on one agent: it holds what is free there of what it needs, as it becomes
//! free. A gang so never holds more than its members need, and no agent holds pieces for more of them than it could run. A
//! member that finds room elsewhere leaves its pieces.

use proffer_proto::resources::Resources;

use super::Member;
use super::place::Left;

/// Gives what is left of an agent to members that gather there, and to such as gather nowhere. `capacity` is all that the
/// agent has for the gang.
pub(super) fn gather(members: &mut [Member], left: &mut Left, capacity: &Resources, may_grow: bool) {
    let places = members.iter().filter_map(|member| member.place.as_ref());
    let here = places.filter(|place| place.agent == left.agent);
    let mut wanted: Resources = here.map(|place| &place.resources).sum();
    for known in [true, false] {
        let at = if known { Some(left.agent) } else { None };
        for member in members.iter_mut() {
            let fits = member.shape.agent.is_none_or(|agent| agent == left.agent);
            if member.place.is_some() || member.gathers != at || !fits || (!known && !may_grow) {
                continue;
            }
            member.gathers = None;
            let needs = &member.shape.resources;
            let (part, sum) = (left.room.common(needs), wanted.clone() + needs);
            // Of each kind something: what is plentiful can be had later.
            let of_each = needs
                .iter()
                .all(|entry| part.iter().any(|own| own.key() == entry.key()));
            if of_each && capacity.contains(&sum) {
                left.room = left.room.without(&part);
                left.held += &part;
                wanted = sum;
                member.gathers = Some(left.agent);
            }
        }
    }
}

//! What stands behind revocable resources.
//!
//! Who borrows something holds `cpus{revocable}`, which no agent has. For as much as is held so on an agent, resources that
//! it does have are set aside: its *backing*. That is neither free nor anybody's. It is chosen when something is lent. A new
//! leader, which hears from agents only of what is held, chooses anew: first what is reserved, then what is not.

use proffer_proto::resources::{Entry, Resources};

use crate::agents::Agent;

/// Neither reserved nor revocable: what both sides are compared as.
pub(super) fn bare(resources: &Resources) -> Resources {
    resources.clone().to_unreserved().to_firm()
}

/// What can be set aside.
fn can_back(entry: &&Entry) -> bool {
    let key = entry.key();
    !key.is_revocable() && !key.is_shared() && key.disk().is_none()
}

/// What of a supply has the names and amounts of `wanted`, reserved parts before others.
pub(super) fn pick(supply: &Resources, wanted: &Resources) -> Resources {
    let mut wanted = bare(wanted);
    let mut picked = Resources::new();
    let (reserved, plain): (Vec<&Entry>, Vec<&Entry>) = supply
        .iter()
        .filter(can_back)
        .partition(|entry| entry.key().reservation_role().is_some());
    for entry in reserved.into_iter().chain(plain) {
        let own = supply.filter(|other| other.key() == entry.key());
        let part = bare(&own).common(&wanted);
        if part.is_empty() {
            continue;
        }
        wanted = wanted.without(&part);
        let layers = entry.key().reservations().iter();
        picked += &layers.fold(part, |part, layer| part.reserve(layer));
    }
    picked
}

impl Agent {
    /// Whether anything there is lent.
    pub(crate) fn lends(&self) -> bool {
        !self.backing.is_empty() || self.used.iter().any(|entry| entry.key().is_revocable())
    }

    /// Sets aside what is missing behind what is held. Where the backing does not fit any more, it is chosen anew.
    pub(crate) fn back(&mut self) {
        let idle = self.less(&self.used.non_revocable());
        if !idle.contains(&self.backing) {
            self.backing = self.backing.common(&idle);
        }
        let missing = bare(&self.used.revocable()).without(&bare(&self.backing));
        if !missing.is_empty() {
            self.backing += &pick(&idle.without(&self.backing), &missing);
        }
    }

    /// Gives back what stands behind nothing any more, reserved parts before others.
    pub(super) fn unback(&mut self) {
        let excess = bare(&self.backing).without(&bare(&self.used.revocable()));
        if !excess.is_empty() {
            self.backing = self.backing.without(&pick(&self.backing, &excess));
        }
    }
}

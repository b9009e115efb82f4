//! What roles use, with all roles below them.
//!
//! What is reserved counts for the role that it is reserved for, whoever uses it and whether anybody does; what is revocable does
//! not count. Amounts are thousandths, and of what is no amount it is counted how many there are.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::resources::{Entry, Resources};

use super::and_above;
use crate::agents::Phase;
use crate::master::Leading;

/// Thousandths by the names of resources.
pub(super) type Amounts = BTreeMap<String, u64>;

/// What one role uses.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Unreserved, of tasks and executors.
    pub(super) allocated: Amounts,
    /// Unreserved, in offers that are not answered.
    pub(super) offered: Amounts,
    pub(super) reserved: Amounts,
}

impl Usage {
    /// What counts for limits and cannot be taken back by the master.
    pub(super) fn consumed(&self, resource: &str) -> u64 {
        let of = |amounts: &Amounts| amounts.get(resource).copied().unwrap_or_default();
        of(&self.allocated).saturating_add(of(&self.reserved))
    }
}

fn add(amounts: &mut Amounts, entry: &Entry) {
    let sum = amounts.entry(entry.name().to_owned()).or_default();
    *sum = sum.saturating_add(entry.thousandths());
}

/// What all agents have that are not given up, and is not revocable.
pub(super) fn capacity(leading: &Leading) -> Amounts {
    let mut capacity = Amounts::new();
    for (_, agent) in leading.agents.iter() {
        if !matches!(agent.phase, Phase::Unreachable { .. }) {
            let counted = agent.total.iter().filter(|entry| !entry.key().is_revocable());
            counted.for_each(|entry| add(&mut capacity, entry));
        }
    }
    capacity
}

/// What each of these roles uses, with the roles below it.
pub(super) fn of_roles<'a>(leading: &Leading, roles: &BTreeSet<&'a str>) -> BTreeMap<&'a str, Usage> {
    let mut sums = Sums {
        roles,
        used: BTreeMap::new(),
    };
    for (_, agent) in leading.agents.iter() {
        for entry in &agent.total {
            if let Some(role) = entry.key().reservation_role() {
                sums.each(role, |usage| add(&mut usage.reserved, entry));
            }
        }
        for task in agent.tasks.iter().map(|task| &leading.tasks[*task]) {
            if task.held {
                sums.allocated(&leading.claims[task.claim].role, &task.resources);
            }
        }
        for executor in agent.executors.values() {
            sums.allocated(&executor.role, &executor.resources);
        }
        for offer in agent.offers.iter().map(|number| &leading.offers[number]) {
            let role = &leading.claims[offer.claim].role;
            let plain = offer.resources.iter().filter(|entry| is_plain(entry));
            plain.for_each(|entry| sums.each(role, |usage| add(&mut usage.offered, entry)));
        }
    }
    sums.used
}

/// What quota is about, where it is not reserved.
pub(crate) fn is_plain(entry: &Entry) -> bool {
    entry.key().reservation_role().is_none() && !entry.key().is_revocable()
}

/// The part of resources that quota is about, where it is not reserved.
pub(super) fn plain(resources: &Resources) -> Amounts {
    let mut amounts = Amounts::new();
    let plain = resources.iter().filter(|entry| is_plain(entry));
    plain.for_each(|entry| add(&mut amounts, entry));
    amounts
}

struct Sums<'a, 'b> {
    roles: &'b BTreeSet<&'a str>,
    used: BTreeMap<&'a str, Usage>,
}

impl Sums<'_, '_> {
    fn allocated(&mut self, role: &str, resources: &Resources) {
        let plain = resources.iter().filter(|entry| is_plain(entry));
        plain.for_each(|entry| self.each(role, |usage| add(&mut usage.allocated, entry)));
    }

    /// Counts something for a role and for those above it.
    fn each(&mut self, role: &str, mut count: impl FnMut(&mut Usage)) {
        for role in and_above(role) {
            if let Some(role) = self.roles.get(role) {
                count(self.used.entry(role).or_default());
            }
        }
    }
}

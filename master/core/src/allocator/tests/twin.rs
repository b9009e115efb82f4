//! What may be decided, by the definitions and by trying everything.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::resources::{Entry, Kind, Resources};
use proffer_proto::roles::is_below;
use proffer_proto::v1;

use super::super::decide::Stage;
use super::super::{Description, Policy, Quota, Wishes};
use super::agent;
use crate::time::Timestamp;

/// Thousandths by name.
pub(super) type Sum = BTreeMap<String, u64>;

pub(super) struct TwinAgent {
    pub(super) total: Resources,
    pub(super) free: Resources,
    pub(super) active: bool,
    pub(super) attributes: Vec<v1::Attribute>,
}

impl TwinAgent {
    pub(super) fn describe(&self) -> Description<'_> {
        Description {
            total: &self.total,
            hostname: "host",
            attributes: &self.attributes,
            domain: None,
        }
    }

    /// The largest part in use of any amount, as a fraction of 2^32.
    pub(super) fn used(&self) -> u64 {
        let total = sum([&self.total], |entry| entry.key().kind() == Kind::Scalar);
        let free = sum([&self.free], |entry| entry.key().kind() == Kind::Scalar);
        let used = |(name, total): (&String, &u64)| ((total - get(&free, name)) << 32) / total;
        total.iter().map(used).max().unwrap_or(0)
    }
}

pub(super) struct TwinClaim {
    pub(super) wishes: Wishes,
    pub(super) active: bool,
    pub(super) held: Vec<Resources>,
}

#[derive(Default)]
pub(super) struct Twin {
    pub(super) policy: Policy,
    pub(super) agents: BTreeMap<u32, TwinAgent>,
    pub(super) claims: BTreeMap<u32, TwinClaim>,
    pub(super) weights: BTreeMap<String, u64>,
    pub(super) quotas: BTreeMap<String, Quota>,
    pub(super) refused: Vec<(u32, u32, Resources, Timestamp)>,
    /// Who comes after all others, and who does so after the next that others want, too.
    pub(super) last: BTreeSet<u32>,
    pub(super) once: BTreeSet<u32>,
}

fn get(sum: &Sum, name: &str) -> u64 {
    sum.get(name).copied().unwrap_or(0)
}

pub(super) fn sum<'a>(all: impl IntoIterator<Item = &'a Resources>, wanted: impl Fn(&Entry) -> bool) -> Sum {
    let mut sum = Sum::new();
    for entry in all.into_iter().flatten().filter(|entry| wanted(entry)) {
        *sum.entry(entry.name().to_owned()).or_default() += entry.thousandths();
    }
    sum
}

fn plain(entry: &Entry) -> bool {
    entry.key().reservation_role().is_none()
}

/// The role itself or one below.
fn within(role: &str, outer: &str) -> bool {
    role == outer || is_below(role, outer)
}

/// `a`, `a/b`, `a/b/c`.
fn prefixes(role: &str) -> Vec<&str> {
    let slashes = role.match_indices('/').map(|(index, _)| &role[..index]);
    slashes.chain([role]).collect()
}

impl Twin {
    pub(super) fn consumed(&self, role: &str) -> Sum {
        let claims = self.claims.values().filter(|claim| within(&claim.wishes.role, role));
        let mut consumed = sum(claims.flat_map(|claim| &claim.held), plain);
        let totals = self.agents.values().map(|agent| &agent.total);
        let for_role = |entry: &Entry| entry.key().reservation_role().is_some_and(|of| within(of, role));
        for (name, amount) in sum(totals, for_role) {
            *consumed.entry(name).or_default() += amount;
        }
        consumed
    }

    fn missing(&self, role: &str, name: &str) -> u64 {
        let guarantee = self.quotas.get(role).and_then(|quota| quota.guarantees.get(name));
        let guarantee = guarantee.map_or(0, |guarantee| guarantee.thousandths());
        guarantee.saturating_sub(get(&self.consumed(role), name))
    }

    /// The roles directly below one, or all outermost ones, as far as quota is concerned.
    fn below(&self, role: Option<&str>) -> BTreeSet<&str> {
        let depth = role.map_or(0, |role| role.split('/').count());
        let all = self.quotas.keys().flat_map(|role| prefixes(role));
        all.filter(|other| other.split('/').count() == depth + 1 && role.is_none_or(|role| is_below(other, role)))
            .collect()
    }

    fn inner(&self, role: Option<&str>, name: &str) -> u64 {
        self.below(role).into_iter().map(|role| self.need(role, name)).sum()
    }

    fn need(&self, role: &str, name: &str) -> u64 {
        self.missing(role, name).max(self.inner(Some(role), name))
    }

    pub(super) fn required(&self, name: &str) -> u64 {
        self.inner(None, name)
    }

    pub(super) fn available(&self, name: &str) -> u64 {
        let active = self.agents.values().filter(|agent| agent.active);
        get(&sum(active.map(|agent| &agent.free), plain), name)
    }

    fn entitled(&self, role: &str, name: &str) -> u64 {
        let own = |role: &&str| self.missing(role, name).saturating_sub(self.inner(Some(role), name));
        prefixes(role).iter().map(own).sum()
    }

    /// How much of a kind the claim may have of what is not reserved.
    fn bound(&self, role: &str, name: &str, stage: Stage) -> u64 {
        let quotas = || {
            prefixes(role)
                .into_iter()
                .filter_map(|role| Some((role, self.quotas.get(role)?)))
        };
        let left = quotas().filter_map(|(role, quota)| {
            let limit = quota.limits.get(name)?.thousandths();
            Some(limit.saturating_sub(get(&self.consumed(role), name)))
        });
        let guaranteed = quotas().any(|(_, quota)| quota.guarantees.contains_key(name));
        let surplus = self.available(name).saturating_sub(self.required(name));
        let entitled = self.entitled(role, name);
        let room = match stage {
            Stage::Guaranteed if guaranteed => entitled,
            _ => entitled + surplus,
        };
        left.min().map_or(room, |left| left.min(room))
    }

    /// What the claim may be offered of the agent.
    pub(super) fn part(&self, by: u32, on: u32, stage: Stage) -> Option<Resources> {
        let (claim, at) = (&self.claims[&by], &self.agents[&on]);
        let wishes = &claim.wishes;
        let open = claim.active
            && at.active
            && (at.total.gpus().is_zero() || wishes.gpus)
            && wishes
                .constraints
                .as_ref()
                .is_none_or(|constraints| constraints.accept(&at.describe()));
        if !open {
            return None;
        }
        let quotas = !self.quotas.is_empty();
        let part = at.free.bounded(|entry| match entry.key().reservation_role() {
            Some(reserved) => (!within(&wishes.role, reserved)).then_some(0),
            None => quotas.then(|| self.bound(&wishes.role, entry.name(), stage)),
        });
        let amounts = sum([&part], |_| true);
        if stage == Stage::Guaranteed {
            let serves = |(name, amount): (&String, &u64)| *amount > 0 && self.entitled(&wishes.role, name) > 0;
            let mut plain = sum([&at.free], plain);
            for (name, amount) in &mut plain {
                *amount = (*amount).min(self.bound(&wishes.role, name, stage));
            }
            if !quotas || !plain.iter().any(serves) {
                return None;
            }
        }
        let has = |least: &super::Quantities| least.iter().all(|(name, amount)| get(&amounts, name) >= amount);
        let enough = match &wishes.minimum {
            None => get(&amounts, "cpus") >= 10 || get(&amounts, "mem") >= 32_000,
            Some(minimum) => !part.is_empty() && (minimum.is_empty() || minimum.iter().any(has)),
        };
        let fits = wishes.demand.as_ref().is_none_or(|shapes| {
            let mut shapes = shapes.iter().filter(|shape| shape.count > 0);
            shapes.any(|shape| shape.agent.is_none_or(|at| at == agent(on)) && has(&shape.resources))
        });
        let refused = |refusal: &(u32, u32, Resources, Timestamp)| {
            refusal.0 == by && refusal.1 == on && refusal.2.contains(&part)
        };
        (enough && fits && !self.refused.iter().any(refused)).then_some(part)
    }

    /// What tells claims apart on the way down, with the rank of each.
    fn path(&self, by: u32) -> Vec<(String, (u64, u64))> {
        let totals: Vec<&Resources> = self.agents.values().map(|agent| &agent.total).collect();
        let total = sum(totals, |entry| entry.key().kind() == Kind::Scalar);
        let rank = |held: Sum, weight: u64| {
            let shares = held.iter().filter(|(name, _)| get(&total, name) > 0);
            let share = shares.map(|(name, amount)| (u128::from(*amount) << 32) / u128::from(total[name]));
            let share = share.max().unwrap_or(0);
            match self.policy {
                Policy::Drf => (0, (share * 1000 / u128::from(weight)) as u64),
                Policy::Priority => (u64::MAX - weight, share as u64),
            }
        };
        let held = |wanted: &dyn Fn(&str, u32) -> bool| {
            let claims = self
                .claims
                .iter()
                .filter(|(by, claim)| wanted(&claim.wishes.role, **by));
            sum(claims.flat_map(|(_, claim)| &claim.held), |_| true)
        };
        let role = &self.claims[&by].wishes.role;
        let mut path = Vec::new();
        for prefix in prefixes(role) {
            let weight = self.weights.get(prefix).copied().unwrap_or(1000);
            path.push((prefix.to_owned(), rank(held(&|role, _| within(role, prefix)), weight)));
        }
        path.push((format!("{role}/"), rank(held(&|other, _| other == role), 1000)));
        path.push((format!("{by}"), rank(held(&|_, other| other == by), 1000)));
        path
    }

    fn compare(&self, a: u32, b: u32) -> Ordering {
        let parted = self.path(a).into_iter().zip(self.path(b)).find(|(a, b)| a.0 != b.0);
        parted.map_or(Ordering::Equal, |(a, b)| a.1.cmp(&b.1))
    }

    /// The claims that may be chosen for an agent: those before which no other comes, if only these are asked.
    pub(super) fn best(&self, on: u32, stage: Stage, asked: impl Fn(u32) -> bool) -> Vec<u32> {
        let able = self
            .claims
            .keys()
            .copied()
            .filter(|by| asked(*by) && self.part(*by, on, stage).is_some());
        let able: Vec<u32> = able.collect();
        let beaten = |by: &u32| able.iter().any(|other| self.compare(*other, *by) == Ordering::Less);
        able.iter().copied().filter(|by| !beaten(by)).collect()
    }
}

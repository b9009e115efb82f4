//! What a change of quota would violate.
//!
//! Of itself a quota must have no guarantee above its limit, and a role must be guaranteed what the roles below it are, together.
//! Beyond that, `force` aside, guarantees must not promise more than the cluster has, and no limit may be set below what is
//! in use: nothing is killed for a limit.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::Rejection;
use proffer_proto::registry as wire;
use proffer_proto::resources::Scalar;
use proffer_proto::v1::master::response::update_quota;

use super::quota::Asked;
use super::{parent, usage};
use crate::master::{Leading, Step};

/// One thing that would not hold.
#[derive(Debug)]
pub(super) struct Violation {
    role: String,
    resource: String,
    field: String,
    problem: String,
    accepted: String,
    /// It may be so where the operator insists.
    pub(super) forcible: bool,
}

impl Violation {
    pub(super) fn rejection(&self) -> Rejection {
        Rejection::new(&self.field, &self.problem, &self.accepted)
    }

    pub(super) fn into_wire(self) -> update_quota::Violation {
        update_quota::Violation {
            role: self.role,
            resource: Some(self.resource),
            field: self.field,
            problem: self.problem,
            accepted: self.accepted,
            forcible: self.forcible,
        }
    }
}

/// Thousandths by the names of resources.
type Amounts = BTreeMap<String, u64>;

fn show(thousandths: u64) -> Scalar {
    Scalar::from_thousandths(thousandths)
}

fn of(amounts: &Amounts, resource: &str) -> u64 {
    amounts.get(resource).copied().unwrap_or_default()
}

/// What is asked for, beside what is there already.
struct Plan<'a> {
    known: &'a crate::registry::Roles,
    asked: BTreeMap<&'a str, &'a Asked>,
}

impl<'a> Plan<'a> {
    /// The quota that the role is to have.
    fn after(&self, role: &str) -> Option<&'a wire::Quota> {
        match self.asked.get(role) {
            Some(asked) => Some(&asked.quota),
            None => self.known.quota(role),
        }
    }

    /// Every quota that is to be there; changed ones may be empty.
    fn all(&self) -> impl Iterator<Item = &'a wire::Quota> {
        let kept = self.known.quotas();
        kept.filter(|quota| !self.asked.contains_key(quota.role.as_str()))
            .chain(self.asked.values().map(|asked| &asked.quota))
    }
}

/// Everything that would be violated, in the order of the call; what no force helps first.
pub(super) fn violations(leading: &Leading, step: &Step<'_>, asked: &[Asked]) -> Vec<Violation> {
    let plan = Plan {
        known: &step.registry.roles,
        asked: asked.iter().map(|asked| (asked.quota.role.as_str(), asked)).collect(),
    };
    let mut violations = Vec::new();
    asked.iter().for_each(|asked| above_limit(asked, &mut violations));
    above_parent(&plan, asked, &mut violations);
    above_capacity(&plan, leading, asked, &mut violations);
    below_use(&plan, leading, asked, &mut violations);
    violations
}

fn above_limit(asked: &Asked, violations: &mut Vec<Violation>) {
    for (resource, guarantee) in &asked.quota.guarantees {
        let Some(limit) = asked.quota.limits.get(resource).filter(|limit| *limit < guarantee) else {
            continue;
        };
        violations.push(Violation {
            role: asked.quota.role.clone(),
            resource: resource.clone(),
            field: asked.field("guarantees", resource),
            problem: format!("is {}, more than the limit of {}", show(*guarantee), show(*limit)),
            accepted: "a guarantee that is not above the limit of the same resource".to_owned(),
            forcible: false,
        });
    }
}

/// A role must be guaranteed what the roles right below it are.
fn above_parent(plan: &Plan<'_>, asked: &[Asked], violations: &mut Vec<Violation>) {
    let mut parents: BTreeSet<&str> = BTreeSet::new();
    for asked in asked {
        parents.insert(&asked.quota.role);
        parents.extend(parent(&asked.quota.role));
    }
    let mut below: BTreeMap<&str, Amounts> = BTreeMap::new();
    for quota in plan.all() {
        let Some(parent) = parent(&quota.role).filter(|parent| parents.contains(parent)) else {
            continue;
        };
        let sums = below.entry(parent).or_default();
        for (resource, guarantee) in &quota.guarantees {
            *sums.entry(resource.clone()).or_default() += guarantee;
        }
    }
    for (role, sums) in below {
        let own = plan.after(role);
        for (resource, sum) in sums {
            let guarantee = own.map_or(0, |quota| of(&quota.guarantees, &resource));
            if guarantee < sum {
                violations.extend(blame(plan, asked, role, &resource, guarantee, sum));
            }
        }
    }
}

/// The part of the call that makes a role's guarantee less than what is guaranteed below it.
fn blame(plan: &Plan<'_>, asked: &[Asked], role: &str, resource: &str, guarantee: u64, sum: u64) -> Option<Violation> {
    let (guarantee, sum) = (show(guarantee), show(sum));
    let accepted = format!("guarantees of {resource} of {role:?} of {sum} or more, or less in the roles below it");
    if let Some(own) = plan.asked.get(role) {
        return Some(Violation {
            role: role.to_owned(),
            resource: resource.to_owned(),
            field: own.field("guarantees", resource),
            problem: format!("is {guarantee}, less than the {sum} that the roles below {role:?} are guaranteed"),
            accepted,
            forcible: false,
        });
    }
    let child = asked
        .iter()
        .find(|asked| parent(&asked.quota.role) == Some(role) && asked.quota.guarantees.contains_key(resource))?;
    Some(Violation {
        role: child.quota.role.clone(),
        resource: resource.to_owned(),
        field: child.field("guarantees", resource),
        problem: format!(
            "is {}, which makes {sum} for the roles below {role:?}, whose own guarantee is {guarantee}",
            show(of(&child.quota.guarantees, resource))
        ),
        accepted,
        forcible: false,
    })
}

/// The guarantees of the roles on top, which hold all others, must be there.
fn above_capacity(plan: &Plan<'_>, leading: &Leading, asked: &[Asked], violations: &mut Vec<Violation>) {
    let sum = |quotas: &mut dyn Iterator<Item = &wire::Quota>| {
        let mut sums = Amounts::new();
        for quota in quotas.filter(|quota| parent(&quota.role).is_none()) {
            for (resource, guarantee) in &quota.guarantees {
                *sums.entry(resource.clone()).or_default() += guarantee;
            }
        }
        sums
    };
    let (before, after) = (sum(&mut plan.known.quotas()), sum(&mut plan.all()));
    let grown = |(resource, sum): &(&String, &u64)| **sum > of(&before, resource);
    let grown: Vec<_> = after.iter().filter(grown).collect();
    if grown.is_empty() {
        return;
    }
    let capacity = usage::capacity(leading);
    for (resource, sum) in grown {
        let there = of(&capacity, resource);
        if *sum <= there {
            continue;
        }
        let raises = |asked: &&Asked| {
            let known = plan.known.quota(&asked.quota.role);
            let before = known.map_or(0, |quota| of(&quota.guarantees, resource));
            parent(&asked.quota.role).is_none() && of(&asked.quota.guarantees, resource) > before
        };
        let Some(asked) = asked.iter().find(raises) else {
            continue;
        };
        let (sum, there) = (show(*sum), show(there));
        violations.push(Violation {
            role: asked.quota.role.clone(),
            resource: resource.clone(),
            field: asked.field("guarantees", resource),
            problem: format!(
                "is {}, which makes {sum} of {resource} guaranteed to all roles, and the cluster has {there}",
                show(of(&asked.quota.guarantees, resource))
            ),
            accepted: format!("guarantees of {resource} of {there} or less together"),
            forcible: true,
        });
    }
}

/// No limit may be lowered below what is in use.
fn below_use(plan: &Plan<'_>, leading: &Leading, asked: &[Asked], violations: &mut Vec<Violation>) {
    let mut lowered = Vec::new();
    for asked in asked {
        let known = plan.known.quota(&asked.quota.role);
        for (resource, limit) in &asked.quota.limits {
            let before = known.and_then(|quota| quota.limits.get(resource));
            if before.is_none_or(|before| limit < before) {
                lowered.push((asked, resource, *limit));
            }
        }
    }
    let roles: BTreeSet<&str> = lowered.iter().map(|(asked, ..)| asked.quota.role.as_str()).collect();
    if roles.is_empty() {
        return;
    }
    let used = usage::of_roles(leading, &roles);
    for (asked, resource, limit) in lowered {
        let role = &asked.quota.role;
        let in_use = used.get(role.as_str()).map_or(0, |usage| usage.consumed(resource));
        if in_use <= limit {
            continue;
        }
        violations.push(Violation {
            role: role.clone(),
            resource: resource.clone(),
            field: asked.field("limits", resource),
            problem: format!("is {}, less than the {} in use or reserved", show(limit), show(in_use)),
            accepted: format!("{} or more, until tasks of {role:?} have ended", show(in_use)),
            forcible: true,
        });
    }
}

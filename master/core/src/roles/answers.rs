//! What operators are told of roles: GET_QUOTA, GET_WEIGHTS and GET_ROLES.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::registry as wire;
use proffer_proto::resources::{Resources, Scalar};
use proffer_proto::v1::master::response::{GetQuota, GetRoles, GetWeights};
use proffer_proto::v1::quota::{QuotaConfig, QuotaInfo, QuotaStatus, QuotaUsage};
use proffer_proto::v1::{self, WeightInfo, value};

use super::usage;
use crate::executors;
use crate::master::{Leading, Step};

fn wire_of(amounts: &BTreeMap<String, u64>) -> BTreeMap<String, value::Scalar> {
    let scalar = |amount: u64| value::Scalar {
        value: Scalar::from_thousandths(amount).as_f64(),
    };
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), scalar(*amount)))
        .collect()
}

fn weight_of(thousandths: u64) -> f64 {
    thousandths as f64 / 1000.0
}

/// The quota of every role that has one, and what it uses of it.
pub(crate) fn get_quota(leading: &Leading, step: &Step<'_>) -> GetQuota {
    let quotas = || step.registry.roles.quotas();
    let roles: BTreeSet<&str> = quotas().map(|quota| quota.role.as_str()).collect();
    let mut used = usage::of_roles(leading, &roles);
    let usage = |quota: &wire::Quota| {
        let used = used.remove(quota.role.as_str()).unwrap_or_default();
        QuotaUsage {
            role: quota.role.clone(),
            allocated: wire_of(&used.allocated),
            offered: wire_of(&used.offered),
            reserved: wire_of(&used.reserved),
        }
    };
    #[allow(deprecated)]
    let status = QuotaStatus {
        infos: quotas().map(info_of).collect(),
        configs: quotas().map(config_of).collect(),
        usage: quotas().map(usage).collect(),
    };
    GetQuota { status }
}

fn config_of(quota: &wire::Quota) -> QuotaConfig {
    QuotaConfig {
        role: quota.role.clone(),
        guarantees: wire_of(&quota.guarantees),
        limits: wire_of(&quota.limits),
    }
}

/// The older form, which has guarantees only.
fn info_of(quota: &wire::Quota) -> QuotaInfo {
    let guarantee = |(name, amount): (&String, &u64)| v1::Resource {
        name: name.clone(),
        r#type: value::Type::Scalar as i32,
        scalar: Some(value::Scalar {
            value: Scalar::from_thousandths(*amount).as_f64(),
        }),
        ..v1::Resource::default()
    };
    QuotaInfo {
        role: Some(quota.role.clone()),
        principal: None,
        guarantee: quota.guarantees.iter().map(guarantee).collect(),
    }
}

/// The weights that operators gave.
pub(crate) fn get_weights(step: &Step<'_>) -> GetWeights {
    let info = |weight: wire::Weight| WeightInfo {
        weight: weight_of(weight.thousandths),
        role: Some(weight.role),
    };
    GetWeights {
        weight_infos: step.registry.roles.weights().map(info).collect(),
    }
}

/// What is known of a role.
#[derive(Default)]
struct Known<'a> {
    frameworks: BTreeSet<&'a v1::FrameworkId>,
    resources: Resources,
}

/// Every role that a framework has or an operator set something of.
pub(crate) fn get_roles(leading: &Leading, step: &Step<'_>) -> GetRoles {
    let registry = &step.registry.roles;
    let mut roles: BTreeMap<&str, Known<'_>> = BTreeMap::new();
    for role in registry.named() {
        roles.entry(role).or_default();
    }
    for (_, framework) in leading.frameworks.iter() {
        for (role, claim) in &framework.claims {
            if leading.claims[*claim].subscribed {
                roles.entry(role).or_default().frameworks.insert(&framework.id);
            }
        }
        for task in framework.tasks.values().map(|task| &leading.tasks[*task]) {
            if task.held {
                let role = leading.claims[task.claim].role.as_str();
                roles.entry(role).or_default().resources += &task.resources;
            }
        }
        for executor in executors::of(leading, &framework.id) {
            roles.entry(&executor.role).or_default().resources += &executor.resources;
        }
        for offer in framework.offers.iter().map(|number| &leading.offers[number]) {
            let role = leading.claims[offer.claim].role.as_str();
            roles.entry(role).or_default().resources += &offer.resources;
        }
    }
    let role_of = |(name, known): (&str, Known<'_>)| v1::Role {
        name: name.to_owned(),
        weight: weight_of(registry.weight(name)),
        frameworks: known.frameworks.into_iter().cloned().collect(),
        resources: known.resources.to_wire(),
    };
    GetRoles {
        roles: roles.into_iter().map(role_of).collect(),
    }
}

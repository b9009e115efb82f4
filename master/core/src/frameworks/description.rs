//! What a framework says of itself: roles, capabilities, wishes, constraints; what is accepted, and what may change later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proffer_proto::resources::Scalar;
use proffer_proto::v1::framework_info::capability::Type as Capability;
use proffer_proto::v1::{self, scheduler};
use proffer_proto::{Rejection, roles};

use super::Framework;
use crate::allocator::{Constraints, Quantities, Wishes};

/// What SUBSCRIBE and UPDATE_FRAMEWORK say beside the description, checked. Not in the registry: who subscribes again says it again.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(super) suppressed: BTreeSet<String>,
    /// By role, made ready for the allocator.
    pub(super) constraints: BTreeMap<String, Arc<Constraints>>,
    /// The same as they were said.
    pub(super) stated: Option<scheduler::OfferConstraints>,
}

/// The roles that a description names.
pub(crate) fn roles_of(info: &v1::FrameworkInfo) -> BTreeSet<String> {
    let multi_role = info
        .capabilities
        .iter()
        .any(|own| own.r#type == Some(Capability::MultiRole as i32));
    if multi_role {
        return info.roles.iter().cloned().collect();
    }
    #[allow(deprecated)]
    let role = info.role.clone();
    BTreeSet::from([role.unwrap_or_else(|| roles::ANY.to_owned())])
}

/// Checks what SUBSCRIBE and UPDATE_FRAMEWORK share.
pub(super) fn check(
    info: &v1::FrameworkInfo,
    suppressed: Vec<String>,
    constraints: Option<scheduler::OfferConstraints>,
) -> Result<Terms, Rejection> {
    check_info(info).map_err(|rejection| rejection.within("framework_info"))?;
    let roles = roles_of(info);
    for (index, role) in suppressed.iter().enumerate() {
        if !roles.contains(role) {
            let problem = format!("is {role:?}, which is no role of the framework");
            let field = format!("suppressed_roles[{index}]");
            return Err(Rejection::new(field, problem, "a role that `framework_info` names"));
        }
    }
    let compiled = constraints.as_ref().map(|stated| compile(stated, &roles));
    let compiled = compiled
        .transpose()
        .map_err(|rejection| rejection.within("offer_constraints"))?;
    Ok(Terms {
        suppressed: suppressed.into_iter().collect(),
        constraints: compiled.unwrap_or_default(),
        stated: constraints,
    })
}

fn compile(
    stated: &scheduler::OfferConstraints,
    roles: &BTreeSet<String>,
) -> Result<BTreeMap<String, Arc<Constraints>>, Rejection> {
    let of = |(role, constraints): (&String, &scheduler::offer_constraints::RoleConstraints)| {
        let field = format!("role_constraints[{role:?}]");
        if !roles.contains(role) {
            let problem = "is for no role of the framework";
            return Err(Rejection::new(field, problem, "roles that `framework_info` names"));
        }
        let compiled = Constraints::compile(constraints).map_err(|rejection| rejection.within(field))?;
        Ok((role.clone(), Arc::new(compiled)))
    };
    stated.role_constraints.iter().map(of).collect()
}

fn check_info(info: &v1::FrameworkInfo) -> Result<(), Rejection> {
    let timeout = info.failover_timeout();
    if timeout.is_nan() || timeout < 0.0 {
        let problem = format!("is {timeout}");
        return Err(Rejection::new("failover_timeout", problem, "seconds, 0 or more"));
    }
    let multi_role = info
        .capabilities
        .iter()
        .any(|own| own.r#type == Some(Capability::MultiRole as i32));
    #[allow(deprecated)]
    let role = info.role.as_deref();
    if multi_role && role.is_some_and(|role| role != roles::ANY) {
        let accepted = "`roles` alone, for a framework with the capability MULTI_ROLE";
        return Err(Rejection::new("role", "is set", accepted));
    }
    if !multi_role && !info.roles.is_empty() {
        let accepted = "`role`, or the capability MULTI_ROLE";
        return Err(Rejection::new("roles", "is set", accepted));
    }
    if let Some(role) = role {
        roles::check(role, "role")?;
    }
    let mut seen = BTreeSet::new();
    for (index, role) in info.roles.iter().enumerate() {
        let field = format!("roles[{index}]");
        roles::check(role, &field)?;
        if !seen.insert(role) {
            return Err(Rejection::new(field, format!("is {role:?} again"), "each role once"));
        }
    }
    for (role, filters) in &info.offer_filters {
        minimum(filters).map_err(|rejection| rejection.within(format!("offer_filters[{role:?}]")))?;
    }
    Ok(())
}

/// What a framework asks an offer to hold at least; `None` for the allocator's default.
fn minimum(filters: &v1::OfferFilters) -> Result<Option<Vec<Quantities>>, Rejection> {
    let Some(minimum) = &filters.min_allocatable_resources else {
        return Ok(None);
    };
    let mut list = Vec::new();
    for (index, quantities) in minimum.quantities.iter().enumerate() {
        let mut amounts = Vec::new();
        for (name, amount) in &quantities.quantities {
            let field = format!("min_allocatable_resources.quantities[{index}][{name:?}].value");
            let amount = Scalar::from_f64(amount.value).map_err(|rejection| rejection.within(field))?;
            amounts.push((name.clone(), amount));
        }
        list.push(Quantities::from_amounts(amounts));
    }
    Ok(Some(list))
}

/// What may never change in a description.
pub(super) fn check_change(old: &v1::FrameworkInfo, new: &v1::FrameworkInfo) -> Result<(), Rejection> {
    let fixed = |field: &str, old: String, new: String| {
        Err(Rejection::new(
            field,
            format!("changes from {old} to {new}"),
            "what the framework first subscribed with",
        ))
    };
    if old.principal != new.principal {
        let text = |info: &v1::FrameworkInfo| format!("{:?}", info.principal());
        return fixed("principal", text(old), text(new));
    }
    if old.user != new.user {
        return fixed("user", format!("{:?}", old.user), format!("{:?}", new.user));
    }
    if old.checkpoint() != new.checkpoint() {
        return fixed("checkpoint", old.checkpoint().to_string(), new.checkpoint().to_string());
    }
    Ok(())
}

/// What the allocator has to know of a role.
pub(super) fn wishes(framework: &Framework, role: &str) -> Wishes {
    let filters = framework.info.offer_filters.get(role);
    Wishes {
        role: role.to_owned(),
        minimum: filters.and_then(|filters| minimum(filters).ok().flatten()),
        gpus: framework.has(Capability::GpuResources),
        regions: framework.has(Capability::RegionAware),
        revocable: framework.has(Capability::RevocableResources),
        constraints: framework.terms.constraints.get(role).cloned(),
        demand: framework.demand.as_ref().map(|demand| demand.of(role)),
    }
}

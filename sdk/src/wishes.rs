//! What a framework wishes to be offered: constraints on agents, and declared demand.

use proffer_proto::Rejection;
use proffer_proto::resources::Resources;
use proffer_proto::v1::scheduler::attribute_constraint::selector::{PseudoattributeType, Selector as SelectorKind};
use proffer_proto::v1::scheduler::attribute_constraint::{Predicate, Selector, predicate};
use proffer_proto::v1::scheduler::offer_constraints::{RoleConstraints, role_constraints::Group};
use proffer_proto::v1::scheduler::{AttributeConstraint, OfferConstraints};
use proffer_proto::v1::{AgentId, Request};

/// What a constraint looks at.
///
/// ```
/// use proffer_sdk::wishes::{Attribute, constraints};
///
/// let near = [Attribute::named("rack").matches("r[12]"), Attribute::zone().equals("a")];
/// let any_of = [near.to_vec(), vec![Attribute::named("spare").exists()]];
/// assert_eq!(constraints([("web", any_of)]).role_constraints["web"].groups.len(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct Attribute(SelectorKind);

impl Attribute {
    /// An attribute of the agent.
    pub fn named(name: impl Into<String>) -> Self {
        Attribute(SelectorKind::AttributeName(name.into()))
    }

    /// The agent's host name.
    pub fn hostname() -> Self {
        Attribute(SelectorKind::PseudoattributeType(PseudoattributeType::Hostname as i32))
    }

    /// The region of its fault domain.
    pub fn region() -> Self {
        Attribute(SelectorKind::PseudoattributeType(PseudoattributeType::Region as i32))
    }

    /// The zone of its fault domain.
    pub fn zone() -> Self {
        Attribute(SelectorKind::PseudoattributeType(PseudoattributeType::Zone as i32))
    }

    /// The agent has it.
    pub fn exists(self) -> AttributeConstraint {
        self.holds(predicate::Predicate::Exists(predicate::Exists {}))
    }

    /// The agent does not have it.
    pub fn is_missing(self) -> AttributeConstraint {
        self.holds(predicate::Predicate::NotExists(predicate::NotExists {}))
    }

    /// It is this text.
    pub fn equals(self, value: impl Into<String>) -> AttributeConstraint {
        let value = value.into();
        self.holds(predicate::Predicate::TextEquals(predicate::TextEquals { value }))
    }

    /// It is missing or another text.
    pub fn differs(self, value: impl Into<String>) -> AttributeConstraint {
        let value = value.into();
        self.holds(predicate::Predicate::TextNotEquals(predicate::TextNotEquals { value }))
    }

    /// The whole of it matches the regular expression.
    pub fn matches(self, regex: impl Into<String>) -> AttributeConstraint {
        let regex = regex.into();
        self.holds(predicate::Predicate::TextMatches(predicate::TextMatches { regex }))
    }

    /// It is missing or does not match the regular expression.
    pub fn differs_from(self, regex: impl Into<String>) -> AttributeConstraint {
        let regex = regex.into();
        self.holds(predicate::Predicate::TextNotMatches(predicate::TextNotMatches {
            regex,
        }))
    }

    fn holds(self, predicate: predicate::Predicate) -> AttributeConstraint {
        AttributeConstraint {
            selector: Selector { selector: Some(self.0) },
            predicate: Predicate {
                predicate: Some(predicate),
            },
        }
    }
}

/// Offer constraints by role: an agent is offered if all constraints of one of the lists hold.
pub fn constraints<R, G>(roles: impl IntoIterator<Item = (R, G)>) -> OfferConstraints
where
    R: Into<String>,
    G: IntoIterator<Item = Vec<AttributeConstraint>>,
{
    let group = |attribute_constraints| Group { attribute_constraints };
    let of = |(role, any_of): (R, G)| {
        let groups = any_of.into_iter().map(group).collect();
        (role.into(), RoleConstraints { groups })
    };
    OfferConstraints {
        role_constraints: roles.into_iter().map(of).collect(),
    }
}

/// One part of declared demand: so many times at least these resources, on any agent.
///
/// ```
/// use proffer_sdk::wishes::demand;
///
/// assert_eq!(demand("cpus:4;mem:1024", 3).unwrap().count(), 3);
/// assert!(demand("cpus", 1).is_err());
/// ```
///
/// # Errors
/// What cannot be read, by the name of the resource.
pub fn demand(resources: &str, count: u32) -> Result<Request, Rejection> {
    Ok(Request {
        agent_id: None,
        resources: Resources::parse(resources)?.to_wire(),
        count: Some(count),
    })
}

/// The same on one agent only.
pub fn demand_at(agent_id: AgentId, request: Request) -> Request {
    Request {
        agent_id: Some(agent_id),
        ..request
    }
}

/// The same for one of the framework's roles only.
pub fn demand_for(role: &str, mut request: Request) -> Request {
    for resource in &mut request.resources {
        resource.allocation_info.get_or_insert_default().role = Some(role.to_owned());
    }
    request
}

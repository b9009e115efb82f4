//! What the master is told, so that it offers only what is of use: rules that look at one agent alone, and demand.

use proffer_proto::Rejection;
use proffer_proto::v1::Request;
use proffer_proto::v1::scheduler::{AttributeConstraint, OfferConstraints};
use proffer_sdk::wishes::{self, Attribute};

use crate::spec::{Constraint, Operator, ServiceSpec};

/// The most shapes of demand that a master takes.
const SHAPES_MAX: usize = 64;

/// The most services whose rules a master is told; with more it offers all agents.
const GROUPS_MAX: usize = 64;

/// On which agents at least one of the services may have an instance, as far as an agent alone decides that; `None` where
/// that is any.
pub fn constraints<'a>(role: &str, missing: impl IntoIterator<Item = &'a ServiceSpec>) -> Option<OfferConstraints> {
    let groups: Vec<Vec<_>> = missing.into_iter().map(of_service).collect();
    let anywhere = groups.is_empty() || groups.len() > GROUPS_MAX || groups.iter().any(Vec::is_empty);
    (!anywhere).then(|| wishes::constraints([(role, groups)]))
}

fn of_service(spec: &ServiceSpec) -> Vec<AttributeConstraint> {
    spec.constraints.iter().filter_map(of_constraint).collect()
}

fn of_constraint(constraint: &Constraint) -> Option<AttributeConstraint> {
    let attribute = match constraint.attribute.as_str() {
        "@agent" => return None,
        "hostname" | "@hostname" => Attribute::hostname(),
        "@region" => Attribute::region(),
        "@zone" => Attribute::zone(),
        name => Attribute::named(name),
    };
    match &constraint.operator {
        Operator::Like(pattern) => Some(attribute.matches(pattern)),
        Operator::Unlike(pattern) => Some(attribute.differs_from(pattern)),
        // A number is no text for the master, so that only its presence is asked for.
        _ => (!matches!(constraint.attribute.as_str(), "hostname" | "@hostname")).then(|| attribute.exists()),
    }
}

/// What is missing, as shapes of resources with how often each; empty where there are too many of them.
///
/// A launched task meets the first shape that fits into it. So the larger come first: then a task meets its own.
pub fn demand<'a>(missing: impl IntoIterator<Item = (&'a ServiceSpec, u32)>) -> Vec<Request> {
    let mut shapes: Vec<(Shape, u32)> = Vec::new();
    for (spec, count) in missing {
        let shape = shape(spec);
        match shapes.iter_mut().find(|(known, _)| *known == shape) {
            Some((_, known)) => *known = known.saturating_add(count),
            None => shapes.push((shape, count)),
        }
        if shapes.len() > SHAPES_MAX {
            return Vec::new();
        }
    }
    shapes.sort_by(|(a, _), (b, _)| b.partial_cmp(a).unwrap_or(std::cmp::Ordering::Equal));
    let requests = shapes.iter().map(|(shape, count)| request(shape, *count));
    requests.collect::<Result<_, _>>().unwrap_or_default()
}

/// Processors, memory, disk, and how many ports.
type Shape = (f64, f64, f64, usize);

fn shape(spec: &ServiceSpec) -> Shape {
    (spec.cpus, spec.mem, spec.disk.unwrap_or_default(), spec.ports.len())
}

fn request((cpus, mem, disk, ports): &Shape, count: u32) -> Result<Request, Rejection> {
    let mut text = format!("cpus:{cpus};mem:{mem}");
    if *disk > 0.0 {
        text.push_str(&format!(";disk:{disk}"));
    }
    if *ports > 0 {
        // Of ports it counts how many.
        text.push_str(&format!(";ports:[1-{ports}]"));
    }
    wishes::demand(&text, count)
}

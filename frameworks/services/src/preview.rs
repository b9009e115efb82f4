//! What a change of a service would do: what is different, what is replaced, where new instances would go. Pure.

use proffer_proto::resources::Resources;
use proffer_proto::v1::master::response::get_agents::Agent;
use proffer_proto::v1::master::response::get_loans;
use proffer_proto::v1::quota::QuotaStatus;
use proffer_proto::v1::{Offer, Resource};
use serde::Serialize;
use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::placement::{Machine, Round};
use crate::plan::SIDE;
use crate::plan::rollout::Bounds;
use crate::scheduler::shape;
use crate::spec::{ServiceSpec, Strategy};
use crate::versions::{Change, Versions};

mod touches;

pub use touches::{QuotaUse, Recall};

/// What a change would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preview {
    /// The version that the service has; nothing where there is no such service.
    pub version: Option<u64>,
    /// What is different in the specification.
    pub differences: Vec<Difference>,
    /// How many running instances would be replaced.
    pub replaces: u32,
    /// Meanwhile so many are ready at any time.
    pub least_ready: u32,
    /// The instances that would be started at once, and where as things are now.
    pub starts: Vec<Start>,
    /// How many of those that are to be started find no place now.
    pub without_place: u32,
    /// The indices whose instances would end for good.
    pub ends: Vec<u32>,
    /// What would be used of quotas.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quota: Vec<QuotaUse>,
    /// Where lent resources would be taken back, so that revocable tasks end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recalls: Vec<Recall>,
}

/// What the masters say of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Its agents.
    pub agents: Vec<Agent>,
    /// The quotas of roles.
    pub quota: QuotaStatus,
    /// What is lent as revocable.
    pub loans: Vec<get_loans::Agent>,
}

/// One field that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its path.
    pub field: String,
    /// What it is; null where it is not there.
    pub from: Value,
    /// What it would be.
    pub to: Value,
}

/// One instance that would be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Start {
    /// Its index.
    pub index: u32,
    /// The agent.
    pub agent_id: String,
    /// Its host.
    pub host: String,
}

/// Says what a specification would do to what there is.
pub fn preview(
    current: Option<&Versions>,
    spec: &ServiceSpec,
    catalogue: &Catalogue,
    cluster: &Cluster,
    role: &str,
) -> Preview {
    let agents = cluster.agents.as_slice();
    let before = current.map_or(0, |versions| versions.current.spec.instances);
    let renews = current.is_some_and(|versions| {
        let after = versions.after(Change::Spec(Box::new(spec.clone())), u64::MAX, 0);
        after.is_none_or(|after| after.current.instance_version != versions.current.instance_version)
    });
    let bounds = Bounds::of(spec);
    let side_by_side = renews && spec.update.strategy == Strategy::BlueGreen;
    let extra = bounds.extra.min(spec.canary_instances().unwrap_or(u32::MAX));
    let extra = if renews && !side_by_side { extra } else { 0 };
    let base = current.map_or(0, |versions| versions.base);
    let indices: Vec<u32> = if side_by_side {
        let aside = if base == 0 { SIDE } else { 0 };
        (aside..aside + spec.instances).collect()
    } else {
        (base + before..base + spec.instances.max(before) + extra).collect()
    };
    let wanted = indices.len();
    let starts = places(spec, indices, catalogue, agents, role);
    let shape = shape(spec);
    Preview {
        quota: touches::quota(&cluster.quota, role, &shape, wanted),
        recalls: touches::recalls(&cluster.loans, agents, role, &shape, &starts),
        version: current.map(|versions| versions.current.version),
        differences: differences(current.map(|versions| &versions.current.spec), spec),
        replaces: if renews { before.min(spec.instances) } else { 0 },
        least_ready: bounds.least,
        without_place: u32::try_from(wanted - starts.len()).unwrap_or(u32::MAX),
        starts,
        ends: (base + spec.instances..base + before.max(spec.instances)).collect(),
    }
}

fn places(spec: &ServiceSpec, indices: Vec<u32>, catalogue: &Catalogue, agents: &[Agent], role: &str) -> Vec<Start> {
    let offers: Vec<Offer> = agents.iter().filter_map(|agent| free(agent, role)).collect();
    let machines: Vec<Machine> = agents.iter().map(machine).collect();
    let holds = |service: &str, machine: &Machine| {
        let known = catalogue.services.get(service);
        let mut instances = known.into_iter().flat_map(|service| &service.instances);
        instances.any(|instance| instance.agent_id.as_deref() == Some(machine.agent_id.as_str()))
    };
    let own = catalogue.services.get(&spec.id);
    let own = own.into_iter().flat_map(|service| &service.instances);
    let here = own.filter_map(|instance| {
        let mut known = machines.iter();
        known.find(|machine| Some(machine.agent_id.as_str()) == instance.agent_id.as_deref())
    });
    let decisions = Round::new(&offers).decide(spec, &shape(spec), indices, here, holds);
    let starts = decisions.into_iter().map(|decision| Start {
        index: decision.index,
        agent_id: decision.machine.agent_id,
        host: decision.machine.hostname,
    });
    starts.collect()
}

fn machine(agent: &Agent) -> Machine {
    let info = &agent.agent_info;
    Machine::of(&Offer {
        agent_id: info.id.clone().unwrap_or_default(),
        hostname: info.hostname.clone(),
        attributes: info.attributes.clone(),
        domain: info.domain.clone(),
        ..Offer::default()
    })
}

/// What of an agent may be offered to the role, as if it were offered now.
fn free(agent: &Agent, role: &str) -> Option<Offer> {
    if !agent.active || agent.deactivated == Some(true) {
        return None;
    }
    let ours = |resource: &&Resource| {
        // What is lent is free for whom it is kept.
        if resource.revocable.is_some() {
            return false;
        }
        let kept_for = resource.reservations.last().and_then(|kept| kept.role.as_deref());
        kept_for.is_none_or(|kept_for| kept_for == role)
    };
    let of = |resources: &[Resource]| {
        let resources: Vec<Resource> = resources.iter().filter(ours).cloned().collect();
        Some(Resources::from_wire(&resources).ok()?.unallocate())
    };
    let free = of(&agent.total_resources)?.checked_sub(&of(&agent.allocated_resources)?)?;
    let info = &agent.agent_info;
    Some(Offer {
        id: "free".into(),
        agent_id: info.id.clone()?,
        hostname: info.hostname.clone(),
        attributes: info.attributes.clone(),
        domain: info.domain.clone(),
        resources: free.to_wire(),
        ..Offer::default()
    })
}

/// What is different between two specifications, field by field.
fn differences(from: Option<&ServiceSpec>, to: &ServiceSpec) -> Vec<Difference> {
    let value = |spec: &ServiceSpec| serde_json::to_value(spec).unwrap_or_default();
    let mut differences = Vec::new();
    compare("", &from.map(value).unwrap_or_default(), &value(to), &mut differences);
    differences
}

fn compare(field: &str, from: &Value, to: &Value, differences: &mut Vec<Difference>) {
    if from == to {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        return differences.push(Difference {
            field: field.to_owned(),
            from: from.clone(),
            to: to.clone(),
        });
    };
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let path = if field.is_empty() {
            name.clone()
        } else {
            format!("{field}.{name}")
        };
        let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
        compare(&path, &of(old), &of(new), differences);
    }
}

#[cfg(test)]
mod tests {
    use proffer_proto::v1::AgentInfo;
    use proffer_sdk::testing;

    use super::*;

    fn agent(id: &str, cpus: f64, taken: f64) -> Agent {
        let resources = |cpus| testing::offer("o", id, cpus, 1024.0, 31_000..=31_009).resources;
        let mut allocated = resources(taken);
        allocated.truncate(1);
        Agent {
            agent_info: AgentInfo {
                id: Some(id.into()),
                hostname: format!("{id}.test"),
                ..Default::default()
            },
            active: true,
            total_resources: resources(cpus),
            allocated_resources: allocated,
            ..Default::default()
        }
    }

    fn spec(command: &str, instances: u32) -> ServiceSpec {
        ServiceSpec {
            instances,
            cpus: 1.0,
            ..ServiceSpec::command("web", command)
        }
    }

    #[test]
    fn a_new_service_is_shown_whole_and_where_it_would_go() {
        let agents = [agent("a1", 4.0, 3.0), agent("a2", 3.0, 1.0)];
        let cluster = Cluster {
            agents: agents.into(),
            ..Cluster::default()
        };
        let shown = preview(None, &spec("x", 4), &Catalogue::default(), &cluster, "*");
        let places: Vec<_> = shown
            .starts
            .iter()
            .map(|start| (start.index, start.agent_id.as_str()))
            .collect();
        assert_eq!(places, [(0, "a2"), (1, "a1"), (2, "a2")]);
        assert_eq!(shown.starts[0].host, "a2.test");
        assert_eq!((shown.version, shown.replaces, shown.without_place), (None, 0, 1));
        assert_eq!(
            (shown.differences.len(), shown.differences[0].from.is_null()),
            (1, true)
        );
    }

    #[test]
    fn a_change_shows_its_fields_what_it_replaces_and_what_it_ends() {
        let cluster = Cluster {
            agents: vec![agent("a1", 8.0, 0.5)],
            ..Cluster::default()
        };
        let catalogue = Catalogue::default();
        let versions = Versions::first(spec("x", 4), 7, 0);
        let shown = |spec: &ServiceSpec| preview(Some(&versions), spec, &catalogue, &cluster, "*");
        let same = shown(&spec("x", 4));
        assert!(same.differences.is_empty() && same.starts.is_empty() && same.ends.is_empty());
        let fewer = shown(&spec("x", 2));
        assert_eq!(
            (fewer.ends.clone(), fewer.replaces, fewer.differences.len()),
            (vec![2, 3], 0, 1)
        );
        assert_eq!(
            (fewer.differences[0].field.as_str(), fewer.version),
            ("instances", Some(7))
        );
        let mut other = spec("y", 4);
        other.backoff.max_ms = 9_000;
        let renewed = shown(&other);
        let fields: Vec<_> = renewed.differences.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, ["backoff.max_ms", "command"]);
        assert_eq!((renewed.replaces, renewed.least_ready, renewed.starts.len()), (4, 4, 1));
        assert_eq!(renewed.starts[0].index, 4, "one beyond the wanted comes first");
    }
}

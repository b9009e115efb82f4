//! What a change would touch of others: how much of the role's quota, and whose revocable tasks.

use std::collections::BTreeMap;

use proffer_proto::v1::Resource;
use proffer_proto::v1::master::response::get_agents::Agent;
use proffer_proto::v1::master::response::get_loans;
use proffer_proto::v1::quota::QuotaStatus;
use proffer_sdk::offers::TaskShape;
use serde::Serialize;

use super::{Start, free};

/// One amount of a quota of which more would be used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuotaUse {
    /// The framework's role, or one above it.
    pub role: String,
    /// The resource.
    pub resource: String,
    /// What the role has for sure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guarantee: Option<f64>,
    /// What it has at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// What tasks of it use now.
    pub used: f64,
    /// What the instances that are to be started at once would use more.
    pub more: f64,
    /// Whether that is beyond the limit: then some of them are not started.
    pub beyond_limit: bool,
}

/// An agent on which lent resources would be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recall {
    /// The agent.
    pub agent_id: String,
    /// Its host.
    pub host: String,
    /// The revocable tasks there, of which some would have to end.
    pub tasks: Vec<String>,
}

/// What so many more instances would use of the quotas that hold for a role.
pub(super) fn quota(status: &QuotaStatus, role: &str, shape: &TaskShape, instances: usize) -> Vec<QuotaUse> {
    let above = |name: &str| role == name || role.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
    let mut uses = Vec::new();
    for config in status.configs.iter().filter(|config| above(&config.role)) {
        let usage = status.usage.iter().find(|usage| usage.role == config.role);
        for (resource, amount) in amounts(shape) {
            let of = |map: &BTreeMap<String, proffer_proto::v1::value::Scalar>| {
                map.get(&resource).map(|scalar| scalar.value)
            };
            let (guarantee, limit) = (of(&config.guarantees), of(&config.limits));
            if guarantee.is_none() && limit.is_none() {
                continue;
            }
            let used = usage.and_then(|usage| of(&usage.allocated)).unwrap_or_default();
            let more = amount * instances as f64;
            uses.push(QuotaUse {
                role: config.role.clone(),
                guarantee,
                limit,
                used,
                more,
                beyond_limit: limit.is_some_and(|limit| used + more > limit + 1e-6),
                resource,
            });
        }
    }
    uses
}

/// On which agents there is room only because others give back what they have been lent.
pub(super) fn recalls(
    loans: &[get_loans::Agent],
    agents: &[Agent],
    role: &str,
    shape: &TaskShape,
    starts: &[Start],
) -> Vec<Recall> {
    let mut recalls = Vec::new();
    for lent in loans {
        let agent_id = lent.agent_id.value.as_str();
        let count = starts.iter().filter(|start| start.agent_id == agent_id).count();
        let agent = agents
            .iter()
            .find(|agent| agent.agent_info.id.as_ref() == Some(&lent.agent_id));
        let Some(offer) = agent.filter(|_| count > 0).and_then(|agent| free(agent, role)) else {
            continue;
        };
        let (room, backing) = (sums(&offer.resources), sums(&lent.backing));
        let of = |sums: &BTreeMap<String, f64>, name: &str| sums.get(name).copied().unwrap_or_default();
        let tight = |(name, amount): (String, f64)| {
            amount * count as f64 > of(&room, &name) - of(&backing, &name) + 1e-6 && of(&backing, &name) > 0.0
        };
        if amounts(shape).into_iter().any(tight) {
            let tasks = lent
                .loans
                .iter()
                .filter_map(|loan| Some(loan.task_id.as_ref()?.value.clone()));
            recalls.push(Recall {
                agent_id: agent_id.to_owned(),
                host: lent.hostname.clone(),
                tasks: tasks.collect(),
            });
        }
    }
    recalls
}

fn amounts(shape: &TaskShape) -> Vec<(String, f64)> {
    let ports = shape.ports.len() as f64;
    let scalars = shape.scalars.iter().map(|(name, amount)| (name.clone(), *amount));
    scalars
        .chain((ports > 0.0).then(|| ("ports".to_owned(), ports)))
        .collect()
}

fn sums(resources: &[Resource]) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for resource in resources {
        if let Some(scalar) = &resource.scalar {
            *sums.entry(resource.name.clone()).or_default() += scalar.value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proffer_proto::v1::master::response::get_loans::Loan;
    use proffer_proto::v1::quota::{QuotaConfig, QuotaUsage};
    use proffer_proto::v1::{AgentInfo, value::Scalar};
    use proffer_sdk::operations::scalar;

    use super::*;

    fn map(amounts: &[(&str, f64)]) -> BTreeMap<String, Scalar> {
        let amounts = amounts.iter();
        amounts
            .map(|(name, value)| ((*name).to_owned(), Scalar { value: *value }))
            .collect()
    }

    #[test]
    fn quotas_of_the_role_and_those_above_it_are_told_with_what_is_beyond_them() {
        let config = |role: &str, limits: &[(&str, f64)]| QuotaConfig {
            role: role.to_owned(),
            limits: map(limits),
            ..QuotaConfig::default()
        };
        let status = QuotaStatus {
            configs: vec![
                config("eng", &[("cpus", 4.0), ("ports", 9.0)]),
                config("eng/web", &[("mem", 1024.0)]),
                config("engine", &[("cpus", 1.0)]),
            ],
            usage: vec![QuotaUsage {
                role: "eng".to_owned(),
                allocated: map(&[("cpus", 2.0)]),
                ..QuotaUsage::default()
            }],
            ..QuotaStatus::default()
        };
        let shape = TaskShape::default().cpus(1.0).mem(64.0).any_ports(1);
        let uses = quota(&status, "eng/web", &shape, 3);
        let short: Vec<_> = uses
            .iter()
            .map(|one| {
                (
                    one.role.as_str(),
                    one.resource.as_str(),
                    one.used,
                    one.more,
                    one.beyond_limit,
                )
            })
            .collect();
        let expected = [
            ("eng", "cpus", 2.0, 3.0, true),
            ("eng", "ports", 0.0, 3.0, false),
            ("eng/web", "mem", 0.0, 192.0, false),
        ];
        assert_eq!(short, expected);
    }

    #[test]
    fn what_is_lent_is_taken_back_only_where_there_is_no_room_beside_it() {
        let agent = Agent {
            agent_info: AgentInfo {
                id: Some("a1".into()),
                ..Default::default()
            },
            active: true,
            total_resources: vec![scalar("cpus", 4.0), scalar("mem", 1024.0)],
            ..Default::default()
        };
        let loans = [get_loans::Agent {
            agent_id: "a1".into(),
            hostname: "h1".to_owned(),
            backing: vec![scalar("cpus", 2.0)],
            loans: vec![Loan {
                task_id: Some("batch".into()),
                ..Loan::default()
            }],
            ..Default::default()
        }];
        let start = |index| Start {
            index,
            agent_id: "a1".to_owned(),
            host: "h1".to_owned(),
        };
        let shape = TaskShape::default().cpus(1.0).mem(64.0);
        let of = |starts: &[Start]| recalls(&loans, std::slice::from_ref(&agent), "*", &shape, starts);
        assert!(of(&[start(0), start(1)]).is_empty());
        let recalled = of(&[start(0), start(1), start(2)]);
        assert_eq!(
            (recalled.len(), recalled[0].tasks.clone()),
            (1, vec!["batch".to_owned()])
        );
    }
}

//! `proffer roles`.

use std::collections::BTreeMap;

use proffer_proto::v1::quota::QuotaConfig;
use serde::Serialize;

use super::quota::{Amounts, amounts_of, show_amounts};
use super::{ClusterArgs, OutputArgs, show};
use crate::exit::Failure;
use crate::output::{self, Row};

#[derive(Debug, Serialize)]
struct RoleRow {
    role: String,
    weight: f64,
    frameworks: Vec<String>,
    /// Allocated to it or offered.
    resources: String,
    guarantees: Amounts,
    limits: Amounts,
}

impl Row for RoleRow {
    const TITLES: &'static [&'static str] = &["ROLE", "WEIGHT", "FRAMEWORKS", "GUARANTEE", "LIMIT", "RESOURCES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.role.clone(),
            self.weight.to_string(),
            self.frameworks.join(","),
            show_amounts(&self.guarantees),
            show_amounts(&self.limits),
            self.resources.clone(),
        ]
    }
}

pub(crate) async fn run(cluster: &ClusterArgs, output: &OutputArgs) -> Result<(), Failure> {
    let mut operator = cluster.operator();
    let roles = operator.get_roles().await.map_err(|error| cluster.failure(error))?;
    let status = operator.get_quota().await.map_err(|error| cluster.failure(error))?;
    let quotas: BTreeMap<&str, &QuotaConfig> = status
        .configs
        .iter()
        .map(|config| (config.role.as_str(), config))
        .collect();
    let rows: Vec<RoleRow> = roles
        .iter()
        .map(|role| {
            let quota = quotas.get(role.name.as_str());
            RoleRow {
                role: role.name.clone(),
                weight: role.weight,
                frameworks: role.frameworks.iter().map(|id| id.value.clone()).collect(),
                resources: show(&role.resources),
                guarantees: quota.map(|quota| amounts_of(&quota.guarantees)).unwrap_or_default(),
                limits: quota.map(|quota| amounts_of(&quota.limits)).unwrap_or_default(),
            }
        })
        .collect();
    Ok(output::print(output.output, &rows)?)
}

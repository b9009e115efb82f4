//! `proffer frameworks`.

use proffer_proto::v1::master::response::get_frameworks::Framework;
use serde::Serialize;

use super::{ClusterArgs, OutputArgs, show};
use crate::exit::Failure;
use crate::output::{self, Row};

#[derive(Debug, Serialize)]
struct FrameworkRow {
    id: String,
    name: String,
    user: String,
    roles: Vec<String>,
    state: &'static str,
    allocated: String,
    offers: usize,
}

impl Row for FrameworkRow {
    const TITLES: &'static [&'static str] = &["ID", "NAME", "USER", "ROLES", "STATE", "OFFERS", "ALLOCATED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.name.clone(),
            self.user.clone(),
            self.roles.join(","),
            self.state.to_owned(),
            self.offers.to_string(),
            self.allocated.clone(),
        ]
    }
}

pub(crate) async fn run(cluster: &ClusterArgs, output: &OutputArgs, all: bool) -> Result<(), Failure> {
    let frameworks = cluster
        .operator()
        .get_frameworks()
        .await
        .map_err(|error| cluster.failure(error))?;
    let mut rows: Vec<FrameworkRow> = frameworks
        .frameworks
        .iter()
        .map(|framework| row(framework, false))
        .collect();
    if all {
        rows.extend(
            frameworks
                .completed_frameworks
                .iter()
                .map(|framework| row(framework, true)),
        );
    }
    Ok(output::print(output.output, &rows)?)
}

fn row(framework: &Framework, completed: bool) -> FrameworkRow {
    let info = &framework.framework_info;
    FrameworkRow {
        id: info.id.clone().unwrap_or_default().value,
        name: info.name.clone(),
        user: info.user.clone(),
        roles: info.roles.clone(),
        state: match (completed, framework.connected, framework.active) {
            (true, ..) => "completed",
            (_, false, _) => "disconnected",
            (_, true, false) => "inactive",
            (_, true, true) => "active",
        },
        allocated: show(&framework.allocated_resources),
        offers: framework.offers.len(),
    }
}

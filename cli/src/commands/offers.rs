//! `proffer offers`.

use proffer_proto::v1::Offer;
use serde::Serialize;

use super::{ClusterArgs, OutputArgs, show};
use crate::exit::Failure;
use crate::output::{self, Row};

#[derive(Debug, Serialize)]
struct OfferRow {
    id: String,
    framework: String,
    framework_id: String,
    role: String,
    agent_id: String,
    hostname: String,
    resources: String,
}

impl Row for OfferRow {
    const TITLES: &'static [&'static str] = &["ID", "FRAMEWORK", "ROLE", "AGENT", "HOST", "RESOURCES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.framework.clone(),
            self.role.clone(),
            self.agent_id.clone(),
            self.hostname.clone(),
            self.resources.clone(),
        ]
    }
}

pub(crate) async fn run(cluster: &ClusterArgs, output: &OutputArgs) -> Result<(), Failure> {
    let frameworks = cluster
        .operator()
        .get_frameworks()
        .await
        .map_err(|error| cluster.failure(error))?;
    let rows: Vec<OfferRow> = frameworks
        .frameworks
        .iter()
        .flat_map(|framework| {
            framework
                .offers
                .iter()
                .map(|offer| row(offer, &framework.framework_info.name))
        })
        .collect();
    Ok(output::print(output.output, &rows)?)
}

fn row(offer: &Offer, framework: &str) -> OfferRow {
    OfferRow {
        id: offer.id.value.clone(),
        framework: framework.to_owned(),
        framework_id: offer.framework_id.value.clone(),
        role: offer
            .allocation_info
            .as_ref()
            .map(|info| info.role().to_owned())
            .unwrap_or_default(),
        agent_id: offer.agent_id.value.clone(),
        hostname: offer.hostname.clone(),
        resources: show(&offer.resources),
    }
}

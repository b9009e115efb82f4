//! `proffer weights`.

use proffer_proto::v1::WeightInfo;
use serde::Serialize;

use super::{ClusterArgs, OutputArgs};
use crate::exit::Failure;
use crate::output::{self, Row};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum WeightsCommand {
    /// List the weights that were set; every other role has 1.
    Ls {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set the weights of roles, all of them or none.
    Set {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Such as `ads=2`; 1 is what a role has that nobody gave a weight.
        #[arg(required = true, value_name = "ROLE=WEIGHT", value_parser = weight)]
        weights: Vec<WeightInfo>,
    },
}

#[derive(Debug, Serialize)]
struct WeightRow {
    role: String,
    weight: f64,
}

impl Row for WeightRow {
    const TITLES: &'static [&'static str] = &["ROLE", "WEIGHT"];

    fn cells(&self) -> Vec<String> {
        vec![self.role.clone(), self.weight.to_string()]
    }
}

fn weight(text: &str) -> Result<WeightInfo, String> {
    let (role, weight) = text.rsplit_once('=').ok_or("expected ROLE=WEIGHT")?;
    let weight = weight
        .parse()
        .map_err(|error| format!("{weight:?} is no number: {error}"))?;
    Ok(WeightInfo {
        weight,
        role: Some(role.to_owned()),
    })
}

pub(crate) async fn run(command: WeightsCommand) -> Result<(), Failure> {
    match command {
        WeightsCommand::Ls { cluster, output } => {
            let weights = cluster.operator().get_weights().await;
            let weights = weights.map_err(|error| cluster.failure(error))?;
            let rows: Vec<WeightRow> = weights
                .into_iter()
                .map(|info| WeightRow {
                    weight: info.weight,
                    role: info.role.unwrap_or_default(),
                })
                .collect();
            Ok(output::print(output.output, &rows)?)
        }
        WeightsCommand::Set { cluster, weights } => {
            let done = cluster.operator().update_weights(weights).await;
            done.map_err(|error| cluster.failure(error))
        }
    }
}

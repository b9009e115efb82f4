//! `proffer service update`: fields of a service that is there.

use std::path::PathBuf;

use proffer_services::ServiceSpec;

use super::client::Client;
use super::run::change as make;
use super::{ChangeArgs, local};
use crate::exit::{Failure, FailureKind};

#[derive(Debug, clap::Args)]
pub(crate) struct UpdateArgs {
    /// The id of the service.
    id: String,
    /// What it is to be instead; by default what it is, with the changes. `-` is standard input.
    #[arg(required_unless_present = "set")]
    file: Option<PathBuf>,
    /// A field and its value, as `instances=5`, `env.MODE=fast`, `ports[0].port=8080`; JSON for lists and maps, `null` to take
    /// it out. Repeatable.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Changes a service that is there. What is changed of what it is now is refused where somebody else changes it meanwhile.
pub(super) async fn run(client: &Client, args: &UpdateArgs) -> Result<(), Failure> {
    let id = &args.id;
    let known = client.ask("GET", &format!("/v1/services/{id}"), None).await?;
    let mut change = args.change.clone();
    let spec = match &args.file {
        Some(file) => local::spec(file)?,
        None => {
            change.if_version = change.if_version.or(known["version"].as_u64());
            ServiceSpec::from_value(known["spec"].clone()).map_err(|rejection| rejected(&rejection))?
        }
    };
    let spec = spec.with(&args.set).map_err(|rejection| rejected(&rejection))?;
    if spec.id != *id {
        let text = format!("the id is {:?}; accepted: that of the service, {id:?}", spec.id);
        return Err(Failure::new(FailureKind::Rejected, text));
    }
    let body = serde_json::to_value(&spec).map_err(anyhow::Error::from)?;
    make(client, id, "PUT", "", Some(body), &change).await
}

fn rejected(why: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Rejected, why.to_string())
}

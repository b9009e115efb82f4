//! `proffer service`: services of the service framework.
//!
//! What needs a cluster is asked of the control API of the framework's scheduler, which is found through the masters.

mod client;
mod listing;
mod local;
mod render;
mod run;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::commands::{ClusterArgs, OutputArgs};
use crate::exit::Failure;

use client::Client;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ServiceCommand {
    /// Make or change a service as a file says.
    Run {
        #[command(flatten)]
        services: ServicesArgs,
        /// A specification, or an application of Marathon; `-` is standard input.
        file: PathBuf,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Show what a file would change, and where instances would go.
    Plan {
        #[command(flatten)]
        services: ServicesArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// A specification, or an application of Marathon; `-` is standard input.
        file: PathBuf,
    },
    /// List the services.
    Ls {
        #[command(flatten)]
        services: ServicesArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show the instances of a service.
    Show {
        #[command(flatten)]
        services: ServicesArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// The id of the service.
        id: String,
    },
    /// List the versions of a service.
    Versions {
        #[command(flatten)]
        services: ServicesArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// The id of the service.
        id: String,
    },
    /// Want another number of instances.
    Scale {
        #[command(flatten)]
        services: ServicesArgs,
        /// The id of the service.
        id: String,
        /// How many instances.
        instances: u32,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Start all instances anew, as an update does.
    Restart {
        #[command(flatten)]
        services: ServicesArgs,
        /// The id of the service.
        id: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Go back to an earlier version.
    Rollback {
        #[command(flatten)]
        services: ServicesArgs,
        /// The id of the service.
        id: String,
        /// The version; the latest with other instances, where it is not given.
        #[arg(value_name = "VERSION")]
        to: Option<u64>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// End a service with its instances.
    Stop {
        #[command(flatten)]
        services: ServicesArgs,
        /// The id of the service.
        id: String,
    },
    /// Make a file of where instances are, as the configuration of a proxy, and keep it so.
    Render {
        #[command(flatten)]
        services: ServicesArgs,
        #[command(flatten)]
        args: render::RenderArgs,
    },
    /// Print a template that comes with Proffer: `haproxy` or `nginx`.
    Template {
        /// Its name.
        name: String,
    },
    /// Print the JSON schema of specifications.
    Schema,
    /// Read a specification, and print it with all its defaults.
    Check {
        /// A file in YAML or JSON; `-` is standard input.
        file: PathBuf,
    },
    /// Print an application of Marathon as a specification, and name what of it cannot be honoured.
    Convert {
        /// A file in JSON; `-` is standard input.
        file: PathBuf,
    },
}

/// How the scheduler of the services is found.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServicesArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The name of the framework.
    #[arg(long, default_value = "services", value_name = "NAME")]
    framework: String,
    /// The control API of its scheduler, where the masters need not be asked.
    #[arg(long, env = "PROFFER_SERVICES", value_name = "HOST:PORT")]
    control: Option<String>,
}

/// How a change is made.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ChangeArgs {
    /// Only where the service has this version; 0: only where there is none.
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    /// Wait until all instances are ready, at most so many seconds.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

pub(crate) async fn run(command: ServiceCommand) -> Result<(), Failure> {
    match command {
        ServiceCommand::Run { services, file, change } => {
            let spec = local::spec(&file)?;
            let client = Client::find(&services).await?;
            let body = serde_json::to_value(&spec).map_err(anyhow::Error::from)?;
            run::change(&client, &spec.id, "PUT", "", Some(body), &change).await
        }
        ServiceCommand::Plan { services, output, file } => {
            let spec = local::spec(&file)?;
            let client = Client::find(&services).await?;
            let body = serde_json::to_value(&spec).map_err(anyhow::Error::from)?;
            let plan = client
                .ask("POST", &format!("/v1/services/{}/plan", spec.id), Some(body))
                .await?;
            listing::plan(&output, &spec, &plan)
        }
        ServiceCommand::Ls { services, output } => {
            let all = Client::find(&services).await?.ask("GET", "/v1/services", None).await?;
            listing::services(&output, &all)
        }
        ServiceCommand::Show { services, output, id } => {
            let path = format!("/v1/services/{id}");
            let service = Client::find(&services).await?.ask("GET", &path, None).await?;
            listing::instances(&output, &service)
        }
        ServiceCommand::Versions { services, output, id } => {
            let path = format!("/v1/services/{id}/versions");
            let versions = Client::find(&services).await?.ask("GET", &path, None).await?;
            listing::versions(&output, &versions)
        }
        ServiceCommand::Scale {
            services,
            id,
            instances,
            change,
        } => {
            let client = Client::find(&services).await?;
            let body = json!({ "instances": instances });
            run::change(&client, &id, "POST", "/scale", Some(body), &change).await
        }
        ServiceCommand::Restart { services, id, change } => {
            let client = Client::find(&services).await?;
            run::change(&client, &id, "POST", "/restart", None, &change).await
        }
        ServiceCommand::Rollback {
            services,
            id,
            to,
            change,
        } => {
            let client = Client::find(&services).await?;
            let body: Option<Value> = to.map(|version| json!({ "version": version }));
            run::change(&client, &id, "POST", "/rollback", body, &change).await
        }
        ServiceCommand::Stop { services, id } => {
            let client = Client::find(&services).await?;
            client.ask("DELETE", &format!("/v1/services/{id}"), None).await?;
            Ok(())
        }
        ServiceCommand::Render { services, args } => render::run(&services, &args).await,
        ServiceCommand::Template { name } => render::show(&name),
        ServiceCommand::Schema => local::print(proffer_services::spec::SCHEMA),
        ServiceCommand::Check { file } => local::show(&local::spec(&file)?),
        ServiceCommand::Convert { file } => local::convert(&file),
    }
}

//! `proffer service`: services of the service framework.
//!
//! What needs a cluster is asked of the control API of the framework's scheduler, which is found through the masters.

mod client;
mod instances;
mod listing;
mod local;
mod logs;
mod render;
mod run;
mod update;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::commands::exec::{self, ProgramArgs};
use crate::commands::logs::PartArgs;
use crate::commands::session::TargetArgs;
use crate::commands::{ClusterArgs, OutputArgs};
use crate::exit::{Failure, FailureKind};

use client::Client;
use instances::Named;

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
    /// Change single fields of a service that is there, or all of it by a file.
    Update {
        #[command(flatten)]
        services: ServicesArgs,
        #[command(flatten)]
        args: update::UpdateArgs,
    },
    /// Print what instances write: of one, or of all, each line behind the instance it is of.
    Logs {
        #[command(flatten)]
        services: ServicesArgs,
        /// A service, or one instance of it: `web`, `web.2`.
        #[arg(value_name = "ID[.N]")]
        instance: Named,
        #[command(flatten)]
        part: PartArgs,
    },
    /// Run a program in the container of an instance; ends as that does.
    Exec {
        #[command(flatten)]
        services: ServicesArgs,
        /// An instance, as `web.2`; a service that has one alone.
        #[arg(value_name = "ID.N")]
        instance: Named,
        /// The file with the token of the instance's agent; by default the one that the agent itself uses.
        #[arg(long, env = "PROFFER_TOKEN_FILE", value_name = "FILE")]
        token_file: Option<PathBuf>,
        #[command(flatten)]
        program: ProgramArgs,
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

pub(crate) async fn run(command: ServiceCommand) -> Result<ExitCode, Failure> {
    let done = match command {
        // It ends as what it ran has ended.
        ServiceCommand::Exec {
            services,
            instance,
            token_file,
            program,
        } => return exec_in(&services, &instance, token_file, &program).await,
        ServiceCommand::Update { services, args } => update::run(&Client::find(&services).await?, &args).await,
        ServiceCommand::Logs {
            services,
            instance,
            part,
        } => logs::run(&services, &instance, &part).await,
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
    };
    done.map(|()| ExitCode::SUCCESS)
}

async fn exec_in(
    services: &ServicesArgs,
    named: &Named,
    token_file: Option<PathBuf>,
    program: &ProgramArgs,
) -> Result<ExitCode, Failure> {
    let tasks = instances::tasks(services, named).await?;
    let task = match &tasks.iter().collect::<Vec<_>>()[..] {
        [(_, task)] => *task,
        several => {
            let named: Vec<_> = several
                .iter()
                .map(|(index, _)| format!("{}.{index}", named.service))
                .collect();
            let text = format!("several instances are there; name one of {}", named.join(", "));
            return Err(Failure::new(FailureKind::NotFound, text));
        }
    };
    let target = TargetArgs {
        task: task.task_id.value.clone(),
        framework: Some(task.framework_id.value.clone()),
        token_file,
    };
    exec::run_in(&services.cluster, &target, program).await
}

//! The `proffer` command: asks clusters, starts local ones, shows the demo.
//!
//! It is a multi-call binary: `proffer master`, `proffer agent` and the entries of the bundled frameworks are the same
//! programs as the binaries of their own, so that one file is all that a machine needs.

mod commands;
mod demo;
mod dev;
mod exit;
pub mod local;
mod output;
pub mod preflight;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use commands::{ClusterArgs, OutputArgs};
pub use exit::{Failure, FailureKind};

#[derive(Debug, Parser)]
#[command(
    name = "proffer",
    version,
    about = "A two-level resource manager for Linux clusters",
    propagate_version = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster on this machine and stay until interrupted.
    Dev(dev::DevArgs),
    /// Show a whole cluster at work: services, a streaming job, failures, isolation.
    Demo(demo::DemoArgs),
    /// List the agents; drain, deactivate and reactivate one.
    #[command(args_conflicts_with_subcommands = true)]
    Agents {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(subcommand)]
        command: Option<commands::agents::AgentsCommand>,
    },
    /// Plan when machines are away, and take them down.
    #[command(subcommand)]
    Maintenance(commands::maintenance::MaintenanceCommand),
    /// List the frameworks.
    Frameworks {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// Completed ones too.
        #[arg(long, short)]
        all: bool,
    },
    /// List the tasks.
    Tasks {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// Ended ones too.
        #[arg(long, short)]
        all: bool,
    },
    /// List the outstanding offers.
    Offers {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List the roles.
    Roles {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// What roles are guaranteed and limited to.
    #[command(subcommand)]
    Quota(commands::quota::QuotaCommand),
    /// How much roles get against each other.
    #[command(subcommand)]
    Weights(commands::weights::WeightsCommand),
    /// List what is lent as revocable, to whom, and what of it is wanted back.
    Lent {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Say why a framework or a role is not offered more.
    Why {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        args: commands::why::WhyArgs,
    },
    /// Keep free resources of an agent for a role.
    Reserve {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        args: commands::reservations::ReserveArgs,
    },
    /// Make resources everybody's again that were reserved.
    Unreserve {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        args: commands::reservations::UnreserveArgs,
    },
    /// Persistent volumes: directories on agents that outlive tasks.
    #[command(subcommand)]
    Volumes(commands::volumes::VolumesCommand),
    /// Print what a task wrote.
    Logs {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        args: commands::logs::LogsArgs,
    },
    /// Show what tasks use: CPU, memory, processes, disk, network, and how much they wait.
    Stats {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        args: commands::stats::StatsArgs,
    },
    /// Run a program in the container of a task.
    Exec {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        args: commands::exec::ExecArgs,
    },
    /// See what a task writes from now on, and type into it.
    Attach {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        args: commands::attach::AttachArgs,
    },
    /// Kill a task.
    Kill {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        args: commands::kill::KillArgs,
    },
    /// List the masters, add and remove some, let another one lead.
    #[command(subcommand)]
    Masters(commands::masters::MastersCommand),
    /// Look into the replicated state of frameworks.
    #[command(subcommand)]
    State(commands::state::StateCommand),
    /// Services of the service framework.
    #[command(subcommand)]
    Service(commands::service::ServiceCommand),
    /// Run streaming jobs.
    #[command(subcommand)]
    Stream(commands::stream::StreamCommand),
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Run a master.
    Master(proffer_master::Args),
    /// Run an agent.
    Agent(proffer_agent::Args),
    /// Run the scheduler of the service framework.
    Services(proffer_services::Args),
    /// Run one worker of a streaming job (started by the streaming framework).
    #[command(hide = true)]
    StreamWorker(proffer_streaming::worker::WorkerArgs),
    /// Run the example web service.
    #[command(hide = true)]
    ExampleWeb(proffer_examples::web::Args),
    /// Run the example framework with a custom executor.
    #[command(hide = true)]
    ExamplePrimes(proffer_examples::primes::Args),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Master(args) => program(proffer_master::main_with(args)),
        Command::Agent(args) => proffer_agent::main_with(args),
        Command::Services(args) => program(proffer_services::main_with(args)),
        Command::StreamWorker(args) => proffer_streaming::worker::run(args),
        Command::ExampleWeb(args) => program(proffer_examples::web::main_with(args)),
        Command::ExamplePrimes(args) => program(proffer_examples::primes::main_with(args)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "proffer", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        command => match ask(command) {
            Ok(code) => code,
            Err(failure) => failure.report(),
        },
    }
}

fn program(result: anyhow::Result<()>) -> ExitCode {
    exit(result.map_err(Failure::from))
}

fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn ask(command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let asked = match command {
            // They end as what they ran has ended.
            Command::Exec { cluster, args } => return commands::exec::run(&cluster, &args).await,
            Command::Service(command) => return commands::service::run(command).await,
            Command::Attach { cluster, args } => return commands::attach::run(&cluster, &args).await,
            Command::Dev(args) => dev::run(&args).await,
            Command::Demo(args) => demo::run(&args).await,
            Command::Agents {
                cluster,
                output,
                command: None,
            } => commands::agents::list(&cluster, &output).await,
            Command::Agents {
                command: Some(command), ..
            } => commands::agents::run(command).await,
            Command::Maintenance(command) => commands::maintenance::run(command).await,
            Command::Frameworks { cluster, output, all } => commands::frameworks::run(&cluster, &output, all).await,
            Command::Tasks { cluster, output, all } => commands::tasks::run(&cluster, &output, all).await,
            Command::Offers { cluster, output } => commands::offers::run(&cluster, &output).await,
            Command::Roles { cluster, output } => commands::roles::run(&cluster, &output).await,
            Command::Quota(command) => commands::quota::run(command).await,
            Command::Weights(command) => commands::weights::run(command).await,
            Command::Lent { cluster, output } => commands::lent::run(&cluster, &output).await,
            Command::Why { cluster, output, args } => commands::why::run(&cluster, &output, &args).await,
            Command::Reserve { cluster, args } => commands::reservations::reserve(&cluster, &args).await,
            Command::Unreserve { cluster, args } => commands::reservations::unreserve(&cluster, &args).await,
            Command::Volumes(command) => commands::volumes::run(command).await,
            Command::Logs { cluster, args } => commands::logs::run(&cluster, &args).await,
            Command::Stats { cluster, output, args } => commands::stats::run(&cluster, &output, &args).await,
            Command::Kill { cluster, args } => commands::kill::run(&cluster, &args).await,
            Command::Masters(command) => commands::masters::run(command).await,
            Command::State(command) => commands::state::run(command).await,
            Command::Stream(command) => commands::stream::run(command).await,
            _ => unreachable!("dispatched before"),
        };
        asked.map(|()| ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_names_two_arguments_alike() {
        Cli::command().debug_assert();
    }
}

//! The agent as a program of its own.

use std::process::ExitCode;

use clap::Parser;

/// Runs tasks in isolated containers for the leading master.
#[derive(Debug, Parser)]
#[command(name = "proffer-agent", version)]
struct Command {
    #[command(flatten)]
    args: proffer_agent::Args,
}

fn main() -> ExitCode {
    proffer_agent::main_with(Command::parse().args)
}

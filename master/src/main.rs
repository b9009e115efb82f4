//! `proffer-master`: the master as a program of its own.

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "proffer-master", version, about = "Runs a Proffer master")]
struct Command {
    #[command(flatten)]
    args: proffer_master::Args,
}

fn main() -> anyhow::Result<()> {
    proffer_master::main_with(Command::parse().args)
}

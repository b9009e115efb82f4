//! One worker of a streaming job as a program of its own; `proffer stream-worker` is the same.

use std::process::ExitCode;

use clap::Parser;
use proffer_streaming::worker::{self, WorkerArgs};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = WorkerArgs::parse();
    let filter = EnvFilter::try_from_env("PROFFER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    worker::run(args)
}

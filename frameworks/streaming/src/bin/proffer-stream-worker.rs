//! One worker of a streaming job as a program of its own; `proffer stream-worker` is the same.

use std::process::ExitCode;

use clap::Parser;
use proffer_streaming::worker::{self, WorkerArgs};

fn main() -> ExitCode {
    worker::run(WorkerArgs::parse())
}

//! The framework whose tasks sleep, as a program of its own.

use clap::Parser;
use proffer_examples::sleeper::{self, Args};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    sleeper::run(args).await
}

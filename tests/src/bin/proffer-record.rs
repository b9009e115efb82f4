//! Records the work directory of a released master, for the tests that open it with later versions.
//!
//! `cargo run -p proffer-tests --bin proffer-record -- --master PATH --into tests/fixtures/registry-level-2`

use std::path::PathBuf;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "Records the work directory of a released master")]
struct Args {
    /// The `proffer-master` of the release.
    #[arg(long)]
    master: PathBuf,
    /// The directory to make.
    #[arg(long)]
    into: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    proffer_tests::fixture::record(&args.master, &args.into).await
}

//! The example web server as a program of its own.

use clap::Parser;
use proffer_examples::web::{self, Args};

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    web::main_with(Args::parse())
}

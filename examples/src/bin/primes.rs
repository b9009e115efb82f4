//! The framework that counts primes, and its executor, as a program of its own.

use clap::Parser;
use proffer_examples::primes::{self, Args};

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    primes::main_with(Args::parse())
}

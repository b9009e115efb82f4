//! The services scheduler as a program of its own.

use clap::Parser;
use proffer_services::{Args, main_with};

fn main() -> anyhow::Result<()> {
    main_with(Args::parse())
}

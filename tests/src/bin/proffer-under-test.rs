//! The `proffer` command, built with the tests so that they always run what they were built with.
//!
//! It alone can be made to fail at the places that the master and the agent name, as `proffer_faults::armed` describes:
//! `PROFFER_FAULTS` holds what happens from the start on, and the file `$PROFFER_FAULTS_FILE.<pid>` what happens from the
//! moment on at which it is there. No other program reads them, and none that is released is built with what they switch on.

// A test that misspells a fault should see why nothing happens.
#![allow(clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let faults = std::env::var("PROFFER_FAULTS").ok();
    let file = std::env::var("PROFFER_FAULTS_FILE").ok();
    let file = file.map(|file| PathBuf::from(format!("{file}.{}", std::process::id())));
    if (faults.is_some() || file.is_some())
        && let Err(problem) = proffer_faults::armed::arm(faults.as_deref().unwrap_or_default(), file)
    {
        eprintln!("PROFFER_FAULTS: {problem}");
        return ExitCode::FAILURE;
    }
    proffer::main()
}

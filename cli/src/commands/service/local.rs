//! What is done with files alone.

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::path::Path;

use proffer_services::ServiceSpec;
use proffer_services::spec::marathon;

use crate::exit::{Failure, FailureKind};

/// The specification in a file.
pub(super) fn spec(file: &Path) -> Result<ServiceSpec, Failure> {
    ServiceSpec::from_yaml(&read(file)?).map_err(|rejection| rejected(file, &rejection))
}

/// Prints an application of Marathon as a specification, and names what was left out.
pub(super) fn convert(file: &Path) -> Result<(), Failure> {
    let application = serde_json::from_str(&read(file)?).map_err(|error| rejected(file, &error))?;
    let converted = marathon::convert(application).map_err(|rejection| rejected(file, &rejection))?;
    for left in converted.left_out {
        eprintln!("left out: {left}");
    }
    show(&converted.spec)
}

/// Prints a specification with all its defaults.
pub(super) fn show(spec: &ServiceSpec) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(spec).map_err(anyhow::Error::from)?;
    print(&format!("{text}\n"))
}

/// A closed pipe is no error.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|content| text = content)
    };
    read.map_err(|error| Failure::new(FailureKind::NotFound, format!("{}: {error}", file.display())))?;
    Ok(text)
}

fn rejected(file: &Path, why: &dyn Display) -> Failure {
    Failure::new(FailureKind::Rejected, format!("{}: {why}", file.display()))
}

//! Makes processes under test fail at the places that masters and agents name.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use proffer::local::LocalProcess;
use proffer_faults::Place;

const FROM_START: &str = "PROFFER_FAULTS";
const FILE: &str = "PROFFER_FAULTS_FILE";

/// The setting of a process that can be made to fail while it runs.
pub fn file_below(directory: &Path) -> (String, String) {
    (FILE.to_owned(), directory.join("faults").display().to_string())
}

/// Lets a running process fail from now on, as `proffer_faults::armed` describes; an empty text calls it off.
///
/// # Errors
/// It does not run, or was not started for that.
pub fn arm(process: &LocalProcess, faults: &str) -> anyhow::Result<()> {
    let environment = &process.spec().environment;
    let (_, file) = environment
        .iter()
        .find(|(name, _)| name == FILE)
        .context("no faults are foreseen")?;
    let path = PathBuf::from(format!("{file}.{}", process.pid().context("it does not run")?));
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, faults)?;
    Ok(std::fs::rename(unfinished, path)?)
}

/// Lets a process fail from its next start on; an empty text calls it off.
pub fn arm_next(process: &mut LocalProcess, faults: &str) {
    let environment = &mut process.spec_mut().environment;
    environment.retain(|(name, _)| name != FROM_START);
    if !faults.is_empty() {
        environment.push((FROM_START.to_owned(), faults.to_owned()));
    }
}

/// Lets a process end at its next hit of a place, as `kill -9` does.
pub fn end_at(place: Place) -> String {
    format!("{}=end", place.0)
}

/// How often a process has ended at a place.
pub fn ends_at(process: &LocalProcess, place: Place) -> usize {
    let log = std::fs::read(process.log_file()).unwrap_or_default();
    let line = format!("fault: the process ends at {}\n", place.0);
    String::from_utf8_lossy(&log).matches(&line).count()
}

/// Waits until a process has ended at a place, where it had ended `before` times.
///
/// # Errors
/// It ended in another way, or not in time.
pub async fn ended_at(process: &mut LocalProcess, place: Place, before: usize) -> anyhow::Result<()> {
    process.wait(crate::DEADLINE).await;
    ensure!(
        ends_at(process, place) == before + 1,
        "{} did not end at {}; the end of its log:\n{}",
        process.spec().name,
        place.0,
        process.log_tail()
    );
    Ok(())
}

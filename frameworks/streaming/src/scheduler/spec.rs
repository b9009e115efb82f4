//! What a job is: the description that users write.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::source::Pattern;

/// How many workers a job may have.
pub const WORKERS_MAX: usize = 256;

/// A job that counts the access logs of a service by route and window.
///
/// The workers run as the given user on the agents' own file systems: `sources` must be readable and `out_dir` writable
/// for that user, and, where workers run on several hosts, be on a file system that the hosts share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// The job's name, which is also its id: 1 to 64 of `a-z A-Z 0-9 . _ -`.
    pub name: String,
    /// How many workers share the work.
    pub workers: usize,
    /// Absolute paths of access logs, in which `*`, `?` and `**` may be used.
    pub sources: Vec<String>,
    /// An absolute path below which results are written; [`crate::output`] says what.
    pub out_dir: PathBuf,
    /// The size of the windows in milliseconds.
    #[serde(default = "defaults::window_ms")]
    pub window_ms: u64,
    /// How much earlier than the newest line of its log a line may be without being late, in milliseconds.
    #[serde(default = "defaults::lateness_ms")]
    pub lateness_ms: u64,
    /// After how long without lines a log no longer holds back the others, in milliseconds.
    #[serde(default = "defaults::idle_ms")]
    pub idle_ms: u64,
    /// Processors for each worker.
    #[serde(default = "defaults::cpus")]
    pub cpus: f64,
    /// Memory for each worker in MiB.
    #[serde(default = "defaults::mem_mib")]
    pub mem_mib: f64,
    /// The role whose resources are used.
    #[serde(default = "defaults::role")]
    pub role: String,
    /// The user that the workers run as; without it, the user of this process.
    #[serde(default)]
    pub user: Option<String>,
    /// The program that the workers run; without it, this one.
    #[serde(default)]
    pub worker_binary: Option<PathBuf>,
    /// What comes before the worker's own arguments.
    #[serde(default = "defaults::worker_arguments")]
    pub worker_arguments: Vec<String>,
    /// How long workers outlive this scheduler, in seconds.
    #[serde(default = "defaults::failover_timeout_s")]
    pub failover_timeout_s: u64,
    /// After how long without a sign of life from a running worker a new attempt is made, in milliseconds.
    #[serde(default = "defaults::stall_timeout_ms")]
    pub stall_timeout_ms: u64,
    /// How many attempts in a row may end soon after their start before the job is given up.
    #[serde(default = "defaults::quick_failures_max")]
    pub quick_failures_max: u32,
}

mod defaults {
    pub(super) fn window_ms() -> u64 {
        1_000
    }
    pub(super) fn lateness_ms() -> u64 {
        500
    }
    pub(super) fn idle_ms() -> u64 {
        500
    }
    pub(super) fn cpus() -> f64 {
        0.25
    }
    pub(super) fn mem_mib() -> f64 {
        64.0
    }
    pub(super) fn role() -> String {
        "*".to_owned()
    }
    pub(super) fn worker_arguments() -> Vec<String> {
        vec!["stream-worker".to_owned()]
    }
    pub(super) fn failover_timeout_s() -> u64 {
        60
    }
    pub(super) fn stall_timeout_ms() -> u64 {
        30_000
    }
    pub(super) fn quick_failures_max() -> u32 {
        10
    }
}

/// What is wrong with a [`JobSpec`]; names the field and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}")]
pub struct InvalidSpec {
    field: &'static str,
    expected: String,
}

impl JobSpec {
    /// A job with default settings.
    pub fn new(name: impl Into<String>, workers: usize, out_dir: impl Into<PathBuf>) -> JobSpec {
        JobSpec {
            name: name.into(),
            workers,
            sources: Vec::new(),
            out_dir: out_dir.into(),
            window_ms: defaults::window_ms(),
            lateness_ms: defaults::lateness_ms(),
            idle_ms: defaults::idle_ms(),
            cpus: defaults::cpus(),
            mem_mib: defaults::mem_mib(),
            role: defaults::role(),
            user: None,
            worker_binary: None,
            worker_arguments: defaults::worker_arguments(),
            failover_timeout_s: defaults::failover_timeout_s(),
            stall_timeout_ms: defaults::stall_timeout_ms(),
            quick_failures_max: defaults::quick_failures_max(),
        }
    }

    /// One more path or pattern of access logs.
    pub fn source(mut self, pattern: impl Into<String>) -> JobSpec {
        self.sources.push(pattern.into());
        self
    }

    /// Checks every field.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        let check = |holds: bool, field: &'static str, expected: &str| {
            let expected = expected.to_owned();
            if holds {
                Ok(())
            } else {
                Err(InvalidSpec { field, expected })
            }
        };
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let day_ms = 1..=86_400_000;
        check(
            (1..=64).contains(&self.name.len()) && self.name.chars().all(named),
            "name",
            "1 to 64 characters of a-z A-Z 0-9 . _ -",
        )?;
        check(
            (1..=WORKERS_MAX).contains(&self.workers),
            "workers",
            "a number from 1 to 256",
        )?;
        check(!self.sources.is_empty(), "sources", "at least one path of access logs")?;
        for source in &self.sources {
            Pattern::parse(source).map_err(|expected| InvalidSpec {
                field: "sources",
                expected,
            })?;
        }
        check(self.out_dir.is_absolute(), "out_dir", "an absolute path")?;
        check(
            day_ms.contains(&self.window_ms),
            "window_ms",
            "1 to 86400000 milliseconds",
        )?;
        check(
            self.lateness_ms <= *day_ms.end(),
            "lateness_ms",
            "0 to 86400000 milliseconds",
        )?;
        check(day_ms.contains(&self.idle_ms), "idle_ms", "1 to 86400000 milliseconds")?;
        let amount = |value: f64, least: f64| value.is_finite() && value >= least;
        check(amount(self.cpus, 0.01), "cpus", "a number of at least 0.01")?;
        check(amount(self.mem_mib, 32.0), "mem_mib", "a number of at least 32")?;
        check(!self.role.is_empty(), "role", "the name of a role, or *")?;
        check(
            self.stall_timeout_ms >= 3_000,
            "stall_timeout_ms",
            "at least 3000 milliseconds",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_is_named_with_what_would_be_accepted() {
        let good = JobSpec::new("requests", 2, "/tmp/out").source("/tmp/*.log");
        assert_eq!(good.validate(), Ok(()));
        let refused = |change: fn(&mut JobSpec)| {
            let mut spec = good.clone();
            change(&mut spec);
            spec.validate().unwrap_err().to_string()
        };
        assert_eq!(
            refused(|spec| spec.workers = 0),
            "workers: expected a number from 1 to 256"
        );
        assert_eq!(
            refused(|spec| spec.cpus = f64::NAN),
            "cpus: expected a number of at least 0.01"
        );
        assert_eq!(
            refused(|spec| spec.out_dir = "out".into()),
            "out_dir: expected an absolute path"
        );
        assert_eq!(
            refused(|spec| spec.window_ms = 0),
            "window_ms: expected 1 to 86400000 milliseconds"
        );
        assert!(refused(|spec| spec.sources.push("log".into())).contains("absolute path"));
        assert!(refused(|spec| spec.name = "a/b".into()).starts_with("name: "));
    }

    #[test]
    fn a_spec_is_short_when_written_down() {
        let text = r#"{"name":"requests","workers":2,"sources":["/var/log/*.log"],"out_dir":"/tmp/out"}"#;
        let spec: JobSpec = serde_json::from_str(text).unwrap();
        assert_eq!(spec, JobSpec::new("requests", 2, "/tmp/out").source("/var/log/*.log"));
        assert!(serde_json::from_str::<JobSpec>(&text.replace("workers", "worker")).is_err());
    }
}

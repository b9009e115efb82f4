//! How long the restart of an instance waits.

use proffer_proto::Rejection;
use serde::Serialize;
use serde_json::Value;

use super::fields::Fields;
use super::values::within;

/// How long the restart of an instance waits.
///
/// The wait is `initial_ms` after the first failure and grows by `factor` with every further one up to `max_ms`. An
/// instance that ran for `reset_after_seconds` is restarted at once, and the count begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Backoff {
    /// The first wait in milliseconds.
    pub initial_ms: u64,
    /// The longest wait in milliseconds.
    pub max_ms: u64,
    /// By how much the wait grows.
    pub factor: f64,
    /// How long an instance has to run to count as stable, in seconds.
    pub reset_after_seconds: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial_ms: 500,
            max_ms: 60_000,
            factor: 2.0,
            reset_after_seconds: 10.0,
        }
    }
}

impl Backoff {
    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let defaults = Backoff::default();
        let backoff = Backoff {
            initial_ms: fields
                .optional("initial_ms", "whole milliseconds")?
                .unwrap_or(defaults.initial_ms),
            max_ms: fields
                .optional("max_ms", "whole milliseconds")?
                .unwrap_or(defaults.max_ms),
            factor: fields.optional("factor", "a number from 1")?.unwrap_or(defaults.factor),
            reset_after_seconds: fields
                .optional("reset_after_seconds", "a number of seconds")?
                .unwrap_or(defaults.reset_after_seconds),
        };
        fields.end()?;
        Ok(backoff)
    }

    pub(super) fn validate(&self) -> Result<(), Rejection> {
        if self.max_ms > 86_400_000 {
            return Err(Rejection::new("max_ms", format!("is {}", self.max_ms), "0 to 86400000"));
        }
        if self.initial_ms > self.max_ms {
            let accepted = format!("0 to max_ms, which is {}", self.max_ms);
            return Err(Rejection::new(
                "initial_ms",
                format!("is {}", self.initial_ms),
                accepted,
            ));
        }
        within("factor", self.factor, 1.0, 100.0)?;
        within("reset_after_seconds", self.reset_after_seconds, 0.0, 86_400.0)
    }
}

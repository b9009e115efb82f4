//! Points in time, as the driver tells them; the core reads no clock.

use std::fmt;
use std::time::Duration;

use proffer_proto::v1;

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The point in time `span` later; the end of time where that is further away than can be counted.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(millis))
    }

    /// How long ago `earlier` was; nothing where it is yet to come.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// As the registry writes it.
    pub fn as_millis_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// From the registry; what lies before the epoch counts as the epoch.
    pub fn from_millis_i64(millis: i64) -> Self {
        Timestamp(u64::try_from(millis).unwrap_or(0))
    }

    /// Seconds since the epoch, as `TaskStatus.timestamp` has them.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// As a message.
    pub(crate) fn to_wire(self) -> v1::TimeInfo {
        v1::TimeInfo {
            nanoseconds: self.as_nanos_i64(),
        }
    }

    /// Nanoseconds since the epoch, as `TimeInfo` has them.
    pub fn as_nanos_i64(self) -> i64 {
        self.as_millis_i64().saturating_mul(1_000_000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

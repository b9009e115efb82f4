//! What becomes of an instance whose agent is unreachable.

use proffer_proto::Rejection;
use serde::Serialize;
use serde_json::Value;

use super::fields::{Fields, shown};
use super::values::within;

/// What becomes of an instance whose agent is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Partition {
    /// It is never replaced: it is waited for until its agent comes back, or is gone for good.
    Keep,
    /// It is replaced after so many seconds; should it come back, one of the two ends.
    #[serde(untagged)]
    Replace {
        /// How long it is waited for.
        replace_after_seconds: f64,
    },
}

const ACCEPTED: &str = "`keep`, or a map with `replace_after_seconds`";

impl Default for Partition {
    fn default() -> Self {
        Self::Replace {
            replace_after_seconds: 0.0,
        }
    }
}

impl Partition {
    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        match value {
            Value::String(text) if text == "keep" => Ok(Self::Keep),
            Value::Object(_) => {
                let mut fields = Fields::of(value)?;
                let replace_after_seconds = fields.required("replace_after_seconds", "a number of seconds")?;
                fields.end()?;
                Ok(Self::Replace { replace_after_seconds })
            }
            other => Err(Rejection::new("", format!("is {}", shown(&other)), ACCEPTED)),
        }
    }

    pub(super) fn validate(&self) -> Result<(), Rejection> {
        match self {
            Self::Keep => Ok(()),
            Self::Replace { replace_after_seconds } => {
                within("replace_after_seconds", *replace_after_seconds, 0.0, 31_536_000.0)
            }
        }
    }
}

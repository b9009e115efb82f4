//! What becomes of the persistent volumes of instances that are no more, or whose agent is away.

use proffer_proto::Rejection;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ServiceSpec;
use super::fields::Fields;
use super::values::within;

/// What becomes of persistent volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Persistence {
    /// What becomes of those of instances that are not wanted any more.
    pub scale_down: ScaleDown,
    /// How long an instance that could be started waits for the agent on which its volumes lie, before it gets empty ones
    /// elsewhere, in seconds; for ever where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_after_seconds: Option<f64>,
}

/// What becomes of the volumes of instances that are not wanted any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleDown {
    /// They stay, for when there are as many instances again.
    #[default]
    Keep,
    /// They are destroyed, with what is in them.
    Delete,
}

impl Persistence {
    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let persistence = Self {
            scale_down: fields.optional("scale_down", "keep or delete")?.unwrap_or_default(),
            replace_after_seconds: fields.optional("replace_after_seconds", "a number of seconds")?,
        };
        fields.end()?;
        Ok(persistence)
    }

    pub(super) fn validate(&self) -> Result<(), Rejection> {
        match self.replace_after_seconds {
            Some(seconds) => within("replace_after_seconds", seconds, 0.0, 31_536_000.0),
            None => Ok(()),
        }
    }
}

impl ServiceSpec {
    /// Whether its instances have volumes that outlive them.
    pub fn is_stateful(&self) -> bool {
        self.volumes.iter().any(|volume| volume.persistent_mib().is_some())
    }
}

//! How running instances become those of a new version.

use proffer_proto::Rejection;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::Fields;
use super::values::within;
use super::{Mode, Operator, ServiceSpec};

/// How running instances become those of a new version.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct UpdatePolicy {
    /// Which share of the wanted instances is to be ready at any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_healthy: Option<f64>,
    /// Which share of the wanted instances may run beyond them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_capacity: Option<f64>,
    /// How long no further instance may become ready before the update has failed, in seconds.
    pub progress_deadline_seconds: f64,
    /// What follows then.
    pub on_failure: OnFailure,
}

/// What follows an update that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The version that was there before comes back.
    Revert,
    /// All stays as it is.
    Pause,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self {
            minimum_healthy: None,
            over_capacity: None,
            progress_deadline_seconds: 600.0,
            on_failure: OnFailure::Revert,
        }
    }
}

impl UpdatePolicy {
    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let defaults = Self::default();
        let policy = Self {
            minimum_healthy: fields.optional("minimum_healthy", "a share from 0 to 1")?,
            over_capacity: fields.optional("over_capacity", "a share from 0 to 1")?,
            progress_deadline_seconds: fields
                .optional("progress_deadline_seconds", "a number of seconds")?
                .unwrap_or(defaults.progress_deadline_seconds),
            on_failure: fields
                .optional("on_failure", "revert or pause")?
                .unwrap_or(defaults.on_failure),
        };
        fields.end()?;
        Ok(policy)
    }

    pub(super) fn validate(&self) -> Result<(), Rejection> {
        if let Some(share) = self.minimum_healthy {
            within("minimum_healthy", share, 0.0, 1.0)?;
        }
        if let Some(share) = self.over_capacity {
            within("over_capacity", share, 0.0, 1.0)?;
        }
        if self.minimum_healthy == Some(1.0) && self.over_capacity == Some(0.0) {
            let accepted = "`minimum_healthy` below 1, or `over_capacity` above 0";
            return Err(Rejection::new(
                "over_capacity",
                "is 0 and `minimum_healthy` 1, so that nothing may change",
                accepted,
            ));
        }
        within(
            "progress_deadline_seconds",
            self.progress_deadline_seconds,
            1.0,
            86_400.0,
        )
    }
}

impl ServiceSpec {
    /// Which share of the wanted instances is to be ready during an update.
    pub fn minimum_healthy(&self) -> f64 {
        self.update.minimum_healthy.unwrap_or(1.0)
    }

    /// Which share of the wanted instances may run beyond them during an update: unless it is said, a quarter, or none where
    /// instances hold what they cannot share.
    pub fn over_capacity(&self) -> f64 {
        let usual = if self.is_exclusive() { 0.0 } else { 0.25 };
        self.update.over_capacity.unwrap_or(usual)
    }

    /// An instance more would have volumes of its own, which are left behind.
    pub(super) fn validate_capacity(&self) -> Result<(), Rejection> {
        match self.update.over_capacity {
            Some(share) if share > 0.0 && self.is_stateful() => Err(Rejection::new(
                "update.over_capacity",
                format!("is {share}"),
                "0 for instances with persistent volumes",
            )),
            _ => Ok(()),
        }
    }

    /// Whether instances hold what they cannot share with one more: a port, an agent, a directory.
    fn is_exclusive(&self) -> bool {
        let counted = |operator: &Operator| matches!(operator, Operator::Unique | Operator::MaxPer(_));
        self.ports.iter().any(|port| port.port != 0)
            || self.is_stateful()
            || self.volumes.iter().any(|volume| volume.mode == Mode::Rw)
            || self.constraints.iter().any(|constraint| counted(&constraint.operator))
    }
}

//! How running instances become those of a new version.

use proffer_proto::Rejection;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::Fields;
use super::values::within;
use super::{INSTANCES_MAX, Mode, Operator, ServiceSpec};

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
    /// In what order instances become those of the new version.
    pub strategy: Strategy,
    /// How long those of the old version run on after all of the new one took over, in seconds: only where they run side by
    /// side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retire_after_seconds: Option<f64>,
    /// How many of the new version are watched before the others follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryPolicy>,
}

/// In what order instances become those of the new version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Some after the others.
    #[default]
    Rolling,
    /// All of the new version beside all of the old one; when the new ones are ready they take over at once.
    BlueGreen,
}

/// How many of the new version are watched, and how, before the others follow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CanaryPolicy {
    /// How many.
    #[serde(flatten)]
    pub size: CanarySize,
    /// For how long, from when they are ready, in seconds.
    pub watch_seconds: f64,
    /// How often instances of the new version may end by themselves, or stop being ready, until then.
    pub max_failures: u32,
}

/// How many instances are watched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CanarySize {
    /// A share of those that are wanted, rounded up.
    Share(f64),
    /// So many.
    Count(u32),
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
            strategy: Strategy::Rolling,
            retire_after_seconds: None,
            canary: None,
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
            strategy: fields
                .optional("strategy", "rolling or blue-green")?
                .unwrap_or_default(),
            retire_after_seconds: fields.optional("retire_after_seconds", "a number of seconds")?,
            canary: fields.nested("canary", CanaryPolicy::read)?,
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
        let side_by_side = self.strategy == Strategy::BlueGreen;
        if let Some(seconds) = self.retire_after_seconds {
            within("retire_after_seconds", seconds, 0.0, 86_400.0)?;
            if !side_by_side {
                let accepted = "`strategy: blue-green` with it";
                return Err(Rejection::new("retire_after_seconds", "is set", accepted));
            }
        }
        if let Some(canary) = &self.canary {
            canary.validate().map_err(|rejection| rejection.within("canary"))?;
            if side_by_side {
                let accepted = "`strategy: rolling` with it";
                return Err(Rejection::new("canary", "is set", accepted));
            }
        }
        within(
            "progress_deadline_seconds",
            self.progress_deadline_seconds,
            1.0,
            86_400.0,
        )
    }
}

impl CanaryPolicy {
    fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let accepted = "either `share`, from 0 to 1, or `count`";
        let share = fields.optional("share", "a share from 0 to 1")?;
        let count = fields.optional("count", "a whole number from 1")?;
        let size = match (share, count) {
            (Some(share), None) => CanarySize::Share(share),
            (None, Some(count)) => CanarySize::Count(count),
            (None, None) => return Err(Rejection::new("share", "is missing", accepted)),
            (Some(_), Some(_)) => return Err(Rejection::new("count", "is set beside `share`", accepted)),
        };
        let policy = Self {
            size,
            watch_seconds: fields.optional("watch_seconds", "a number of seconds")?.unwrap_or(60.0),
            max_failures: fields.optional("max_failures", "a whole number from 0")?.unwrap_or(0),
        };
        fields.end()?;
        Ok(policy)
    }

    fn validate(&self) -> Result<(), Rejection> {
        match self.size {
            CanarySize::Share(share) => within("share", share, 0.0, 1.0)?,
            CanarySize::Count(count) => within("count", count.into(), 1.0, INSTANCES_MAX.into())?,
        }
        within("max_failures", self.max_failures.into(), 0.0, 1_000_000.0)?;
        within("watch_seconds", self.watch_seconds, 0.0, 86_400.0)
    }
}

impl ServiceSpec {
    /// How many instances of a new version are watched before the others follow, where some are.
    pub fn canary_instances(&self) -> Option<u32> {
        let wanted = match self.update.canary?.size {
            CanarySize::Share(share) => (f64::from(self.instances) * share - 1e-9).ceil() as u32,
            CanarySize::Count(count) => count,
        };
        Some(wanted.max(1).min(self.instances))
    }

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
        if self.update.strategy == Strategy::BlueGreen && self.is_stateful() {
            let accepted = "rolling for instances with persistent volumes";
            return Err(Rejection::new("update.strategy", "is blue-green", accepted));
        }
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

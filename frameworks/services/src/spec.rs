//! What a service is to be: the specification that users write in YAML or JSON.
//!
//! A [`ServiceSpec`] that exists is valid: every way to make one from text goes through [`ServiceSpec::from_value`],
//! which rejects a field that it does not know, or a value that it does not accept, by the field's path. What is
//! accepted is done; what is known and cannot be done yet is rejected by its name. Each part of a specification has a
//! file of its own, with its type, how it is read, and what of it is accepted.

use std::collections::BTreeMap;

use proffer_proto::Rejection;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod artifacts;
mod backoff;
mod checks;
pub(crate) mod constraints;
mod env;
mod fields;
mod init;
pub mod marathon;
mod partition;
mod persistence;
mod ports;
mod preferences;
mod refused;
mod run;
mod set;
mod update;
mod values;
mod volumes;

use fields::Fields;
use values::{text, within};

use crate::template;

pub use artifacts::{ARTIFACTS_MAX, Artifact};
pub use backoff::Backoff;
pub use checks::{HealthCheck, Probe, ReadinessCheck};
pub use constraints::{CONSTRAINTS_MAX, Constraint, Operator};
pub use init::{INIT_MAX, InitStep};
pub use partition::Partition;
pub use persistence::{Persistence, ScaleDown};
pub use ports::{PORTS_MAX, PortSpec};
pub use preferences::{Affinity, AffinityTo, PREFERENCES_MAX, Spread};
pub use run::Run;
pub use update::{CanaryPolicy, CanarySize, OnFailure, Strategy, UpdatePolicy};
pub use volumes::{FILES_BYTES_MAX, FileSpec, MOUNTS_MAX, Mode, PersistentVolume, VolumeSource, VolumeSpec};

/// The most instances that one service may have.
pub const INSTANCES_MAX: u32 = 100_000;

/// The JSON schema of specifications.
pub const SCHEMA: &str = include_str!("../service.schema.json");

/// A service: a command of which a number of instances is kept running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct ServiceSpec {
    /// Its name, a DNS label.
    pub id: String,
    /// What an instance runs.
    #[serde(flatten)]
    pub run: Run,
    /// What is run to its end before, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init: Vec<InitStep>,
    /// How many instances are kept running.
    pub instances: u32,
    /// CPUs of an instance.
    pub cpus: f64,
    /// Memory of an instance in MiB.
    pub mem: f64,
    /// Disk of an instance in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<f64>,
    /// Ports of an instance, in the order of `PORT0`, `PORT1`...
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortSpec>,
    /// Environment of an instance.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What an operator wants to be said of its tasks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What is fetched into the sandbox before the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// Files in the sandbox whose content is given here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// Files and directories of the host that an instance sees, and directories of its own that outlive it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeSpec>,
    /// What becomes of volumes that outlive instances.
    pub persistence: Persistence,
    /// The user as whom it runs; the framework's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Ends an instance that does not do well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// Tells whether an instance takes requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness: Option<ReadinessCheck>,
    /// Where instances may run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// Over what instances had better lie evenly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<Spread>,
    /// Where they had better be, or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<Affinity>,
    /// How long an instance that is to end goes on after it was taken out of discovery, in seconds.
    pub drain_seconds: f64,
    /// How long an instance may take to end after SIGTERM, in seconds.
    pub kill_grace_seconds: f64,
    /// How long a restart waits.
    pub backoff: Backoff,
    /// What becomes of instances whose agent is unreachable.
    pub partition: Partition,
    /// How running instances become those of a new version.
    pub update: UpdatePolicy,
}

impl ServiceSpec {
    /// A service of one instance with all else at its default; a start for programs.
    ///
    /// Fields may be set afterwards; [`ServiceSpec::validate`] says whether the result is valid.
    pub fn command(id: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            run: Run::Command(command.into()),
            init: Vec::new(),
            instances: 1,
            cpus: 0.1,
            mem: 64.0,
            disk: None,
            ports: Vec::new(),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            artifacts: Vec::new(),
            files: Vec::new(),
            volumes: Vec::new(),
            persistence: Persistence::default(),
            user: None,
            health: None,
            readiness: None,
            constraints: Vec::new(),
            spread: Vec::new(),
            affinity: Vec::new(),
            drain_seconds: 0.0,
            kill_grace_seconds: 5.0,
            backoff: Backoff::default(),
            partition: Partition::default(),
            update: UpdatePolicy::default(),
        }
    }

    /// Reads a specification in YAML, of which JSON is a part, or an application of [`marathon`] of which all is honoured.
    pub fn from_yaml(text: &str) -> Result<Self, Rejection> {
        let value = serde_yaml_ng::from_str::<Value>(text)
            .map_err(|error| Rejection::new("", format!("is not YAML ({error})"), "one service in YAML or JSON"))?;
        if marathon::is_application(&value) {
            return marathon::convert(value)?.whole();
        }
        Self::from_value(value)
    }

    /// Reads a specification in JSON.
    pub fn from_json(text: &[u8]) -> Result<Self, Rejection> {
        let value = serde_json::from_slice::<Value>(text)
            .map_err(|error| Rejection::new("", format!("is not JSON ({error})"), "one service in JSON"))?;
        Self::from_value(value)
    }

    /// Reads a specification from its parsed form.
    pub fn from_value(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        refused::check(&fields)?;
        let defaults = Self::command(String::new(), String::new());
        let texts = "a map from names to text; numbers need quotes";
        let spec = Self {
            id: fields.required("id", "a name as text")?,
            run: Run::read(&mut fields)?,
            init: fields.list("init", InitStep::read)?,
            instances: fields
                .optional("instances", "a whole number from 0")?
                .unwrap_or(defaults.instances),
            cpus: fields.optional("cpus", "a number")?.unwrap_or(defaults.cpus),
            mem: fields.optional("mem", "a number of MiB")?.unwrap_or(defaults.mem),
            disk: fields.optional("disk", "a number of MiB")?,
            ports: fields.list("ports", PortSpec::read)?,
            env: fields.optional("env", texts)?.unwrap_or_default(),
            labels: fields.optional("labels", texts)?.unwrap_or_default(),
            artifacts: fields.list("artifacts", Artifact::read)?,
            files: fields.list("files", FileSpec::read)?,
            volumes: fields.list("volumes", VolumeSpec::read)?,
            persistence: fields.nested("persistence", Persistence::read)?.unwrap_or_default(),
            user: fields.optional("user", "the name of a user")?,
            health: fields.nested("health", HealthCheck::read)?,
            readiness: fields.nested("readiness", ReadinessCheck::read)?,
            constraints: fields.list("constraints", Constraint::read)?,
            spread: fields.list("spread", Spread::read)?,
            affinity: fields.list("affinity", Affinity::read)?,
            drain_seconds: fields
                .optional("drain_seconds", "a number of seconds")?
                .unwrap_or(defaults.drain_seconds),
            kill_grace_seconds: fields
                .optional("kill_grace_seconds", "a number of seconds")?
                .unwrap_or(defaults.kill_grace_seconds),
            backoff: fields.nested("backoff", Backoff::read)?.unwrap_or_default(),
            partition: fields.nested("partition", Partition::read)?.unwrap_or_default(),
            update: fields.nested("update", UpdatePolicy::read)?.unwrap_or_default(),
        };
        fields.end()?;
        spec.validate()?;
        Ok(spec)
    }

    /// Checks the values, each for itself and together.
    pub fn validate(&self) -> Result<(), Rejection> {
        values::label("id", &self.id)?;
        self.run.validate()?;
        init::validate(&self.init)?;
        if self.instances > INSTANCES_MAX {
            let accepted = format!("0 to {INSTANCES_MAX}");
            return Err(Rejection::new("instances", format!("is {}", self.instances), accepted));
        }
        within("cpus", self.cpus, 0.001, 1_000_000.0)?;
        within("mem", self.mem, 1.0, 1e12)?;
        if let Some(disk) = self.disk {
            within("disk", disk, 0.0, 1e15)?;
        }
        within("drain_seconds", self.drain_seconds, 0.0, 86_400.0)?;
        within("kill_grace_seconds", self.kill_grace_seconds, 0.0, 86_400.0)?;
        if let Some(user) = &self.user {
            text("user", user, 1, 256)?;
        }
        ports::validate(&self.ports)?;
        env::validate(&self.env)?;
        for (name, value) in &self.labels {
            text(&format!("labels.{name}"), name, 1, 1024)?;
            text(&format!("labels.{name}"), value, 0, values::TEXT_BYTES_MAX)?;
        }
        artifacts::validate(&self.artifacts)?;
        volumes::validate(&self.volumes, &self.files)?;
        let within_field = |field: &'static str| move |rejection: Rejection| rejection.within(field);
        if let Some(check) = &self.health {
            check.validate(&self.ports).map_err(within_field("health"))?;
        }
        if let Some(check) = &self.readiness {
            check.validate(&self.ports).map_err(within_field("readiness"))?;
        }
        for (field, text) in self.templates() {
            template::check(&field, text, &self.ports)?;
        }
        constraints::validate(&self.constraints)?;
        preferences::validate(&self.spread, &self.affinity)?;
        self.persistence.validate().map_err(within_field("persistence"))?;
        self.partition.validate().map_err(within_field("partition"))?;
        self.update.validate().map_err(within_field("update"))?;
        if self.drain_seconds >= self.update.progress_deadline_seconds {
            let accepted = "less than `update.progress_deadline_seconds`";
            return Err(Rejection::new(
                "drain_seconds",
                format!("is {}", self.drain_seconds),
                accepted,
            ));
        }
        self.validate_capacity()?;
        self.backoff.validate().map_err(within_field("backoff"))
    }

    /// The texts that may hold templates, by their fields.
    fn templates(&self) -> Vec<(String, &str)> {
        let mut texts: Vec<(String, &str)> = Vec::new();
        let init = self.init.iter().enumerate();
        let init = init.map(|(index, step)| (format!("init[{index}]."), &step.run));
        for (place, run) in std::iter::once((String::new(), &self.run)).chain(init) {
            match run {
                Run::Command(line) => texts.push((format!("{place}command"), line)),
                Run::Argv(argv) => {
                    let numbered = argv.iter().enumerate();
                    texts.extend(numbered.map(|(index, word)| (format!("{place}argv[{index}]"), word.as_str())));
                }
            }
        }
        texts.extend(
            self.env
                .iter()
                .map(|(name, value)| (format!("env.{name}"), value.as_str())),
        );
        let files = self.files.iter().enumerate();
        texts.extend(files.map(|(index, file)| (format!("files[{index}].content"), file.content.as_str())));
        let health = self.health.iter().map(|check| ("health.command", &check.probe));
        let readiness = self.readiness.iter().map(|check| ("readiness.command", &check.probe));
        texts.extend(health.chain(readiness).filter_map(|(field, probe)| match probe {
            Probe::Command(line) => Some((field.to_owned(), line.as_str())),
            Probe::Http { .. } | Probe::Tcp { .. } | Probe::Grpc { .. } => None,
        }));
        texts
    }

    /// Whether a running instance of `other` does for this one: all but the number of instances, the back-off and the
    /// like is the same.
    pub fn same_instance(&self, other: &Self) -> bool {
        let neutral = |spec: &Self| Self {
            instances: 0,
            backoff: Backoff::default(),
            partition: Partition::default(),
            persistence: Persistence::default(),
            update: UpdatePolicy::default(),
            spread: Vec::new(),
            affinity: Vec::new(),
            drain_seconds: 0.0,
            kill_grace_seconds: 0.0,
            ..spec.clone()
        };
        neutral(self) == neutral(other)
    }
}

impl TryFrom<Value> for ServiceSpec {
    type Error = Rejection;

    fn try_from(value: Value) -> Result<Self, Rejection> {
        Self::from_value(value)
    }
}

#[cfg(test)]
mod tests;

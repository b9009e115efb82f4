//! What a service is to be: the specification that users write in YAML or JSON.
//!
//! A [`ServiceSpec`] that exists is valid: every way to make one from text goes through [`ServiceSpec::from_value`],
//! which rejects a field that it does not know, or a value that it does not accept, by the field's path.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::Rejection;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod fields;

use fields::Fields;

/// The most instances that one service may have.
pub const INSTANCES_MAX: u32 = 100_000;

/// The most ports that one instance may have.
pub const PORTS_MAX: usize = 32;

/// The longest id of a service or name of a port: that of a DNS label.
const LABEL_BYTES_MAX: usize = 63;

const LABEL_ACCEPTED: &str = "1 to 63 of a-z, 0-9 and -, neither beginning nor ending with -";

/// A service: a command of which a number of instances is kept running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct ServiceSpec {
    /// Its name, a DNS label.
    pub id: String,
    /// What an instance runs.
    #[serde(flatten)]
    pub run: Run,
    /// How many instances are kept running.
    pub instances: u32,
    /// CPUs of an instance.
    pub cpus: f64,
    /// Memory of an instance in megabytes.
    pub mem: f64,
    /// Disk of an instance in megabytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<f64>,
    /// Ports of an instance, in the order of `PORT0`, `PORT1`...
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortSpec>,
    /// Environment of an instance.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The user as whom it runs; the framework's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long an instance may take to end after SIGTERM, in seconds.
    pub kill_grace_seconds: f64,
    /// How long a restart waits.
    pub backoff: Backoff,
    /// Where instances may run.
    pub constraints: Constraints,
    /// How long an instance on an unreachable agent is waited for before it is replaced, in seconds.
    pub replace_unreachable_after_seconds: f64,
}

/// What an instance runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// A line for `/bin/sh -c`.
    Command(String),
    /// A program and its arguments, the program being the first.
    Argv(Vec<String>),
}

/// One port of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortSpec {
    /// Its name, a DNS label.
    pub name: String,
    /// The port, or 0 for any that an offer has.
    pub port: u16,
}

/// How long the restart of an instance waits.
///
/// The wait is `initial_ms` after the first failure and grows by `factor` with every further one up to `max_ms`. An
/// instance that ran for `reset_after_s` is restarted at once, and the count begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Backoff {
    /// The first wait in milliseconds.
    pub initial_ms: u64,
    /// The longest wait in milliseconds.
    pub max_ms: u64,
    /// By how much the wait grows.
    pub factor: f64,
    /// How long an instance has to run to count as stable, in seconds.
    pub reset_after_s: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial_ms: 500,
            max_ms: 60_000,
            factor: 2.0,
            reset_after_s: 10.0,
        }
    }
}

/// Where instances may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Constraints {
    /// No two instances on one host.
    pub unique_host: bool,
}

impl ServiceSpec {
    /// A service of one instance with all else at its default; a start for programs.
    ///
    /// Fields may be set afterwards; [`ServiceSpec::validate`] says whether the result is valid.
    pub fn command(id: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            run: Run::Command(command.into()),
            instances: 1,
            cpus: 0.1,
            mem: 64.0,
            disk: None,
            ports: Vec::new(),
            env: BTreeMap::new(),
            user: None,
            kill_grace_seconds: 5.0,
            backoff: Backoff::default(),
            constraints: Constraints::default(),
            replace_unreachable_after_seconds: 0.0,
        }
    }

    /// Reads a specification in YAML, of which JSON is a part.
    pub fn from_yaml(text: &str) -> Result<Self, Rejection> {
        let value = serde_yaml_ng::from_str::<Value>(text)
            .map_err(|error| Rejection::new("", format!("is not YAML ({error})"), "one service in YAML or JSON"))?;
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
        if fields.has("image") {
            return Err(Rejection::new(
                "image",
                "is not there yet",
                "`command` or `argv`, run on the agent's files",
            ));
        }
        let defaults = Self::command(String::new(), String::new());
        let spec = Self {
            id: fields.required("id", "a name as text")?,
            run: run(&mut fields)?,
            instances: fields
                .optional("instances", "a whole number from 0")?
                .unwrap_or(defaults.instances),
            cpus: fields.optional("cpus", "a number")?.unwrap_or(defaults.cpus),
            mem: fields.optional("mem", "a number of megabytes")?.unwrap_or(defaults.mem),
            disk: fields.optional("disk", "a number of megabytes")?,
            ports: fields.list("ports", port)?,
            env: fields
                .optional("env", "a map from names to text; numbers need quotes")?
                .unwrap_or_default(),
            user: fields.optional("user", "the name of a user")?,
            kill_grace_seconds: fields
                .optional("kill_grace_seconds", "a number of seconds")?
                .unwrap_or(defaults.kill_grace_seconds),
            backoff: fields.nested("backoff", backoff)?.unwrap_or_default(),
            constraints: fields.nested("constraints", constraints)?.unwrap_or_default(),
            replace_unreachable_after_seconds: fields
                .optional("replace_unreachable_after_seconds", "a number of seconds")?
                .unwrap_or(defaults.replace_unreachable_after_seconds),
        };
        fields.end()?;
        spec.validate()?;
        Ok(spec)
    }

    /// Checks the values, each for itself and together.
    pub fn validate(&self) -> Result<(), Rejection> {
        label("id", &self.id)?;
        match &self.run {
            Run::Command(command) => text("command", command, 1, 128 * 1024)?,
            Run::Argv(argv) => {
                if argv.first().is_none_or(String::is_empty) {
                    return Err(Rejection::new(
                        "argv",
                        "names no program",
                        "a list that begins with a program",
                    ));
                }
                for (index, argument) in argv.iter().enumerate() {
                    text(&format!("argv[{index}]"), argument, 0, 128 * 1024)?;
                }
            }
        }
        if self.instances > INSTANCES_MAX {
            let accepted = format!("0 to {INSTANCES_MAX}");
            return Err(Rejection::new("instances", format!("is {}", self.instances), accepted));
        }
        within("cpus", self.cpus, 0.001, 1_000_000.0)?;
        within("mem", self.mem, 1.0, 1e12)?;
        if let Some(disk) = self.disk {
            within("disk", disk, 0.0, 1e15)?;
        }
        within("kill_grace_seconds", self.kill_grace_seconds, 0.0, 86_400.0)?;
        within(
            "replace_unreachable_after_seconds",
            self.replace_unreachable_after_seconds,
            0.0,
            31_536_000.0,
        )?;
        if let Some(user) = &self.user {
            text("user", user, 1, 256)?;
        }
        self.validate_ports()?;
        self.validate_env()?;
        self.backoff.validate().map_err(|rejection| rejection.within("backoff"))
    }

    fn validate_ports(&self) -> Result<(), Rejection> {
        if self.ports.len() > PORTS_MAX {
            let problem = format!("has {} elements", self.ports.len());
            return Err(Rejection::new("ports", problem, format!("at most {PORTS_MAX}")));
        }
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        for (index, port) in self.ports.iter().enumerate() {
            label(&format!("ports[{index}].name"), &port.name)?;
            if !names.insert(port.name.as_str()) {
                let problem = format!("is `{}` a second time", port.name);
                return Err(Rejection::new(
                    format!("ports[{index}].name"),
                    problem,
                    "a name of its own for every port",
                ));
            }
            if port.port != 0 && !numbers.insert(port.port) {
                let problem = format!("is {} a second time", port.port);
                return Err(Rejection::new(
                    format!("ports[{index}].port"),
                    problem,
                    "every port once, or 0 for any",
                ));
            }
        }
        Ok(())
    }

    fn validate_env(&self) -> Result<(), Rejection> {
        for (name, value) in &self.env {
            let field = format!("env.{name}");
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(Rejection::new(
                    field,
                    "has no valid name",
                    "a name without = and zero bytes",
                ));
            }
            if is_reserved(name) {
                let accepted =
                    "a name other than SERVICE, INSTANCE, INSTANCE_INDEX, HOST, PORT, PORTS, PORT0... and PORT_...";
                return Err(Rejection::new(field, "is set by Proffer", accepted));
            }
            text(&field, value, 0, 128 * 1024)?;
        }
        Ok(())
    }

    /// Whether a running instance of `other` does for this one: all but the number of instances, the back-off and the
    /// like is the same.
    pub fn same_instance(&self, other: &Self) -> bool {
        let neutral = |spec: &Self| Self {
            instances: 0,
            backoff: Backoff::default(),
            replace_unreachable_after_seconds: 0.0,
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

impl Backoff {
    fn validate(&self) -> Result<(), Rejection> {
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
        within("reset_after_s", self.reset_after_s, 0.0, 86_400.0)
    }
}

/// Whether an instance's environment has this from Proffer.
fn is_reserved(name: &str) -> bool {
    let port = name.strip_prefix("PORT").unwrap_or("other");
    let numbered = port.bytes().all(|byte| byte.is_ascii_digit());
    matches!(name, "SERVICE" | "INSTANCE" | "INSTANCE_INDEX" | "HOST" | "PORTS") || numbered || port.starts_with('_')
}

fn run(fields: &mut Fields) -> Result<Run, Rejection> {
    let command = fields.optional("command", "a line for the shell")?;
    let argv = fields.optional("argv", "a list of a program and its arguments")?;
    match (command, argv) {
        (Some(command), None) => Ok(Run::Command(command)),
        (None, Some(argv)) => Ok(Run::Argv(argv)),
        (None, None) => Err(Rejection::new("command", "is missing", "either `command` or `argv`")),
        (Some(_), Some(_)) => Err(Rejection::new(
            "argv",
            "is set beside `command`",
            "either `command` or `argv`",
        )),
    }
}

fn port(value: Value) -> Result<PortSpec, Rejection> {
    let mut fields = Fields::of(value)?;
    let port = PortSpec {
        name: fields.required("name", "a name as text")?,
        port: fields
            .optional("port", "a port from 1 to 65535, or 0 for any")?
            .unwrap_or(0),
    };
    fields.end()?;
    Ok(port)
}

fn backoff(value: Value) -> Result<Backoff, Rejection> {
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
        reset_after_s: fields
            .optional("reset_after_s", "a number of seconds")?
            .unwrap_or(defaults.reset_after_s),
    };
    fields.end()?;
    Ok(backoff)
}

fn constraints(value: Value) -> Result<Constraints, Rejection> {
    let mut fields = Fields::of(value)?;
    let constraints = Constraints {
        unique_host: fields.optional("unique_host", "true or false")?.unwrap_or(false),
    };
    fields.end()?;
    Ok(constraints)
}

/// Checks an id of a service or a name of a port.
pub(crate) fn label(field: &str, label: &str) -> Result<(), Rejection> {
    let characters = label
        .bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let ends = label.starts_with('-') || label.ends_with('-');
    if label.is_empty() || label.len() > LABEL_BYTES_MAX || !characters || ends {
        return Err(Rejection::new(field, format!("is {label:?}"), LABEL_ACCEPTED));
    }
    Ok(())
}

fn text(field: &str, text: &str, bytes_min: usize, bytes_max: usize) -> Result<(), Rejection> {
    if text.contains('\0') {
        return Err(Rejection::new(field, "contains a zero byte", "text without zero bytes"));
    }
    if text.len() < bytes_min || text.len() > bytes_max {
        let problem = format!("has {} bytes", text.len());
        return Err(Rejection::new(
            field,
            problem,
            format!("{bytes_min} to {bytes_max} bytes"),
        ));
    }
    Ok(())
}

fn within(field: &str, value: f64, min: f64, max: f64) -> Result<(), Rejection> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Rejection::new(field, format!("is {value}"), format!("{min} to {max}")))
}

#[cfg(test)]
mod tests;

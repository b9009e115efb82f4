//! How it is found out whether an instance is healthy, and whether it is ready for requests.
//!
//! The agent makes both kinds. An instance whose health check fails too often is ended and replaced; one that is not
//! ready runs on, and is not among the endpoints.

use proffer_proto::Rejection;
use serde::Serialize;
use serde_json::Value;

use super::fields::Fields;
use super::ports::{self, PortSpec};
use super::values::{TEXT_BYTES_MAX, text, within};

/// What is asked of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A line for the shell within the instance's container, which is to exit with 0.
    Command(String),
    /// A GET, which is to be answered with 200 to 399.
    Http {
        /// The name of the port.
        port: String,
        /// What is asked for.
        path: String,
    },
    /// A connection.
    Tcp {
        /// The name of the port.
        port: String,
    },
    /// The gRPC health checking protocol.
    Grpc {
        /// The name of the port.
        port: String,
        /// Whose health; empty for that of the server.
        service: String,
    },
}

/// Ends an instance that does not do well.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HealthCheck {
    /// What is asked.
    #[serde(flatten)]
    pub probe: Probe,
    /// How long after the start the first one is made, in seconds.
    pub delay_seconds: f64,
    /// How long after an answer the next one is made, in seconds.
    pub interval_seconds: f64,
    /// How long an answer may take, in seconds.
    pub timeout_seconds: f64,
    /// For how long after the start failures are passed over until the first success, in seconds.
    pub grace_seconds: f64,
    /// So many failures in a row end the instance.
    pub failures: u32,
}

/// Tells whether an instance takes requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReadinessCheck {
    /// What is asked.
    #[serde(flatten)]
    pub probe: Probe,
    /// How long after the start the first one is made, in seconds.
    pub delay_seconds: f64,
    /// How long after an answer the next one is made, in seconds.
    pub interval_seconds: f64,
    /// How long an answer may take, in seconds.
    pub timeout_seconds: f64,
}

impl HealthCheck {
    /// A check with all times at their defaults.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            delay_seconds: 0.0,
            interval_seconds: 10.0,
            timeout_seconds: 20.0,
            grace_seconds: 30.0,
            failures: 3,
        }
    }

    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let defaults = Self::new(Probe::read(&mut fields)?);
        let check = Self {
            delay_seconds: seconds(&mut fields, "delay_seconds", defaults.delay_seconds)?,
            interval_seconds: seconds(&mut fields, "interval_seconds", defaults.interval_seconds)?,
            timeout_seconds: seconds(&mut fields, "timeout_seconds", defaults.timeout_seconds)?,
            grace_seconds: seconds(&mut fields, "grace_seconds", defaults.grace_seconds)?,
            failures: fields
                .optional("failures", "a whole number from 1")?
                .unwrap_or(defaults.failures),
            ..defaults
        };
        fields.end()?;
        Ok(check)
    }

    pub(super) fn validate(&self, ports: &[PortSpec]) -> Result<(), Rejection> {
        self.probe.validate(ports)?;
        times(self.delay_seconds, self.interval_seconds, self.timeout_seconds)?;
        within("grace_seconds", self.grace_seconds, 0.0, 86_400.0)?;
        within("failures", self.failures.into(), 1.0, 1_000.0)
    }
}

impl ReadinessCheck {
    /// A check with all times at their defaults.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            delay_seconds: 0.0,
            interval_seconds: 1.0,
            timeout_seconds: 10.0,
        }
    }

    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let defaults = Self::new(Probe::read(&mut fields)?);
        let check = Self {
            delay_seconds: seconds(&mut fields, "delay_seconds", defaults.delay_seconds)?,
            interval_seconds: seconds(&mut fields, "interval_seconds", defaults.interval_seconds)?,
            timeout_seconds: seconds(&mut fields, "timeout_seconds", defaults.timeout_seconds)?,
            ..defaults
        };
        fields.end()?;
        Ok(check)
    }

    pub(super) fn validate(&self, ports: &[PortSpec]) -> Result<(), Rejection> {
        self.probe.validate(ports)?;
        times(self.delay_seconds, self.interval_seconds, self.timeout_seconds)
    }
}

impl Probe {
    fn read(fields: &mut Fields) -> Result<Self, Rejection> {
        let command = fields.optional("command", "a line for the shell")?.map(Self::Command);
        let http = fields.nested("http", |value| {
            let mut fields = Fields::of(value)?;
            let probe = Self::Http {
                port: fields.required("port", "the name of a port")?,
                path: fields
                    .optional("path", "a path that begins with /")?
                    .unwrap_or_else(|| "/".to_owned()),
            };
            fields.end()?;
            Ok(probe)
        })?;
        let tcp = fields.nested("tcp", |value| {
            let mut fields = Fields::of(value)?;
            let port = fields.required("port", "the name of a port")?;
            fields.end()?;
            Ok(Self::Tcp { port })
        })?;
        let grpc = fields.nested("grpc", |value| {
            let mut fields = Fields::of(value)?;
            let probe = Self::Grpc {
                port: fields.required("port", "the name of a port")?,
                service: fields.optional("service", "the name of a service")?.unwrap_or_default(),
            };
            fields.end()?;
            Ok(probe)
        })?;
        let mut probes = [command, http, tcp, grpc].into_iter().flatten();
        match (probes.next(), probes.next()) {
            (Some(probe), None) => Ok(probe),
            (None, _) => Err(Rejection::new(
                "",
                "asks nothing",
                "one of `command`, `http`, `tcp`, `grpc`",
            )),
            (Some(_), Some(_)) => Err(Rejection::new(
                "",
                "asks several things",
                "one of `command`, `http`, `tcp`, `grpc`",
            )),
        }
    }

    /// The name of the port that is asked, where it is one.
    pub fn port(&self) -> Option<&str> {
        match self {
            Self::Command(_) => None,
            Self::Http { port, .. } | Self::Tcp { port } | Self::Grpc { port, .. } => Some(port),
        }
    }

    fn validate(&self, ports: &[PortSpec]) -> Result<(), Rejection> {
        match self {
            Self::Command(command) => text("command", command, 1, TEXT_BYTES_MAX),
            Self::Http { port, path } => {
                ports::named("http.port", port, ports)?;
                text("http.path", path, 1, 4096)?;
                let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
                if path.starts_with('/') && plain {
                    return Ok(());
                }
                let accepted = "a path that begins with / and has no spaces, such as /health";
                Err(Rejection::new("http.path", format!("is {path:?}"), accepted))
            }
            Self::Tcp { port } => ports::named("tcp.port", port, ports),
            Self::Grpc { port, service } => {
                ports::named("grpc.port", port, ports)?;
                text("grpc.service", service, 0, 1024)
            }
        }
    }
}

fn seconds(fields: &mut Fields, name: &'static str, default: f64) -> Result<f64, Rejection> {
    Ok(fields.optional(name, "a number of seconds")?.unwrap_or(default))
}

fn times(delay: f64, interval: f64, timeout: f64) -> Result<(), Rejection> {
    within("delay_seconds", delay, 0.0, 86_400.0)?;
    within("interval_seconds", interval, 0.1, 86_400.0)?;
    within("timeout_seconds", timeout, 0.1, 3_600.0)
}

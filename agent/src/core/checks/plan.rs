//! What a task's description says about a check, understood once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proffer_proto::v1;
use proffer_proto::v1::check_status_info::{Command, Grpc, Http, Tcp};
use proffer_proto::v1::{check_info, health_check};

use super::Seen;

/// A check that is due again at once would do nothing but check.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// In the place of no limit.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// One check.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) probe: Probe,
    pub(super) delay: Duration,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) grace: Duration,
    pub(super) failures_max: u32,
}

/// What is done to check.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// Runs a command in the container.
    Command(Box<v1::CommandInfo>),
    /// Asks a web server.
    Http {
        /// Whether over TLS; certificates are not verified.
        tls: bool,
        /// Where.
        address: (IpAddr, u16),
        /// The path, with its query.
        path: String,
        /// What is good; from 200 to 399 where it is empty.
        statuses: Vec<u16>,
    },
    /// Connects to a port.
    Tcp {
        /// Where.
        address: (IpAddr, u16),
    },
    /// Asks by the gRPC health checking protocol.
    Grpc {
        /// Where.
        address: (IpAddr, u16),
        /// Empty for the server as a whole.
        service: String,
    },
}

impl Probe {
    /// Whether what was seen is good.
    pub(super) fn passes(&self, seen: Seen) -> bool {
        match (self, seen) {
            (Probe::Command(_), Seen::ExitCode(code)) => code == 0,
            (Probe::Http { statuses, .. }, Seen::HttpStatus(status)) if statuses.is_empty() => {
                (200..400).contains(&status)
            }
            (Probe::Http { statuses, .. }, Seen::HttpStatus(status)) => statuses.contains(&status),
            (Probe::Tcp { .. }, Seen::Connected(good)) | (Probe::Grpc { .. }, Seen::Serving(good)) => good,
            _ => false,
        }
    }
}

impl Plan {
    pub(super) fn of_health_check(check: &v1::HealthCheck) -> Result<Self, String> {
        let probe = match check.r#type() {
            health_check::Type::Command => command(check.command.as_ref(), "command")?,
            health_check::Type::Http => {
                let http = check.http.as_ref().ok_or("http: must be set when `type` is HTTP")?;
                let tls = match http.scheme.as_deref() {
                    None | Some("" | "http") => false,
                    Some("https") => true,
                    Some(other) => return Err(format!("http.scheme: {other:?} is not http or https")),
                };
                let status = |status: &u32| match u16::try_from(*status) {
                    Ok(status @ 100..=599) => Ok(status),
                    _ => Err(format!("http.statuses: {status} is not from 100 to 599")),
                };
                Probe::Http {
                    tls,
                    address: (local(http.protocol()), port(http.port, "http.port")?),
                    path: path(http.path.as_deref(), "http.path")?,
                    statuses: http.statuses.iter().map(status).collect::<Result<_, _>>()?,
                }
            }
            health_check::Type::Tcp => {
                let tcp = check.tcp.as_ref().ok_or("tcp: must be set when `type` is TCP")?;
                Probe::Tcp {
                    address: (local(tcp.protocol()), port(tcp.port, "tcp.port")?),
                }
            }
            health_check::Type::Grpc => {
                let grpc = check.grpc.as_ref().ok_or("grpc: must be set when `type` is GRPC")?;
                Probe::Grpc {
                    address: (local(grpc.protocol()), port(grpc.port, "grpc.port")?),
                    service: grpc.service().to_owned(),
                }
            }
            health_check::Type::Unknown => return Err("type: must be COMMAND, HTTP, TCP or GRPC".into()),
        };
        Ok(Plan {
            probe,
            delay: seconds(check.delay_seconds(), "delay_seconds")?,
            interval: seconds(check.interval_seconds(), "interval_seconds")?.max(INTERVAL_MIN),
            timeout: timeout(check.timeout_seconds())?,
            grace: seconds(check.grace_period_seconds(), "grace_period_seconds")?,
            failures_max: check.consecutive_failures().max(1),
        })
    }

    pub(super) fn of_check(check: &v1::CheckInfo) -> Result<Self, String> {
        let host = IpAddr::from(Ipv4Addr::LOCALHOST);
        let probe = match check.r#type() {
            check_info::Type::Command => {
                command(check.command.as_ref().map(|check| &check.command), "command.command")?
            }
            check_info::Type::Http => {
                let http = check.http.as_ref().ok_or("http: must be set when `type` is HTTP")?;
                Probe::Http {
                    tls: false,
                    address: (host, port(http.port, "http.port")?),
                    path: path(http.path.as_deref(), "http.path")?,
                    statuses: Vec::new(),
                }
            }
            check_info::Type::Tcp => {
                let tcp = check.tcp.as_ref().ok_or("tcp: must be set when `type` is TCP")?;
                Probe::Tcp {
                    address: (host, port(tcp.port, "tcp.port")?),
                }
            }
            check_info::Type::Grpc => {
                let grpc = check.grpc.as_ref().ok_or("grpc: must be set when `type` is GRPC")?;
                Probe::Grpc {
                    address: (host, port(grpc.port, "grpc.port")?),
                    service: grpc.service().to_owned(),
                }
            }
            check_info::Type::Unknown => return Err("type: must be COMMAND, HTTP, TCP or GRPC".into()),
        };
        Ok(Plan {
            probe,
            delay: seconds(check.delay_seconds(), "delay_seconds")?,
            interval: seconds(check.interval_seconds(), "interval_seconds")?.max(INTERVAL_MIN),
            timeout: timeout(check.timeout_seconds())?,
            grace: Duration::ZERO,
            failures_max: u32::MAX,
        })
    }
}

/// What is said of a check of which nothing was seen.
pub(super) fn nothing_seen(check: &v1::CheckInfo) -> v1::CheckStatusInfo {
    seen(check, Seen::Nothing)
}

/// What is said of what was seen.
pub(super) fn seen(check: &v1::CheckInfo, seen: Seen) -> v1::CheckStatusInfo {
    let mut status = v1::CheckStatusInfo {
        r#type: check.r#type,
        ..Default::default()
    };
    match check.r#type() {
        check_info::Type::Command => {
            let exit_code = match seen {
                Seen::ExitCode(code) => Some(code),
                _ => None,
            };
            status.command = Some(Command { exit_code });
        }
        check_info::Type::Http => {
            let status_code = match seen {
                Seen::HttpStatus(code) => Some(code.into()),
                _ => None,
            };
            status.http = Some(Http { status_code });
        }
        check_info::Type::Tcp => {
            let succeeded = match seen {
                Seen::Connected(succeeded) => Some(succeeded),
                _ => None,
            };
            status.tcp = Some(Tcp { succeeded });
        }
        check_info::Type::Grpc => {
            let serving = match seen {
                Seen::Serving(serving) => Some(serving),
                _ => None,
            };
            status.grpc = Some(Grpc { serving });
        }
        check_info::Type::Unknown => {}
    }
    status
}

fn command(command: Option<&v1::CommandInfo>, field: &str) -> Result<Probe, String> {
    let command = command.ok_or_else(|| format!("{field}: must be set when `type` is COMMAND"))?;
    let value = command.value.as_deref().unwrap_or_default();
    if value.is_empty() && (command.shell() || command.arguments.is_empty()) {
        return Err(format!("{field}.value: must be the command to run"));
    }
    if command.user.is_some() || !command.uris.is_empty() {
        return Err(format!(
            "{field}: `user` and `uris` are the task's own; leave them unset"
        ));
    }
    Ok(Probe::Command(Box::new(command.clone())))
}

fn local(protocol: v1::network_info::Protocol) -> IpAddr {
    match protocol {
        v1::network_info::Protocol::IPv6 => Ipv6Addr::LOCALHOST.into(),
        v1::network_info::Protocol::IPv4 => Ipv4Addr::LOCALHOST.into(),
    }
}

fn port(port: u32, field: &str) -> Result<u16, String> {
    match u16::try_from(port) {
        Ok(port @ 1..) => Ok(port),
        _ => Err(format!("{field}: {port} is not from 1 to 65535")),
    }
}

fn path(path: Option<&str>, field: &str) -> Result<String, String> {
    match path {
        None | Some("") => Ok("/".to_owned()),
        Some(path) if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(path.to_owned()),
        Some(path) => Err(format!(
            "{field}: {path:?} is not visible ASCII text that begins with `/`"
        )),
    }
}

fn timeout(value: f64) -> Result<Duration, String> {
    let timeout = seconds(value, "timeout_seconds")?;
    // The API's word for no limit.
    Ok(if timeout.is_zero() {
        TIMEOUT_MAX
    } else {
        timeout.min(TIMEOUT_MAX)
    })
}

fn seconds(value: f64, field: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(value).map_err(|_| format!("{field}: {value} is not a number of seconds, zero or more"))
}

//! What a task's health check and check must be.

use proffer_proto::Rejection;
use proffer_proto::v1::{self, check_info, health_check};

const TYPES: &str = "COMMAND, HTTP, TCP or GRPC";

/// Checks `TaskInfo.health_check`.
pub(super) fn health_check(check: &v1::HealthCheck) -> Result<(), Rejection> {
    seconds([
        ("delay_seconds", check.delay_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
        ("grace_period_seconds", check.grace_period_seconds),
    ])?;
    match check.r#type() {
        health_check::Type::Command => command(check.command.as_ref(), "command"),
        health_check::Type::Http => {
            let http = check.http.as_ref().ok_or_else(|| missing("http", "HTTP"))?;
            port(http.port, "http.port")?;
            path(http.path.as_deref())?;
            if let Some(scheme) = http
                .scheme
                .as_deref()
                .filter(|scheme| !matches!(*scheme, "" | "http" | "https"))
            {
                return Err(Rejection::new("http.scheme", format!("is {scheme:?}"), "http or https"));
            }
            match http.statuses.iter().position(|status| !(100..600).contains(status)) {
                Some(index) => {
                    let problem = format!("is {}", http.statuses[index]);
                    Err(Rejection::new(
                        format!("http.statuses[{index}]"),
                        problem,
                        "from 100 to 599",
                    ))
                }
                None => Ok(()),
            }
        }
        health_check::Type::Tcp => {
            let tcp = check.tcp.as_ref().ok_or_else(|| missing("tcp", "TCP"))?;
            port(tcp.port, "tcp.port")
        }
        health_check::Type::Grpc => {
            let grpc = check.grpc.as_ref().ok_or_else(|| missing("grpc", "GRPC"))?;
            port(grpc.port, "grpc.port")
        }
        health_check::Type::Unknown => Err(Rejection::new("type", "is missing, or not known", TYPES)),
    }
}

/// Checks `TaskInfo.check`.
pub(super) fn check(check: &v1::CheckInfo) -> Result<(), Rejection> {
    seconds([
        ("delay_seconds", check.delay_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
    ])?;
    match check.r#type() {
        check_info::Type::Command => {
            let asked = check.command.as_ref().ok_or_else(|| missing("command", "COMMAND"))?;
            command(Some(&asked.command), "command.command")
        }
        check_info::Type::Http => {
            let http = check.http.as_ref().ok_or_else(|| missing("http", "HTTP"))?;
            port(http.port, "http.port")?;
            path(http.path.as_deref())
        }
        check_info::Type::Tcp => {
            let tcp = check.tcp.as_ref().ok_or_else(|| missing("tcp", "TCP"))?;
            port(tcp.port, "tcp.port")
        }
        check_info::Type::Grpc => {
            let grpc = check.grpc.as_ref().ok_or_else(|| missing("grpc", "GRPC"))?;
            port(grpc.port, "grpc.port")
        }
        check_info::Type::Unknown => Err(Rejection::new("type", "is missing, or not known", TYPES)),
    }
}

/// What a check of this type needs is not there.
fn missing(field: &str, kind: &str) -> Rejection {
    Rejection::new(field, "is missing", format!("what is to be asked, as `type` is {kind}"))
}

fn command(command: Option<&v1::CommandInfo>, field: &str) -> Result<(), Rejection> {
    let command = command.ok_or_else(|| missing(field, "COMMAND"))?;
    super::validate::check_command(command).map_err(|rejection| rejection.within(field))?;
    let own = [("user", command.user.is_some()), ("uris", !command.uris.is_empty())];
    match own.iter().find(|(_, set)| *set) {
        Some((part, _)) => {
            let accepted = "a command without it: it runs in the task's container, as its user";
            Err(Rejection::new(format!("{field}.{part}"), "is set", accepted))
        }
        None => Ok(()),
    }
}

fn port(port: u32, field: &str) -> Result<(), Rejection> {
    match port {
        1..=65_535 => Ok(()),
        _ => Err(Rejection::new(field, format!("is {port}"), "a port from 1 to 65535")),
    }
}

fn path(path: Option<&str>) -> Result<(), Rejection> {
    let path = path.unwrap_or_default();
    if path.is_empty() || (path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Ok(());
    }
    let accepted = "visible ASCII text that begins with `/`";
    Err(Rejection::new("http.path", format!("is {path:?}"), accepted))
}

fn seconds<const N: usize>(fields: [(&str, Option<f64>); N]) -> Result<(), Rejection> {
    for (field, value) in fields {
        if let Some(value) = value
            && !(0.0..=1e9).contains(&value)
        {
            return Err(Rejection::new(field, format!("is {value}"), "seconds, from 0 to 1e9"));
        }
    }
    Ok(())
}

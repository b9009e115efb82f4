//! Health and readiness checks of an application.

use proffer_proto::Rejection;

use super::super::{HealthCheck, PortSpec, Probe, ReadinessCheck, ServiceSpec};
use super::{Fields, LeftOut, Value};

pub(super) fn convert(fields: &mut Fields, spec: &mut ServiceSpec, left: &mut LeftOut) -> Result<(), Rejection> {
    for (index, value) in fields.values("healthChecks")?.into_iter().enumerate() {
        let path = format!("healthChecks[{index}]");
        if index > 0 {
            left.out(path, "is one check too many", "one health check");
            continue;
        }
        let read = health(value, &spec.ports, &path, left);
        spec.health = read.map_err(|rejection| rejection.within(&path))?;
    }
    for (index, value) in fields.values("readinessChecks")?.into_iter().enumerate() {
        let path = format!("readinessChecks[{index}]");
        if index > 0 {
            left.out(path, "is one check too many", "one readiness check");
            continue;
        }
        let read = readiness(value, &spec.ports, &path, left);
        spec.readiness = read.map_err(|rejection| rejection.within(&path))?;
    }
    Ok(())
}

fn health(value: Value, ports: &[PortSpec], path: &str, left: &mut LeftOut) -> Result<Option<HealthCheck>, Rejection> {
    let mut fields = Fields::of(value)?;
    let protocol: String = fields
        .nullable("protocol", "text")?
        .unwrap_or_else(|| "HTTP".to_owned());
    let url: Option<String> = fields.nullable("path", "a path")?;
    let command: Option<Value> = fields.nullable("command", "a map with `value`")?;
    let port = port(&mut fields, ports);
    let probe = match protocol.as_str() {
        "HTTP" | "MESOS_HTTP" => Probe::Http {
            port: port?,
            path: url.unwrap_or_else(|| "/".to_owned()),
        },
        "TCP" | "MESOS_TCP" => Probe::Tcp { port: port? },
        "COMMAND" => {
            let line = command.as_ref().and_then(|command| command["value"].as_str());
            let line = line.ok_or_else(|| Rejection::new("command.value", "is missing", "a line for the shell"))?;
            Probe::Command(line.to_owned())
        }
        _ => {
            let accepted = "HTTP, MESOS_HTTP, TCP, MESOS_TCP or COMMAND";
            left.out(format!("{path}.protocol"), "cannot be honoured", accepted);
            return Ok(None);
        }
    };
    let seconds = "a number of seconds";
    let check = HealthCheck {
        probe,
        delay_seconds: fields.nullable("delaySeconds", seconds)?.unwrap_or(15.0),
        interval_seconds: fields.nullable("intervalSeconds", seconds)?.unwrap_or(60.0),
        timeout_seconds: fields.nullable("timeoutSeconds", seconds)?.unwrap_or(20.0),
        grace_seconds: fields.nullable("gracePeriodSeconds", seconds)?.unwrap_or(300.0),
        failures: fields
            .nullable("maxConsecutiveFailures", "a whole number")?
            .unwrap_or(3),
    };
    asks_nothing(&mut fields, "ignoreHttp1xx", &false.into(), path, left)?;
    asks_nothing(&mut fields, "ipProtocol", &"IPv4".into(), path, left)?;
    left.rest(path, fields);
    if check.failures == 0 {
        let field = format!("{path}.maxConsecutiveFailures");
        left.out(
            field,
            "is 0: a check without consequence",
            "1 to 1000, or `readinessChecks`",
        );
        return Ok(None);
    }
    Ok(Some(check))
}

fn readiness(
    value: Value,
    ports: &[PortSpec],
    path: &str,
    left: &mut LeftOut,
) -> Result<Option<ReadinessCheck>, Rejection> {
    let mut fields = Fields::of(value)?;
    let _: Option<String> = fields.nullable("name", "text")?;
    let protocol: String = fields
        .nullable("protocol", "text")?
        .unwrap_or_else(|| "HTTP".to_owned());
    let url: Option<String> = fields.nullable("path", "a path")?;
    let port: Option<String> = fields.nullable("portName", "the name of a port")?;
    if protocol != "HTTP" {
        left.out(format!("{path}.protocol"), "cannot be honoured", "HTTP");
        return Ok(None);
    }
    let seconds = "a number of seconds";
    let check = ReadinessCheck {
        probe: Probe::Http {
            port: port.unwrap_or_else(|| "http-api".to_owned()),
            path: url.unwrap_or_else(|| "/".to_owned()),
        },
        delay_seconds: 0.0,
        interval_seconds: fields.nullable("intervalSeconds", seconds)?.unwrap_or(30.0),
        timeout_seconds: fields.nullable("timeoutSeconds", seconds)?.unwrap_or(10.0),
    };
    super::super::ports::named("portName", check.probe.port().unwrap_or_default(), ports)?;
    asks_nothing(&mut fields, "preserveLastResponse", &false.into(), path, left)?;
    asks_nothing(&mut fields, "httpStatusCodesForReady", &vec![200].into(), path, left)?;
    left.rest(path, fields);
    Ok(Some(check))
}

/// The name of the port that `portIndex` or `port` means.
fn port(fields: &mut Fields, ports: &[PortSpec]) -> Result<String, Rejection> {
    let index: Option<usize> = fields.nullable("portIndex", "the index of a port")?;
    let number: Option<u16> = fields.nullable("port", "a port")?;
    let found = match number {
        Some(number) => ports.iter().find(|port| port.port == number),
        None => ports.get(index.unwrap_or(0)),
    };
    let accepted = format!("the index of one of the {} ports, or a required port", ports.len());
    let field = if number.is_some() { "port" } else { "portIndex" };
    found
        .map(|port| port.name.clone())
        .ok_or_else(|| Rejection::new(field, "is no port of the application", accepted))
}

fn asks_nothing(
    fields: &mut Fields,
    name: &'static str,
    nothing: &Value,
    path: &str,
    left: &mut LeftOut,
) -> Result<(), Rejection> {
    let value: Option<Value> = fields.nullable(name, "")?;
    if value.is_some_and(|value| value != *nothing) {
        left.out(format!("{path}.{name}"), "cannot be honoured", &nothing.to_string());
    }
    Ok(())
}

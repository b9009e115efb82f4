//! Access-log lines: one JSON object a line, as the services of a cluster write them.
//!
//! A line is either a [`Hit`] or it is rejected with a [`Reason`]; nothing that a log can hold stops a worker.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest line that is parsed, in bytes without its newline.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// The longest route that is accepted, in bytes.
pub const ROUTE_BYTES_MAX: usize = 512;

/// How far a line's time may lie ahead of this host's clock, in milliseconds.
///
/// The bound keeps one wrong clock from opening windows without end.
pub const AHEAD_MS_MAX: u64 = 3_600_000;

/// One request as an access log tells it.
///
/// A line has the fields below and may have others, which are ignored:
/// `{"ts_ms":1732000000123,"route":"/api/x","method":"GET","status":200,"latency_us":840,"instance":"web.2"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit<'a> {
    /// When the request was served: milliseconds since the Unix epoch. This is the event time.
    pub ts_ms: u64,
    /// The route, which is the key of the job.
    #[serde(borrow)]
    pub route: Cow<'a, str>,
    /// The request's method.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// The response's status code, 100 to 999.
    pub status: u16,
    /// How long the request took, in microseconds.
    pub latency_us: u64,
    /// The instance of the service that served it.
    #[serde(borrow)]
    pub instance: Cow<'a, str>,
}

/// Why a line was rejected. The set is closed, so that counting by reason is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The line is not a JSON object.
    NotAnObject,
    /// The named field is missing.
    Missing(&'static str),
    /// The named field has another type or lies outside its range.
    Invalid(&'static str),
    /// The named field is there twice.
    Repeated,
    /// `ts_ms` is more than an hour ahead of this host's clock.
    Ahead,
    /// The line is longer than [`LINE_BYTES_MAX`].
    TooLong,
    /// The file was cut back while this line was half read.
    Cut,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotAnObject => write!(f, "not a JSON object"),
            Reason::Missing(field) => write!(f, "{field}: missing"),
            Reason::Invalid(field) => write!(f, "{field}: expected {}", expected(field)),
            Reason::Repeated => write!(f, "a field is there twice"),
            Reason::Ahead => write!(f, "ts_ms: more than {AHEAD_MS_MAX} ms ahead of the clock"),
            Reason::TooLong => write!(f, "line longer than {LINE_BYTES_MAX} bytes"),
            Reason::Cut => write!(f, "file was truncated within the line"),
        }
    }
}

/// Parses one line, without its newline. `now_ms` is this host's clock.
pub fn parse(line: &[u8], now_ms: u64) -> Result<Hit<'_>, Reason> {
    let hit: Hit<'_> = serde_json::from_slice(line).map_err(|_| diagnose(line))?;
    if hit.route.is_empty() || hit.route.len() > ROUTE_BYTES_MAX {
        return Err(Reason::Invalid("route"));
    }
    if !(100..=999).contains(&hit.status) {
        return Err(Reason::Invalid("status"));
    }
    if hit.ts_ms > now_ms.saturating_add(AHEAD_MS_MAX) {
        return Err(Reason::Ahead);
    }
    Ok(hit)
}

fn expected(field: &str) -> &'static str {
    match field {
        "ts_ms" => "milliseconds since the Unix epoch as an unsigned number",
        "latency_us" => "microseconds as an unsigned number",
        "status" => "a number from 100 to 999",
        "route" => "a string of 1 to 512 bytes",
        _ => "a string",
    }
}

/// Finds what is wrong with a line that the direct parse refused. Slow, and only taken for such lines.
fn diagnose(line: &[u8]) -> Reason {
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(line) else {
        return Reason::NotAnObject;
    };
    for field in ["ts_ms", "route", "method", "status", "latency_us", "instance"] {
        let Some(value) = fields.get(field) else {
            return Reason::Missing(field);
        };
        let fits = match field {
            "ts_ms" | "latency_us" => value.is_u64(),
            "status" => value.as_u64().is_some_and(|status| (100..=999).contains(&status)),
            _ => value.is_string(),
        };
        if !fits {
            return Reason::Invalid(field);
        }
    }
    Reason::Repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_732_000_000_000;

    fn reason(line: &str) -> String {
        parse(line.as_bytes(), NOW).unwrap_err().to_string()
    }

    #[test]
    fn a_line_of_the_web_example_is_a_hit() {
        let line = br#"{"ts_ms":1732000000000,"route":"/a\"b","method":"GET","status":503,"latency_us":12,"instance":"web.2","id":7}"#;
        let hit = parse(line, NOW).unwrap();
        assert_eq!(
            (hit.ts_ms, &*hit.route, hit.status, hit.latency_us, &*hit.instance),
            (NOW, "/a\"b", 503, 12, "web.2")
        );
    }

    #[test]
    fn a_rejection_names_the_field_and_what_would_be_accepted() {
        assert_eq!(reason("GET / 200"), "not a JSON object");
        assert_eq!(reason("[1,2]"), "not a JSON object");
        assert_eq!(reason("{}"), "ts_ms: missing");
        let line = |ts: &str, route: &str, status: &str| {
            format!(
                r#"{{"ts_ms":{ts},"route":{route},"method":"GET","status":{status},"latency_us":1,"instance":"i"}}"#
            )
        };
        assert_eq!(
            reason(&line("-1", "\"/\"", "200")),
            "ts_ms: expected milliseconds since the Unix epoch as an unsigned number"
        );
        assert_eq!(
            reason(&line("1", "7", "200")),
            "route: expected a string of 1 to 512 bytes"
        );
        assert_eq!(
            reason(&line("1", "\"\"", "200")),
            "route: expected a string of 1 to 512 bytes"
        );
        assert_eq!(
            reason(&line("1", "\"/\"", "70000")),
            "status: expected a number from 100 to 999"
        );
        assert_eq!(
            reason(&line("1", "\"/\"", "99")),
            "status: expected a number from 100 to 999"
        );
        assert_eq!(reason(&line("1,\"ts_ms\":2", "\"/\"", "200")), "a field is there twice");
        assert_eq!(
            reason(&line(&u64::MAX.to_string(), "\"/\"", "200")),
            "ts_ms: more than 3600000 ms ahead of the clock"
        );
        assert_eq!(parse(b"\xff\xfe{", NOW), Err(Reason::NotAnObject));
    }
}

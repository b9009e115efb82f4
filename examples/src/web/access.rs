//! The access log: one JSON object a line, each line appended by a single write(2).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One line of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When the response was ready, in milliseconds since the epoch.
    pub ts_ms: u64,
    /// Pattern of the route, for example `/api/items/{n}`; `other` where none matched.
    pub route: String,
    /// Method of the request.
    pub method: String,
    /// Status of the response.
    pub status: u16,
    /// Time from the request's head to its response, in microseconds.
    pub latency_us: u64,
    /// Instance that answered, for example `web.2`.
    pub instance: String,
    /// The request's `x-request-id`, or empty.
    pub id: String,
}

/// An open access log.
#[derive(Debug)]
pub struct AccessLog {
    file: File,
    instance: String,
}

/// What a server says about one request.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Pattern of the route.
    pub route: &'a str,
    /// Method of the request.
    pub method: &'a str,
    /// Status of the response.
    pub status: u16,
    /// Time that it took, in microseconds.
    pub latency_us: u64,
    /// The request's `x-request-id`, or empty.
    pub id: &'a str,
}

impl AccessLog {
    /// Opens the file for appending, and makes it where it is missing.
    pub fn open(path: &Path, instance: String) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, instance })
    }

    /// Appends one whole line.
    pub fn append(&self, entry: Entry<'_>) -> io::Result<()> {
        let line = Line {
            ts_ms: now_ms(),
            route: entry.route.to_owned(),
            method: entry.method.to_owned(),
            status: entry.status,
            latency_us: entry.latency_us,
            instance: self.instance.clone(),
            id: entry.id.to_owned(),
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        (&self.file).write_all(&text)
    }
}

/// Reads the lines of an access log; an unfinished last line is left out.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    let text = std::fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).map_err(io::Error::from))
        .collect()
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

//! Says in the sandbox how far fetching has come.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

/// The file in the sandbox.
pub(crate) const FILE: &str = "fetch.log";
/// How often it is said how far a download is.
const INTERVAL: Duration = Duration::from_secs(2);

/// Writes lines, each with the seconds since fetching began. What cannot be written is left out.
#[derive(Debug)]
pub(super) struct Progress {
    file: Option<File>,
    start: Instant,
    subject: String,
    said: Instant,
}

impl Progress {
    pub(super) fn new(file: Option<File>) -> Self {
        let now = Instant::now();
        Progress {
            file,
            start: now,
            subject: String::new(),
            said: now,
        }
    }

    /// What the lines that follow are about.
    pub(super) fn of(&mut self, subject: &str) {
        self.subject = subject.to_owned();
        self.said = Instant::now();
    }

    /// A line.
    pub(super) fn say(&mut self, text: &str) {
        let line = format!(
            "[{:8.3} s] {}: {text}\n",
            self.start.elapsed().as_secs_f64(),
            self.subject
        );
        if let Some(file) = &mut self.file
            && file.write_all(line.as_bytes()).is_err()
        {
            self.file = None;
        }
    }

    /// A line now and then.
    pub(super) fn at(&mut self, bytes: u64, total: Option<u64>) {
        if self.said.elapsed() < INTERVAL {
            return;
        }
        self.said = Instant::now();
        match total {
            Some(total) => self.say(&format!("{} of {}", mebibytes(bytes), mebibytes(total))),
            None => self.say(&mebibytes(bytes)),
        }
    }
}

pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

//! The files that a worker writes, below the job's output directory.
//!
//! ```text
//! <out-dir>/
//!   drain                     an operator's wish that the job ends; its content does not matter
//!   attempt-<n>/              the highest n is authoritative
//!     windows-<index>.jsonl   one WindowRow a line, appended when a window closes
//!     totals-<index>.json     Totals, replaced atomically at least every second
//!     rejected-<index>.jsonl  samples of rejected lines, bounded
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::access_log::Reason;
use crate::source::pattern;
use crate::windows::WindowRow;

/// How many rejected lines one worker keeps a sample of.
const SAMPLES_MAX: u64 = 1000;
/// How much of such a line is kept, in bytes.
const SAMPLE_BYTES_MAX: usize = 512;

/// What one worker has done so far. `records` and `routes` count the requests whose route this worker owns, wherever they
/// were read; the sum over all workers is the number of requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// The job's id.
    pub job: String,
    /// The attempt.
    pub attempt: u64,
    /// The worker's index within the job.
    pub index: usize,
    /// Requests counted, late ones included.
    pub records: u64,
    /// Requests counted whose window was given out before they came.
    pub late: u64,
    /// Requests by route, late ones included.
    pub routes: BTreeMap<String, u64>,
    /// Rows written: one for each route and closed window.
    pub rows: u64,
    /// The starts of closed windows that had requests, counted once however many routes they had.
    pub windows: u64,
    /// Lines that this worker read and rejected.
    pub malformed: u64,
    /// Rejected lines by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Files followed.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// How often a file was found cut back.
    pub truncations: u64,
    /// The watermark of the whole job as this worker knows it, in milliseconds since the Unix epoch; none before the first
    /// line and after the last.
    pub watermark_ms: Option<u64>,
    /// When this was written, in milliseconds since the Unix epoch.
    pub updated_ms: u64,
    /// The worker has read all sources to their end and closed all windows; nothing more follows.
    pub drained: bool,
}

/// Where the files of a job are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    out_dir: PathBuf,
}

impl Layout {
    /// The layout below `out_dir`.
    pub fn new(out_dir: impl Into<PathBuf>) -> Layout {
        Layout {
            out_dir: out_dir.into(),
        }
    }

    /// The file whose presence asks the job to end.
    pub fn drain(&self) -> PathBuf {
        self.out_dir.join("drain")
    }

    /// The directory of an attempt.
    pub fn attempt(&self, attempt: u64) -> PathBuf {
        self.out_dir.join(format!("attempt-{attempt}"))
    }

    /// The rows of a worker.
    pub fn windows(&self, attempt: u64, index: usize) -> PathBuf {
        self.attempt(attempt).join(format!("windows-{index}.jsonl"))
    }

    /// The totals of a worker.
    pub fn totals(&self, attempt: u64, index: usize) -> PathBuf {
        self.attempt(attempt).join(format!("totals-{index}.json"))
    }

    /// The samples of what a worker rejected.
    pub fn rejected(&self, attempt: u64, index: usize) -> PathBuf {
        self.attempt(attempt).join(format!("rejected-{index}.jsonl"))
    }

    /// The highest attempt that has a directory.
    pub fn newest_attempt(&self) -> Option<u64> {
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("attempt-")?.parse().ok();
        fs::read_dir(&self.out_dir).ok()?.flatten().filter_map(number).max()
    }

    /// Reads the totals of a worker. None if it has not written any, or they cannot be read.
    pub fn read_totals(&self, attempt: u64, index: usize) -> Option<Totals> {
        serde_json::from_slice(&fs::read(self.totals(attempt, index)).ok()?).ok()
    }
}

/// Writes one worker's files.
#[derive(Debug)]
pub(crate) struct Output {
    totals_path: PathBuf,
    totals_new: PathBuf,
    windows: BufWriter<File>,
    rejected: BufWriter<File>,
    samples: u64,
    malformed: BTreeMap<Reason, u64>,
    rows: u64,
    starts: u64,
    last_start: Option<u64>,
}

impl Output {
    /// Creates the files of one attempt. They must not be there: nobody else writes this attempt.
    pub(crate) fn create(layout: &Layout, attempt: u64, index: usize) -> io::Result<Output> {
        fs::create_dir_all(layout.attempt(attempt))?;
        let totals_path = layout.totals(attempt, index);
        Ok(Output {
            totals_new: totals_path.with_extension("json.new"),
            totals_path,
            windows: BufWriter::new(File::create_new(layout.windows(attempt, index))?),
            rejected: BufWriter::new(File::create_new(layout.rejected(attempt, index))?),
            samples: 0,
            malformed: BTreeMap::new(),
            rows: 0,
            starts: 0,
            last_start: None,
        })
    }

    pub(crate) fn rejected(&mut self, path: &Path, reason: Reason, line: &[u8]) -> io::Result<()> {
        *self.malformed.entry(reason).or_default() += 1;
        self.samples += 1;
        if self.samples > SAMPLES_MAX {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line[..line.len().min(SAMPLE_BYTES_MAX)]);
        let sample = serde_json::json!({"path": pattern::display(path), "reason": reason.to_string(), "line": line});
        writeln!(self.rejected, "{sample}")
    }

    /// Appends rows, which come ordered by window.
    pub(crate) fn rows(&mut self, rows: &[WindowRow]) -> io::Result<()> {
        for row in rows {
            serde_json::to_writer(&mut self.windows, row)?;
            self.windows.write_all(b"\n")?;
            self.rows += 1;
            self.starts += u64::from(self.last_start != Some(row.window_start_ms));
            self.last_start = Some(row.window_start_ms);
        }
        Ok(())
    }

    /// Makes all rows visible, and `totals` with what this file set knows filled in.
    pub(crate) fn publish(&mut self, mut totals: Totals) -> io::Result<()> {
        self.windows.flush()?;
        self.rejected.flush()?;
        totals.rows = self.rows;
        totals.windows = self.starts;
        totals.malformed = self.malformed.values().sum();
        totals.reasons = self
            .malformed
            .iter()
            .map(|(reason, count)| (reason.to_string(), *count))
            .collect();
        fs::write(&self.totals_new, serde_json::to_vec(&totals)?)?;
        fs::rename(&self.totals_new, &self.totals_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_written_once_and_the_newest_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("out"));
        assert_eq!(layout.newest_attempt(), None);
        for attempt in [1, 10, 9] {
            Output::create(&layout, attempt, 0).unwrap();
        }
        assert_eq!(layout.newest_attempt(), Some(10));
        assert_eq!(
            Output::create(&layout, 9, 0).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
    }

    #[test]
    fn samples_of_rejected_lines_are_bounded_and_their_number_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let mut output = Output::create(&layout, 1, 0).unwrap();
        for _ in 0..3 * SAMPLES_MAX {
            output
                .rejected(Path::new("/a.log"), Reason::NotAnObject, &[b'\xff'; 9000])
                .unwrap();
        }
        output.publish(Totals::default()).unwrap();
        let totals = layout.read_totals(1, 0).unwrap();
        assert_eq!(totals.malformed, 3 * SAMPLES_MAX);
        assert_eq!(
            totals.reasons,
            BTreeMap::from([("not a JSON object".to_owned(), 3 * SAMPLES_MAX)])
        );
        let samples = fs::read_to_string(layout.rejected(1, 0)).unwrap();
        assert_eq!(samples.lines().count() as u64, SAMPLES_MAX);
        assert!(samples.lines().all(|line| line.len() < 4 * SAMPLE_BYTES_MAX));
    }
}

//! The readable history of a run.

use std::collections::VecDeque;
use std::fmt;

/// How many lines are kept for a failure.
const LINES_MAX: usize = 400;

/// The last lines of the history, and a hash over all of it.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: VecDeque<String>,
    hash: u64,
    print: bool,
}

impl Trace {
    pub(crate) fn new(print: bool) -> Self {
        Trace {
            print,
            hash: 0xcbf2_9ce4_8422_2325,
            ..Trace::default()
        }
    }

    /// A line that is kept.
    pub(crate) fn line(&mut self, now: u64, text: fmt::Arguments<'_>) {
        let line = format!("{now:>8} {text}");
        self.mix(line.as_bytes());
        if self.print {
            eprintln!("{line}");
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// A line of which there are too many to keep: it is made only where it is printed.
    pub(crate) fn detail(&self, now: u64, text: impl FnOnce() -> String) {
        if self.print {
            eprintln!("{now:>8}   {}", text());
        }
    }

    /// What must be the same in every run of a seed.
    pub(crate) fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // FNV-1a.
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Equal for two runs of one seed, or something is not deterministic.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn tail(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

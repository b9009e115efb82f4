//! What can be known of a job while it runs.

use std::collections::{BTreeMap, BTreeSet};

use proffer_sdk::proto::v1::TaskState;
use serde::Serialize;

use crate::output::{Layout, Totals};
use crate::windows::WindowRow;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for offers that hold all workers.
    Waiting,
    /// The workers are launched and not all running yet.
    Starting,
    /// All workers are running.
    Running,
    /// The workers read to the end of their sources.
    Draining,
    /// The workers of this attempt are being ended, to start anew or for good.
    Stopping,
    /// It is over; the outcome says how.
    Ended,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All sources were read to their end and every line was counted.
    Drained,
    /// It was cancelled.
    Cancelled,
    /// It was given up, for this reason.
    Failed(String),
}

/// One worker of the present attempt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerStatus {
    /// The worker's index within the job.
    pub index: usize,
    /// Its task.
    pub task_id: String,
    /// The agent that the task is on.
    pub agent_id: String,
    /// Its data-plane address.
    pub address: String,
    /// The state of its task, as the API spells it.
    pub state: &'static str,
    /// What was said about its state.
    pub message: String,
}

/// A job as its scheduler sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobStatus {
    /// The job's name.
    pub name: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// The present attempt; zero before the first.
    pub attempt: u64,
    /// How many attempts were made beyond the first.
    pub restarts: u64,
    /// The workers of the present attempt.
    pub workers: Vec<WorkerStatus>,
    /// Why the last attempt ended, if one did.
    pub last_failure: Option<String>,
    /// How the job ended, if it did.
    pub outcome: Option<Outcome>,
}

/// What all workers of an attempt have counted together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct JobTotals {
    /// The attempt.
    pub attempt: u64,
    /// How many workers have written totals.
    pub workers: usize,
    /// Requests counted, late ones included.
    pub records: u64,
    /// Requests counted that came after their window was given out.
    pub late: u64,
    /// Lines rejected.
    pub malformed: u64,
    /// Rejected lines by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Rows given out: one for each route and closed window.
    pub rows: u64,
    /// Requests by route.
    pub routes: BTreeMap<String, u64>,
    /// Files followed.
    pub files: u64,
    /// The watermark of the worker that is furthest behind.
    pub watermark_ms: Option<u64>,
    /// All workers have drained: nothing more follows.
    pub drained: bool,
}

impl JobTotals {
    /// Adds up what the workers of an attempt have written so far. What cannot be read counts as not written.
    pub fn read(layout: &Layout, attempt: u64, workers: usize) -> JobTotals {
        let read: Vec<Totals> = (0..workers)
            .filter_map(|index| layout.read_totals(attempt, index))
            .collect();
        let mut sum = JobTotals {
            attempt,
            workers: read.len(),
            ..JobTotals::default()
        };
        for totals in &read {
            sum.records += totals.records;
            sum.late += totals.late;
            sum.malformed += totals.malformed;
            sum.rows += totals.rows;
            sum.files += totals.files;
            add(&mut sum.routes, &totals.routes);
            add(&mut sum.reasons, &totals.reasons);
        }
        let known = read
            .iter()
            .map(|totals| totals.watermark_ms)
            .collect::<Option<Vec<_>>>();
        sum.watermark_ms = known.and_then(|known| known.into_iter().min());
        sum.drained = read.len() == workers && read.iter().all(|totals| totals.drained);
        sum
    }
}

fn add(sum: &mut BTreeMap<String, u64>, part: &BTreeMap<String, u64>) {
    for (name, count) in part {
        *sum.entry(name.clone()).or_default() += count;
    }
}

/// Reads the rows that the workers of an attempt have given out, ordered by window and route. A line that is half
/// written is left out.
pub fn read_rows(layout: &Layout, attempt: u64, workers: usize) -> Vec<WindowRow> {
    let mut rows: Vec<WindowRow> = Vec::new();
    for index in 0..workers {
        let text = std::fs::read_to_string(layout.windows(attempt, index)).unwrap_or_default();
        rows.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    rows.sort_by(|left, right| (left.window_start_ms, &left.route).cmp(&(right.window_start_ms, &right.route)));
    rows
}

/// How many windows had requests, whatever their routes.
pub fn distinct_windows(rows: &[WindowRow]) -> usize {
    rows.iter()
        .map(|row| row.window_start_ms)
        .collect::<BTreeSet<_>>()
        .len()
}

/// Whether a task in this state counts for its attempt as gone. An unreachable one may come back, but then the attempt is
/// fenced and it is killed.
pub(super) fn is_gone(state: TaskState) -> bool {
    proffer_sdk::is_terminal(state) || state == TaskState::TaskUnreachable
}

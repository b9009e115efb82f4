//! What the demo measured, and whether it holds.

use std::io::Write;

use serde::Serialize;

use crate::exit::Failure;

/// The figures of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Requests with a whole response.
    pub(crate) requests_answered: u64,
    /// Requests that reached an instance: those answered, and those whose answer was lost with the killed instance.
    pub(crate) requests_sent: u64,
    /// Requests whose answer was lost; some reached the killed instance, some did not.
    pub(crate) requests_ambiguous: u64,
    /// Lines in all access logs.
    pub(crate) requests_logged: u64,
    /// Requests that the streaming job counted.
    pub(crate) requests_counted: u64,
    /// Every answered request is in the logs once, and nothing else is.
    pub(crate) logs_agree: bool,
    /// Lines that the streaming job could not read.
    pub(crate) malformed: u64,
    /// Windows with requests.
    pub(crate) windows: u64,
    pub(crate) job_outcome: String,
    pub(crate) job_drained: bool,
    pub(crate) masters: u64,
    /// From the kill of the leading master until another one answered a call.
    pub(crate) leader_gap_ms: f64,
    /// Requests that the service answered meanwhile, and those whose answer was lost.
    pub(crate) gap_requests_answered: u64,
    pub(crate) gap_requests_failed: u64,
    /// Tasks that did not survive the leader, and ends of tasks that were never told.
    pub(crate) gap_tasks_lost: u64,
    pub(crate) gap_updates_lost: u64,
    /// From the start of the killed master until it served again.
    pub(crate) master_back_ms: f64,
    pub(crate) tasks_launched: u64,
    /// From ACCEPT to the news that the task runs.
    pub(crate) launch_p50_ms: f64,
    pub(crate) launch_p99_ms: f64,
    /// Instances that were replaced.
    pub(crate) restarts: u64,
    /// From the kill of an instance to its replacement running, back-off included.
    pub(crate) replacement_ms: f64,
    /// Binds of ports that were not allocated, and how many the kernel denied.
    pub(crate) tried_binds: u64,
    pub(crate) denied_binds: u64,
    pub(crate) request_p50_ms: f64,
    pub(crate) request_p99_ms: f64,
    pub(crate) requests_per_second: f64,
    /// Processes and cgroups that were not cleaned up.
    pub(crate) left_behind: Vec<String>,
}

impl Summary {
    /// What should hold and does not.
    pub(crate) fn failed_checks(&self) -> Vec<String> {
        let checks = [
            (
                self.requests_counted == self.requests_sent,
                "the stream did not count exactly the requests sent",
            ),
            (
                self.requests_logged == self.requests_sent,
                "the access logs do not hold exactly the requests sent",
            ),
            (
                self.logs_agree,
                "an answered request is missing or repeated in the logs",
            ),
            (self.malformed == 0, "the stream could not read some lines"),
            (self.windows > 0, "the stream gave out no window"),
            (
                self.job_drained,
                "the streaming job did not read its sources to their end",
            ),
            (self.gap_requests_failed == 0, "a request failed while no master led"),
            (self.gap_tasks_lost == 0, "a task was lost with the leading master"),
            (self.gap_updates_lost == 0, "the end of a task was never told"),
            (self.restarts >= 1, "the killed instance was not replaced"),
            (
                self.tried_binds > 0 && self.denied_binds == self.tried_binds,
                "a bind outside the allocated ports was not denied",
            ),
            (self.left_behind.is_empty(), "something was left behind"),
        ];
        checks
            .iter()
            .filter(|(holds, _)| !holds)
            .map(|(_, what)| (*what).to_owned())
            .collect()
    }

    /// Prints it on standard output.
    pub(crate) fn print(&self, json: bool) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, self).map_err(std::io::Error::from)?;
            writeln!(out)?;
            return Ok(());
        }
        writeln!(out, "requests sent           {}", self.requests_sent)?;
        writeln!(out, "requests counted        {}", self.requests_counted)?;
        writeln!(
            out,
            "  answered              {} at {:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
            self.requests_answered, self.requests_per_second, self.request_p50_ms, self.request_p99_ms
        )?;
        writeln!(out, "  lost with the victim  {} answers", self.requests_ambiguous)?;
        writeln!(out, "windows                 {}", self.windows)?;
        writeln!(
            out,
            "tasks launched          {}, ACCEPT to running p50 {:.1} ms, p99 {:.1} ms",
            self.tasks_launched, self.launch_p50_ms, self.launch_p99_ms
        )?;
        writeln!(
            out,
            "leader killed           another of {} masters accepts calls after {:.0} ms; back after {:.0} ms",
            self.masters, self.leader_gap_ms, self.master_back_ms
        )?;
        writeln!(
            out,
            "  meanwhile             {} requests answered, {} failed",
            self.gap_requests_answered, self.gap_requests_failed
        )?;
        writeln!(
            out,
            "  tasks lost            {}, updates lost {}",
            self.gap_tasks_lost, self.gap_updates_lost
        )?;
        writeln!(
            out,
            "restarts                {} (replaced after {:.0} ms)",
            self.restarts, self.replacement_ms
        )?;
        writeln!(
            out,
            "denied binds            {} of {}",
            self.denied_binds, self.tried_binds
        )?;
        for left in &self.left_behind {
            writeln!(out, "left behind             {left}")?;
        }
        Ok(())
    }
}

/// A percentile by the nearest rank, 0 where there is nothing.
pub(crate) fn percentile(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_by_the_nearest_rank() {
        assert_eq!(percentile(&mut [], 0.5), 0);
        assert_eq!(percentile(&mut [7], 0.99), 7);
        let mut values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut values, 0.5), 50);
        assert_eq!(percentile(&mut values, 0.99), 99);
    }
}

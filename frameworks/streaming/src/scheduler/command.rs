//! A job as an operator runs it: in the foreground, until it has ended or is asked to end.

use std::io;
use std::time::Duration;

use proffer_sdk::Masters;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::{JobArgs, JobError, JobHandle, JobStatus, JobTotals, Outcome, prepare};

/// How often progress is told while the status stays the same.
const PROGRESS: Duration = Duration::from_secs(1);

/// Runs a job until it has ended, and tells its progress at every change of its status and every second.
///
/// Takes over SIGTERM and SIGINT. The first asks the job to drain, or cancels it where no worker was launched yet; the
/// second cancels it. The third waits for nobody: workers that no master could end by then end with the job's failover
/// timeout.
///
/// # Errors
/// The job was not started, or the cluster ended it. A job that was given up has an outcome.
pub async fn run_job(
    args: JobArgs,
    masters: Masters,
    mut progress: impl FnMut(&JobStatus, &JobTotals),
) -> Result<Outcome, JobError> {
    let mut signals = Signals::new().map_err(JobError::Signals)?;
    let (handle, job) = prepare(args.into(), masters)?;
    let job = job.run();
    tokio::pin!(job);
    let mut status = handle.watch();
    let mut ticks = tokio::time::interval(PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = 0;
    loop {
        tokio::select! {
            ended = &mut job => {
                progress(&handle.status(), &handle.totals());
                return Ok(ended?);
            }
            Ok(()) = status.changed() => progress(&handle.status(), &handle.totals()),
            _ = ticks.tick() => progress(&handle.status(), &handle.totals()),
            () = signals.next() => {
                asked += 1;
                if asked > 2 {
                    tracing::warn!("asked to end a third time: leaves without an answer of the cluster");
                    return Ok(Outcome::Cancelled);
                }
                ask_to_end(&handle, asked);
            }
        }
    }
}

fn ask_to_end(handle: &JobHandle, asked: u32) {
    if asked == 1 && handle.status().attempt > 0 {
        tracing::info!("asked to end: drains");
        handle.drain();
    } else {
        tracing::info!("asked to end: cancels");
        handle.cancel();
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

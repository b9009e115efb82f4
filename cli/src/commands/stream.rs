//! `proffer stream run`.

use proffer_sdk::Masters;
use proffer_streaming::scheduler::{JobArgs, JobError, JobStatus, JobTotals, Outcome, run_job};

use crate::exit::{Chain, Failure, FailureKind};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum StreamCommand {
    /// Run a job over access logs in the foreground; Ctrl-C lets it read its logs to their end first.
    Run {
        /// The masters of the cluster, `host:port[,host:port…]`.
        #[arg(
            long,
            short = 'm',
            env = "PROFFER_MASTER",
            default_value = "127.0.0.1:5050",
            value_name = "ADDRESSES"
        )]
        master: Masters,
        #[command(flatten)]
        job: JobArgs,
    },
}

pub(crate) async fn run(command: StreamCommand) -> Result<(), Failure> {
    let StreamCommand::Run { master, job } = command;
    let mut shown = String::new();
    let outcome = run_job(job, master, |status, totals| show(&mut shown, status, totals))
        .await
        .map_err(failure)?;
    match outcome {
        Outcome::Drained => Ok(()),
        Outcome::Cancelled => Err(Failure::new(FailureKind::Failed, "the job was cancelled")),
        Outcome::Failed(reason) => Err(Failure::new(
            FailureKind::Failed,
            format!("the job was given up: {reason}"),
        )),
    }
}

/// Tells what changed, once.
fn show(shown: &mut String, status: &JobStatus, totals: &JobTotals) {
    let line = format!(
        "{} {:?}, attempt {}: {} records, {} late, {} rejected, {} rows of windows, {} files",
        status.name,
        status.phase,
        status.attempt,
        totals.records,
        totals.late,
        totals.malformed,
        totals.rows,
        totals.files
    );
    if *shown != line {
        eprintln!("{line}");
        *shown = line;
    }
}

fn failure(error: JobError) -> Failure {
    let kind = match &error {
        JobError::Prepare(_) => FailureKind::Usage,
        _ => FailureKind::Failed,
    };
    Failure::new(kind, Chain(&error))
}

//! The framework `streaming`: runs one job on a cluster.
//!
//! A job of W workers becomes W tasks, each with its share of cpus and memory and one port. As offers name hosts and ports,
//! every worker is told the addresses of all before any of them runs. When a worker ends, the others are ended and a new
//! attempt is launched.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use proffer_streaming::scheduler::{JobSpec, Outcome, prepare};
//!
//! let spec = JobSpec::new("requests", 2, "/var/lib/requests").source("/srv/web/*/access.log");
//! let (handle, job) = prepare(spec, "127.0.0.1:5050".parse()?)?;
//! let job = tokio::spawn(job.run());
//! handle.wait_running().await;
//! handle.drain();
//! assert_eq!(job.await??, Outcome::Drained);
//! println!("{} requests", handle.totals().records);
//! # Ok(()) }
//! ```

mod args;
mod command;
mod framework;
mod spec;
mod stall;
mod status;

use std::path::Path;
use std::time::Duration;

use proffer_sdk::{Driver, Framework, Masters, Options, RunError, Sender};
use tokio::sync::watch;

pub use self::args::JobArgs;
pub use self::command::run_job;
use self::framework::{StreamingScheduler, Wish};
pub use self::spec::{InvalidSpec, JobSpec, WORKERS_MAX};
pub use self::status::{JobStatus, JobTotals, Outcome, Phase, WorkerStatus, distinct_windows, read_rows};
use crate::output::Layout;
use crate::windows::WindowRow;

/// The name under which the framework subscribes.
pub const FRAMEWORK_NAME: &str = "streaming";

const TICK: Duration = Duration::from_millis(100);

/// Why a job cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The description of the job is wrong.
    #[error(transparent)]
    Spec(#[from] InvalidSpec),
    /// The output directory cannot be made ready.
    #[error("cannot prepare the output directory {path}")]
    Output {
        /// The directory.
        path: std::path::PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// It is not known which program the workers run.
    #[error("cannot find the program of this process; worker_binary names another")]
    Program(#[source] std::io::Error),
}

/// A job that is ready to run.
#[derive(Debug)]
pub struct Job {
    driver: Driver<StreamingScheduler>,
    status: watch::Receiver<JobStatus>,
}

/// Watches and steers a job. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobHandle {
    sender: Sender<Wish>,
    status: watch::Receiver<JobStatus>,
    layout: Layout,
    workers: usize,
}

/// Checks the job and makes its output directory ready. Needs a tokio runtime.
///
/// A `drain` file that an earlier run left behind is removed. A missing output directory is created, for the user of the
/// workers where this process may do that.
pub fn prepare(spec: JobSpec, masters: Masters) -> Result<(JobHandle, Job), PrepareError> {
    spec.validate()?;
    let layout = Layout::new(&spec.out_dir);
    let output = make_ready(&layout, &spec);
    output.map_err(|source| PrepareError::Output {
        path: spec.out_dir.clone(),
        source,
    })?;
    let program = match &spec.worker_binary {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(PrepareError::Program)?,
    };
    let (sender, status) = watch::channel(JobStatus {
        name: spec.name.clone(),
        phase: Phase::Waiting,
        attempt: 0,
        restarts: 0,
        workers: Vec::new(),
        last_failure: None,
        outcome: None,
    });
    let mut framework = Framework::new(FRAMEWORK_NAME)
        .role(&spec.role)
        .failover_timeout(Duration::from_secs(spec.failover_timeout_s));
    if let Some(user) = &spec.user {
        framework = framework.user(user);
    }
    let workers = spec.workers;
    let scheduler = StreamingScheduler::new(spec, program.display().to_string(), sender);
    let driver = Driver::new(scheduler, Options::new(masters, framework).tick(TICK));
    let handle = JobHandle {
        sender: driver.sender(),
        status: status.clone(),
        layout,
        workers,
    };
    Ok((handle, Job { driver, status }))
}

/// Prepares a job and runs it to its end.
pub async fn run(spec: JobSpec, masters: Masters) -> Result<Outcome, JobError> {
    let (_, job) = prepare(spec, masters)?;
    Ok(job.run().await?)
}

/// Why a job did not come to an outcome.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It was not started.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The cluster ended it.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It could not be made stoppable.
    #[error("cannot listen for SIGTERM and SIGINT")]
    Signals(#[source] std::io::Error),
}

impl Job {
    /// Runs the job until it is drained, cancelled or given up.
    pub async fn run(self) -> Result<Outcome, RunError> {
        self.driver.run().await?;
        let outcome = self.status.borrow().outcome.clone();
        Ok(outcome.unwrap_or_else(|| Outcome::Failed("the scheduler stopped".to_owned())))
    }
}

impl JobHandle {
    /// The job as its scheduler sees it now.
    pub fn status(&self) -> JobStatus {
        self.status.borrow().clone()
    }

    /// Tells of every change of the status.
    pub fn watch(&self) -> watch::Receiver<JobStatus> {
        self.status.clone()
    }

    /// Waits until all workers are running, or the job has ended.
    pub async fn wait_running(&self) -> JobStatus {
        self.wait_for(|status| matches!(status.phase, Phase::Running | Phase::Ended))
            .await
    }

    /// Waits until the job has ended.
    pub async fn wait_ended(&self) -> JobStatus {
        self.wait_for(|status| status.phase == Phase::Ended).await
    }

    /// What the present attempt has counted, read from the files of the workers.
    pub fn totals(&self) -> JobTotals {
        let attempt = self.status.borrow().attempt;
        JobTotals::read(&self.layout, attempt, self.workers)
    }

    /// The rows that the present attempt has given out, ordered by window and route.
    pub fn rows(&self) -> Vec<WindowRow> {
        let attempt = self.status.borrow().attempt;
        read_rows(&self.layout, attempt, self.workers)
    }

    /// Asks the job to read its sources to their end and to end then. Should a worker fail meanwhile, the next attempt
    /// does it.
    pub fn drain(&self) {
        // A job that has ended needs no wishes.
        let _ = self.sender.send(Wish::Drain);
    }

    /// Ends the job at once. What it has written stays.
    pub fn cancel(&self) {
        let _ = self.sender.send(Wish::Cancel);
    }

    async fn wait_for(&self, holds: impl FnMut(&JobStatus) -> bool) -> JobStatus {
        let mut status = self.status.clone();
        let reached = status.wait_for(holds).await.map(|status| status.clone());
        // The scheduler is gone: this is how it ended.
        reached.unwrap_or_else(|_| self.status())
    }
}

fn make_ready(layout: &Layout, spec: &JobSpec) -> std::io::Result<()> {
    if !spec.out_dir.exists() {
        std::fs::create_dir_all(&spec.out_dir)?;
        if let Some(uid) = spec.user.as_deref().and_then(uid_of) {
            std::os::unix::fs::chown(&spec.out_dir, Some(uid), None)?;
        }
    }
    match std::fs::remove_file(layout.drain()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn uid_of(user: &str) -> Option<u32> {
    let users = std::fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == user).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

//! A job as a command line describes it.

use std::path::PathBuf;

use super::spec::JobSpec;

/// Describes a job on a command line.
#[derive(Debug, Clone, clap::Args)]
pub struct JobArgs {
    /// The job's name: 1 to 64 of a-z A-Z 0-9 . _ -
    #[arg(long, default_value = "access-log")]
    pub name: String,
    /// How many workers share the work.
    #[arg(long, short = 'w', default_value_t = 2)]
    pub workers: usize,
    /// An absolute path of access logs, in which * ? and ** may be used. Repeatable.
    #[arg(long = "source", value_name = "PATH", required = true)]
    pub sources: Vec<String>,
    /// An absolute path of a directory for results; readable here, and writable where the workers run.
    #[arg(long, value_name = "DIR")]
    pub out_dir: PathBuf,
    /// The size of the windows in milliseconds.
    #[arg(long)]
    pub window_ms: Option<u64>,
    /// How much earlier than the newest line of its log a line may be without being late, in milliseconds.
    #[arg(long)]
    pub lateness_ms: Option<u64>,
    /// After how long without lines a log no longer holds back the others, in milliseconds.
    #[arg(long)]
    pub idle_ms: Option<u64>,
    /// Processors for each worker.
    #[arg(long)]
    pub cpus: Option<f64>,
    /// Memory for each worker in MiB.
    #[arg(long)]
    pub mem_mib: Option<f64>,
    /// The role whose resources are used.
    #[arg(long)]
    pub role: Option<String>,
    /// The user that the workers run as.
    #[arg(long)]
    pub user: Option<String>,
    /// The program `proffer` on the agents, executable for the user of the workers; this program by default.
    #[arg(long, value_name = "PATH")]
    pub worker_binary: Option<PathBuf>,
}

impl From<JobArgs> for JobSpec {
    fn from(args: JobArgs) -> JobSpec {
        let mut spec = JobSpec::new(args.name, args.workers, args.out_dir);
        spec.sources = args.sources;
        spec.window_ms = args.window_ms.unwrap_or(spec.window_ms);
        spec.lateness_ms = args.lateness_ms.unwrap_or(spec.lateness_ms);
        spec.idle_ms = args.idle_ms.unwrap_or(spec.idle_ms);
        spec.cpus = args.cpus.unwrap_or(spec.cpus);
        spec.mem_mib = args.mem_mib.unwrap_or(spec.mem_mib);
        spec.role = args.role.unwrap_or(spec.role);
        spec.user = args.user;
        spec.worker_binary = args.worker_binary;
        spec
    }
}

//! The flags of the fetcher.

use std::path::PathBuf;
use std::time::Duration;

use super::{Error, at_least, seconds};
use crate::fetcher;

/// How long the fetcher waits before it asks a server again for the first time.
const PAUSE: Duration = Duration::from_millis(200);

/// How artifacts are fetched.
#[derive(Debug, Clone, clap::Args)]
pub struct FetchArgs {
    /// How much of what tasks fetch with `cache` is kept for others; 0 keeps nothing.
    #[arg(long, env = "PROFFER_AGENT_FETCH_CACHE_BYTES", default_value_t = 2 << 30, value_name = "BYTES")]
    pub fetch_cache_bytes: u64,
    /// How much a task may fetch, after unpacking; a task with `disk` may fetch no more than that either.
    #[arg(long, env = "PROFFER_AGENT_FETCH_BYTES_MAX", default_value_t = 10 << 30, value_name = "BYTES")]
    pub fetch_bytes_max: u64,
    /// How long a server may be silent, in seconds, before the connection counts as broken.
    #[arg(
        long,
        env = "PROFFER_AGENT_FETCH_STALL",
        default_value_t = 60.0,
        value_name = "SECONDS"
    )]
    pub fetch_stall: f64,
    /// The certificates (PEM) to trust for https, in place of the host's.
    #[arg(long, env = "PROFFER_AGENT_FETCH_CA_FILE", value_name = "FILE")]
    pub fetch_ca_file: Option<PathBuf>,
    /// How many tasks fetch at once; others wait.
    #[arg(
        long,
        env = "PROFFER_AGENT_FETCH_PARALLEL",
        default_value_t = 16,
        value_name = "NUMBER"
    )]
    pub fetch_parallel: u64,
}

/// The validated settings.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// See [`FetchArgs::fetch_cache_bytes`].
    pub cache_bytes: u64,
    /// See [`FetchArgs::fetch_bytes_max`].
    pub bytes_max: u64,
    /// See [`FetchArgs::fetch_stall`].
    pub stall: Duration,
    /// See [`FetchArgs::fetch_ca_file`].
    pub ca_file: Option<PathBuf>,
    /// See [`FetchArgs::fetch_parallel`].
    pub parallel: u64,
}

impl Fetch {
    pub(super) fn resolve(args: FetchArgs) -> Result<Self, Error> {
        if let Some(path) = &args.fetch_ca_file
            && let Err(error) = std::fs::metadata(path)
        {
            return Err(Error::new("fetch-ca-file", format!("{}: {error}", path.display())));
        }
        Ok(Fetch {
            cache_bytes: args.fetch_cache_bytes,
            bytes_max: at_least("fetch-bytes-max", args.fetch_bytes_max, 1)?,
            stall: seconds("fetch-stall", args.fetch_stall.max(0.001))?,
            ca_file: args.fetch_ca_file,
            parallel: at_least("fetch-parallel", args.fetch_parallel, 1)?.min(1024),
        })
    }

    pub(super) fn flags(&self) -> Vec<(&'static str, String)> {
        let ca_file = self.ca_file.as_ref().map(|path| path.display().to_string());
        vec![
            ("fetch-cache-bytes", self.cache_bytes.to_string()),
            ("fetch-bytes-max", self.bytes_max.to_string()),
            ("fetch-stall", self.stall.as_secs_f64().to_string()),
            ("fetch-ca-file", ca_file.unwrap_or_default()),
            ("fetch-parallel", self.parallel.to_string()),
        ]
    }

    pub(crate) fn settings(&self, directory: PathBuf) -> fetcher::Settings {
        fetcher::Settings {
            directory,
            cache_bytes: self.cache_bytes,
            bytes_max: self.bytes_max,
            stall: self.stall,
            pause: PAUSE,
            ca_file: self.ca_file.clone(),
            parallel: usize::try_from(self.parallel).unwrap_or(1),
        }
    }
}

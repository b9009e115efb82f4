//! The program around the scheduler.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use proffer_sdk::Masters;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{Config, DnsConfig, ServiceSpec};

/// Keeps services running
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "proffer-services", version)]
pub struct Args {
    /// Masters of the cluster, as host:port separated by commas
    #[arg(long, env = "PROFFER_MASTER", default_value = "127.0.0.1:5050")]
    pub master: String,
    /// Directory for what survives a restart; by default the masters keep it
    #[arg(long, env = "PROFFER_SERVICES_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Name of the framework
    #[arg(long, default_value = "services")]
    pub name: String,
    /// Role of the framework
    #[arg(long, default_value = "*")]
    pub role: String,
    /// User as whom instances run unless their service names one; the user of this process by default
    #[arg(long)]
    pub user: Option<String>,
    /// Seconds for which instances outlive their scheduler
    #[arg(long, default_value_t = 604_800.0)]
    pub failover_timeout: f64,
    /// Address of the control port; port 0 lets the kernel choose
    #[arg(long, default_value = "127.0.0.1:0")]
    pub control: SocketAddr,
    /// Address at which names of services are answered, by UDP and TCP; nowhere by default
    #[arg(long, value_name = "IP:PORT")]
    pub dns: Option<SocketAddr>,
    /// The zone of these names
    #[arg(long, value_name = "NAME", default_value = "proffer")]
    pub dns_domain: String,
    /// Seconds for which answers may be kept
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub dns_ttl: u32,
    /// File into which the address of the control port is written once it listens
    #[arg(long)]
    pub address_file: Option<PathBuf>,
    /// Files of services, in YAML or JSON, to be kept running
    #[arg(long = "service", value_name = "FILE")]
    pub services: Vec<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives such as `info,proffer_sdk=debug`
    #[arg(
        long,
        env = "PROFFER_SERVICES_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        value_parser = log_level
    )]
    pub log_level: String,
}

/// Runs the scheduler until SIGTERM or SIGINT, on a runtime of its own. Instances go on when it ends.
///
/// Logs to stderr, unless the process has set up logging before.
pub fn main_with(args: Args) -> anyhow::Result<()> {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&args.log_level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let specs = args
        .services
        .iter()
        .map(|path| read(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let config = config(&args)?;
    tracing::info!(?config, "services scheduler starts");
    let mut seat = crate::listen(config).await?;
    if let Some(path) = &args.address_file {
        write_whole(path, &seat.control().to_string()).with_context(|| format!("write {}", path.display()))?;
    }
    let mut specs = Some(specs);
    loop {
        let mut handle = tokio::select! {
            started = seat.lead() => started?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        for spec in specs.take().into_iter().flatten() {
            handle.remote().put(spec).await?;
        }
        let (ended, left) = tokio::select! {
            _ = terminate.recv() => return Ok(handle.stop().await?),
            _ = interrupt.recv() => return Ok(handle.stop().await?),
            ended = handle.ended() => ended,
        };
        match (ended, left) {
            (Err(crate::Error::Replaced), Some(left)) => {
                tracing::warn!("another scheduler of this name has taken over, so this one stands by");
                seat = left;
            }
            (ended, _) => return Ok(ended?),
        }
    }
}

fn log_level(text: &str) -> Result<String, &'static str> {
    let known = EnvFilter::try_new(text).map(|_| text.to_owned());
    known.map_err(|_| "error, warn, info, debug, trace, or directives such as `info,proffer_sdk=debug` are accepted")
}

fn config(args: &Args) -> anyhow::Result<Config> {
    let masters: Masters = args.master.parse().context("--master")?;
    let failover_timeout = Duration::try_from_secs_f64(args.failover_timeout)
        .context("--failover-timeout: a number of seconds from 0 is accepted")?;
    Ok(Config {
        name: args.name.clone(),
        role: args.role.clone(),
        user: args.user.clone(),
        failover_timeout,
        control: args.control,
        dns: args.dns.map(|address| DnsConfig {
            address,
            domain: args.dns_domain.clone(),
            ttl_seconds: args.dns_ttl,
        }),
        ..match &args.state_dir {
            Some(directory) => Config::new(masters, directory),
            None => Config::replicated(masters, &args.name),
        }
    })
}

fn read(path: &Path) -> anyhow::Result<ServiceSpec> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    ServiceSpec::from_yaml(&text).with_context(|| format!("{}", path.display()))
}

/// Writes through a rename, so that a reader never sees half of it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

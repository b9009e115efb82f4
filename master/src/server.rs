//! A whole master: work directory, driver, listener; started and stopped in order.

use std::net::SocketAddr;

use anyhow::Context as _;
use proffer_proto::v1;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::{Args, Config, LogFormat};
use crate::driver::{self, Handle, Request, Settings};
use crate::home::{Home, write_atomically};
use crate::transport;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A master that serves.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    handle: Handle,
    driver_ended: oneshot::Receiver<Result<(), driver::Error>>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts a master. It serves when this returns, and leads if it is alone.
    ///
    /// # Errors
    /// The work directory or the address cannot be used.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr().context("cannot tell the listening address")?;
        let advertise = config.advertise.clone().unwrap_or_else(|| advertised(address));
        let about = transport::About {
            version: VERSION,
            cluster: config.cluster.clone(),
            advertise: advertise.clone(),
        };
        let address_file = config.address_file.clone();
        let bounds = config.stream_bounds;
        let running = tokio::task::spawn_blocking(move || open(&config, address, advertise))
            .await
            .context("the master could not be opened")??;
        let (stop, stopped) = watch::channel(false);
        let router = transport::router(running.handle.clone(), about.clone(), bounds);
        let accepting = tokio::spawn(transport::serve(listener, router, stopped));
        if let Some(path) = &address_file {
            write_atomically(path, about.advertise.as_bytes())
                .with_context(|| format!("cannot write the address file {}", path.display()))?;
        }
        tracing::info!(%address, advertise = about.advertise, "the master serves");
        Ok(Self {
            address,
            handle: running.handle,
            driver_ended: running.ended,
            stop,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the driver ends by itself, which it does only when it cannot go on.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn failed(&mut self) -> anyhow::Result<()> {
        match (&mut self.driver_ended).await {
            Ok(result) => result.context("the master cannot go on"),
            Err(_) => anyhow::bail!("the driver's thread panicked"),
        }
    }

    /// Stops in order: streams are closed, the applied registry is written back.
    ///
    /// # Errors
    /// The driver failed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if self.handle.send(Request::Stop).await.is_ok() {
            self.failed().await?;
        }
        self.stop.send_replace(true);
        self.accepting.await.context("the listener panicked")
    }
}

fn open(config: &Config, address: SocketAddr, advertise: String) -> anyhow::Result<driver::Running> {
    let home = Home::open(&config.work_dir, &config.cluster)?;
    let core = proffer_master_core::Config {
        version: VERSION.to_owned(),
        master_info: Some(master_info(&home, address, &advertise)),
        ping_interval: config.agent_ping_interval,
        ping_misses: config.agent_ping_misses,
        agent_timeout: config.agent_ping_interval * config.agent_ping_misses,
        agent_reregister_timeout: config.agent_reregister_timeout,
        framework_resubscribe_timeout: config.framework_resubscribe_timeout,
        offer_timeout: config.offer_timeout,
        ..proffer_master_core::Config::default()
    };
    let settings = Settings {
        snapshot_entries: config.snapshot_entries,
        advertise,
    };
    Ok(driver::start(home, core, settings)?)
}

/// Where others reach a master that listens on `address`: on every interface means under the machine's name.
fn advertised(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        let name = rustix::system::uname();
        let host = name.nodename().to_string_lossy();
        return format!("{host}:{}", address.port());
    }
    address.to_string()
}

fn master_info(home: &Home, address: SocketAddr, advertise: &str) -> v1::MasterInfo {
    let (host, port) = advertise.rsplit_once(':').unwrap_or((advertise, "5050"));
    let port = port.parse().unwrap_or(5050u16);
    let ip = match address {
        SocketAddr::V4(address) => u32::from_ne_bytes(address.ip().octets()),
        SocketAddr::V6(_) => 0,
    };
    v1::MasterInfo {
        id: format!("{}-{}", home.identity.cluster_id, home.identity.member),
        ip,
        port: u32::from(port),
        pid: Some(format!("master@{advertise}")),
        hostname: Some(host.to_owned()),
        version: Some(VERSION.to_owned()),
        address: Some(v1::Address {
            hostname: Some(host.to_owned()),
            ip: Some(address.ip().to_string()),
            port: i32::from(port),
        }),
        ..v1::MasterInfo::default()
    }
}

/// Runs a master until SIGTERM or SIGINT.
///
/// # Errors
/// A setting is wrong, the master cannot start, or it cannot go on.
pub fn main_with(args: Args) -> anyhow::Result<()> {
    let config = Config::from_args(args)?;
    log_to_stderr(&config);
    tracing::info!(?config, "effective configuration");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let mut server = Server::start(config).await?;
        tokio::select! {
            result = server.failed() => result,
            signal = signals.next() => {
                tracing::info!(signal, "stopping");
                server.stop().await
            }
        }
    })
}

fn log_to_stderr(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::new(&config.log_level);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A program that has set up logging before keeps it.
    let _ = match config.log_format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

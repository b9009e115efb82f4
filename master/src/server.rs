//! A whole master: listener, work directory, group, driver; started and stopped in order.
//!
//! The listener serves from the start. A master that is of a cluster, or makes one of its own, has its driver by then; one that
//! waits for others serves only what they need ([`crate::formation`]), until its group is formed.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use proffer_proto::raft::Founding;
use proffer_proto::registry::Member;
use proffer_proto::v1;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::{self, Args, Begin, Config, LogFormat};
use crate::driver::{self, Request, Settings};
use crate::formation::{self, Exchange, Forming};
use crate::home::{Home, Standing, Way, WorkDirectory, new_cluster_id, write_atomically};
use crate::peers::Dial;
use crate::transport;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How many masters that introduce themselves wait to be heard.
const ASKED_LENGTH: usize = 64;

/// A master that serves.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    /// Formation and driver; none once it was heard how they ended.
    life: Option<JoinHandle<anyhow::Result<()>>>,
    end_life: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    end_accepting: watch::Sender<bool>,
}

/// What a master is made of before it is of a cluster.
struct Plan {
    config: Config,
    address: SocketAddr,
    advertise: String,
    dial: Dial,
    routers: watch::Sender<Router>,
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
        check_begin(&config.begin, &advertise)?;
        let path = config.work_dir.clone();
        let directory = blocking(move || WorkDirectory::open(&path)).await??;
        let (end_life, ended) = watch::channel(false);
        let (end_accepting, accepting_ended) = watch::channel(false);
        let (routers, current) = watch::channel(Router::new());
        let address_file = config.address_file.clone();
        let plan = Plan {
            config,
            address,
            advertise: advertise.clone(),
            dial: Dial::default(),
            routers,
        };
        let life = plan.begin(directory, ended).await?;
        let accepting = tokio::spawn(transport::serve(listener, current, accepting_ended));
        if let Some(path) = &address_file {
            write_atomically(path, advertise.as_bytes())
                .with_context(|| format!("cannot write the address file {}", path.display()))?;
        }
        tracing::info!(%address, advertise, "the master serves");
        Ok(Self {
            address,
            life: Some(life),
            end_life,
            accepting,
            end_accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the master ends by itself, which it does only when it cannot go on.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn failed(&mut self) -> anyhow::Result<()> {
        let Some(life) = &mut self.life else { return Ok(()) };
        let ended = life.await;
        self.life = None;
        ended.context("the master panicked")?
    }

    /// Stops in order: the leadership is handed over, streams are closed, the applied registry is written back.
    ///
    /// # Errors
    /// The driver failed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.end_life.send_replace(true);
        let ended = self.failed().await;
        self.end_accepting.send_replace(true);
        self.accepting.await.context("the listener panicked")?;
        ended
    }
}

impl Plan {
    /// Begins what goes on until the master ends. Where it waits for nobody, it has its driver when this returns.
    async fn begin(
        self,
        mut directory: WorkDirectory,
        ended: watch::Receiver<bool>,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
        let way = match (directory.standing(), &self.config.begin) {
            (Some(Standing::Formed(identity)), begin) => {
                if *begin != Begin::Alone {
                    let cluster_id = &identity.cluster_id;
                    tracing::info!(
                        cluster_id,
                        "this master is of a cluster already; --peers and --join are not used"
                    );
                }
                None
            }
            (_, Begin::Peers(peers)) if peers.len() > 1 => Some(Way::Peers),
            (_, Begin::Join(_)) => Some(Way::Join),
            (Some(Standing::Apart(_)), Begin::Alone) => anyhow::bail!(
                "the master of the work directory {} waits for others: start it with --peers or --join as before, or with \
                 another --work-dir",
                self.config.work_dir.display()
            ),
            (_, Begin::Alone | Begin::Peers(_)) => {
                directory = self.found_alone(directory).await?;
                None
            }
        };
        let Some(way) = way else {
            let running = self.open(directory, None).await?;
            return Ok(tokio::spawn(live(running, ended)));
        };
        let (mut directory, member) = blocking(move || {
            let member = directory.member(way);
            member.map(|member| (directory, member))
        })
        .await??;
        let me = self.member(member);
        let (asked, to_hear) = mpsc::channel(ASKED_LENGTH);
        let (waits_for, waits_of_page) = watch::channel(Vec::new());
        let peers = match &self.config.begin {
            Begin::Peers(peers) => peers.clone(),
            _ => Vec::new(),
        };
        let exchange = Exchange::new(me.clone(), self.config.cluster.clone(), new_cluster_id(), peers);
        let forming = Forming {
            introduction: exchange.introduction(),
            asked: (way == Way::Peers).then_some(asked),
            waits_for: waits_of_page,
        };
        drop(self.routers.send_replace(transport::forming(forming, self.about())));
        tracing::info!(member, begin = ?self.config.begin, "this master is of no cluster yet");
        let waiting = async move {
            let mut founded = None;
            match &self.config.begin {
                Begin::Join(addresses) => {
                    let me = formation::introduction(&me);
                    let join = formation::join(directory, me, addresses.clone(), self.dial.clone(), waits_for);
                    directory = join.await?;
                }
                _ => {
                    let (formed, founding, founder) =
                        formation::form(directory, exchange, self.dial.clone(), to_hear, waits_for).await?;
                    directory = formed;
                    founded = founder.then_some(founding);
                }
            }
            self.open(directory, founded).await
        };
        Ok(tokio::spawn(async move {
            let mut stopped = ended.clone();
            let running = tokio::select! {
                running = waiting => running?,
                () = told(&mut stopped) => return Ok(()),
            };
            live(running, ended).await
        }))
    }

    /// Makes a cluster of one.
    async fn found_alone(&self, mut directory: WorkDirectory) -> anyhow::Result<WorkDirectory> {
        let cluster = self.config.cluster.clone();
        let unnamed = self.member(0);
        let directory = blocking(move || {
            let id = directory.member(Way::Peers)?;
            let cluster_id = new_cluster_id();
            directory.found(&cluster_id, &cluster, &[Member { id, ..unnamed }])?;
            tracing::info!(cluster_id, cluster, member = id, "a new cluster is made");
            Ok::<_, crate::home::Error>(directory)
        });
        Ok(directory.await??)
    }

    /// Starts the driver, and serves everything. Where this master founded its group just now, the others are told.
    async fn open(self, directory: WorkDirectory, founded: Option<Founding>) -> anyhow::Result<driver::Running> {
        let about = self.about();
        let bounds = self.config.stream_bounds;
        let home = blocking(move || directory.into_home()).await??;
        let identity = home.identity.clone();
        let founders = transport::Founders::new(identity.founders.clone(), self.dial.clone());
        let (routers, advertise) = (self.routers, self.advertise);
        let (config, address) = (self.config, self.address);
        let elsewhere = match &config.begin {
            Begin::Alone => Vec::new(),
            Begin::Peers(others) | Begin::Join(others) => {
                others.iter().filter(|other| **other != advertise).cloned().collect()
            }
        };
        let running = blocking(move || start(home, &config, address, advertise)).await??;
        let router = transport::router(
            running.handle.clone(),
            running.incoming.clone(),
            founders.clone(),
            about,
            bounds,
        );
        drop(routers.send_replace(router));
        if !elsewhere.is_empty() {
            running.incoming.seek(elsewhere);
        }
        if let Some(founding) = founded {
            for (id, address) in founders.others(identity.member) {
                founders.tell(id, address, founding.cluster_id.clone(), founding.cluster.clone());
            }
        }
        Ok(running)
    }

    fn member(&self, id: u64) -> Member {
        Member {
            id,
            address: self.advertise.clone(),
            level: self.config.level,
            version: VERSION.to_owned(),
        }
    }

    fn about(&self) -> transport::About {
        transport::About {
            version: VERSION,
            cluster: self.config.cluster.clone(),
            advertise: self.advertise.clone(),
        }
    }
}

/// From the start of the driver to its end.
async fn live(running: driver::Running, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let driver::Running { handle, mut ended, .. } = running;
    let result = tokio::select! {
        result = &mut ended => result,
        () = told(&mut stopped) => {
            // It may have ended just now.
            let _ = handle.send(Request::Stop).await;
            ended.await
        }
    };
    match result {
        Ok(result) => result.context("the master cannot go on"),
        Err(_) => anyhow::bail!("the driver's thread panicked"),
    }
}

async fn told(stopped: &mut watch::Receiver<bool>) {
    // A server that is dropped without a word leaves its master running.
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending().await
    }
}

/// Runs what waits for the disk where it holds nothing else up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("the master could not be opened")
}

fn start(
    home: Home,
    config: &Config,
    address: SocketAddr,
    advertise: String,
) -> Result<driver::Running, driver::Error> {
    let core = proffer_master_core::Config {
        version: VERSION.to_owned(),
        master_info: Some(master_info(&home, config, address, &advertise)),
        ping_interval: config.agent_ping_interval,
        ping_misses: config.agent_ping_misses,
        agent_timeout: config.agent_ping_interval * config.agent_ping_misses,
        agent_reregister_timeout: config.agent_reregister_timeout,
        framework_resubscribe_timeout: config.framework_resubscribe_timeout,
        offer_timeout: config.offer_timeout,
        offer_patience: config.offer_patience,
        gang_wait_max: config.gang_wait_max,
        idle_after: config.idle_after,
        revocable_grace: config.revocable_grace,
        allocator: config.allocator,
        agent_order: config.agent_order,
        state_bytes_max: config.state_bytes_max,
        level: config.level,
        ..proffer_master_core::Config::default()
    };
    let settings = Settings {
        snapshot_entries: config.snapshot_entries,
        advertise,
        level: config.level,
    };
    driver::start(home, core, settings)
}

/// A list of initial members has this master in it, and one to join has another; only here is its own address known for sure.
fn check_begin(begin: &Begin, advertise: &str) -> Result<(), config::Error> {
    let peers = match begin {
        Begin::Alone => return Ok(()),
        Begin::Peers(peers) => peers,
        Begin::Join(others) if others.iter().any(|other| other != advertise) => return Ok(()),
        Begin::Join(others) => {
            return Err(config::Error::Value {
                setting: "join".to_owned(),
                value: others.join(","),
                problem: format!("a list with another master than this one, {advertise}, is accepted"),
            });
        }
    };
    if !peers.iter().any(|peer| peer == advertise) {
        return Err(config::Error::Value {
            setting: "peers".to_owned(),
            value: peers.join(","),
            problem: format!(
                "a list with this master's own address {advertise} is accepted; --advertise says what that is, and all masters \
                 must use the same list"
            ),
        });
    }
    if peers.len() % 2 == 0 {
        let (count, fewer) = (peers.len(), peers.len() - 1);
        tracing::warn!(
            count,
            "an even number of masters survives no more losses than {fewer} would"
        );
    }
    Ok(())
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

fn master_info(home: &Home, config: &Config, address: SocketAddr, advertise: &str) -> v1::MasterInfo {
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
        domain: config.domain.clone(),
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

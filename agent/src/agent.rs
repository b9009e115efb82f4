//! Puts the parts together: starts, recovers, serves, and stops in one of two ways.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proffer_proto::v1;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::causes::with_causes;
use crate::checkpoint::image::Image;
use crate::checkpoint::layout::Layout;
use crate::checkpoint::{self, Checkpoint, journal};
use crate::config::{self, Args, Config, LogFormat};
use crate::containerizer::{self, ContainerId, Containerizer};
use crate::core::{Core, Effect, Input, Settings, holdings};
use crate::disk::{self, Disk};
use crate::driver::{Clock, Driver, Event, RandomIds};
use crate::fetcher::Fetcher;
use crate::launcher::{Endpoint, Launcher};
use crate::persistent::Persistent;
use crate::sandbox::keep;
use crate::server::caller::{Caller, Port};
use crate::sessions::secret::Secret;
use crate::{executor_api, link, server};

/// Events waiting for the loop; whoever has more waits.
const EVENTS_MAX: usize = 4096;
const GC_INTERVAL: Duration = Duration::from_secs(60);
/// How long the last messages to the master may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The tasks run on; the next agent process takes them over.
    LeaveTasks,
    /// The tasks are ended and the agent leaves the cluster.
    EndTasks,
}

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The work directory.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The host's isolation.
    #[error(transparent)]
    Containerizer(#[from] containerizer::Error),
    /// The port.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Anything else that the system refused.
    #[error("cannot {action}")]
    System {
        /// What was attempted.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// The resources are less than what is in use.
    #[error("resources: {0}")]
    Resources(holdings::TooFew),
    /// The journal failed while running.
    #[error("the journal failed; tasks run on and are taken over when the agent is started again")]
    Journal(#[from] journal::Error),
}

/// Runs the agent as a program: logging, runtime, signals.
pub fn main_with(args: Args) -> ExitCode {
    if let Err(problem) = init_logging(&args) {
        return fail(&problem);
    }
    let stop_tasks = args.stop_tasks_on_exit;
    let result = Config::resolve(args).map_err(Error::from).and_then(|config| {
        // The link, the core and the supervisors' pipes share one thread: what is heard of a task goes from one to the other
        // without waking another thread on the way. What blocks (launches, removals, files) has threads of its own.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(16)
            .thread_stack_size(512 << 10)
            .enable_all()
            .build()
            .map_err(system("start the runtime"))?;
        let outcome = runtime.block_on(async {
            let stop = signals(stop_tasks).map_err(system("watch signals"))?;
            run(config, stop).await
        });
        runtime.shutdown_timeout(FAREWELL);
        outcome
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Runs the agent until it is told to stop, or has failed. Whoever drops the sender's end lets it run.
///
/// # Errors
/// What could not be set up, or the failure of the journal.
pub async fn run(config: Config, mut stop: mpsc::Receiver<Stop>) -> Result<(), Error> {
    for (name, value) in config.flags() {
        tracing::info!(name, value, "setting");
    }
    let layout = Layout::new(&config.work_dir);
    let (tickets, durable) = mpsc::unbounded_channel();
    let (checkpoint, image) = Checkpoint::open(&layout, tickets)?;
    warn_of_closed_directories(&layout);
    let (containerizer, notes) = Containerizer::open(containerizer::Config {
        runtime_dir: config.runtime_dir.clone(),
        launcher_dir: layout.launcher(),
        cgroup_root: config.cgroup_root.clone(),
        isolation: config.isolation.clone(),
        pids_max_default: config.pids_max,
        policy: config.policy.clone(),
        logs: config.logs,
    })?;
    for note in notes {
        match note.enforced {
            true => tracing::info!(isolator = note.isolator, text = note.text, "isolation"),
            false => tracing::warn!(isolator = note.isolator, text = note.text, "isolation is not enforced"),
        }
    }
    let disk = Disk::open(&layout.sandboxes(), layout.images(), config.disk);
    let disk = disk.map_err(system(format!(
        "isolate disk as --disk-isolation says below {}",
        layout.work_dir().display()
    )))?;
    match disk.is_enforced() {
        true => tracing::info!(isolator = "disk", text = disk.note(), "isolation"),
        false => tracing::warn!(isolator = "disk", text = disk.note(), "isolation is not enforced"),
    }
    let persistent = Persistent::open(&layout, config.disk, image.volumes.as_ref());
    let persistent = persistent.map_err(system(format!("make volumes below {}", layout.work_dir().display())))?;
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|source| Error::Listen {
        address: config.listen,
        source,
    })?;
    let address = listener.local_addr().map_err(system("learn the address listened on"))?;

    let config = Arc::new(config);
    let cluster = image.agent.cluster.clone();
    let (core, first) = recover(&config, address.port(), image, &containerizer).await?;
    let parallel = std::thread::available_parallelism().map_or(2, usize::from);
    let permits = Arc::new(Semaphore::new((parallel * 2).max(4)));
    let fetched = layout.fetched();
    let fetcher = Fetcher::open(config.fetch.settings(fetched.clone()));
    let socket = executor_socket(&layout);
    let endpoint = Endpoint {
        address: reachable(address).to_string(),
        socket: socket
            .as_ref()
            .map(|_| layout.executors_socket())
            // Containers have a /tmp of their own.
            .filter(|path| !path.starts_with("/tmp")),
    };
    let launcher = Arc::new(Launcher {
        config: Arc::clone(&config),
        endpoint,
        layout,
        containerizer,
        disk,
        persistent,
        permits,
        fetcher: fetcher.map_err(system(format!("open {}", fetched.display())))?,
        preparing: Mutex::default(),
        pods: Mutex::default(),
    });
    let stopping = Arc::clone(&launcher);
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let driver = Driver::new(core, Arc::clone(&launcher), checkpoint, events.clone(), Clock::start());

    let token_file = &launcher.config.token_file;
    let secret = Secret::open(token_file).map_err(system(format!("use {} as the token", token_file.display())))?;
    let api = server::Api {
        launcher: Arc::clone(&launcher),
        events: events.clone(),
        sessions: Arc::default(),
        inputs: Arc::default(),
        secret,
    };
    let local = socket.map(|socket| {
        let serve = axum::serve(socket, executor_api::router(events.clone()));
        tokio::spawn(async move { serve.await })
    });
    let router = server::router(api).into_make_service_with_connect_info::<Caller>();
    let serve = axum::serve(Port(listener), router);
    let server = tokio::spawn(async move { serve.await });
    if let Some(path) = &config.address_file {
        write_whole(path, &address.to_string()).map_err(system(format!("write {}", path.display())))?;
    }
    tracing::info!(%address, "listening");
    let mut link = tokio::spawn(link::run(config.masters.clone(), cluster, events.clone()));
    let watch = tokio::spawn(disk::watch(Arc::clone(&launcher), events.clone()));
    let upkeep = tokio::spawn(upkeep(launcher, events.clone()));
    let stopper = tokio::spawn(async move {
        while let Some(how) = stop.recv().await {
            let event = match how {
                Stop::LeaveTasks => Event::Stop,
                Stop::EndTasks => Event::Input(Input::Leave),
            };
            let _ = events.send(event).await;
        }
    });
    let outcome = driver.run(inbox, durable, first).await;
    stopping.abandon_all();
    if let Ok(Some(_open)) = &outcome {
        // The link ends when its last messages are out and the master has closed the stream.
        let _ = tokio::time::timeout(FAREWELL, &mut link).await;
        stopping.persistent.let_go(&stopping.layout);
    }
    for task in [stopper, watch, upkeep, link] {
        task.abort();
    }
    server.abort();
    local.iter().for_each(tokio::task::JoinHandle::abort);
    tracing::info!("stopped");
    outcome.map(drop).map_err(Error::from)
}

/// The socket that executors on this machine may use beside the port; none where its path is too long for one.
fn executor_socket(layout: &Layout) -> Option<UnixListener> {
    let path = layout.executors_socket();
    // Of an agent that was killed; the work directory is locked.
    let _ = std::fs::remove_file(&path);
    let opened = UnixListener::bind(&path).and_then(|listener| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        Ok(listener)
    });
    opened
        .inspect_err(
            |error| tracing::warn!(path = %path.display(), %error, "executors have to use the port: no socket"),
        )
        .ok()
}

/// Where a process on this machine reaches who listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Builds the core from the journal and hears what became of its containers.
async fn recover(
    config: &Config,
    port: u16,
    image: Image,
    containerizer: &Containerizer,
) -> Result<(Core, Vec<Effect>), Error> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(system("read the boot id"))?;
    let settings = Settings {
        agent: v1::AgentInfo {
            hostname: config.hostname.clone(),
            resources: config.resources.clone(),
            attributes: config.attributes.clone(),
            domain: config.domain.clone(),
            port: Some(i32::from(config.advertise_port.unwrap_or(port))),
            ..v1::AgentInfo::default()
        },
        boot_id: boot_id.trim().to_owned(),
        kill_grace: config.kill_grace,
        executors: config.executors,
    };
    let mut effects = Vec::new();
    let (mut core, alive) = Core::recover(settings, Box::new(RandomIds), image, &mut effects);
    let found = containerizer.recover(&alive).await?;
    let heard: HashSet<ContainerId> = found.iter().map(|(id, _)| id.clone()).collect();
    let unheard = alive.iter().filter(|id| !heard.contains(id)).cloned();
    let unheard = unheard
        .map(|id| (id, containerizer::Recovered::Unknown))
        .collect::<Vec<_>>();
    let (clock, tasks) = (Clock::start(), alive.len());
    for (container, recovered) in found.into_iter().chain(unheard) {
        core.step(clock.now(), Input::Found(container, recovered), &mut effects);
    }
    holdings::check(&core).map_err(Error::Resources)?;
    if tasks > 0 {
        let running = core.tasks().filter(|(_, task)| task.is_alive()).count();
        tracing::info!(tasks, running, "recovered");
    }
    Ok((core, effects))
}

/// What is done now and then.
async fn upkeep(launcher: Arc<Launcher>, events: mpsc::Sender<Event>) {
    let gc_interval = GC_INTERVAL.min(launcher.config.gc_delay).max(Duration::from_secs(1));
    let mut gc = tokio::time::interval(gc_interval);
    loop {
        gc.tick().await;
        collect(&launcher, &events).await;
    }
}

/// Removes old sandboxes.
async fn collect(launcher: &Arc<Launcher>, events: &mpsc::Sender<Event>) {
    let (answer, answered) = oneshot::channel();
    let look = Event::Inspect(Box::new(move |core: &Core| {
        let tasks = core
            .tasks()
            .map(|(_, task)| task.container.pod().unwrap_or_else(|| task.container.clone()));
        let executors = core.executors().map(|(_, executor)| executor.container.clone());
        let live: HashSet<String> = tasks.chain(executors).map(|container| container.0).collect();
        let _ = answer.send(live);
    }));
    if events.send(look).await.is_err() {
        return;
    }
    let Ok(live) = answered.await else { return };
    let launcher = Arc::clone(launcher);
    let removed = tokio::task::spawn_blocking(move || {
        let config = &launcher.config;
        // Of a disk that cannot be looked at nothing is removed early.
        let used = keep::used(launcher.layout.work_dir()).unwrap_or(0.0);
        let age_max = keep::age_max(config.gc_delay, config.gc_headroom, used);
        if used + config.gc_headroom >= 1.0 {
            tracing::warn!(
                used,
                "the disk is full but for the head room: sandboxes are removed soon after their tasks end"
            );
        }
        keep::remove_old(&launcher.layout, &launcher.disk, &live, age_max)
    });
    if let Ok(removed @ 1..) = removed.await {
        tracing::info!(removed, "old sandboxes removed");
    }
}

/// Turns signals into requests to stop. A second one while tasks are being ended leaves them.
fn signals(stop_tasks: bool) -> io::Result<mpsc::Receiver<Stop>> {
    let (stop, stops) = mpsc::channel(4);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut leave = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        let mut ending = false;
        loop {
            let how = tokio::select! {
                _ = terminate.recv() => if stop_tasks && !ending { Stop::EndTasks } else { Stop::LeaveTasks },
                _ = interrupt.recv() => if stop_tasks && !ending { Stop::EndTasks } else { Stop::LeaveTasks },
                _ = leave.recv() => Stop::EndTasks,
            };
            ending = true;
            tracing::info!(?how, "asked to stop");
            if stop.send(how).await.is_err() {
                return;
            }
        }
    });
    Ok(stops)
}

/// Tasks run as their own users and must be able to reach their sandboxes.
fn warn_of_closed_directories(layout: &Layout) {
    use std::os::unix::fs::MetadataExt;
    let sandboxes = layout.sandboxes();
    for directory in sandboxes.ancestors() {
        if directory.metadata().is_ok_and(|metadata| metadata.mode() & 0o001 == 0) {
            tracing::warn!(directory = %directory.display(), "only its owner may enter this directory: tasks of other users cannot reach their sandboxes by path");
        }
    }
}

/// Writes a file so that nobody sees a part of it.
fn write_whole(path: &std::path::Path, text: &str) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

fn init_logging(args: &Args) -> Result<(), config::Error> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log_level)
        .map_err(|error| config::Error::new("log-level", error.to_string()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // Whoever embeds the agent may have set up logging already.
    let _ = match args.log_format {
        LogFormat::Text => builder.with_ansi(rustix::termios::isatty(io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let action = action.into();
    move |source| Error::System { action, source }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    tracing::error!("{}", with_causes(error));
    ExitCode::FAILURE
}

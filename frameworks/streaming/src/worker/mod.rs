//! One worker of a job: a process with one timely worker thread, which runs as a task.
//!
//! Life: connect to the peers; read, exchange, count; on a wish to drain (SIGTERM, or the file `drain` in the output
//! directory) read to where the logs end now, close all windows, write the final totals, end with code 0. The codes of all
//! other ends are in [`Exit`].
//!
//! The wish must reach all workers: one that has drained stays until the others have too, since its routes are counted in
//! their lines as well.

mod dataflow;
mod exit;
mod hello;
mod mesh;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use timely::CommunicationConfig;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::initialize::Hooks;
use timely::worker::Worker;
use tracing_subscriber::EnvFilter;

use self::dataflow::{Batches, Flow};
pub use self::exit::Exit;
use self::hello::{Hello, JOB_BYTES_MAX, TOKEN_BYTES};
use crate::access_log::{Hit, Reason};
use crate::output::{Layout, Output, Totals};
use crate::source::{Pattern, Sink, Source};
use crate::watermark::Watermark;

/// The environment variable that holds the attempt's token.
pub const TOKEN_VARIABLE: &str = "PROFFER_STREAM_TOKEN";

/// How long the loop sleeps when there is nothing to do.
const IDLE: Duration = Duration::from_millis(25);
/// How much is read before the dataflow has its turn.
const READ_BYTES: usize = 256 * 1024;
/// How often totals are written while something changes, and at the least.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);
const PUBLISH_AT_LEAST: Duration = Duration::from_secs(1);

/// The arguments of one worker.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "stream-worker",
    about = "Runs one worker of a streaming job; started by the streaming framework as a task"
)]
pub struct WorkerArgs {
    /// The job's id, the same for all its workers and attempts.
    #[arg(long)]
    pub job: String,
    /// The attempt; a worker refuses peers of another one.
    #[arg(long)]
    pub attempt: u64,
    /// Which of the peers this worker is, from 0.
    #[arg(long)]
    pub index: usize,
    /// The data-plane addresses of all workers in order, this one included.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,...", required = true)]
    pub peers: Vec<String>,
    /// An absolute path of access logs, in which * ? and ** may be used. Repeatable.
    #[arg(long = "source", value_name = "PATH", required = true)]
    pub sources: Vec<String>,
    /// The size of the tumbling windows in milliseconds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub window_ms: u64,
    /// How much earlier than the newest line of its log a line may be without being late, in milliseconds.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=86_400_000))]
    pub lateness_ms: u64,
    /// After how long without lines a log no longer holds back the others, in milliseconds.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub idle_ms: u64,
    /// Where results are written; all workers of a job name the same.
    #[arg(long, value_name = "DIR")]
    pub out_dir: PathBuf,
    /// How long to wait for the peers, in milliseconds.
    #[arg(long, default_value_t = 30_000)]
    pub connect_timeout_ms: u64,
    /// What to log: error, warn, info, debug, trace, or directives such as `info,timely=debug`.
    #[arg(
        long,
        env = "PROFFER_STREAM_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        value_parser = log_level
    )]
    pub log_level: String,
}

/// What was wrong with the arguments, or failed at the start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Mesh(#[from] mesh::MeshError),
    #[error("cannot write below {path}")]
    Output { path: PathBuf, source: io::Error },
    #[error("cannot listen for SIGTERM")]
    Signal(#[source] io::Error),
    #[error("cannot start the dataflow: {0}")]
    Dataflow(String),
}

impl StartError {
    fn exit(&self) -> Exit {
        match self {
            StartError::Usage(_) => Exit::Usage,
            StartError::Mesh(mesh::MeshError::Refused { .. }) => Exit::Refused,
            StartError::Mesh(_) => Exit::PeersMissing,
            StartError::Output { .. } => Exit::Output,
            StartError::Signal(_) | StartError::Dataflow(_) => Exit::Defect,
        }
    }
}

/// Runs a worker until it has drained or cannot go on. Blocks; takes over SIGTERM and the panic hook of the process.
///
/// Logs to stderr, unless the process has set up logging before.
pub fn run(args: WorkerArgs) -> ExitCode {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&args.log_level))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
    exit::install_panic_hook();
    let exit = match start(args) {
        Ok(exit) => exit,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(error = %error, cause, "worker cannot start");
            error.exit()
        }
    };
    exit.into()
}

fn log_level(text: &str) -> Result<String, &'static str> {
    let known = EnvFilter::try_new(text).map(|_| text.to_owned());
    known.map_err(|_| "error, warn, info, debug, trace, or directives such as `info,timely=debug` are accepted")
}

/// Arguments that are known to be good.
#[derive(Debug)]
struct Config {
    job: String,
    attempt: u64,
    index: usize,
    peers: usize,
    patterns: Vec<Pattern>,
    window_ms: u64,
    lateness_ms: u64,
    idle_ms: u64,
    layout: Layout,
}

fn start(args: WorkerArgs) -> Result<Exit, StartError> {
    let token = std::env::var(TOKEN_VARIABLE).unwrap_or_default();
    let me = check(&args, &token)?;
    let patterns = args
        .sources
        .iter()
        .map(|source| Pattern::parse(source))
        .collect::<Result<_, _>>();
    let config = Config {
        job: args.job,
        attempt: args.attempt,
        index: args.index,
        peers: args.peers.len(),
        patterns: patterns.map_err(StartError::Usage)?,
        window_ms: args.window_ms,
        lateness_ms: args.lateness_ms,
        idle_ms: args.idle_ms,
        layout: Layout::new(&args.out_dir),
    };
    let drain = Arc::new(AtomicBool::new(false));
    watch_signal(Arc::clone(&drain)).map_err(StartError::Signal)?;
    let output = Output::create(&config.layout, config.attempt, config.index);
    let output = output.map_err(|source| StartError::Output {
        path: config.layout.attempt(config.attempt),
        source,
    })?;

    let begun = Instant::now();
    let sockets = mesh::connect(&me, &args.peers, Duration::from_millis(args.connect_timeout_ms))?;
    tracing::info!(job = config.job, attempt = config.attempt, index = config.index, peers = config.peers, took = ?begun.elapsed(), "connected to all peers");

    let (builders, guard): (_, Box<dyn std::any::Any + Send>) = if sockets.len() == 1 {
        CommunicationConfig::Thread.try_build().map_err(StartError::Dataflow)?
    } else {
        let hooks = Hooks::default();
        let local = ProcessBuilder::new_typed_vector(1, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guard) = initialize_networking_from_sockets(local, sockets, config.index, 1, hooks)
            .map_err(|error| StartError::Dataflow(error.to_string()))?;
        (
            builders.into_iter().map(AllocatorBuilder::Tcp).collect(),
            Box::new(guard),
        )
    };
    execute(config, output, drain, builders, guard)
}

fn execute(
    config: Config,
    output: Output,
    drain: Arc<AtomicBool>,
    builders: Vec<AllocatorBuilder>,
    guard: Box<dyn std::any::Any + Send>,
) -> Result<Exit, StartError> {
    let once = std::sync::Mutex::new(Some((config, output)));
    let settings = timely::WorkerConfig::default().idle_spin(Duration::ZERO);
    let guards = timely::execute::execute_from(builders, guard, settings, move |worker| {
        let (config, output) = once
            .lock()
            .ok()
            .and_then(|mut once| once.take())
            .expect("one worker thread a process");
        if let Err(error) = Loop::new(worker, config, output).run(worker, &drain) {
            // Leaving the dataflow in order would wait for the peers; they are to notice at once.
            exit::end(Exit::Output, &error);
        }
    });
    // The first panic of any thread ends the process, so that joining finds none.
    guards
        .map_err(StartError::Dataflow)?
        .join()
        .into_iter()
        .try_for_each(|result| result.map_err(StartError::Dataflow))?;
    Ok(Exit::Drained)
}

fn check(args: &WorkerArgs, token: &str) -> Result<Hello, StartError> {
    let usage = |text: String| Err(StartError::Usage(text));
    if args.job.is_empty() || args.job.len() > JOB_BYTES_MAX {
        return usage(format!("--job: expected 1 to {JOB_BYTES_MAX} bytes"));
    }
    if args.index >= args.peers.len() {
        return usage(format!(
            "--index {}: expected less than the number of peers, {}",
            args.index,
            args.peers.len()
        ));
    }
    if let Some(peer) = args.peers.iter().find(|peer| !is_address(peer)) {
        return usage(format!("--peers: {peer:?}: expected HOST:PORT"));
    }
    if token.len() > TOKEN_BYTES {
        return usage(format!("{TOKEN_VARIABLE}: expected at most {TOKEN_BYTES} bytes"));
    }
    let mut padded = [0; TOKEN_BYTES];
    padded[..token.len()].copy_from_slice(token.as_bytes());
    let (index, peers) = (args.index as u32, args.peers.len() as u32);
    Ok(Hello {
        job: args.job.clone(),
        attempt: args.attempt,
        index,
        peers,
        token: padded,
    })
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Sets `drain` at SIGTERM or SIGINT.
fn watch_signal(drain: Arc<AtomicBool>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::Builder::new()
        .name("signal".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    tracing::info!("asked to end: drains");
                    drain.store(true, Ordering::Relaxed);
                }
            });
        })?;
    Ok(())
}

/// What the worker thread drives: the source, the dataflow, the files.
struct Loop {
    config: Config,
    source: Source,
    flow: Option<Flow>,
    shared: std::rc::Rc<std::cell::RefCell<dataflow::Shared>>,
    intake: Intake,
    published: Instant,
    changed: bool,
    records_published: u64,
}

/// Where lines go.
struct Intake {
    batches: Batches,
    output: Output,
    failure: io::Result<()>,
}

impl Sink for Intake {
    fn hit(&mut self, hit: &Hit<'_>, bytes: usize) {
        self.batches.push(hit, bytes);
    }

    fn rejected(&mut self, path: &Path, reason: Reason, line: &[u8]) {
        if let Err(error) = self.output.rejected(path, reason, line) {
            self.failure = Err(error);
        }
    }
}

impl Loop {
    fn new(worker: &mut Worker, config: Config, output: Output) -> Loop {
        let flow = Flow::build(worker, config.window_ms);
        let watermark = Watermark::new(config.lateness_ms, config.idle_ms, now_ms());
        Loop {
            source: Source::new(config.patterns.clone(), config.index, config.peers, watermark),
            shared: std::rc::Rc::clone(&flow.shared),
            flow: Some(flow),
            intake: Intake {
                batches: Batches::new(config.index, config.peers),
                output,
                failure: Ok(()),
            },
            published: Instant::now(),
            changed: true,
            records_published: 0,
            config,
        }
    }

    fn run(mut self, worker: &mut Worker, drain: &AtomicBool) -> io::Result<()> {
        let mut drain_looked = Instant::now();
        self.publish(false)?;
        while worker.has_dataflows() {
            if drain_looked.elapsed() >= Duration::from_millis(50) {
                drain_looked = Instant::now();
                if self.config.layout.drain().exists() {
                    drain.store(true, Ordering::Relaxed);
                }
            }
            let busy = self.read(drain.load(Ordering::Relaxed))?;
            worker.step_or_park(Some(if busy { Duration::ZERO } else { IDLE }));
            self.write()?;
        }
        self.publish(true)
    }

    /// Reads the sources and sends what they gave. Returns whether there may be more at once.
    fn read(&mut self, drain: bool) -> io::Result<bool> {
        let Some(flow) = &mut self.flow else { return Ok(false) };
        let now = now_ms();
        if drain {
            self.source.drain(now);
        }
        let budget = usize::try_from(flow.credit()).unwrap_or(usize::MAX).min(READ_BYTES);
        let read = self.source.poll(budget, now, &mut self.intake);
        std::mem::replace(&mut self.intake.failure, Ok(()))?;
        flow.send(
            &mut self.intake.batches,
            self.source.watermark(now),
            self.config.window_ms,
        );
        if self.source.drained() {
            tracing::info!("read all sources to their end");
            self.flow = None;
        }
        self.changed |= read > 0;
        Ok(read > 0)
    }

    fn write(&mut self) -> io::Result<()> {
        {
            let shared = &mut *self.shared.borrow_mut();
            self.changed |= !shared.rows.is_empty() || shared.windows.records() != self.records_published;
            self.intake.output.rows(&shared.rows)?;
            shared.rows.clear();
        }
        let since = self.published.elapsed();
        if since >= PUBLISH_AT_LEAST || (self.changed && since >= PUBLISH_EVERY) {
            self.publish(false)?;
        }
        Ok(())
    }

    fn publish(&mut self, drained: bool) -> io::Result<()> {
        let shared = self.shared.borrow();
        let counters = self.source.counters();
        let totals = Totals {
            job: self.config.job.clone(),
            attempt: self.config.attempt,
            index: self.config.index,
            records: shared.windows.records(),
            late: shared.windows.late(),
            routes: shared.windows.per_route(),
            files: counters.files,
            bytes: counters.bytes,
            truncations: counters.truncations,
            watermark_ms: shared.watermark_ms.filter(|&watermark| watermark > 0),
            updated_ms: now_ms(),
            drained,
            ..Totals::default()
        };
        self.published = Instant::now();
        self.records_published = totals.records;
        self.changed = false;
        self.intake.output.publish(totals)
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

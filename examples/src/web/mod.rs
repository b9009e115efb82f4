//! A small HTTP/1.1 server that behaves like a service somebody depends on: keep-alive, an access log, an orderly end.
//!
//! Every request except those to `/health` and `/bind` leaves exactly one line in the access log *before* its response
//! leaves: whoever has the response knows that the line is in the file. A request whose line cannot be written gets no
//! response at all; its connection is closed.

pub mod access;
mod routes;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use access::AccessLog;

/// Connections served at a time; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 1_024;

/// How long requests in flight may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a connection may take to send the head of a request, and so how long it may idle.
const HEADER_READ: Duration = Duration::from_secs(75);

/// A small web server with an access log
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "web", version)]
pub struct Args {
    /// TCP port to listen at; 0 lets the kernel choose
    #[arg(long, env = "PORT0")]
    pub port: u16,
    /// Address to listen at
    #[arg(long, default_value = "0.0.0.0")]
    pub host: IpAddr,
    /// File to which one JSON line per request is appended
    #[arg(long, default_value = "access.log")]
    pub access_log: PathBuf,
    /// Name of this instance in the access log
    #[arg(long, env = "INSTANCE", default_value = "web")]
    pub instance: String,
    /// File into which the address is written once the server listens
    #[arg(long)]
    pub address_file: Option<PathBuf>,
}

/// Runs the server until SIGTERM or SIGINT, on a runtime of its own with a single thread.
pub fn main_with(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let log = AccessLog::open(&args.access_log, args.instance)
        .with_context(|| format!("open the access log {}", args.access_log.display()))?;
    let address = SocketAddr::new(args.host, args.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen at {address}"))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "web server listens");
    if let Some(path) = &args.address_file {
        write_whole(path, &address.to_string()).with_context(|| format!("write {}", path.display()))?;
    }
    serve(listener, log, async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await;
    tracing::info!("web server ended");
    Ok(())
}

/// Serves connections until `shutdown` completes, then lets requests in flight end.
///
/// Must run inside a [`LocalSet`].
pub async fn serve(listener: TcpListener, log: AccessLog, shutdown: impl Future<Output = ()>) {
    let log = Rc::new(log);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
            () = &mut shutdown => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let _ = stream.set_nodelay(true);
        let log = log.clone();
        let service = service_fn(move |request| routes::answer(log.clone(), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests in flight were cut off");
    }
}

/// Writes through a rename, so that a reader never sees half of it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests;

//! Accepts connections and serves HTTP/1.1 and HTTP/2 on each, until told to stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Service as _;

use super::PeerAddress;

/// A peer that does not answer a ping of HTTP/2 for so long is disconnected; pings are as far apart.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
const STREAMS_PER_CONNECTION_MAX: u32 = 4096;
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Serves until `stopped` says so; then connections may finish what they are at, but not for long.
pub async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stopped) => break,
            // Keeps the set from growing with connections that have ended.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                connections.spawn(connection(stream, address, router.clone(), stopped.clone()));
            }
            Err(error) => {
                // Most often too many open files: trying again at once would only spin.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WITHIN, all_ended).await.is_err() {
        tracing::info!("connections that did not end in time are cut");
    }
}

async fn told(stopped: &mut watch::Receiver<bool>) {
    // Where nobody can tell any more, it is time to stop too.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

async fn connection(stream: TcpStream, address: SocketAddr, router: Router, mut stopped: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %address, "a connection broke at once");
        return;
    }
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(address));
        let mut router = router.clone();
        async move {
            let response = router.call(request).await;
            Ok::<_, Infallible>(response.unwrap_or_else(|never| match never {}))
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %address, "a connection broke");
    }
}

//! Accepts connections and serves HTTP/1.1 and HTTP/2 on each, until told to stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use futures_util::FutureExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Service as _;

use super::{PeerAddress, pages};

/// A peer that does not answer a ping of HTTP/2 for so long is disconnected; pings are as far apart.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
const STREAMS_PER_CONNECTION_MAX: u32 = 4096;
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Serves until `stopped` says so; then connections may finish what they are at, but not for long. Each request is for the
/// router that there is when it comes.
pub async fn serve(listener: TcpListener, routers: watch::Receiver<Router>, mut stopped: watch::Receiver<bool>) {
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
                connections.spawn(connection(stream, address, routers.clone(), stopped.clone()));
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

/// A handler that panics costs its own call, not the others of its connection.
async fn respond(mut router: Router, request: Request<Incoming>) -> Response {
    let grpc = pages::is_grpc(request.headers());
    let path = request.uri().path().to_owned();
    // What a handler shares with others is the driver's, which is not here: a panic leaves nothing half done.
    match AssertUnwindSafe(async { router.call(request).await })
        .catch_unwind()
        .await
    {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            tracing::error!(
                path,
                "a call's handler panicked: please report the panic's message above"
            );
            pages::broken(grpc)
        }
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    routers: watch::Receiver<Router>,
    mut stopped: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %address, "a connection broke at once");
        return;
    }
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(address));
        let router = routers.borrow().clone();
        async move { Ok::<_, Infallible>(respond(router, request).await) }
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// One request of HTTP/1.1, and the head of its answer.
    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            assert_ne!(
                stream.read_buf(&mut answer).await.unwrap(),
                0,
                "the connection is closed"
            );
        }
        String::from_utf8(answer).unwrap()
    }

    async fn panics() -> Response {
        panic!("as the test wants")
    }

    #[tokio::test]
    async fn a_handler_that_panics_costs_its_own_call() {
        let router = Router::new()
            .route("/panics", get(panics))
            .route("/works", get(|| async { "{}" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (_routers, current) = watch::channel(router);
        let serving = tokio::spawn(serve(listener, current, stopped));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let broken = ask(&mut stream, "/panics").await;
        assert!(broken.starts_with("HTTP/1.1 500 "), "{broken}");
        let works = ask(&mut stream, "/works").await;
        assert!(works.starts_with("HTTP/1.1 200 "), "{works}");
        drop(stream);
        stop.send_replace(true);
        serving.await.unwrap();
    }
}

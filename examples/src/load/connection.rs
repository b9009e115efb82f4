//! The keep-alive connections of one driver, one to each endpoint that it has used.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Target;

/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How one attempt to send a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No byte of it was sent. It may be sent elsewhere.
    NotSent,
    /// It may have been seen by the server, and no whole response came.
    Ambiguous,
    /// The whole response came, with this status.
    Answered(u16),
}

#[derive(Debug)]
pub(super) struct Connections {
    endpoints: watch::Receiver<Vec<String>>,
    open: HashMap<String, Connection>,
    /// Index of the endpoint whose turn it is.
    turn: usize,
}

#[derive(Debug)]
struct Connection {
    requests: SendRequest<Full<Bytes>>,
    io: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.io.abort();
    }
}

impl Connections {
    pub(super) fn new(endpoints: watch::Receiver<Vec<String>>, turn: usize) -> Self {
        Self {
            endpoints,
            open: HashMap::new(),
            turn,
        }
    }

    /// Sends one request to the endpoint whose turn it is.
    pub(super) async fn send(&mut self, target: &Target, number: u64, id: &str, limit: Duration) -> Outcome {
        let Some(endpoint) = self.pick() else {
            return Outcome::NotSent;
        };
        let Ok(request) = target.request(number, id, &endpoint) else {
            return Outcome::NotSent;
        };
        let Some(mut connection) = self.connected(&endpoint).await else {
            return Outcome::NotSent;
        };
        match timeout(limit, exchange(&mut connection.requests, request)).await {
            Ok(outcome) => {
                if let Outcome::Answered(_) = outcome {
                    self.open.insert(endpoint, connection);
                }
                outcome
            }
            Err(_) => Outcome::Ambiguous,
        }
    }

    fn pick(&mut self) -> Option<String> {
        let endpoints = self.endpoints.borrow_and_update();
        self.open.retain(|endpoint, _| endpoints.contains(endpoint));
        self.turn = self.turn.wrapping_add(1);
        endpoints.get(self.turn % endpoints.len().max(1)).cloned()
    }

    /// Takes the open connection, or makes one.
    async fn connected(&mut self, endpoint: &str) -> Option<Connection> {
        if let Some(mut connection) = self.open.remove(endpoint)
            && connection.requests.ready().await.is_ok()
        {
            return Some(connection);
        }
        let stream = timeout(CONNECT, TcpStream::connect(endpoint)).await.ok()?.ok()?;
        stream.set_nodelay(true).ok()?;
        let (requests, io) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let io = tokio::spawn(async move {
            if let Err(error) = io.await {
                tracing::debug!(%error, "connection of the load ended early");
            }
        });
        Some(Connection { requests, io })
    }
}

async fn exchange(requests: &mut SendRequest<Full<Bytes>>, request: hyper::Request<Full<Bytes>>) -> Outcome {
    let response = match requests.try_send_request(request).await {
        Ok(response) => response,
        // The message comes back only when the connection had not begun to write it.
        Err(mut error) => return error.take_message().map_or(Outcome::Ambiguous, |_| Outcome::NotSent),
    };
    let status = response.status().as_u16();
    match response.into_body().collect().await {
        Ok(_) => Outcome::Answered(status),
        Err(_) => Outcome::Ambiguous,
    }
}

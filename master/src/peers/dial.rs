//! Connections to other masters.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use proffer_proto::api::raft_client::RaftClient;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// A master that does not answer a ping for so long is taken for dead; pings are as far apart.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// An open connection.
pub trait Duplex: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Duplex for T {}

type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>>;

/// How a connection is opened; TCP, unless a test has a network of its own.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn(Uri) -> Opening + Send + Sync>);

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

impl Default for Dial {
    fn default() -> Self {
        Self::new(|uri| async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(5050))).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

impl Dial {
    /// Connections are opened by this.
    pub fn new<F, T>(open: impl Fn(Uri) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<T>> + Send + 'static,
        T: Duplex + 'static,
    {
        Self(Arc::new(move |uri| {
            let opening = open(uri);
            Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn Duplex>) })
        }))
    }

    /// Connects to the master at `host:port`.
    ///
    /// # Errors
    /// What is wrong with the address, or why the master cannot be reached, for people.
    pub async fn connect(&self, address: &str) -> Result<RaftClient<Channel>, String> {
        let dial = self.clone();
        let connector = tower::service_fn(move |uri| (dial.0)(uri));
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| reason(&error))?
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        // A host may resolve slowly, or answer without speaking HTTP/2.
        let connecting = tokio::time::timeout(2 * CONNECT_WITHIN, endpoint.connect_with_connector(connector));
        match connecting.await {
            Ok(Ok(channel)) => Ok(RaftClient::new(channel)),
            Ok(Err(error)) => Err(reason(&error)),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }
}

/// An error with its causes: the outermost of tonic says little.
fn reason(error: &dyn std::error::Error) -> String {
    with_causes(error.to_string(), error.source())
}

/// Why a call failed, for people.
pub(crate) fn reason_of(status: &tonic::Status) -> String {
    with_causes(status.message().to_owned(), std::error::Error::source(status))
}

fn with_causes(mut text: String, mut cause: Option<&dyn std::error::Error>) -> String {
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}

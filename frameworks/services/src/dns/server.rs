//! The sockets of the DNS server: datagrams, and connections with a limit of their number and of their patience.

use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, oneshot, watch};

use super::DnsConfig;
use super::message::{Transport, respond};
use super::zone::Zone;
use crate::Error;
use crate::discovery::Known;
use crate::plan::failures::Jitter;

/// The longest query that is read from a datagram, in bytes.
const QUERY_BYTES_MAX: usize = 4_096;

/// Connections served at a time; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 256;

/// How long a connection may idle, or take to give a query or take a response.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often sockets with one number are looked for where any number will do.
const PORTS_TRIED: usize = 32;

/// Between a failure of a socket and the next attempt.
const PAUSE: Duration = Duration::from_millis(20);

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    _ends_when_dropped: oneshot::Sender<()>,
}

/// For datagrams and for connections, of one number.
type Sockets = (StdSocket, StdListener);

/// What queries are answered from.
#[derive(Debug)]
struct Source {
    zone: Zone,
    known: watch::Receiver<Known>,
}

impl Source {
    fn respond(&self, query: &[u8], transport: Transport, jitter: &mut Jitter) -> Option<Vec<u8>> {
        let known = self.known.borrow().clone();
        let view = known.as_deref().map(|directory| &directory.ready);
        respond(query, transport, &self.zone, view, || jitter.next())
    }
}

impl Server {
    /// Listens, and answers from what is known on a thread of its own.
    pub(crate) fn start(config: &DnsConfig, role: &str, known: watch::Receiver<Known>) -> Result<Self, Error> {
        let zone = config.zone(role, config.address.ip())?;
        let started = listen(config.address).and_then(|sockets| Self::serve(sockets, zone, known));
        started.map_err(|source| Error::Listen {
            address: config.address,
            source,
        })
    }

    fn serve(sockets: Sockets, zone: Zone, known: watch::Receiver<Known>) -> std::io::Result<Self> {
        let (datagrams, connections) = sockets;
        let address = connections.local_addr()?;
        datagrams.set_nonblocking(true)?;
        connections.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let source = Arc::new(Source { zone, known });
        let serving = async move {
            let datagrams = UdpSocket::from_std(datagrams)?;
            let connections = TcpListener::from_std(connections)?;
            tokio::select! {
                () = answer_datagrams(datagrams, source.clone()) => {}
                () = accept(connections, source) => {}
                _ = ended => {}
            }
            std::io::Result::Ok(())
        };
        std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(serving) {
                tracing::error!(%error, "dns server failed");
            }
        })?;
        tracing::info!(%address, "dns server listens");
        Ok(Self {
            address,
            _ends_when_dropped: end,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Binds the sockets.
fn listen(address: SocketAddr) -> std::io::Result<Sockets> {
    let mut tried = 0;
    loop {
        let connections = StdListener::bind(address)?;
        match StdSocket::bind(connections.local_addr()?) {
            Ok(datagrams) => return Ok((datagrams, connections)),
            Err(error) if address.port() != 0 || tried == PORTS_TRIED => return Err(error),
            Err(_) => tried += 1,
        }
    }
}

async fn answer_datagrams(socket: UdpSocket, source: Arc<Source>) {
    let mut buffer = vec![0; QUERY_BYTES_MAX];
    let mut jitter = chance();
    loop {
        let (length, asker) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "datagram not received");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if let Some(response) = source.respond(&buffer[..length], Transport::Udp, &mut jitter)
            && let Err(error) = socket.send_to(&response, asker).await
        {
            tracing::debug!(%error, %asker, "response not sent");
        }
    }
}

async fn accept(listener: TcpListener, source: Arc<Source>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = source.clone();
                tokio::spawn(async move {
                    // Whoever went, or was too slow, is not to be told.
                    let _ = answer_connection(stream, &source).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Queries and responses with their lengths before them (RFC 1035, 4.2.2), one after the other.
async fn answer_connection(mut stream: TcpStream, source: &Source) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut jitter = chance();
    loop {
        let query = tokio::time::timeout(PATIENCE, async {
            let mut query = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut query).await?;
            std::io::Result::Ok(query)
        });
        let query = query.await??;
        let Some(response) = source.respond(&query, Transport::Tcp, &mut jitter) else {
            return Ok(());
        };
        let mut framed = u16::try_from(response.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        framed.extend(response);
        tokio::time::timeout(PATIENCE, stream.write_all(&framed)).await??;
    }
}

fn chance() -> Jitter {
    Jitter::new(uuid::Uuid::new_v4().as_u64_pair().0)
}

#[cfg(test)]
mod tests;

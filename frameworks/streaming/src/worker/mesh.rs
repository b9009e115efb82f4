//! Connects the workers of one attempt: each pair by one TCP connection, the higher index connects to the lower.
//!
//! Everybody keeps trying until the deadline, since the other tasks start when they start. Whoever is refused by a newer
//! attempt is fenced and gives up at once. The listening port is closed when the mesh is complete.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::hello::{self, ANSWER_BYTES, HEAD_BYTES, Hello, Verdict};

const RETRY_EVERY: Duration = Duration::from_millis(2);
/// How often a host name is looked up again, and the longest that one connection attempt may take.
const RESOLVE_EVERY: Duration = Duration::from_secs(1);
/// How long a peer may take for its hello, so that a silent connection holds nobody up.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// How many connections may be waiting for their hello.
const PENDING_MAX: usize = 64;
/// How long sent bytes may stay unacknowledged before the peer counts as lost.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeshError {
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error("worker {index} at {address} refused: it {verdict}")]
    Refused {
        index: usize,
        address: String,
        verdict: Verdict,
    },
    #[error("worker {index} at {address} is not there")]
    Missing {
        index: usize,
        address: String,
        source: Option<io::Error>,
    },
    #[error("workers {0:?} have not connected")]
    NotConnected(Vec<usize>),
    #[error("cannot set up the connection to worker {index}")]
    Socket { index: usize, source: io::Error },
}

/// Connects to all others. The result has a socket for each, and none at the own index.
pub(super) fn connect(
    me: &Hello,
    addresses: &[String],
    timeout: Duration,
) -> Result<Vec<Option<TcpStream>>, MeshError> {
    let deadline = Instant::now() + timeout;
    let index = me.index as usize;
    let listener = listen(&addresses[index])?;
    let mut sockets: Vec<Option<TcpStream>> = Vec::with_capacity(addresses.len());
    let gave_up = AtomicBool::new(false);
    let accepted = std::thread::scope(|scope| {
        let lower = scope.spawn(|| {
            let lower = addresses[..index].iter().enumerate();
            let called = lower
                .map(|(index, address)| call(me, index, address, deadline))
                .collect::<Result<Vec<_>, _>>();
            gave_up.store(called.is_err(), Ordering::Release);
            called
        });
        let accepted = accept(
            me,
            &listener,
            || gave_up.load(Ordering::Acquire) || Instant::now() >= deadline,
            || lower.is_finished(),
        );
        let connected = lower.join().expect("the calling thread does not panic")?;
        sockets.extend(connected.into_iter().map(Some));
        accepted
    })?;
    sockets.push(None);
    sockets.extend(accepted.into_iter().map(Some));
    for (index, socket) in sockets.iter().enumerate() {
        if let Some(socket) = socket {
            prepare(socket).map_err(|source| MeshError::Socket { index, source })?;
        }
    }
    Ok(sockets)
}

/// Binds the address that the peers use if it is an address of this host, or else the port on all addresses: a host's own
/// name often stands for a loopback address, where no other host arrives.
fn listen(address: &str) -> Result<TcpListener, MeshError> {
    let error = |source| MeshError::Listen {
        address: address.to_owned(),
        source,
    };
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port: u16 = port.ok_or_else(|| error(io::ErrorKind::InvalidInput.into()))?;
    if let Ok(literal) = address.parse::<SocketAddr>() {
        match TcpListener::bind(literal) {
            Err(failure) if failure.kind() == io::ErrorKind::AddrNotAvailable => {}
            bound => return bound.map_err(error),
        }
    }
    // Hosts without IPv6 have no such address; where there is, it takes IPv4 connections too.
    let both = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    match both {
        Err(failure) if failure.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(error)
        }
        bound => bound.map_err(error),
    }
}

fn call(me: &Hello, index: usize, address: &str, deadline: Instant) -> Result<TcpStream, MeshError> {
    let mut resolved: Vec<SocketAddr> = Vec::new();
    let mut resolve_at = Instant::now();
    let mut last: Result<Verdict, io::Error> = Err(io::ErrorKind::TimedOut.into());
    loop {
        let now = Instant::now();
        if now >= resolve_at {
            resolved = address.to_socket_addrs().map_or_else(|_| Vec::new(), Iterator::collect);
            resolve_at = now + RESOLVE_EVERY;
        }
        for socket_address in &resolved {
            match greet(me, *socket_address, deadline) {
                Ok((stream, Verdict::Accepted, _)) => return Ok(stream),
                Ok((_, verdict, attempt)) => {
                    if verdict == Verdict::OtherAttempt && attempt > me.attempt {
                        return Err(MeshError::Refused {
                            index,
                            address: address.to_owned(),
                            verdict,
                        });
                    }
                    last = Ok(verdict);
                }
                Err(error) => last = Err(error),
            }
        }
        if Instant::now() >= deadline {
            let address = address.to_owned();
            return Err(match last {
                Ok(verdict) => MeshError::Refused {
                    index,
                    address,
                    verdict,
                },
                Err(source) => MeshError::Missing {
                    index,
                    address,
                    source: Some(source),
                },
            });
        }
        std::thread::sleep(RETRY_EVERY);
    }
}

fn greet(me: &Hello, address: SocketAddr, deadline: Instant) -> io::Result<(TcpStream, Verdict, u64)> {
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&address, left.min(RESOLVE_EVERY))?;
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))?;
    stream.write_all(&me.encode())?;
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer)?;
    let (verdict, attempt) = hello::decode_answer(&answer).ok_or(io::ErrorKind::InvalidData)?;
    Ok((stream, verdict, attempt))
}

/// A connection whose hello is not complete.
struct Pending {
    stream: TcpStream,
    bytes: Vec<u8>,
    until: Instant,
}

impl Pending {
    /// Reads what is there. None while incomplete.
    fn hello(&mut self) -> Option<io::Result<Hello>> {
        loop {
            let wanted = match self.bytes.first_chunk::<HEAD_BYTES>() {
                None => HEAD_BYTES,
                Some(head) => match Hello::rest_bytes(head) {
                    Some(rest) => HEAD_BYTES + rest,
                    None => return Some(Err(io::ErrorKind::InvalidData.into())),
                },
            };
            if self.bytes.len() == wanted {
                return Some(Hello::decode(&self.bytes[HEAD_BYTES..]).ok_or_else(|| io::ErrorKind::InvalidData.into()));
            }
            let mut buffer = [0; 256];
            let length = (wanted - self.bytes.len()).min(buffer.len());
            match self.stream.read(&mut buffer[..length]) {
                Ok(0) => return Some(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.bytes.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return (Instant::now() >= self.until).then(|| Err(io::ErrorKind::TimedOut.into()));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn accept(
    me: &Hello,
    listener: &TcpListener,
    mut give_up: impl FnMut() -> bool,
    mut called: impl FnMut() -> bool,
) -> Result<Vec<TcpStream>, MeshError> {
    let first = me.index as usize + 1;
    let mut peers: Vec<Option<TcpStream>> = (first..me.peers as usize).map(|_| None).collect();
    let mut pending: Vec<Pending> = Vec::new();
    listener.set_nonblocking(true).map_err(|source| MeshError::Socket {
        index: first - 1,
        source,
    })?;
    // Goes on listening while the own calls are under way: strangers then hear who this is and not silence.
    while peers.iter().any(Option::is_none) || !called() {
        while pending.len() < PENDING_MAX
            && let Ok((stream, _)) = listener.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                pending.push(Pending {
                    stream,
                    bytes: Vec::new(),
                    until: Instant::now() + HELLO_TIMEOUT,
                });
            }
        }
        let mut waiting = Vec::new();
        for mut peer in pending.drain(..) {
            match peer.hello() {
                None => waiting.push(peer),
                Some(Ok(hello)) => judge(me, &hello, peer.stream, &mut peers),
                Some(Err(error)) => tracing::warn!(error = %error, "a connection that is no worker's was closed"),
            }
        }
        pending = waiting;
        if give_up() {
            break;
        }
        std::thread::sleep(RETRY_EVERY);
    }
    let missing: Vec<usize> = (first..)
        .zip(&peers)
        .filter(|(_, peer)| peer.is_none())
        .map(|(index, _)| index)
        .collect();
    if missing.is_empty() {
        Ok(peers.into_iter().flatten().collect())
    } else {
        Err(MeshError::NotConnected(missing))
    }
}

fn judge(me: &Hello, other: &Hello, mut stream: TcpStream, peers: &mut [Option<TcpStream>]) {
    let mut verdict = me.judge(other);
    let place = (other.index as usize).checked_sub(me.index as usize + 1);
    if verdict == Verdict::Accepted && place.is_none_or(|place| peers[place].is_some()) {
        verdict = Verdict::OtherIndex;
    }
    let answered = stream.write_all(&me.answer(verdict));
    match (verdict, place, answered) {
        (Verdict::Accepted, Some(place), Ok(())) => peers[place] = Some(stream),
        (Verdict::Accepted, ..) => {}
        _ => {
            tracing::warn!(job = other.job, attempt = other.attempt, index = other.index, verdict = %verdict, "refused a worker");
        }
    }
}

/// Blocking, without delay, and with an end to waiting for a host that is gone.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(None)?;
    socket.set_write_timeout(None)?;
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(2))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(2))?;
    sockopt::set_tcp_keepcnt(socket, 4)?;
    sockopt::set_tcp_user_timeout(socket, UNACKNOWLEDGED_MAX.as_millis() as u32)?;
    Ok(())
}

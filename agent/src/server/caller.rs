//! Who calls: a process of one of the agent's containers, or somebody else.
//!
//! Containers share the host's network, so that a caller's address does not tell. The kernel knows the cgroup in which each socket
//! was made, however it was handed on since: whoever connects from this host is looked up there. A caller of whom it cannot be said
//! counts as contained.

mod socket;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};

use crate::cgroups::Hierarchy;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Its address, and the agent's.
    addresses: Option<(SocketAddr, SocketAddr)>,
    is_contained: Arc<OnceLock<bool>>,
}

impl Connected<IncomingStream<'_, Port>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Port>) -> Self {
        let own = stream.io().local_addr();
        Caller {
            addresses: own.ok().map(|own| (unmapped(*stream.remote_addr()), unmapped(own))),
            is_contained: Arc::default(),
        }
    }
}

/// The agent's port, where small answers go at once: Nagle's algorithm and delayed acknowledgements together cost 40 ms.
#[derive(Debug)]
pub(crate) struct Port(pub(crate) TcpListener);

impl Listener for Port {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        let _ = stream.set_nodelay(true);
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Caller {
    /// Whether it is in a container of this tree's, which is asked once for a connection.
    pub(super) fn is_contained(&self, tree: Option<&Hierarchy>) -> bool {
        *self.is_contained.get_or_init(|| {
            let Some((caller, own)) = self.addresses else {
                return true;
            };
            is_local(caller) && !is_outside(caller, own, tree)
        })
    }
}

/// Whether an address is one of this host's: nobody binds to another's.
fn is_local(address: SocketAddr) -> bool {
    address.ip().is_loopback() || std::net::UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok()
}

/// Whether it is sure that the socket of a local caller was made in none of the containers.
fn is_outside(caller: SocketAddr, own: SocketAddr, tree: Option<&Hierarchy>) -> bool {
    let Some(tree) = tree else { return false };
    let found = socket::cgroup(caller, own).and_then(|id| {
        let cgroup = proffer_shim::cgroup::open(tree.directory(), id)?;
        std::fs::read_link(format!("/proc/self/fd/{}", cgroup.as_raw_fd()))
    });
    match found {
        Ok(path) => !path.starts_with(tree.root()) && path.starts_with(Path::new("/")),
        Err(error) => {
            tracing::debug!(%caller, %error, "a local caller's cgroup is not known");
            false
        }
    }
}

/// An IPv4 address is the same in both kinds of sockets.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(six) => match six.ip().to_ipv4_mapped() {
            Some(four) => SocketAddr::new(four.into(), six.port()),
            None => address,
        },
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_told_from_others() {
        for own in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1"] {
            assert!(is_local(own.parse().unwrap()), "{own}");
        }
        for other in ["192.0.2.1:1", "[2001:db8::1]:1"] {
            assert!(!is_local(other.parse().unwrap()), "{other}");
        }
        let mapped = unmapped("[::ffff:127.0.0.1]:5".parse().unwrap());
        assert_eq!(mapped, "127.0.0.1:5".parse().unwrap());
    }

    #[test]
    fn of_whom_nothing_is_known_counts_as_contained() {
        let caller = Caller {
            addresses: None,
            is_contained: Arc::default(),
        };
        assert!(caller.is_contained(None));
        let own = "127.0.0.1:5".parse().unwrap();
        let caller = |address: &str| Caller {
            addresses: Some((address.parse().unwrap(), own)),
            is_contained: Arc::default(),
        };
        assert!(caller("127.0.0.1:1").is_contained(None));
        assert!(!caller("192.0.2.1:1").is_contained(None), "it is another host");
    }
}

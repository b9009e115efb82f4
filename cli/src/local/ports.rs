//! Ports that are taken before the process that will listen on them exists.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use tokio::net::TcpSocket;

use super::process::LocalError;

/// A port that is bound here without being listened on.
///
/// Linux lets another socket bind and listen beside it, as both have SO_REUSEADDR (which every listener of the standard
/// library sets), but gives it to nobody who asks for any free port, neither for listening nor for connecting. It stays
/// reserved while the process that listens is killed and started again.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl ReservedPort {
    /// Takes so many ports, the first at `listen`; where that is port 0, any.
    pub(crate) fn consecutive(listen: &str, count: usize) -> Result<Vec<Self>, LocalError> {
        let failed = |source| LocalError::Port {
            address: listen.to_owned(),
            source,
        };
        let first: SocketAddr = listen
            .parse()
            .map_err(|_| failed(Error::new(ErrorKind::InvalidInput, "it is not IP:PORT")))?;
        if first.ip().is_unspecified() && count > 1 {
            let text = "masters have to be told one address at which each is reached";
            return Err(failed(Error::new(ErrorKind::InvalidInput, text)));
        }
        let port = |offset: usize| match first.port() {
            0 => Some(0),
            first => u16::try_from(offset).ok().and_then(|offset| first.checked_add(offset)),
        };
        (0..count)
            .map(|offset| {
                let port = port(offset).ok_or_else(|| {
                    failed(Error::new(
                        ErrorKind::InvalidInput,
                        "there are not so many ports after it",
                    ))
                })?;
                let address = SocketAddr::new(first.ip(), port);
                Self::take(address).map_err(|source| LocalError::Port {
                    address: address.to_string(),
                    source,
                })
            })
            .collect()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn take(address: SocketAddr) -> std::io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(ReservedPort {
            address: socket.local_addr()?,
            _socket: socket,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_reserved_port_is_refused_until_its_owner_listens_and_free_for_it_again_and_again() {
        let reserved = ReservedPort::consecutive("127.0.0.1:0", 3).expect("three free ports");
        for port in &reserved {
            for _ in 0..2 {
                let refused = TcpStream::connect(port.address()).expect_err("nobody listens");
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
                let listener = TcpListener::bind(port.address()).expect("the owner may listen");
                TcpStream::connect(port.address()).expect("somebody listens");
                drop(listener);
            }
        }
    }

    #[test]
    fn a_port_that_is_in_use_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let error = ReservedPort::consecutive(&address, 1).expect_err("in use");
        assert!(error.to_string().contains(&address), "{error}");
        assert!(ReservedPort::consecutive("0.0.0.0:5050", 3).is_err());
        assert!(ReservedPort::consecutive("localhost", 1).is_err());
        assert!(ReservedPort::consecutive("127.0.0.1:65534", 3).is_err());
    }
}

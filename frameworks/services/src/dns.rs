//! The DNS server: where instances that take requests are, for those who ask by name.
//!
//! Authoritative for one zone, and for nothing else; it reads the directory at each query, so an answer is as old as its
//! time to live at most. Names within the zone are in [`zone`], what a query is answered with, byte by byte, in
//! [`message`], the sockets in `server`. It runs on a thread of its own: who asks it much does not keep the scheduler
//! from its work.

pub mod message;
mod server;
pub mod zone;

use std::net::{IpAddr, SocketAddr};

use proffer_proto::Rejection;

pub(crate) use server::Server;
pub use zone::Zone;

/// What the DNS server needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Where it listens, by UDP and TCP. With port 0 the kernel chooses one port for both.
    pub address: SocketAddr,
    /// Its zone, without a dot at the end.
    pub domain: String,
    /// How long answers may be kept, in seconds.
    pub ttl_seconds: u32,
}

impl DnsConfig {
    /// A server of the zone `proffer`, whose answers are kept for five seconds.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            domain: "proffer".to_owned(),
            ttl_seconds: 5,
        }
    }

    /// The zone of a framework of this role, of which a server listens at this address.
    pub(crate) fn zone(&self, role: &str, listen: IpAddr) -> Result<Zone, Rejection> {
        Zone::new(&self.domain, role, self.ttl_seconds, own_addresses(listen))
    }
}

/// The addresses of a server that listens there: all of the host's cannot be told, so those by which it would send.
fn own_addresses(listen: IpAddr) -> Vec<IpAddr> {
    if !listen.is_unspecified() {
        return vec![listen];
    }
    // Nothing is sent: the kernel says by which address it would. The networks are those for documentation.
    let routes = [("0.0.0.0:0", "192.0.2.1:53"), ("[::]:0", "[2001:db8::1]:53")];
    let routes = routes
        .iter()
        .filter(|(from, _)| listen.is_ipv6() || !from.starts_with('['));
    let address = |(from, to): &(&str, &str)| {
        let socket = std::net::UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    routes.filter_map(address).collect()
}

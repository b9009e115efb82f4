//! Where the masters are, and how they are connected to.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use proffer_proto::metadata;
use tonic::transport::{Channel, Endpoint};

use crate::line::{Cluster, Line};

/// The metadata key under which a follower names the leader.
pub const LEADER_METADATA: &str = metadata::LEADER;
/// The port of a master where an address does not name one.
pub const DEFAULT_PORT: u16 = 5050;

/// A connection on which nothing came for so long is asked for a sign of life.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long the sign may take: a peer that is gone, or stands still, is left after six seconds.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// The configured masters of one cluster, at least one, as `host:port`.
///
/// ```
/// use proffer_sdk::Masters;
///
/// let masters: Masters = "10.0.0.1:5050,10.0.0.2:5050, 10.0.0.3".parse().unwrap();
/// assert_eq!(masters.to_string(), "10.0.0.1:5050,10.0.0.2:5050,10.0.0.3:5050");
/// assert!("10.0.0.1:http".parse::<Masters>().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct Masters {
    addresses: Vec<String>,
    /// Shared by the clones, so that whoever learns it first learns it for all.
    cluster: Cluster,
}

/// Lists of the same addresses are equal, whatever is known of the masters there.
impl PartialEq for Masters {
    fn eq(&self, other: &Self) -> bool {
        self.addresses == other.addresses
    }
}

impl Eq for Masters {}

impl Masters {
    /// The addresses, in the order in which they were given.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Opens a connection to one of the masters, or to one that another named; the error says which and why.
    pub(crate) async fn line(&self, address: &str, timeout: Duration) -> Result<Line, String> {
        let channel = channel(address, timeout).await?;
        Ok(Line::new(channel, self.cluster.clone()))
    }
}

/// A list of masters that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("master address `{address}` is not `host:port` with a port from 1 to 65535 ({reason})")]
pub struct InvalidMasters {
    address: String,
    reason: &'static str,
}

impl FromStr for Masters {
    type Err = InvalidMasters;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let addresses = text.split(',').map(parse_address).collect::<Result<Vec<_>, _>>()?;
        Ok(Masters {
            addresses,
            cluster: Cluster::default(),
        })
    }
}

impl From<SocketAddr> for Masters {
    fn from(address: SocketAddr) -> Self {
        Masters {
            addresses: vec![address.to_string()],
            cluster: Cluster::default(),
        }
    }
}

impl fmt::Display for Masters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addresses.join(","))
    }
}

fn parse_address(text: &str) -> Result<String, InvalidMasters> {
    let address = text.trim();
    let invalid = |reason| InvalidMasters {
        address: address.to_owned(),
        reason,
    };
    let (host, port) = match address.rsplit_once(':') {
        // The colons of a bare IPv6 address belong to the host.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().map_err(|_| invalid("the port is not a number"))?)
        }
        Some(_) => return Err(invalid("an IPv6 address needs brackets")),
        None => (address, DEFAULT_PORT),
    };
    if host.is_empty() {
        return Err(invalid("the host is empty"));
    }
    if port == 0 {
        return Err(invalid("the port is 0"));
    }
    if Endpoint::from_shared(format!("http://{host}:{port}")).is_err() {
        return Err(invalid("the host is not a name or an address"));
    }
    Ok(format!("{host}:{port}"))
}

/// The leader that a follower named in its refusal.
pub(crate) fn leader_of(status: &tonic::Status) -> Option<String> {
    let address = status.metadata().get(LEADER_METADATA)?.to_str().ok()?;
    parse_address(address).ok()
}

/// Opens a channel to one master or agent; the error says which and why.
pub(crate) async fn channel(address: &str, timeout: Duration) -> Result<Channel, String> {
    let failed = |error: tonic::transport::Error| format!("{address}: {}", cause_of(&error));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(failed)?;
    let endpoint = endpoint
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    match tokio::time::timeout(timeout, endpoint.connect()).await {
        Ok(connected) => connected.map_err(failed),
        Err(_) => Err(format!("{address}: no connection within {} ms", timeout.as_millis())),
    }
}

/// The innermost cause: the outer ones say only that the transport failed.
pub(crate) fn cause_of(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), cause_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_list_of_masters_names_the_bad_address() {
        for (text, part) in [
            ("", "host is empty"),
            ("a:1,", "host is empty"),
            ("a:0", "port is 0"),
            ("a:70000", "not a number"),
            ("::1", "brackets"),
            ("a b:1", "not a name"),
        ] {
            let error = text.parse::<Masters>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!("[::1]:7".parse::<Masters>().unwrap().addresses(), ["[::1]:7"]);
    }
}

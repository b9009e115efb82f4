//! Where the masters are, and which of them leads.
//!
//! Only the leading master answers calls. The others answer gRPC `UNAVAILABLE` with the metadata `proffer-leader:
//! host:port` where they know the leader. A finder tries the configured masters in turn, follows that hint, and waits
//! with jittered exponential back-off between rounds in which nobody led.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// The metadata key under which a follower names the leader.
pub const LEADER_METADATA: &str = "proffer-leader";
/// The port of a master where an address does not name one.
pub const DEFAULT_PORT: u16 = 5050;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The configured masters of one cluster, at least one, as `host:port`.
///
/// ```
/// use proffer_sdk::Masters;
///
/// let masters: Masters = "10.0.0.1:5050,10.0.0.2:5050, 10.0.0.3".parse().unwrap();
/// assert_eq!(masters.to_string(), "10.0.0.1:5050,10.0.0.2:5050,10.0.0.3:5050");
/// assert!("10.0.0.1:http".parse::<Masters>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masters {
    addresses: Vec<String>,
}

impl Masters {
    /// The addresses, in the order in which they were given.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
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
        Ok(Masters { addresses })
    }
}

impl From<SocketAddr> for Masters {
    fn from(address: SocketAddr) -> Self {
        Masters {
            addresses: vec![address.to_string()],
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

/// Chooses the master to try next. One lives as long as its owner, so that the last leader is tried first.
#[derive(Debug)]
pub(crate) struct Finder {
    masters: Masters,
    /// The last leader, or whom a follower named.
    hint: Option<String>,
    next: usize,
    /// Attempts since the last success.
    failures: u32,
    backoff: Backoff,
}

impl Finder {
    pub(crate) fn new(masters: Masters) -> Self {
        Finder {
            masters,
            hint: None,
            next: 0,
            failures: 0,
            backoff: Backoff::new(BACKOFF_MIN, BACKOFF_MAX),
        }
    }

    /// The address to try now.
    pub(crate) fn candidate(&mut self) -> String {
        self.hint.take().unwrap_or_else(|| {
            let address = self.masters.addresses[self.next % self.masters.addresses.len()].clone();
            self.next += 1;
            address
        })
    }

    /// The candidate leads.
    pub(crate) fn found(&mut self, address: &str) {
        self.hint = Some(address.to_owned());
        self.failures = 0;
        self.backoff.reset();
    }

    /// The candidate failed, perhaps naming the leader: how long to wait before the next attempt.
    pub(crate) fn failed(&mut self, leader: Option<String>) -> Duration {
        self.failures += 1;
        // The first hint of a round is followed at once; masters that name each other in a circle are not.
        let round = self.masters.addresses.len() as u32 + 1;
        let round_is_over = self.failures.is_multiple_of(round);
        let followed = leader.is_some() && !round_is_over;
        self.hint = leader;
        if !followed && (round_is_over || self.masters.addresses.len() == 1) {
            self.backoff.next_delay()
        } else {
            Duration::ZERO
        }
    }
}

/// The leader that a follower named in its refusal.
pub(crate) fn leader_of(status: &tonic::Status) -> Option<String> {
    let address = status.metadata().get(LEADER_METADATA)?.to_str().ok()?;
    parse_address(address).ok()
}

/// Opens a channel to one master or agent.
pub(crate) async fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect()
        .await
}

/// Exponential back-off; each delay is drawn from the upper half of its step.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    step: Duration,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Backoff { min, max, step: min }
    }

    pub(crate) fn reset(&mut self) {
        self.step = self.min;
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        let half = self.step / 2;
        self.step = (self.step * 2).min(self.max);
        half + half.mul_f64(random_fraction())
    }
}

/// Uniform in [0, 1).
fn random_fraction() -> f64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    (high >> 32) as f64 / (1u64 << 32) as f64
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

    #[test]
    fn back_off_doubles_to_its_maximum_and_is_jittered() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(300));
        for step in [50, 100, 200, 300, 300] {
            let delay = backoff.next_delay();
            assert!(
                delay >= Duration::from_millis(step / 2) && delay <= Duration::from_millis(step),
                "{delay:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(50));
    }

    #[test]
    fn a_named_leader_is_tried_at_once_and_a_circle_backs_off() {
        let mut finder = Finder::new("a:1,b:1".parse().unwrap());
        assert_eq!(finder.candidate(), "a:1");
        assert_eq!(finder.failed(Some("c:9".into())), Duration::ZERO);
        assert_eq!(finder.candidate(), "c:9");
        let waited: Duration = (0..8).map(|_| finder.failed(Some("c:9".into()))).sum();
        assert!(waited > Duration::ZERO);
        finder.found("c:9");
        assert_eq!(finder.candidate(), "c:9");
        assert_eq!(finder.failed(None), Duration::ZERO, "the other masters come first");
        assert_eq!(finder.candidate(), "b:1");
    }
}

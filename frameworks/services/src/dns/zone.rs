//! Pure: which names there are in the zone, and what each has.
//!
//! | name | has |
//! |---|---|
//! | `DOMAIN` | SOA, NS |
//! | `ns.DOMAIN` | A, AAAA: this server |
//! | `SERVICE.GROUP.DOMAIN` | A, AAAA: the hosts of the instances |
//! | `N.SERVICE.GROUP.DOMAIN` | A, AAAA: the host of one instance |
//! | `_PORT._tcp.SERVICE.GROUP.DOMAIN`, `_PORT._tcp.N.SERVICE.GROUP.DOMAIN` | SRV: port and host of the instances, or of one; the same with `_udp` |
//!
//! `GROUP` is the role of the framework, from the inside out (`eng/web` is `web.eng`), and `default` for `*`.

use std::net::IpAddr;

use proffer_proto::Rejection;

use crate::discovery::{Entry, Found, View};

/// Bytes that group and domain may have together, so that every name fits.
const SUFFIX_BYTES_MAX: usize = 100;

/// The longest time to live, in seconds (RFC 2181).
const TTL_MAX: u32 = i32::MAX as u32;

/// One zone.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: String,
    group: String,
    ttl_seconds: u32,
    servers: Vec<IpAddr>,
}

/// What there is to say of a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<'a> {
    /// The name is not in the zone.
    Outside,
    /// There is no such name.
    NoName,
    /// The name is there and has these records, or none of those that were asked for.
    Records(Vec<Record<'a>>),
}

/// One record of the name that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// The beginning of the zone.
    Soa,
    /// The server of the zone.
    Ns,
    /// An address.
    Address(IpAddr),
    /// A port of an instance, with the name of its service.
    Srv(&'a str, &'a Found, u16),
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses of IPv4.
    A,
    /// Addresses of IPv6.
    Aaaa,
    /// Ports with hosts.
    Srv,
    /// The beginning of the zone.
    Soa,
    /// The servers of the zone.
    Ns,
    /// All of them.
    Any,
    /// Something that no name here has.
    Other,
}

impl Kind {
    fn takes(self, record: &Record<'_>) -> bool {
        match record {
            Record::Soa => matches!(self, Self::Soa | Self::Any),
            Record::Ns => matches!(self, Self::Ns | Self::Any),
            Record::Address(IpAddr::V4(_)) => matches!(self, Self::A | Self::Any),
            Record::Address(IpAddr::V6(_)) => matches!(self, Self::Aaaa | Self::Any),
            Record::Srv(..) => matches!(self, Self::Srv | Self::Any),
        }
    }
}

impl Zone {
    /// A zone for the services of a framework. `servers` are the addresses of the server itself.
    pub fn new(domain: &str, role: &str, ttl_seconds: u32, servers: Vec<IpAddr>) -> Result<Self, Rejection> {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let group = group(role);
        let is_label = |label: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            (1..=63).contains(&label.len()) && label.chars().all(plain)
        };
        if domain.len() + group.len() > SUFFIX_BYTES_MAX || !domain.split('.').all(is_label) {
            let accepted = format!(
                "labels of `a-z 0-9 - _` with dots between them; with the group `{group}` up to {SUFFIX_BYTES_MAX} bytes"
            );
            return Err(Rejection::new("dns-domain", format!("is {domain:?}"), accepted));
        }
        if ttl_seconds > TTL_MAX {
            let accepted = format!("seconds from 0 to {TTL_MAX}");
            return Err(Rejection::new("dns-ttl", format!("is {ttl_seconds}"), accepted));
        }
        Ok(Self {
            domain,
            group,
            ttl_seconds,
            servers,
        })
    }

    /// The name of the zone.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// How long answers may be kept, in seconds.
    pub fn ttl_seconds(&self) -> u32 {
        self.ttl_seconds
    }

    /// The name of its server.
    pub fn server_name(&self) -> String {
        format!("ns.{}", self.domain)
    }

    /// The addresses of its server.
    pub fn servers(&self) -> &[IpAddr] {
        &self.servers
    }

    /// The name of an instance.
    pub fn instance_name(&self, service: &str, index: u32) -> String {
        format!("{index}.{service}.{}.{}", self.group, self.domain)
    }

    /// Whether the labels of a name, in lower case and from the left, are those of a name in the zone.
    pub fn holds(&self, labels: &[&str]) -> bool {
        self.inside(labels).is_some()
    }

    /// The labels before those of the zone.
    fn inside<'l, 'n>(&self, labels: &'l [&'n str]) -> Option<&'l [&'n str]> {
        strip(labels, &self.domain)
    }

    /// What there is to say of a name, given by its labels in lower case and from the left.
    pub fn answer<'a>(&self, view: &'a View, labels: &[&str], kind: Kind) -> Answer<'a> {
        let Some(inside) = self.inside(labels) else {
            return Answer::Outside;
        };
        let records = match inside {
            [] => Some(vec![Record::Soa, Record::Ns]),
            ["ns"] => Some(self.servers.iter().copied().map(Record::Address).collect()),
            _ => match strip(inside, &self.group) {
                Some(within) => of_service(view, within),
                // A name is there when there are names below it.
                None => strip(&self.group.split('.').collect::<Vec<_>>(), &inside.join(".")).map(|_| Vec::new()),
            },
        };
        match records {
            Some(mut records) => {
                records.retain(|record| kind.takes(record));
                Answer::Records(records)
            }
            None => Answer::NoName,
        }
    }
}

/// The records of a name within the group; nothing where there is no such name.
fn of_service<'a>(view: &'a View, within: &[&str]) -> Option<Vec<Record<'a>>> {
    let (service, rest) = match within {
        [] => return Some(Vec::new()),
        [rest @ .., service] => (*service, rest),
    };
    let (id, entry) = view.services.get_key_value(service)?;
    let (instance, rest) = match rest {
        [rest @ .., index] if !index.starts_with('_') => (Some(instance(entry, index)?), rest),
        rest => (None, rest),
    };
    match rest {
        [] => Some(match instance {
            Some(found) => found.addresses.iter().copied().map(Record::Address).collect(),
            None => entry.addresses.iter().copied().map(Record::Address).collect(),
        }),
        ["_tcp" | "_udp"] => Some(Vec::new()),
        [port, "_tcp" | "_udp"] => {
            let port = port.strip_prefix('_')?;
            entry.ports.iter().find(|known| *known == port)?;
            let instances = match instance {
                Some(found) => std::slice::from_ref(found),
                None => &entry.instances[..],
            };
            let srv = |found: &'a Found| Some(Record::Srv(id, found, *found.ports.get(port)?));
            Some(instances.iter().filter_map(srv).collect())
        }
        _ => None,
    }
}

/// The instance of an index that is written as it would be.
fn instance<'a>(entry: &'a Entry, index: &str) -> Option<&'a Found> {
    let number = index.parse::<u32>().ok().filter(|number| number.to_string() == index)?;
    let place = entry
        .instances
        .binary_search_by_key(&number, |found| found.index)
        .ok()?;
    Some(&entry.instances[place])
}

/// The labels before those of a suffix.
fn strip<'l, 'n>(labels: &'l [&'n str], suffix: &str) -> Option<&'l [&'n str]> {
    let mut rest = labels;
    for wanted in suffix.split('.').rev() {
        let (last, before) = rest.split_last()?;
        if *last != wanted {
            return None;
        }
        rest = before;
    }
    Some(rest)
}

/// The labels of a role, from the inside out.
fn group(role: &str) -> String {
    if role == "*" {
        return "default".to_owned();
    }
    let label = |part: &str| {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        };
        part.chars().map(plain).take(63).collect::<String>()
    };
    role.split('/').rev().map(label).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests;

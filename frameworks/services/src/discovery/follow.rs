//! Follows the catalogue, looks host names up, and publishes the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Directory;
use super::directory::Addresses;
use crate::catalogue::Catalogue;

/// What is known; nothing before it is worth telling.
pub(crate) type Known = Option<Arc<Directory>>;

/// The shortest time between two directories.
const INTERVAL: Duration = Duration::from_millis(10);

/// How long a host name may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(2);

/// When a host name is looked up again.
const REFRESH: Duration = Duration::from_secs(60);

/// How long the instances that an earlier scheduler left may take to be heard of, once there is a master.
const PATIENCE: Duration = Duration::from_secs(15);

/// Publishes the directory until nobody makes catalogues any more.
pub(crate) async fn follow(mut catalogue: watch::Receiver<Catalogue>, known: watch::Sender<Known>) {
    let mut directory = Directory::new(first_index());
    let mut hosts = Hosts::default();
    // What is known already, another scheduler told.
    let mut is_known = false;
    let mut connected_at = None;
    loop {
        let told = {
            let catalogue = catalogue.borrow_and_update();
            if catalogue.connected {
                connected_at.get_or_insert_with(Instant::now);
            }
            let asked = |at: &mut Instant| catalogue.unheard == 0 || at.elapsed() >= PATIENCE;
            hosts.look_up(&catalogue);
            // Before the first word the hosts are waited for, too: all of them are new.
            let tells = is_known || connected_at.as_mut().is_some_and(asked) && hosts.lookups.is_empty();
            tells && (directory.update(&catalogue, &hosts.addresses) || !is_known)
        };
        if told {
            is_known = true;
            known.send_replace(Some(Arc::new(directory.clone())));
        }
        tokio::time::sleep(INTERVAL).await;
        tokio::select! {
            changed = catalogue.changed() => if changed.is_err() { return },
            Some(found) = hosts.lookups.join_next(), if !hosts.lookups.is_empty() => {
                if let Ok((host, addresses)) = found {
                    hosts.found(host, addresses);
                }
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Numbers go on growing over a restart of the scheduler: there are fewer changes than milliseconds.
fn first_index() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}

/// The hosts of instances.
#[derive(Default)]
struct Hosts {
    addresses: Addresses,
    looked_up: BTreeMap<String, Instant>,
    lookups: JoinSet<(String, Option<Vec<IpAddr>>)>,
}

impl Hosts {
    /// Begins to look up the hosts that are new, and again those that were looked up long ago; forgets those that are not
    /// there any more.
    fn look_up(&mut self, catalogue: &Catalogue) {
        let instances = catalogue.services.values().flat_map(|service| &service.instances);
        let hosts: BTreeSet<&str> = instances
            .filter(|instance| instance.task_id.is_some())
            .map(|instance| instance.host.as_str())
            .collect();
        self.addresses.retain(|host, _| hosts.contains(host.as_str()));
        self.looked_up.retain(|host, _| hosts.contains(host.as_str()));
        for host in hosts {
            let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
            if let Ok(address) = literal {
                if !self.addresses.contains_key(host) {
                    self.addresses.insert(host.to_owned(), [address].into());
                }
                continue;
            }
            if self.looked_up.get(host).is_some_and(|at| at.elapsed() < REFRESH) {
                continue;
            }
            self.looked_up.insert(host.to_owned(), Instant::now());
            let host = host.to_owned();
            self.lookups.spawn(async move {
                let addresses = resolve(&host).await;
                (host, addresses)
            });
        }
    }

    /// A host that cannot be looked up any more keeps the addresses that it had.
    fn found(&mut self, host: String, addresses: Option<Vec<IpAddr>>) {
        match addresses {
            Some(addresses) => drop(self.addresses.insert(host, addresses.into())),
            None => drop(self.addresses.entry(host).or_insert_with(|| Arc::new([]))),
        }
    }
}

/// The addresses of a host in a stable order, those of IPv4 first.
async fn resolve(host: &str) -> Option<Vec<IpAddr>> {
    // A task of which nothing but the id is known has no host.
    if host.is_empty() {
        return None;
    }
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, 0))).await;
    match found {
        Ok(Ok(found)) => {
            let addresses: BTreeSet<IpAddr> = found.map(|address| address.ip()).collect();
            Some(addresses.into_iter().collect())
        }
        Ok(Err(error)) => {
            tracing::warn!(host, %error, "host of instances not found, so not told by address");
            None
        }
        Err(_) => {
            tracing::warn!(host, "host of instances not looked up in time");
            None
        }
    }
}

//! Which machine an agent runs on.

use std::net::IpAddr;

use proffer_proto::Rejection;
use proffer_proto::v1::MachineId;

/// Whether a machine is the one of an agent, which is known by its host name and the address of its stream, `ip:port`. All that
/// the machine's name says must be so.
pub(super) fn matches(machine: &MachineId, hostname: &str, address: &str) -> bool {
    let named = machine.hostname.as_deref().filter(|name| !name.is_empty());
    let ip = machine.ip.as_deref().filter(|ip| !ip.is_empty());
    let same_name = named.is_none_or(|name| name.eq_ignore_ascii_case(hostname));
    let same_ip = ip.is_none_or(|ip| ip.parse().ok() == ip_of(address));
    (named.is_some() || ip.is_some()) && same_name && same_ip
}

fn ip_of(address: &str) -> Option<IpAddr> {
    let (ip, _port) = address.rsplit_once(':')?;
    ip.trim_matches(['[', ']']).parse().ok()
}

/// Refuses a name that is none.
pub(super) fn check(machine: &MachineId, field: &str) -> Result<(), Rejection> {
    if let Some(ip) = machine.ip.as_deref().filter(|ip| !ip.is_empty())
        && ip.parse::<IpAddr>().is_err()
    {
        let problem = format!("is {ip:?}");
        return Err(Rejection::new(
            format!("{field}.ip"),
            problem,
            "an IPv4 or IPv6 address",
        ));
    }
    if machine.hostname().is_empty() && machine.ip().is_empty() {
        return Err(Rejection::new(field, "is empty", "a hostname, an ip, or both"));
    }
    Ok(())
}

/// As people read it.
pub(super) fn show(machine: &MachineId) -> String {
    match (machine.hostname(), machine.ip()) {
        (name, "") => name.to_owned(),
        ("", ip) => ip.to_owned(),
        (name, ip) => format!("{name} ({ip})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(hostname: &str, ip: &str) -> MachineId {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        MachineId {
            hostname: some(hostname),
            ip: some(ip),
        }
    }

    #[test]
    fn all_that_the_name_of_a_machine_says_must_be_so() {
        for (hostname, ip, expected) in [
            ("HOST-1", "", true),
            ("host-2", "", false),
            ("", "10.0.0.1", true),
            ("", "10.0.0.2", false),
            ("host-1", "10.0.0.1", true),
            ("host-1", "10.0.0.2", false),
            ("", "", false),
        ] {
            let machine = machine(hostname, ip);
            assert_eq!(matches(&machine, "host-1", "10.0.0.1:41234"), expected, "{machine:?}");
        }
        assert!(matches(&machine("", "::1"), "h", "[::1]:9"));
        assert!(!matches(&machine("", "::1"), "h", ""));
    }
}

//! Keeps the ports that are offered apart from those that the kernel hands out by itself.
//!
//! A program that binds port 0, or connects, is given an ephemeral port, which the port isolation cannot refuse: an offered
//! port could be taken by somebody to whom it was not given.

use std::ops::RangeInclusive;

use proffer_proto::v1;

use super::Error;

const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Checks the offered ports against the kernel's settings; settings that cannot be read are passed over.
pub(super) fn check(resources: &[v1::Resource]) -> Result<(), Error> {
    let Ok(ephemeral) = std::fs::read_to_string(EPHEMERAL) else {
        return Ok(());
    };
    let Some(ephemeral) = two(&ephemeral) else {
        return Ok(());
    };
    let reserved = std::fs::read_to_string(RESERVED).unwrap_or_default();
    let offered = resources
        .iter()
        .filter(|resource| resource.name == "ports")
        .filter_map(|ports| ports.ranges.as_ref());
    let offered: Vec<_> = offered
        .flat_map(|ranges| &ranges.range)
        .map(|range| range.begin..=range.end)
        .collect();
    match conflict(&offered, &ephemeral, &ranges(&reserved)) {
        None => Ok(()),
        Some(port) => Err(Error::new(
            "resources",
            format!(
                "port {port} is in the kernel's ephemeral range {}-{}: offer ports outside of it, or reserve them with \
                 `sysctl net.ipv4.ip_local_reserved_ports`",
                ephemeral.start(),
                ephemeral.end()
            ),
        )),
    }
}

/// The first offered port that the kernel may hand out.
fn conflict(
    offered: &[RangeInclusive<u64>],
    ephemeral: &RangeInclusive<u64>,
    reserved: &[RangeInclusive<u64>],
) -> Option<u64> {
    let shared = offered.iter().flat_map(|ports| {
        // Beyond 65535 there is no port, whatever a range says.
        *ports.start().max(ephemeral.start())..=*ports.end().min(ephemeral.end()).min(&65_535)
    });
    shared
        .into_iter()
        .find(|port| !reserved.iter().any(|ports| ports.contains(port)))
}

fn two(text: &str) -> Option<RangeInclusive<u64>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

fn ranges(text: &str) -> Vec<RangeInclusive<u64>> {
    let parse = |part: &str| match part.split_once('-') {
        Some((begin, end)) => Some(begin.parse().ok()?..=end.parse().ok()?),
        None => part.parse().ok().map(|port| port..=port),
    };
    text.trim().split(',').filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ephemeral_ports_are_offered_only_when_reserved() {
        let ephemeral = two("32768\t60999\n").unwrap();
        assert_eq!(conflict(&[31_000..=31_999], &ephemeral, &[]), None);
        assert_eq!(conflict(&[31_000..=40_000], &ephemeral, &[]), Some(32_768));
        assert_eq!(
            conflict(&[40_000..=40_002], &ephemeral, &ranges("39000,40000-40001\n")),
            Some(40_002)
        );
        assert_eq!(conflict(&[40_000..=40_002], &ephemeral, &ranges("40000-40002")), None);
    }
}

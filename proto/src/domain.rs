//! Fault domains as operators write them: `region/zone`.

use crate::Rejection;
use crate::v1::DomainInfo;
use crate::v1::domain_info::FaultDomain;
use crate::v1::domain_info::fault_domain::{RegionInfo, ZoneInfo};

/// Reads `region/zone`.
///
/// # Errors
/// Not two names, or one that is empty or holds white space or a control character.
pub fn parse(text: &str) -> Result<DomainInfo, Rejection> {
    let is_name = |name: &&str| {
        let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        !name.is_empty() && name.len() <= 255 && !name.contains(bad)
    };
    let names = text.split_once('/');
    let names = names.filter(|(region, zone)| is_name(region) && is_name(zone));
    let Some((region, zone)) = names else {
        let accepted = "a region and a zone, such as eu-west/a, each a name of up to 255 bytes without white space";
        return Err(Rejection::new("", format!("is {text:?}"), accepted));
    };
    Ok(DomainInfo {
        fault_domain: Some(FaultDomain {
            region: RegionInfo {
                name: region.to_owned(),
            },
            zone: ZoneInfo { name: zone.to_owned() },
        }),
    })
}

/// The region, where there is one.
pub fn region(domain: &DomainInfo) -> Option<&str> {
    Some(&domain.fault_domain.as_ref()?.region.name)
}

/// The zone, where there is one.
pub fn zone(domain: &DomainInfo) -> Option<&str> {
    Some(&domain.fault_domain.as_ref()?.zone.name)
}

/// As operators write it.
pub fn show(domain: &DomainInfo) -> String {
    match (region(domain), zone(domain)) {
        (Some(region), Some(zone)) => format!("{region}/{zone}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_region_and_a_zone() {
        let domain = parse("eu-west/a").expect("two names");
        assert_eq!((region(&domain), zone(&domain)), (Some("eu-west"), Some("a")));
        assert_eq!(show(&domain), "eu-west/a");
        for bad in ["", "eu", "eu/", "/a", "eu/a/b", "e u/a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

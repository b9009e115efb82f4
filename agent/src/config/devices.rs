//! The devices that are handed out, and how much may be read from and written to disks.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use proffer_proto::v1;

use super::{Error, text};
use crate::containerizer::{DeviceUnit, IoMax};

const GPUS: &str = "gpus";
/// What every NVIDIA GPU needs besides its own node.
const NVIDIA_SHARED: [&str; 4] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"];
/// The resources that are no devices.
const OTHERS: [&str; 4] = ["cpus", "mem", "disk", "ports"];

/// Reads `NAME=/dev/node[+/dev/node…]` each, finds GPUs where `gpus` are offered and none is named, and offers what is named.
pub(super) fn units(named: &[String], resources: &mut Vec<v1::Resource>, dev: &Path) -> Result<Vec<DeviceUnit>, Error> {
    let mut units = Vec::new();
    for text in named.iter().filter(|text| !text.is_empty()) {
        units.push(unit(text)?);
    }
    let offers_gpus = resources.iter().any(|resource| resource.name == GPUS);
    if offers_gpus && units.iter().all(|unit: &DeviceUnit| unit.resource != GPUS) {
        units.extend(nvidia(dev));
    }
    let mut names: Vec<&str> = units.iter().map(|unit| unit.resource.as_str()).collect();
    names.extend(offers_gpus.then_some(GPUS));
    names.sort_unstable();
    names.dedup();
    for name in names {
        let count = units.iter().filter(|unit| unit.resource == name).count();
        let offered = resources.iter().find(|resource| resource.name == name);
        let Some(offered) = offered else {
            resources.push(text::scalar(name, count as f64));
            continue;
        };
        let amount = offered.scalar.as_ref().map_or(f64::NAN, |scalar| scalar.value);
        if amount.fract() != 0.0 || amount.is_nan() || amount > count as f64 {
            let problem = format!(
                "{name}: {amount} cannot be offered of {count} devices; a whole number up to that is accepted, and --devices \
                 {name}=/dev/NODE names more"
            );
            return Err(Error::new("resources", problem));
        }
    }
    Ok(units)
}

fn unit(text: &str) -> Result<DeviceUnit, Error> {
    let refused = |problem: String| Error::new("devices", format!("`{text}`: {problem}"));
    let (resource, nodes) = text
        .split_once('=')
        .filter(|(resource, _)| !resource.is_empty() && !OTHERS.contains(resource))
        .ok_or_else(|| refused("expected NAME=/dev/NODE, with further nodes of the same device after a +".into()))?;
    let nodes: Vec<PathBuf> = nodes.split('+').map(PathBuf::from).collect();
    for node in &nodes {
        let below_dev = node.starts_with("/dev") && !node.components().any(|part| part.as_os_str() == "..");
        if !below_dev {
            return Err(refused(format!("{} is not below /dev", node.display())));
        }
        let kind = node
            .metadata()
            .map_err(|error| refused(format!("{}: {error}", node.display())))?;
        if !kind.file_type().is_char_device() && !kind.file_type().is_block_device() {
            return Err(refused(format!("{} is no device", node.display())));
        }
    }
    Ok(DeviceUnit {
        resource: resource.to_owned(),
        nodes,
    })
}

/// `/dev/nvidia0` and so on, in order.
fn nvidia(dev: &Path) -> Vec<DeviceUnit> {
    let shared: Vec<PathBuf> = NVIDIA_SHARED
        .iter()
        .map(|name| dev.join(name))
        .filter(|path| path.exists())
        .collect();
    let entries = std::fs::read_dir(dev).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("nvidia")?.parse::<u32>().ok();
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| number(entry.file_name().to_str()?))
        .collect();
    numbers.sort_unstable();
    let unit = |number: u32| DeviceUnit {
        resource: GPUS.into(),
        nodes: std::iter::once(dev.join(format!("nvidia{number}")))
            .chain(shared.iter().cloned())
            .collect(),
    };
    numbers.into_iter().map(unit).collect()
}

/// Reads `/dev/DISK:KEY=VALUE[:KEY=VALUE…]` each.
pub(super) fn io_max(texts: &[String]) -> Result<Vec<IoMax>, Error> {
    texts
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| one_io_max(text))
        .collect()
}

fn one_io_max(text: &str) -> Result<IoMax, Error> {
    let refused = |problem: &str| Error::new("io-max", format!("`{text}`: {problem}"));
    let mut parts = text.split(':');
    let path = Path::new(parts.next().unwrap_or_default());
    let metadata = path.metadata().map_err(|error| refused(&error.to_string()))?;
    if !metadata.file_type().is_block_device() {
        return Err(refused("is no block device"));
    }
    let device = metadata.rdev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    if Path::new("/sys/dev/block").join(&device).join("partition").exists() {
        return Err(refused(
            "is a partition; name the whole disk, as the kernel limits only that",
        ));
    }
    let mut limit = IoMax {
        device,
        ..IoMax::default()
    };
    for part in parts {
        let expected = "expected /dev/DISK:KEY=NUMBER… with the keys rbps, wbps, riops, wiops";
        let (key, value) = part.split_once('=').ok_or_else(|| refused(expected))?;
        let value: u64 = value
            .parse()
            .ok()
            .filter(|value| *value > 0)
            .ok_or_else(|| refused(expected))?;
        match key {
            "rbps" => limit.read_bytes = Some(value),
            "wbps" => limit.write_bytes = Some(value),
            "riops" => limit.read_operations = Some(value),
            "wiops" => limit.write_operations = Some(value),
            _ => return Err(refused(expected)),
        }
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(text: &str) -> Vec<v1::Resource> {
        text::resources(text).unwrap()
    }

    #[test]
    fn gpus_are_found_with_what_they_share() {
        let dev = tempfile::tempdir().unwrap();
        for name in ["nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "nvme0"] {
            std::fs::write(dev.path().join(name), "").unwrap();
        }
        let mut resources = offered("gpus:2");
        let units = units(&[], &mut resources, dev.path()).unwrap();
        let names = |unit: &DeviceUnit| {
            let names = unit.nodes.iter().filter_map(|node| node.file_name()?.to_str());
            names.collect::<Vec<_>>().join(" ")
        };
        let found: Vec<_> = units.iter().map(names).collect();
        assert_eq!(found, ["nvidia2 nvidiactl nvidia-uvm", "nvidia10 nvidiactl nvidia-uvm"]);
        assert!(super::units(&[], &mut offered("gpus:3"), dev.path()).is_err());
        assert!(super::units(&[], &mut offered("gpus:0.5"), dev.path()).is_err());
        assert_eq!(
            super::units(&[], &mut offered("cpus:3"), dev.path()).unwrap(),
            [],
            "only where gpus are offered"
        );
    }

    #[test]
    fn named_devices_are_offered() {
        let mut resources = offered("cpus:1");
        let named = ["fpgas=/dev/null+/dev/zero".to_owned(), "fpgas=/dev/full".to_owned()];
        let units = units(&named, &mut resources, Path::new("/nowhere")).unwrap();
        assert_eq!(units[0].to_string(), named[0]);
        assert_eq!(text::show_resources(&resources), "cpus:1;fpgas:2");
        for bad in [
            "fpgas",
            "=/dev/null",
            "cpus=/dev/null",
            "f=/etc/passwd",
            "f=/dev/../etc/passwd",
            "f=/dev/none",
        ] {
            let refused = super::units(&[bad.to_owned()], &mut offered("cpus:1"), Path::new("/dev"));
            assert!(refused.unwrap_err().to_string().starts_with("--devices"), "{bad}");
        }
    }

    #[test]
    fn a_limit_of_what_is_no_disk_is_refused() {
        for bad in ["/dev/null:rbps=1", "/dev/none:rbps=1", ""] {
            assert_eq!(io_max(&[bad.to_owned()]).is_err(), !bad.is_empty(), "{bad}");
        }
    }
}

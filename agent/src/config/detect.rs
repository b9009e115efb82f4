//! Detects the resources that the operator does not name.

use std::path::Path;

use proffer_proto::v1;

use super::{Error, text};

/// Ports that no host uses for itself by default: below the ephemeral range of Linux.
const PORTS: (u64, u64) = (31_000, 31_999);

/// Adds those of cpus, mem, disk and ports that are missing.
pub(super) fn fill(resources: &mut Vec<v1::Resource>, work_dir: &Path) -> Result<(), Error> {
    let missing = |resources: &[v1::Resource], name: &str| resources.iter().all(|resource| resource.name != name);
    if missing(resources, "cpus") {
        let cpus = std::thread::available_parallelism()
            .map_err(|error| Error::new("resources", format!("cpus cannot be detected ({error}): name them")))?;
        resources.push(text::scalar("cpus", cpus.get() as f64));
    }
    if missing(resources, "mem") {
        let total = memory_mebibytes()
            .ok_or_else(|| Error::new("resources", "mem cannot be detected from /proc/meminfo: name it"))?;
        resources.push(text::scalar("mem", less_reserve(total, 1024) as f64));
    }
    if missing(resources, "disk") {
        let status = rustix::fs::statvfs(work_dir)
            .map_err(|error| Error::new("resources", format!("disk cannot be detected ({error}): name it")))?;
        let total = (status.f_blocks * status.f_frsize) >> 20;
        resources.push(text::scalar("disk", less_reserve(total, 5 * 1024) as f64));
    }
    if missing(resources, "ports") {
        resources.push(text::range("ports", PORTS.0, PORTS.1));
    }
    Ok(())
}

/// Leaves something for the host itself: the reserve, or half where that is less.
fn less_reserve(total: u64, reserve: u64) -> u64 {
    total.saturating_sub(reserve).max(total / 2)
}

fn memory_mebibytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes >> 10)
}

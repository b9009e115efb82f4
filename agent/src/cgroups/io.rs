//! Disk input and output: counted, weighed by CPU among those that compete (version 2), and limited where the operator says so.

use std::sync::Arc;

use super::gauges::{Gauge, lines};
use super::{Controller, Error, Hierarchy, Version};
use crate::containerizer::{ContainerId, IoMax, Resources, Usage};

/// The `io` controller, `blkio` in version 1.
#[derive(Debug)]
pub struct Io {
    hierarchy: Arc<Hierarchy>,
}

impl Io {
    pub(super) fn new(hierarchy: Arc<Hierarchy>) -> Self {
        Io { hierarchy }
    }

    /// Limits the container on each device.
    pub fn limit(&self, container: &ContainerId, limits: &[IoMax]) -> Result<(), Error> {
        for limit in limits {
            let rates = [
                ("rbps", "read_bps", limit.read_bytes),
                ("wbps", "write_bps", limit.write_bytes),
                ("riops", "read_iops", limit.read_operations),
                ("wiops", "write_iops", limit.write_operations),
            ];
            for (v2, v1, rate) in rates {
                let Some(rate) = rate else { continue };
                match self.hierarchy.version {
                    Version::V1 => {
                        let file = format!("blkio.throttle.{v1}_device");
                        self.hierarchy
                            .write(container, &file, &format!("{} {rate}", limit.device))?;
                    }
                    Version::V2 => {
                        let text = format!("{} {v2}={rate}", limit.device);
                        self.hierarchy.write(container, "io.max", &text)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Controller for Io {
    fn hierarchy(&self) -> &Arc<Hierarchy> {
        &self.hierarchy
    }

    /// The weight, where something heeds it.
    fn apply(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        if self.hierarchy.version == Version::V2 && self.hierarchy.has(container, "io.weight") {
            let weight = (resources.weight_thousandths() / 10).clamp(1, 10_000);
            self.hierarchy
                .write(container, "io.weight", &format!("default {weight}"))?;
        }
        Ok(())
    }

    fn gauges(&self) -> &'static [Gauge] {
        match self.hierarchy.version {
            Version::V1 => &[
                ("blkio.throttle.io_service_bytes", |text, usage| {
                    (usage.io_read_bytes, usage.io_written_bytes) = sums(text);
                }),
                ("blkio.throttle.io_serviced", |text, usage| {
                    (usage.io_reads, usage.io_writes) = sums(text);
                }),
            ],
            Version::V2 => &[("io.stat", io_stat)],
        }
    }
}

/// Of lines `8:0 Read 4096`.
fn sums(text: &[u8]) -> (Option<u64>, Option<u64>) {
    let (mut read, mut written) = (0, 0);
    for (_device, rest) in lines(text) {
        let number = |name: &[u8]| rest.strip_prefix(name).and_then(proffer_shim::record::number);
        read += number(b"Read ").unwrap_or(0);
        written += number(b"Write ").unwrap_or(0);
    }
    (Some(read), Some(written))
}

/// Of lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn io_stat(text: &[u8], usage: &mut Usage) {
    let mut totals = [0; 4];
    for (_device, rest) in lines(text) {
        for field in rest.split(|byte| *byte == b' ') {
            for (total, name) in totals.iter_mut().zip([&b"rbytes="[..], b"wbytes=", b"rios=", b"wios="]) {
                *total += field
                    .strip_prefix(name)
                    .and_then(proffer_shim::record::number)
                    .unwrap_or(0);
            }
        }
    }
    [
        usage.io_read_bytes,
        usage.io_written_bytes,
        usage.io_reads,
        usage.io_writes,
    ] = totals.map(Some);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_added_up() {
        let text = b"8:0 Read 4096\n8:0 Write 512\n8:0 Sync 4608\n8:16 Read 4\nTotal 9\n";
        assert_eq!(sums(text), (Some(4100), Some(512)));
        let mut usage = Usage::default();
        io_stat(
            b"8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 rbytes=10 wbytes=20\n8:32\n",
            &mut usage,
        );
        assert_eq!((usage.io_read_bytes, usage.io_written_bytes), (Some(11), Some(22)));
        assert_eq!((usage.io_reads, usage.io_writes), (Some(3), Some(4)));
    }
}

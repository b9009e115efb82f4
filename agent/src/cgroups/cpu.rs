//! CPU: a quota over periods of 100 ms, and a weight among containers that compete.

use std::sync::Arc;

use proffer_shim::record::number;

use super::gauges::{Gauge, lines};
use super::{Controller, Error, Hierarchy, Version};
use crate::containerizer::{ContainerId, Limit, Resources, Usage};

/// The kernel's default period.
const PERIOD_USEC: u64 = 100_000;
/// The kernel's least quota.
const QUOTA_USEC_MIN: u64 = 1_000;

/// The `cpu` controller.
#[derive(Debug)]
pub struct Cpu {
    hierarchy: Arc<Hierarchy>,
}

impl Cpu {
    pub(super) fn new(hierarchy: Arc<Hierarchy>) -> Self {
        Cpu { hierarchy }
    }
}

impl Controller for Cpu {
    fn hierarchy(&self) -> &Arc<Hierarchy> {
        &self.hierarchy
    }

    fn apply(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let write = |file: &str, value: String| self.hierarchy.write(container, file, &value);
        let quota = quota_usec(resources);
        match self.hierarchy.version {
            Version::V1 => {
                write("cpu.shares", shares(resources.weight_thousandths()).to_string())?;
                write("cpu.cfs_quota_us", quota.map_or("-1".into(), |quota| quota.to_string()))
            }
            Version::V2 => {
                write("cpu.weight", weight(resources.weight_thousandths()).to_string())?;
                write("cpu.max", quota.map_or("max".into(), |quota| quota.to_string()))
            }
        }
    }

    fn gauges(&self) -> &'static [Gauge] {
        match self.hierarchy.version {
            Version::V1 => &[("cpu.stat", |text, usage| throttling(text, usage))],
            // In the unified tree the same file says more.
            Version::V2 => &[],
        }
    }
}

/// Of `cpu.stat`, in nanoseconds in version 1.
fn throttling(text: &[u8], usage: &mut Usage) {
    for (key, value) in lines(text) {
        let value = number(value);
        match key {
            b"nr_periods" => usage.cpu_periods = value,
            b"nr_throttled" => usage.cpu_periods_throttled = value,
            b"throttled_time" => usage.cpu_throttled_usec = value.map(|nanoseconds| nanoseconds / 1000),
            _ => {}
        }
    }
}

fn quota_usec(resources: &Resources) -> Option<u64> {
    let thousandths = match resources.cpus_limit {
        Limit::Requested => resources.cpus_thousandths,
        Limit::At(thousandths) => thousandths,
        Limit::Unlimited => return None,
    };
    Some((thousandths.saturating_mul(PERIOD_USEC) / 1000).clamp(QUOTA_USEC_MIN, 1 << 40))
}

/// 1024 for one CPU.
fn shares(thousandths: u64) -> u64 {
    (thousandths.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// 100, the kernel's default, for one CPU.
fn weight(thousandths: u64) -> u64 {
    (thousandths / 10).clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(cpus_thousandths: u64, cpus_limit: Limit) -> Resources {
        Resources {
            cpus_thousandths,
            cpus_limit,
            ..Resources::default()
        }
    }

    #[test]
    fn the_quota_is_the_request_unless_a_limit_is_given() {
        assert_eq!(quota_usec(&cpus(500, Limit::Requested)), Some(50_000));
        assert_eq!(quota_usec(&cpus(500, Limit::At(2_000))), Some(200_000));
        assert_eq!(quota_usec(&cpus(500, Limit::Unlimited)), None);
    }

    #[test]
    fn what_may_be_taken_back_weighs_next_to_nothing() {
        let mixed = Resources {
            cpus_thousandths: 3_000,
            cpus_revocable_thousandths: 2_000,
            ..Resources::default()
        };
        assert_eq!(mixed.weight_thousandths(), 1_020);
        assert_eq!(
            (shares(mixed.weight_thousandths()), weight(mixed.weight_thousandths())),
            (1_044, 102)
        );
        let lent = Resources {
            cpus_thousandths: 1_000,
            cpus_revocable_thousandths: 1_000,
            ..Resources::default()
        };
        assert_eq!(
            (shares(lent.weight_thousandths()), weight(lent.weight_thousandths())),
            (10, 1)
        );
        assert_eq!(quota_usec(&lent), Some(100_000));
    }

    #[test]
    fn what_the_kernel_would_refuse_is_brought_into_its_bounds() {
        assert_eq!(quota_usec(&cpus(0, Limit::Requested)), Some(QUOTA_USEC_MIN));
        assert_eq!(quota_usec(&cpus(u64::MAX, Limit::Requested)), Some(1 << 40));
        assert_eq!((shares(0), shares(1000), shares(u64::MAX)), (2, 1024, 262_144));
        assert_eq!((weight(0), weight(1000), weight(u64::MAX)), (1, 100, 10_000));
    }
}

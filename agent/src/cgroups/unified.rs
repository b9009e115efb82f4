//! What only the unified tree has, also beside version 1 controllers.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use proffer_shim::record::number;

use super::gauges::{Gauge, TEXT_BYTES_MAX, lines};
use super::{Error, Hierarchy};
use crate::containerizer::{ContainerId, Pressure, Usage};

/// The unified tree.
#[derive(Debug)]
pub struct Unified {
    hierarchy: Arc<Hierarchy>,
}

impl Unified {
    pub(super) fn new(hierarchy: Arc<Hierarchy>) -> Self {
        Unified { hierarchy }
    }

    /// The directory tree.
    pub fn hierarchy(&self) -> &Arc<Hierarchy> {
        &self.hierarchy
    }

    /// The container's directory, for the programs that are attached to it.
    pub fn open(&self, container: &ContainerId) -> Result<OwnedFd, Error> {
        self.hierarchy.open_container(container)
    }

    /// Kills every process of the container at once; false before Linux 5.14, which cannot.
    pub fn kill(&self, container: &ContainerId) -> Result<bool, Error> {
        if !self.hierarchy.has(container, "cgroup.kill") {
            return Ok(false);
        }
        self.hierarchy.write(container, "cgroup.kill", "1").map(|()| true)
    }

    /// CPU time, processes and pressure, which the unified tree counts without any controller.
    pub(super) fn gauges() -> &'static [Gauge] {
        &[
            ("cpu.stat", cpu),
            ("cgroup.procs", |text, usage| usage.processes = processes(text)),
            ("cpu.pressure", |text, usage| usage.cpu_pressure = pressure(text)),
            ("memory.pressure", |text, usage| usage.memory_pressure = pressure(text)),
            ("io.pressure", |text, usage| usage.io_pressure = pressure(text)),
        ]
    }
}

fn cpu(text: &[u8], usage: &mut Usage) {
    for (key, value) in lines(text) {
        let field = match key {
            b"usage_usec" => &mut usage.cpu_usec,
            b"user_usec" => &mut usage.cpu_user_usec,
            b"system_usec" => &mut usage.cpu_system_usec,
            // With the controller only.
            b"nr_periods" => &mut usage.cpu_periods,
            b"nr_throttled" => &mut usage.cpu_periods_throttled,
            b"throttled_usec" => &mut usage.cpu_throttled_usec,
            _ => continue,
        };
        *field = number(value);
    }
}

/// One a line; not known where there are more than were read.
fn processes(text: &[u8]) -> Option<u64> {
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    (text.len() < TEXT_BYTES_MAX).then_some(lines as u64)
}

/// Of lines `some avg10=0.12 avg60=0.03 avg300=0.01 total=12345` (Documentation/accounting/psi.rst).
fn pressure(text: &[u8]) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for (kind, fields) in lines(text) {
        for field in fields.split(|byte| *byte == b' ') {
            let percent = field
                .strip_prefix(b"avg10=")
                .and_then(|text| std::str::from_utf8(text).ok());
            let percent = percent.and_then(|text| text.parse().ok());
            let total = field.strip_prefix(b"total=").and_then(number);
            match kind {
                b"some" => {
                    pressure.some_percent = percent.unwrap_or(pressure.some_percent);
                    pressure.some_usec = total.unwrap_or(pressure.some_usec);
                }
                b"full" => {
                    pressure.full_percent = percent.unwrap_or(pressure.full_percent);
                    pressure.full_usec = total.unwrap_or(pressure.full_usec);
                }
                _ => {}
            }
        }
    }
    (!text.is_empty()).then_some(pressure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_counted_unless_they_are_too_many() {
        assert_eq!((processes(b""), processes(b"1\n22\n")), (Some(0), Some(2)));
        assert_eq!(processes(&[b'\n'; TEXT_BYTES_MAX]), None);
    }

    #[test]
    fn pressure_is_read() {
        let text = b"some avg10=0.12 avg60=1.00 avg300=0.00 total=55\nfull avg10=0.02 avg60=0.00 avg300=0.00 total=7\n";
        let expected = Pressure {
            some_percent: 0.12,
            full_percent: 0.02,
            some_usec: 55,
            full_usec: 7,
        };
        assert_eq!(pressure(text), Some(expected));
        assert_eq!(pressure(b""), None);
    }
}

//! Shows what a container uses by the names of the v1 API.

use std::collections::BTreeMap;
use std::time::SystemTime;

use proffer_proto::v1;
use proffer_proto::v1::cgroup_info::blkio::{self, Operation};
use proffer_proto::v1::pressure_statistics::Pressure as WirePressure;

use crate::containerizer::{Pressure, Usage};

/// The figures of a container that asked for `resources`, with these limits, now.
pub(crate) fn of(
    resources: &[v1::Resource],
    limits: &BTreeMap<String, v1::value::Scalar>,
    usage: &Usage,
    disk_used_bytes: Option<u64>,
) -> v1::ResourceStatistics {
    let seconds = |micros: Option<u64>| micros.map(|micros| micros as f64 / 1e6);
    let small = |count: Option<u64>| count.and_then(|count| u32::try_from(count).ok());
    let request = |name: &str| {
        let own = resources.iter().filter(|resource| resource.name == name);
        let amounts = own.filter_map(|resource| resource.scalar.as_ref());
        amounts.map(|scalar| scalar.value).reduce(|sum, value| sum + value)
    };
    let limit = |name: &str| limits.get(name).map(|limit| limit.value).or_else(|| request(name));
    v1::ResourceStatistics {
        timestamp: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64(),
        processes: small(usage.processes),
        threads: small(usage.pids),
        cpus_user_time_secs: seconds(usage.cpu_user_usec),
        cpus_system_time_secs: seconds(usage.cpu_system_usec),
        cpus_nr_periods: small(usage.cpu_periods),
        cpus_nr_throttled: small(usage.cpu_periods_throttled),
        cpus_throttled_time_secs: seconds(usage.cpu_throttled_usec),
        cpus_limit: limit("cpus").filter(|limit| limit.is_finite()),
        cpus_soft_limit: request("cpus"),
        mem_total_bytes: usage.memory_bytes,
        mem_rss_bytes: usage.memory_anon_bytes,
        mem_anon_bytes: usage.memory_anon_bytes,
        mem_cache_bytes: usage.memory_file_bytes,
        mem_file_bytes: usage.memory_file_bytes,
        mem_mapped_file_bytes: usage.memory_mapped_bytes,
        mem_unevictable_bytes: usage.memory_unevictable_bytes,
        mem_swap_bytes: usage.memory_swap_bytes,
        mem_limit_bytes: usage.memory_limit_bytes,
        mem_soft_limit_bytes: request("mem").map(|mebibytes| (mebibytes * 1_048_576.0) as u64),
        mem_peak_bytes: usage.memory_peak_bytes,
        net_rx_bytes: usage.network_received_bytes,
        net_rx_packets: usage.network_received_packets,
        net_tx_bytes: usage.network_sent_bytes,
        net_tx_packets: usage.network_sent_packets,
        disk_limit_bytes: crate::spec::disk_bytes(resources).ok().flatten(),
        disk_used_bytes,
        blkio_statistics: disks(usage),
        pressure: pressure(usage),
        ..Default::default()
    }
}

/// Of all devices together.
fn disks(usage: &Usage) -> Option<blkio::Statistics> {
    let values = |read: Option<u64>, written: Option<u64>| {
        let both = [(Operation::Read, read), (Operation::Write, written)];
        let value = |(operation, value): (Operation, Option<u64>)| blkio::Value {
            op: value.map(|_| operation.into()),
            value,
        };
        both.map(value)
            .into_iter()
            .filter(|value| value.value.is_some())
            .collect()
    };
    usage.io_read_bytes?;
    let total = blkio::throttling::Statistics {
        device: None,
        io_serviced: values(usage.io_reads, usage.io_writes),
        io_service_bytes: values(usage.io_read_bytes, usage.io_written_bytes),
    };
    Some(blkio::Statistics {
        throttling: vec![total],
        ..Default::default()
    })
}

fn pressure(usage: &Usage) -> Option<v1::PressureStatistics> {
    let one = |pressure: Option<Pressure>| {
        pressure.map(|pressure| WirePressure {
            some_percent: Some(pressure.some_percent),
            full_percent: Some(pressure.full_percent),
            some_total_secs: Some(pressure.some_usec as f64 / 1e6),
            full_total_secs: Some(pressure.full_usec as f64 / 1e6),
        })
    };
    let all = v1::PressureStatistics {
        cpu: one(usage.cpu_pressure),
        memory: one(usage.memory_pressure),
        io: one(usage.io_pressure),
    };
    (all != v1::PressureStatistics::default()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_the_host_lacks_are_left_out() {
        let statistics = of(&[], &BTreeMap::new(), &Usage::default(), None);
        assert_eq!(statistics.pressure, None);
        assert_eq!(statistics.blkio_statistics, None);
        let usage = Usage {
            io_read_bytes: Some(1),
            io_written_bytes: Some(2),
            cpu_usec: Some(3),
            cpu_pressure: Some(Pressure {
                some_usec: 1_500_000,
                ..Pressure::default()
            }),
            ..Usage::default()
        };
        let limits = [("cpus".to_owned(), v1::value::Scalar { value: 2.5 })].into();
        let statistics = of(&[], &limits, &usage, None);
        assert_eq!(statistics.cpus_limit, Some(2.5));
        let cpu = statistics.pressure.unwrap().cpu.unwrap();
        assert_eq!(cpu.some_total_secs, Some(1.5));
        let disks = statistics.blkio_statistics.unwrap();
        assert_eq!(disks.throttling[0].io_service_bytes[1].value, Some(2));
        assert_eq!(disks.throttling[0].io_serviced, []);
    }
}

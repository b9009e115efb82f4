//! The bundled streaming engine: jobs that run beside the services whose data they process.
//!
//! First version: one kind of job. It follows the access logs of a service and keeps, per route and tumbling event-time
//! window, counts and latency percentiles.
//!
//! - [`scheduler`] is the framework: it turns a [`scheduler::JobSpec`] into W tasks on offers, one data-plane port each.
//! - [`worker`] is what runs in each task: one process, one timely-dataflow worker.
//! - [`access_log`], [`watermark`], [`windows`] and [`histogram`] are the computation, without I/O or clock.
//!
//! # Failure
//! When a worker ends, all workers of the job are stopped and started again as a new *attempt*. Attempts are numbered, each
//! writes into a directory of its own, and the newest is authoritative. There are no snapshots yet: a new attempt reads the
//! logs again from their first byte. That is exact as long as the logs are there, and nothing is counted twice.

pub mod access_log;
pub mod histogram;
pub mod output;
pub mod scheduler;
pub mod source;
pub mod watermark;
pub mod windows;
pub mod worker;

/// A hash that is the same on every host and in every version (FNV-1a, then mixed): it places routes and files on workers.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

//! A cluster of real processes on this machine: what `proffer dev`, `proffer demo` and the tests start.
//!
//! Every process has a directory with its state, a log file, and a kernel-chosen port that it tells through an address
//! file. Processes are ended by their own id when their handle is dropped.

mod cluster;
mod left;
mod process;

pub use cluster::{AgentOptions, ClusterOptions, LocalCluster};
pub use left::cgroups_left;
pub use process::{LocalError, LocalProcess, ProcessSpec};

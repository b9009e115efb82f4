//! A cluster of real processes on this machine: what `proffer dev`, `proffer demo` and the tests start.
//!
//! Every process has a directory with its state and a log file. An agent's port is chosen by the kernel and told through an
//! address file; the masters' are reserved before the first of them starts, as each has to know all. Processes are ended by
//! their own id when their handle is dropped.

mod cluster;
mod left;
mod ports;
mod process;

pub use cluster::{AgentOptions, ClusterOptions, LocalCluster};
pub use left::cgroups_left;
pub use process::{LocalError, LocalProcess, ProcessSpec};

//! What the tests and benchmarks of Proffer share: the deterministic simulator and the local cluster harness.

// Tests tell why they are skipped, benchmarks their figures.
#![allow(clippy::print_stdout)]

pub mod bench;
pub mod chaos;
pub mod cluster;
pub mod faults;
pub mod fixture;
pub mod framework;
pub mod front;
pub mod host;
pub mod http;
pub mod load;
pub mod sim;
pub mod vm;

use std::time::Duration;

pub use cluster::Cluster;
pub use framework::{TestFramework, place};

/// How long a condition is waited for before a test fails; long, because machines are busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

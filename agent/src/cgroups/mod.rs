//! The kernel's control groups: version 1, version 2, and both at once (hybrid).
//!
//! One file for each controller, behind [`Controller`]; each knows the files of both versions. [`Cgroups`] finds the hierarchies
//! and makes a directory of the container's own in each that is used. The unified tree is used on every host that has it, also
//! beside version 1 controllers: `cgroup.kill`, `cpu.stat` and the programs that guard ports live there.

mod cpu;
mod gauges;
mod hierarchy;
mod io;
mod layout;
mod memory;
mod mount;
mod moves;
mod pids;
mod unified;

use std::fmt;
use std::sync::Arc;

pub use cpu::Cpu;
pub use gauges::Gauge;
pub use hierarchy::{Hierarchy, Version};
pub use io::Io;
pub use layout::{Cgroups, Mounted, parse_mounts};
pub use memory::Memory;
pub(crate) use mount::mount_unified;
pub use pids::Pids;
pub use unified::Unified;

use crate::containerizer::{ContainerId, Resources};

/// Something about a cgroup failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of a cgroup.
    #[error("{verb} {path}")]
    File {
        /// What was done: `write 1 to`, `create`...
        verb: String,
        /// The file.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A hierarchy that the host does not have or does not let us use.
    #[error("{what}: {reason}")]
    Missing {
        /// The controller.
        what: &'static str,
        /// What is missing, and how to get it.
        reason: String,
    },
}

/// One resource that a cgroup limits and counts.
pub trait Controller: Send + Sync + fmt::Debug {
    /// The directory tree that it is bound to.
    fn hierarchy(&self) -> &Arc<Hierarchy>;
    /// Sets the limits of a container whose directory exists; may be repeated while it runs.
    fn apply(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error>;
    /// The files that say what a container uses.
    fn gauges(&self) -> &'static [Gauge];
}

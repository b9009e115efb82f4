//! What only the unified tree has, also beside version 1 controllers.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use proffer_shim::record::keyed;

use super::{Error, Hierarchy};
use crate::containerizer::{ContainerId, Usage};

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

    /// CPU time, which the unified tree counts without any controller.
    pub fn usage(&self, container: &ContainerId, usage: &mut Usage) -> Result<(), Error> {
        let text = self.hierarchy.read(container, "cpu.stat")?;
        usage.cpu_usec = keyed(text.as_bytes(), b"usage_usec");
        usage.cpu_user_usec = keyed(text.as_bytes(), b"user_usec");
        usage.cpu_system_usec = keyed(text.as_bytes(), b"system_usec");
        Ok(())
    }
}

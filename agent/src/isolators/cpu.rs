//! CPU time: a hard quota and a weight.

use std::sync::Arc;

use super::{Error, Isolator, LaunchPlan, missing, version_note};
use crate::cgroups::{Cgroups, Controller, Cpu};
use crate::containerizer::{self, ContainerId, ContainerSpec, EnforcementNote, Resources};

/// Enforces `cpus`.
#[derive(Debug)]
pub(super) struct CpuIsolator {
    cpu: Arc<Cpu>,
}

impl CpuIsolator {
    pub(super) fn new(cgroups: &Cgroups) -> Result<Self, containerizer::Error> {
        Ok(CpuIsolator {
            cpu: cgroups.cpu.clone().ok_or_else(|| missing("cpu"))?,
        })
    }
}

impl Isolator for CpuIsolator {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn note(&self) -> EnforcementNote {
        version_note("cpu", &*self.cpu, "quota and weight")
    }

    fn prepare(&self, container: &ContainerSpec, _plan: &mut LaunchPlan) -> Result<(), Error> {
        Ok(self.cpu.apply(&container.id, &container.resources)?)
    }

    fn update(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        Ok(self.cpu.apply(container, resources)?)
    }
}

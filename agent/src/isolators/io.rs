//! Disk input and output: counted; limited on the devices that the operator names; weighed where the kernel has something to weigh by.

use std::sync::Arc;

use super::{Error, Isolator, LaunchPlan, missing, version_note};
use crate::cgroups::{Cgroups, Controller, Io, Version};
use crate::containerizer::{self, Config, ContainerId, ContainerSpec, EnforcementNote, IoMax, Resources};

/// Counts and limits input and output.
#[derive(Debug)]
pub(super) struct IoIsolator {
    io: Arc<Io>,
    limits: Vec<IoMax>,
}

impl IoIsolator {
    pub(super) fn new(config: &Config, cgroups: &Cgroups) -> Result<Self, containerizer::Error> {
        Ok(IoIsolator {
            io: cgroups.io.clone().ok_or_else(|| missing("io"))?,
            limits: config.policy.io_max.clone(),
        })
    }
}

impl Isolator for IoIsolator {
    fn name(&self) -> &'static str {
        "io"
    }

    fn note(&self) -> EnforcementNote {
        let text = match (self.io.hierarchy().version, self.limits.len()) {
            (Version::V1, 0) => "counted, as far as it is not buffered writing".into(),
            (Version::V1, limits) => {
                format!("counted, and limited on {limits} devices, as far as it is not buffered writing")
            }
            (Version::V2, 0) => "counted".into(),
            (Version::V2, limits) => format!("counted, and limited on {limits} devices"),
        };
        version_note("io", &*self.io, &text)
    }

    fn prepare(&self, container: &ContainerSpec, _plan: &mut LaunchPlan) -> Result<(), Error> {
        self.io.apply(&container.id, &container.resources)?;
        Ok(self.io.limit(&container.id, &self.limits)?)
    }

    fn update(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        Ok(self.io.apply(container, resources)?)
    }
}

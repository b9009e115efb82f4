//! How many processes and threads a container may have, so that a fork bomb stays its own problem.

use std::sync::Arc;

use super::{Error, Isolator, LaunchPlan, missing, version_note};
use crate::cgroups::{Cgroups, Controller, Pids};
use crate::containerizer::{self, ContainerId, ContainerSpec, EnforcementNote, Resources};

/// Enforces `pids_max`.
#[derive(Debug)]
pub(super) struct PidsIsolator {
    pids: Arc<Pids>,
    default_max: u64,
}

impl PidsIsolator {
    pub(super) fn new(cgroups: &Cgroups, default_max: u64) -> Result<Self, containerizer::Error> {
        Ok(PidsIsolator {
            pids: cgroups.pids.clone().ok_or_else(|| missing("pids"))?,
            default_max,
        })
    }

    fn apply(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let pids_max = Some(resources.pids_max.unwrap_or(self.default_max));
        Ok(self.pids.apply(
            container,
            &Resources {
                pids_max,
                ..resources.clone()
            },
        )?)
    }
}

impl Isolator for PidsIsolator {
    fn name(&self) -> &'static str {
        "pids"
    }

    fn note(&self) -> EnforcementNote {
        version_note(
            "pids",
            &*self.pids,
            &format!("{} unless a task names another limit", self.default_max),
        )
    }

    fn prepare(&self, container: &ContainerSpec, _plan: &mut LaunchPlan) -> Result<(), Error> {
        self.apply(&container.id, &container.resources)
    }

    fn update(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        self.apply(container, resources)
    }
}

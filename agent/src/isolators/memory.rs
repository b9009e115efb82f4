//! Memory: a hard limit; running out of it ends the whole container, and the exit says so.

use std::sync::Arc;

use super::{Error, Isolator, LaunchPlan, missing, version_note};
use crate::cgroups::{Cgroups, Controller, Memory, Version};
use crate::containerizer::{self, ContainerId, ContainerSpec, EnforcementNote, Resources};

/// Enforces `mem`.
#[derive(Debug)]
pub(super) struct MemoryIsolator {
    memory: Arc<Memory>,
}

impl MemoryIsolator {
    pub(super) fn new(cgroups: &Cgroups) -> Result<Self, containerizer::Error> {
        Ok(MemoryIsolator {
            memory: cgroups.memory.clone().ok_or_else(|| missing("memory"))?,
        })
    }
}

impl Isolator for MemoryIsolator {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn note(&self) -> EnforcementNote {
        let killer = match self.memory.hierarchy().version {
            Version::V1 => "hard limit; the launcher kills the whole container when it is reached",
            Version::V2 => "hard limit; the kernel kills the whole container when it is reached",
        };
        version_note("memory", &*self.memory, killer)
    }

    fn prepare(&self, container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        self.memory.apply(&container.id, &container.resources)?;
        let hierarchy = self.memory.hierarchy();
        let file = |name: &str| hierarchy.path(&container.id, name);
        match hierarchy.version {
            Version::V1 => {
                plan.watched.oom_control = file("memory.oom_control");
                plan.watched.oom_event_control = file("cgroup.event_control");
                plan.watched.memory_limit = file("memory.limit_in_bytes");
                plan.watched.memory_peak = file("memory.max_usage_in_bytes");
            }
            Version::V2 => {
                plan.watched.oom_events = file("memory.events");
                plan.watched.memory_limit = file("memory.max");
                plan.watched.memory_peak = file("memory.peak");
            }
        }
        Ok(())
    }

    fn update(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        Ok(self.memory.apply(container, resources)?)
    }
}

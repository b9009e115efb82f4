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
            Version::V1 => "the launcher",
            Version::V2 => "the kernel",
        };
        let swap = if self.memory.limits_swap() {
            "swap included"
        } else if swaps() {
            "but swap is not limited, as this kernel does not count it: boot it with swapaccount=1, or do without swap"
        } else {
            "swap would not be, and there is none"
        };
        let text = format!("hard limit, {swap}; {killer} kills the whole container when it is reached");
        EnforcementNote {
            enforced: self.memory.limits_swap() || !swaps(),
            ..version_note("memory", &*self.memory, &text)
        }
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

/// Whether the host swaps to anything.
fn swaps() -> bool {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    // The first line names the columns.
    swaps.lines().nth(1).is_some()
}

//! Memory: a hard limit, swap included; running out of it kills the whole container.

use std::sync::Arc;

use proffer_shim::record::{keyed, number};

use super::{Controller, Error, Hierarchy, Version};
use crate::containerizer::{ContainerId, Limit, Resources, Usage};

/// Below this not even a shell starts.
const LIMIT_BYTES_MIN: u64 = 4 << 20;

/// The `memory` controller.
#[derive(Debug)]
pub struct Memory {
    hierarchy: Arc<Hierarchy>,
}

impl Memory {
    pub(super) fn new(hierarchy: Arc<Hierarchy>) -> Self {
        Memory { hierarchy }
    }

    /// Version 1 limits memory and the sum of memory and swap, the first never above the second.
    fn apply_v1(&self, container: &ContainerId, limit: &str) -> Result<(), Error> {
        const MEMORY: &str = "memory.limit_in_bytes";
        const MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";
        let write = |file: &str| self.hierarchy.write(container, file, limit);
        if !self.hierarchy.has(container, MEMORY_AND_SWAP) {
            return write(MEMORY);
        }
        // Lowered in this order, raised in the other.
        if write(MEMORY).is_ok() {
            return write(MEMORY_AND_SWAP);
        }
        write(MEMORY_AND_SWAP)?;
        write(MEMORY)
    }
}

impl Controller for Memory {
    fn hierarchy(&self) -> &Arc<Hierarchy> {
        &self.hierarchy
    }

    fn apply(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let limit = limit_bytes(resources);
        match self.hierarchy.version {
            Version::V1 => self.apply_v1(container, &limit.map_or("-1".into(), |limit| limit.to_string())),
            Version::V2 => {
                let limit = limit.map_or("max".into(), |limit| limit.to_string());
                self.hierarchy.write(container, "memory.oom.group", "1")?;
                if self.hierarchy.has(container, "memory.swap.max") {
                    self.hierarchy.write(container, "memory.swap.max", "0")?;
                }
                self.hierarchy.write(container, "memory.max", &limit)
            }
        }
    }

    fn usage(&self, container: &ContainerId, usage: &mut Usage) -> Result<(), Error> {
        let read = |file: &str| self.hierarchy.read(container, file);
        let figure = |file: &str| read(file).ok().and_then(|text| number(text.as_bytes()));
        let stat = read("memory.stat")?;
        let stat = stat.as_bytes();
        match self.hierarchy.version {
            Version::V1 => {
                usage.memory_bytes = figure("memory.usage_in_bytes");
                usage.memory_peak_bytes = figure("memory.max_usage_in_bytes");
                usage.memory_limit_bytes = figure("memory.limit_in_bytes");
                usage.memory_anon_bytes = keyed(stat, b"rss");
                usage.memory_file_bytes = keyed(stat, b"cache");
            }
            Version::V2 => {
                usage.memory_bytes = figure("memory.current");
                usage.memory_peak_bytes = figure("memory.peak");
                usage.memory_limit_bytes = figure("memory.max");
                usage.memory_anon_bytes = keyed(stat, b"anon");
                usage.memory_file_bytes = keyed(stat, b"file");
            }
        }
        Ok(())
    }
}

fn limit_bytes(resources: &Resources) -> Option<u64> {
    match resources.memory_limit {
        Limit::Requested => Some(resources.memory_bytes.max(LIMIT_BYTES_MIN)),
        Limit::At(bytes) => Some(bytes.max(LIMIT_BYTES_MIN)),
        Limit::Unlimited => None,
    }
}

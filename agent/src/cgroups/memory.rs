//! Memory: a hard limit, swap included; running out of it kills the whole container.

use std::sync::Arc;

use proffer_shim::record::number;

use super::gauges::{Gauge, lines};
use super::{Controller, Error, Hierarchy, Version};
use crate::containerizer::{ContainerId, Limit, Resources, Usage};

/// Below this not even a shell starts.
const LIMIT_BYTES_MIN: u64 = 4 << 20;

/// Version 1.
const MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";
/// Version 2.
const SWAP: &str = "memory.swap.max";

/// The `memory` controller.
#[derive(Debug)]
pub struct Memory {
    hierarchy: Arc<Hierarchy>,
}

impl Memory {
    pub(super) fn new(hierarchy: Arc<Hierarchy>) -> Self {
        Memory { hierarchy }
    }

    /// Whether this kernel can limit swap: not one that was built or started without accounting for it.
    pub fn limits_swap(&self) -> bool {
        self.hierarchy.has_own(match self.hierarchy.version {
            Version::V1 => MEMORY_AND_SWAP,
            Version::V2 => SWAP,
        })
    }

    /// Version 1 limits memory and the sum of memory and swap, the first never above the second.
    fn apply_v1(&self, container: &ContainerId, limit: &str) -> Result<(), Error> {
        const MEMORY: &str = "memory.limit_in_bytes";
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
            Version::V1 => {
                self.apply_v1(container, &limit.map_or("-1".into(), |limit| limit.to_string()))?;
                if is_bursting(resources) {
                    let kept = resources.memory_bytes.to_string();
                    self.hierarchy.write(container, "memory.soft_limit_in_bytes", &kept)?;
                }
                Ok(())
            }
            Version::V2 => {
                // Who has a limit has it of memory, and none of it in swap.
                let swap = limit.map_or("max", |_| "0");
                let limit = limit.map_or("max".into(), |limit| limit.to_string());
                self.hierarchy.write(container, "memory.oom.group", "1")?;
                if self.hierarchy.has(container, SWAP) {
                    self.hierarchy.write(container, SWAP, swap)?;
                }
                if is_bursting(resources) {
                    let kept = resources.memory_bytes.to_string();
                    self.hierarchy.write(container, "memory.low", &kept)?;
                }
                self.hierarchy.write(container, "memory.max", &limit)
            }
        }
    }

    fn gauges(&self) -> &'static [Gauge] {
        match self.hierarchy.version {
            Version::V1 => &[
                ("memory.usage_in_bytes", |text, usage| usage.memory_bytes = number(text)),
                ("memory.max_usage_in_bytes", |text, usage| {
                    usage.memory_peak_bytes = number(text)
                }),
                ("memory.limit_in_bytes", |text, usage| {
                    usage.memory_limit_bytes = number(text)
                }),
                ("memory.stat", stat),
            ],
            Version::V2 => &[
                ("memory.current", |text, usage| usage.memory_bytes = number(text)),
                ("memory.peak", |text, usage| usage.memory_peak_bytes = number(text)),
                ("memory.max", |text, usage| usage.memory_limit_bytes = number(text)),
                ("memory.swap.current", |text, usage| {
                    usage.memory_swap_bytes = number(text)
                }),
                ("memory.stat", stat),
            ],
        }
    }
}

/// Of `memory.stat`; the same names mean the same in both versions.
fn stat(text: &[u8], usage: &mut Usage) {
    for (key, value) in lines(text) {
        let field = match key {
            b"anon" | b"rss" => &mut usage.memory_anon_bytes,
            b"file" | b"cache" => &mut usage.memory_file_bytes,
            b"file_mapped" | b"mapped_file" => &mut usage.memory_mapped_bytes,
            b"unevictable" => &mut usage.memory_unevictable_bytes,
            b"swap" => &mut usage.memory_swap_bytes,
            _ => continue,
        };
        *field = number(value);
    }
}

/// Whether it may use more than it asked for: when the host runs short, what is beyond the request is taken back first.
fn is_bursting(resources: &Resources) -> bool {
    resources.memory_limit != Limit::Requested
}

fn limit_bytes(resources: &Resources) -> Option<u64> {
    match resources.memory_limit {
        Limit::Requested => Some(resources.memory_bytes.max(LIMIT_BYTES_MIN)),
        Limit::At(bytes) => Some(bytes.max(LIMIT_BYTES_MIN)),
        Limit::Unlimited => None,
    }
}

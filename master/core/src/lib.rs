//! The deterministic heart of the master: registry, agents, frameworks, offers, tasks, allocator.

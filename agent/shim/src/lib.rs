//! What the agent and its launcher share: the plan of a container, the records that the launcher leaves, and safe wrappers of the raw
//! system calls that no other crate offers.
//!
//! This is the only crate with `unsafe`. Nothing here allocates when the launcher uses it.

pub mod bpf;
pub mod btrfs;
pub mod cgroup;
pub mod landlock;
pub mod loopback;
pub mod pidfd;
pub mod plan;
pub mod quota;
pub mod record;
pub mod seccomp;

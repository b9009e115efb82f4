//! What a container is made from, and what is heard of it: plain values, checkpointed with serde.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use proffer_proto::v1::capability_info::Capability;
use serde::{Deserialize, Serialize};

/// The name of a container: 1 to 128 characters of `[A-Za-z0-9._-]`, with no dot at an end or beside another; it names directories
/// and cgroups. One with a dot is nested: `pod.task` is in the pod `pod`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// The longest name.
    pub const LENGTH_MAX: usize = 128;

    /// Whether the name is safe to be used as one component of a path.
    pub fn is_valid(&self) -> bool {
        let name = self.0.as_bytes();
        name.len() <= Self::LENGTH_MAX
            && name.split(|byte| *byte == b'.').all(|part| !part.is_empty())
            && name
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    }

    /// The pod that the container is nested in: what is before the last dot.
    pub fn pod(&self) -> Option<ContainerId> {
        self.0.rsplit_once('.').map(|(pod, _)| ContainerId(pod.to_owned()))
    }

    /// Its cgroup below our own: that of one in a pod is within the pod's.
    pub(crate) fn cgroup(&self) -> String {
        self.0.replace('.', "/")
    }

    /// As the v1 API writes it.
    pub fn to_wire(&self) -> proffer_proto::v1::ContainerId {
        let (pod, own) = match self.0.rsplit_once('.') {
            Some((pod, own)) => (Some(pod), own),
            None => (None, self.as_str()),
        };
        proffer_proto::v1::ContainerId {
            value: own.to_owned(),
            parent: pod.map(|pod| Box::new(pod.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whom the container's processes run as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The whole list of supplementary groups; replaces the agent's.
    pub groups: Vec<u32>,
}

/// A revocable CPU weighs so many times less than another; about as much less as with Mesos (10 shares for 1024).
const REVOCABLE_WEIGHS_LESS: u64 = 100;

/// How far a resource may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// As much as was requested.
    #[default]
    Requested,
    /// Up to this amount, in the unit of the request.
    At(u64),
    /// Without a limit of the container's own.
    Unlimited,
}

/// What a container may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU in thousandths of one: weight and, unless `cpus_limit` says otherwise, quota.
    pub cpus_thousandths: u64,
    /// What of that is revocable. It weighs next to nothing: who has it gets what the others leave.
    #[serde(default)]
    pub cpus_revocable_thousandths: u64,
    /// The quota, in thousandths of a CPU.
    pub cpus_limit: Limit,
    /// Memory requested; the hard limit unless `memory_limit` says otherwise.
    pub memory_bytes: u64,
    /// The hard limit, in bytes.
    pub memory_limit: Limit,
    /// How many processes and threads may live at once; none for the agent's default.
    pub pids_max: Option<u64>,
    /// How much the sandbox may hold; none for no limit of the container's own.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// The ports that may be bound, both ends included.
    pub ports: Vec<RangeInclusive<u16>>,
    /// How many devices of each resource's it is given.
    #[serde(default)]
    pub devices: BTreeMap<String, u64>,
}

impl Resources {
    /// By how much the container weighs among those that compete, in thousandths of a CPU.
    pub fn weight_thousandths(&self) -> u64 {
        let firm = self.cpus_thousandths.saturating_sub(self.cpus_revocable_thousandths);
        firm + self.cpus_revocable_thousandths / REVOCABLE_WEIGHS_LESS
    }
}

/// What a container's standard input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerInput {
    /// Empty.
    #[default]
    Empty,
    /// A pipe to which agents can attach.
    Pipe,
    /// A terminal of this size to which agents can attach; it is the output too, which also goes to the file `stdout`.
    Terminal(WindowSize),
}

/// How big a terminal is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// Everything that is needed to start a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its name.
    pub id: ContainerId,
    /// The program and its arguments, resolved: a shell command is `["/bin/sh", "-c", value]`. A program without a `/` is
    /// looked for in the `PATH` of `environment`. The first element is both the file and `argv[0]`.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited from the agent.
    pub environment: Vec<(String, String)>,
    /// Whom it runs as.
    pub user: User,
    /// Whether the operator lets it run as uid 0; a spec with uid 0 and without it is refused.
    pub root_allowed: bool,
    /// The working directory, absolute; exists and is owned by the user. `stdout` and `stderr` are appended to in it.
    pub sandbox: PathBuf,
    /// What it may use. Of a container in a pod, which limits the sum, the ports are the pod's.
    pub resources: Resources,
    /// What of the usual confinement it asks to be otherwise.
    #[serde(default)]
    pub confinement: Confinement,
    /// Its standard input.
    pub input: ContainerInput,
    /// The directory that it shares with the other tasks of its pod; none outside a pod.
    #[serde(default)]
    pub shared: Option<PathBuf>,
    /// What is mounted, in this order.
    #[serde(default)]
    pub volumes: Vec<Volume>,
}

/// What is mounted in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Where it comes from.
    pub source: VolumeSource,
    /// Where it goes: in the sandbox, where it is made, or an absolute path that is there. Without `.` and `..`.
    pub target: PathBuf,
    /// Whether nothing in it can be changed.
    pub read_only: bool,
}

/// Where a volume comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// The host: a path below what the operator allows.
    Host {
        /// What the operator allows, absolute.
        allowed: PathBuf,
        /// The path below it.
        path: PathBuf,
    },
    /// A directory of the sandbox, made where it is not there.
    Sandbox {
        /// The path below the sandbox.
        path: PathBuf,
    },
    /// A directory of its pod's sandbox, which all tasks of the pod may have.
    Pod {
        /// The path below the pod's sandbox.
        path: PathBuf,
    },
    /// A persistent volume, a directory of the agent.
    Persistent {
        /// The directory.
        path: PathBuf,
    },
    /// A file with these bytes.
    Secret(SecretBytes),
}

/// Bytes that are not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Hides them.
    pub fn new(bytes: Vec<u8>) -> Self {
        SecretBytes(bytes)
    }

    /// For who writes them where they belong.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

/// What a container asks for of its privileges, and its resource limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Resource limits other than the agent's own.
    pub rlimits: Vec<ResourceLimit>,
    /// The capabilities that the program has, a bit each.
    pub effective: u64,
    /// Further ones that programs of it could gain.
    pub bounding: u64,
    /// Whether system calls are not filtered.
    pub unconfined: bool,
}

/// A resource limit of a process; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// What the operator lets containers do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether the operator named the isolators: what cannot be enforced is then refused, and otherwise some of it only warned of.
    pub named: bool,
    /// The capabilities that containers may ask for, a bit each.
    pub capabilities: u64,
    /// Whether containers may ask not to have their system calls filtered.
    pub unconfined: bool,
    /// What containers may change of the host's files, as far as permissions let them.
    pub writable: Vec<PathBuf>,
    /// What of the host's files containers may mount, with all below it.
    pub host_volumes: Vec<PathBuf>,
    /// The devices that are handed out.
    pub devices: Vec<DeviceUnit>,
    /// How much each container may read from and write to devices.
    pub io_max: Vec<IoMax>,
}

/// A device that is given to one container at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceUnit {
    /// The resource of which it is one.
    pub resource: String,
    /// Its nodes; others may have some of them too.
    pub nodes: Vec<PathBuf>,
}

/// `resource=/dev/a+/dev/b`
impl fmt::Display for DeviceUnit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.display().to_string()).collect();
        write!(formatter, "{}={}", self.resource, nodes.join("+"))
    }
}

/// How much a container may read from and write to a block device, a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoMax {
    /// `major:minor`.
    pub device: String,
    /// Bytes.
    pub read_bytes: Option<u64>,
    /// Bytes.
    pub write_bytes: Option<u64>,
    /// Operations.
    pub read_operations: Option<u64>,
    /// Operations.
    pub write_operations: Option<u64>,
}

impl Policy {
    /// The names of capabilities, for people.
    pub fn names(capabilities: u64) -> String {
        let present = (0..64).filter(|number| capabilities >> number & 1 == 1);
        let names: Vec<_> = present.map(capability_name).collect();
        if names.is_empty() {
            "none".into()
        } else {
            names.join(", ")
        }
    }
}

fn capability_name(number: i32) -> String {
    match Capability::try_from(number + CAPABILITY_ENUM_BASE) {
        Ok(capability) => capability.as_str_name().to_owned(),
        Err(_) => number.to_string(),
    }
}

/// The v1 API counts capabilities from here.
pub(crate) const CAPABILITY_ENUM_BASE: i32 = 1000;

/// A container whose program has been executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    /// The main process, in the agent's pid namespace.
    pub pid: u32,
    /// The shim that supervises it.
    pub shim_pid: u32,
}

/// An out-of-memory kill inside a container's own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oom {
    /// The hard limit when the container ended.
    pub limit_bytes: u64,
    /// The most memory it had used.
    pub used_bytes: u64,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code of the main process, when it exited by itself.
    pub code: Option<i32>,
    /// The signal that ended the main process.
    pub signal: Option<i32>,
    /// Set when the kernel killed for want of memory in this container.
    pub oom: Option<Oom>,
    /// The most memory used, where the kernel says.
    pub memory_peak_bytes: Option<u64>,
    /// CPU time used, in microseconds, where the kernel says.
    pub cpu_usec: Option<u64>,
    /// The supervising shim died before it could say how the container ended; the kernel killed the container with it. Neither
    /// `code` nor `signal` is set then.
    pub lost: bool,
}

/// A container as it was found after a restart of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// Still running, and re-adopted.
    Running {
        /// The main process.
        pid: u32,
    },
    /// Ended meanwhile.
    Exited(Exit),
    /// Nothing is known: it was never started (and will not be), or the machine was rebooted.
    Unknown,
}

/// What a container uses now. A figure is missing where the host does not count it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user mode, microseconds.
    pub cpu_user_usec: Option<u64>,
    /// CPU time in the kernel, microseconds.
    pub cpu_system_usec: Option<u64>,
    /// CPU time altogether, microseconds.
    pub cpu_usec: Option<u64>,
    /// Quota periods that have passed.
    pub cpu_periods: Option<u64>,
    /// Quota periods in which it was throttled.
    pub cpu_periods_throttled: Option<u64>,
    /// Time throttled, microseconds.
    pub cpu_throttled_usec: Option<u64>,
    /// Memory charged now.
    pub memory_bytes: Option<u64>,
    /// Anonymous memory.
    pub memory_anon_bytes: Option<u64>,
    /// Page cache.
    pub memory_file_bytes: Option<u64>,
    /// The most memory charged so far.
    pub memory_peak_bytes: Option<u64>,
    /// The hard limit.
    pub memory_limit_bytes: Option<u64>,
    /// Memory of mapped files.
    pub memory_mapped_bytes: Option<u64>,
    /// Memory that cannot be reclaimed.
    pub memory_unevictable_bytes: Option<u64>,
    /// Swap.
    pub memory_swap_bytes: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
    /// Threads, of which each process has at least one: what `pids_max` limits.
    pub pids: Option<u64>,
    /// Bytes read from disks.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to disks.
    pub io_written_bytes: Option<u64>,
    /// Reads from disks.
    pub io_reads: Option<u64>,
    /// Writes to disks.
    pub io_writes: Option<u64>,
    /// Bytes received.
    pub network_received_bytes: Option<u64>,
    /// Packets received.
    pub network_received_packets: Option<u64>,
    /// Bytes sent.
    pub network_sent_bytes: Option<u64>,
    /// Packets sent.
    pub network_sent_packets: Option<u64>,
    /// Waiting for CPU.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for disks.
    pub io_pressure: Option<Pressure>,
}

/// How much of the time processes stood still for want of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Of the last ten seconds, some of them.
    pub some_percent: f64,
    /// Of the last ten seconds, all of them.
    pub full_percent: f64,
    /// Since the start, some of them, in microseconds.
    pub some_usec: u64,
    /// Since the start, all of them, in microseconds.
    pub full_usec: u64,
}

/// What enforces one dimension of isolation on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnforcementNote {
    /// The isolator's name.
    pub isolator: &'static str,
    /// What enforces it, or what is missing, in a sentence for the operator.
    pub text: String,
    /// Whether the dimension is enforced in full. False is a loud warning.
    pub enforced: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_directory_is_not_valid() {
        for good in ["a", "a-b_c.d", "0123"] {
            assert!(ContainerId(good.into()).is_valid(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in [
            "",
            ".",
            "..",
            ".a",
            "a.",
            "a..b",
            "a/b",
            "a\0b",
            "a b",
            "ä",
            long.as_str(),
        ] {
            assert!(!ContainerId(bad.into()).is_valid(), "{bad:?}");
        }
    }
}

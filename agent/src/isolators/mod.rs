//! The dimensions of isolation, one file each. They do not know each other; each adds its steps to the launch plan, in the phase
//! where they belong.

mod capabilities;
mod cpu;
mod devices;
mod filesystem;
mod io;
mod landlock;
mod memory;
mod namespaces;
mod network;
mod pids;
mod ports;
mod rlimits;
mod seccomp;
mod user;
mod volumes;

use std::ffi::CString;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use proffer_shim::plan::Steps;

use crate::cgroups::{self, Cgroups};
use crate::containerizer::{self, Config, ContainerId, ContainerSpec, EnforcementNote, ISOLATORS, Resources, Usage};

/// Isolating failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroups::Error),
    /// Something else of the system's.
    #[error("{attempted}")]
    System {
        /// What was attempted, with its object.
        attempted: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The specification asks for what cannot be.
    #[error("{field}: {reason}")]
    Rejected {
        /// The field of the specification.
        field: &'static str,
        /// What would be accepted.
        reason: String,
    },
}

impl Error {
    /// The system's error number, zero for a rejection.
    pub fn errno(&self) -> i32 {
        match self {
            Error::Cgroup(cgroups::Error::File { source, .. }) | Error::System { source, .. } => {
                source.raw_os_error().unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// What happens between the creation of the child and its program, in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct LaunchPlan {
    /// The launcher becomes process 1 of a pid namespace.
    pub pid_namespace: bool,
    /// Other `CLONE_NEW*` flags.
    pub clone_flags: u64,
    /// Files that the launcher watches or reads at the end.
    pub watched: Watched,
    /// The devices that were given to the container, for its `/dev`.
    pub devices: Vec<DeviceNode>,
    /// Takes what is mounted later in hand, while all is where the host has it.
    pub holds: Steps,
    /// Prepares the mounts.
    pub mounts: Steps,
    /// Attaches what is in hand.
    pub volumes: Steps,
    /// Makes the rules about files, while their paths can still be opened.
    pub rules: Steps,
    /// Sets limits and becomes the user.
    pub privileges: Steps,
    /// The last before the program, when its standard files are open: gives up what the steps before needed.
    pub confinement: Steps,
    /// What the program may change besides its sandbox, `/tmp` and `/dev`, as it sees it: volumes.
    pub writable: Vec<CString>,
}

/// The node of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Where it is, on the host and in the container.
    pub path: CString,
    /// Whether it is a block device, and not a character device.
    pub block: bool,
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

/// Files that the launcher watches or reads at the end; empty where there is none.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// v1 `memory.oom_control`.
    pub oom_control: String,
    /// v1 `cgroup.event_control`.
    pub oom_event_control: String,
    /// v2 `memory.events`.
    pub oom_events: String,
    /// The memory limit.
    pub memory_limit: String,
    /// The peak of memory use.
    pub memory_peak: String,
}

/// One dimension of isolation. Methods may block, run off the event loop, and are safe to repeat after recovery.
pub trait Isolator: Send + Sync + fmt::Debug {
    /// The name operators write in `--isolation`, for example `ports`.
    fn name(&self) -> &'static str;

    /// What enforces it on this host.
    fn note(&self) -> EnforcementNote;

    /// The mount that the launcher is started with, for [`proffer_shim::plan::Step::AttachShared`]; at most one isolator has one.
    fn shared_mount(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The capabilities that it leaves at most; at most one isolator says so.
    fn bounding_set(&self) -> Option<u64> {
        None
    }

    /// The containers of which it keeps something, of a former agent's too.
    fn containers(&self) -> Vec<ContainerId> {
        Vec::new()
    }

    /// Sets limits on the container's cgroups, which exist, and adds steps to the plan.
    fn prepare(&self, container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        let _ = (container, plan);
        Ok(())
    }

    /// Adds the steps by which a process of the container gives privileges up, to `rules`, `privileges` and `confinement` of the
    /// plan, and what is `writable`; also for one that enters it later.
    fn restrict(&self, container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        let _ = (container, plan);
        Ok(())
    }

    /// Changes the limits of a running container.
    fn update(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let _ = (container, resources);
        Ok(())
    }

    /// Adds its figures.
    fn usage(&self, container: &ContainerId, usage: &mut Usage) -> Result<(), Error> {
        let _ = (container, usage);
        Ok(())
    }

    /// Forgets a container that has ended, or was never known.
    fn cleanup(&self, container: &ContainerId) {
        let _ = container;
    }
}

/// The isolators that a host need not have: where the operator does not name them, they are missing with a warning.
const OPTIONAL: &[&str] = &["network", "io", "landlock", "seccomp"];

/// The isolators that the configuration names, in the order in which they prepare, and what is missing of them.
pub(crate) fn open(config: &Config, cgroups: &Arc<Cgroups>) -> Result<Opened, containerizer::Error> {
    let mut opened = Opened::default();
    let wanted = |name: &&&str| config.isolation.iter().any(|wanted| wanted == **name);
    for name in ISOLATORS.iter().filter(wanted) {
        match open_one(name, config, cgroups) {
            Ok(isolator) => opened.isolators.push(isolator),
            Err(containerizer::Error::Unenforceable { isolator, reason })
                if !config.policy.named && OPTIONAL.contains(&isolator) =>
            {
                opened.missing.push(EnforcementNote {
                    isolator,
                    text: reason,
                    enforced: false,
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(opened)
}

/// Lets the agent itself have as many open files as it may: it needs some for each container.
pub(crate) fn raise_open_files() {
    let _before = rlimits::raise_open_files();
}

/// What [`open`] found.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) isolators: Vec<Box<dyn Isolator>>,
    pub(crate) missing: Vec<EnforcementNote>,
}

fn open_one(name: &str, config: &Config, cgroups: &Arc<Cgroups>) -> Result<Box<dyn Isolator>, containerizer::Error> {
    Ok(match name {
        "cpu" => Box::new(cpu::CpuIsolator::new(cgroups)?),
        "memory" => Box::new(memory::MemoryIsolator::new(cgroups)?),
        "pids" => Box::new(pids::PidsIsolator::new(cgroups, config.pids_max_default)?),
        "ports" => Box::new(ports::PortsIsolator::new(cgroups)?),
        "devices" => Box::new(devices::DevicesIsolator::new(config, cgroups)?),
        "network" => Box::new(network::NetworkIsolator::new(cgroups)?),
        "io" => Box::new(io::IoIsolator::new(config, cgroups)?),
        "namespaces" => Box::new(namespaces::NamespacesIsolator),
        "filesystem" => Box::new(filesystem::FilesystemIsolator::new(config)?),
        "volumes" => Box::new(volumes::VolumesIsolator::new(config)?),
        "rlimits" => Box::new(rlimits::RlimitsIsolator::new()),
        "capabilities" => Box::new(capabilities::CapabilitiesIsolator::new(config)?),
        "landlock" => Box::new(landlock::LandlockIsolator::new(config)?),
        "seccomp" => Box::new(seccomp::SeccompIsolator::new(config)?),
        _ => Box::new(user::UserIsolator),
    })
}

fn missing(isolator: &'static str) -> containerizer::Error {
    containerizer::Error::Unenforceable {
        isolator,
        reason: "its cgroup controller was not opened".into(),
    }
}

/// A path or text for the plan.
fn text(field: &'static str, text: impl Into<Vec<u8>>) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Rejected {
        field,
        reason: "must not contain a NUL character".into(),
    })
}

fn version_note(isolator: &'static str, controller: &dyn cgroups::Controller, text: &str) -> EnforcementNote {
    let version = match controller.hierarchy().version {
        cgroups::Version::V1 => "cgroup v1",
        cgroups::Version::V2 => "cgroup v2",
    };
    EnforcementNote {
        isolator,
        text: format!("{version}: {text}"),
        enforced: true,
    }
}

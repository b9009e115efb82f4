//! Devices: those that every program needs, and those that were given to the container, whole, one container each.
//!
//! A program on the container's cgroup answers every `open` and `mknod` of a device node, wherever the node lies; it lives as long
//! as the cgroup and is replaced in one step when the container is given more or less. The nodes of what was given are made in the
//! container's own `/dev`. Linux, Documentation/admin-guide/cgroup-v2.rst, "Device controller".

mod holdings;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use proffer_shim::bpf::{self, Hook};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use self::holdings::Holdings;
use super::{DeviceNode, Error, Isolator, LaunchPlan, text};
use crate::cgroups::{Cgroups, Unified};
use crate::containerizer::{self, Config, ContainerId, ContainerSpec, DeviceUnit, EnforcementNote, Resources};

const PROGRAM_NAME: &str = "proffer_devices";
/// `BPF_DEVCG_DEV_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// What a program lets pass: the majors, and the minor or any.
type Allowed = (i32, std::ops::RangeInclusive<u32>, Option<u32>);
/// null, zero, full, random, urandom, tty, ptmx, and the terminals of `/dev/pts`.
const ALWAYS: [Allowed; 8] = [
    (CHARACTER, 1..=1, Some(3)),
    (CHARACTER, 1..=1, Some(5)),
    (CHARACTER, 1..=1, Some(7)),
    (CHARACTER, 1..=1, Some(8)),
    (CHARACTER, 1..=1, Some(9)),
    (CHARACTER, 5..=5, Some(0)),
    (CHARACTER, 5..=5, Some(2)),
    (CHARACTER, 136..=143, None),
];

/// Enforces device access, and hands devices out.
#[derive(Debug)]
pub(super) struct DevicesIsolator {
    unified: Arc<Unified>,
    /// Of all containers without devices of their own, which most are.
    without: OwnedFd,
    nodes: HashMap<DeviceUnit, Vec<DeviceNode>>,
    holdings: Holdings,
}

impl DevicesIsolator {
    pub(super) fn new(config: &Config, cgroups: &Cgroups) -> Result<Self, containerizer::Error> {
        let unenforceable = |reason: String| containerizer::Error::Unenforceable {
            isolator: "devices",
            reason,
        };
        let no_tree = "cgroup2 is not mounted; mount it, for example on /sys/fs/cgroup/unified";
        let unified = cgroups.unified.clone().ok_or_else(|| unenforceable(no_tree.into()))?;
        let without = load(&[]).map_err(|error| {
            unenforceable(format!(
                "a cgroup program cannot be loaded (CAP_BPF or root is needed): {error}"
            ))
        })?;
        let mut nodes = HashMap::new();
        for unit in &config.policy.devices {
            let found = unit.nodes.iter().map(|path| node(path)).collect::<Result<_, _>>();
            nodes.insert(unit.clone(), found.map_err(unenforceable)?);
        }
        let directory = config.runtime_dir.join("devices");
        let holdings =
            Holdings::open(&directory, &config.policy.devices).map_err(|source| containerizer::Error::System {
                attempted: format!("read {}", directory.display()),
                source,
            })?;
        Ok(DevicesIsolator {
            unified,
            without,
            nodes,
            holdings,
        })
    }

    /// The nodes of some units, each once.
    fn nodes(&self, units: &[DeviceUnit]) -> Vec<DeviceNode> {
        let mut nodes: Vec<DeviceNode> = Vec::new();
        for node in units.iter().filter_map(|unit| self.nodes.get(unit)).flatten() {
            if !nodes.contains(node) {
                nodes.push(node.clone());
            }
        }
        nodes
    }

    /// The root directory of the container's processes.
    fn root_of(&self, container: &ContainerId) -> Result<OwnedFd, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for pid in self.unified.hierarchy().processes(container)? {
            let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty());
            // Looked at after it was opened: only then was it still the container's.
            if let Ok(root) = root
                && self.unified.hierarchy().processes(container)?.contains(&pid)
            {
                return Ok(root);
            }
        }
        let source = io::ErrorKind::NotFound.into();
        Err(failed("find a process of the container")(source))
    }

    fn attach(&self, container: &ContainerId, nodes: &[DeviceNode], replace: bool) -> Result<(), Error> {
        let directory = self.unified.open(container)?;
        let own;
        let program = if nodes.is_empty() {
            &self.without
        } else {
            own = load(nodes).map_err(failed("load the program for devices"))?;
            &own
        };
        let old = if replace {
            let attached = bpf::attached(directory.as_fd(), Hook::Device, PROGRAM_NAME);
            attached.map_err(failed("find the program for devices"))?
        } else {
            Vec::new()
        };
        bpf::attach(
            directory.as_fd(),
            Hook::Device,
            program.as_fd(),
            old.first().map(AsFd::as_fd),
        )
        .map_err(failed("attach the program for devices"))
    }
}

impl Isolator for DevicesIsolator {
    fn name(&self) -> &'static str {
        "devices"
    }

    fn note(&self) -> EnforcementNote {
        let mut text = String::from(
            "cgroup-BPF: opening other devices than null, zero, full, random, urandom and terminals fails",
        );
        if !self.nodes.is_empty() {
            text.push_str(&format!("; {} devices are handed out whole", self.nodes.len()));
        }
        EnforcementNote {
            isolator: "devices",
            text,
            enforced: true,
        }
    }

    fn containers(&self) -> Vec<ContainerId> {
        self.holdings.containers()
    }

    fn prepare(&self, container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        let units = self.holdings.set(&container.id, &container.resources.devices)?;
        let nodes = self.nodes(&units);
        self.attach(&container.id, &nodes, false)?;
        plan.devices.extend(nodes);
        Ok(())
    }

    fn update(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let before = self.holdings.of(container);
        // Its /dev is the one that all containers without devices share.
        if before.is_empty() && resources.devices.values().any(|count| *count > 0) {
            return Err(Error::Rejected {
                field: "devices",
                reason: "only a container that was started with devices can be given more".into(),
            });
        }
        let units = self.holdings.set(container, &resources.devices)?;
        if units == before {
            return Ok(());
        }
        let (old, nodes) = (self.nodes(&before), self.nodes(&units));
        // What it keeps and what it gets passes before there are nodes; what it loses is closed to it in the same moment.
        self.attach(container, &nodes, true)?;
        let added: Vec<_> = nodes.iter().filter(|node| !old.contains(node)).collect();
        if added.is_empty() {
            return Ok(());
        }
        let root = self.root_of(container)?;
        make_nodes(&root, &added).map_err(failed("make the nodes of added devices"))
    }

    fn cleanup(&self, container: &ContainerId) {
        self.holdings.release(container);
    }
}

fn failed(attempted: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::System {
        attempted: attempted.into(),
        source,
    }
}

fn node(path: &Path) -> Result<DeviceNode, String> {
    let refused = |problem: String| format!("{}: {problem}", path.display());
    let metadata = path.metadata().map_err(|error| refused(error.to_string()))?;
    let kind = metadata.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(refused("is no device".into()));
    }
    let bytes = path.as_os_str().as_encoded_bytes();
    Ok(DeviceNode {
        path: text("devices", bytes).map_err(|error| refused(error.to_string()))?,
        block: kind.is_block_device(),
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
    })
}

/// In the `/dev` of a container that runs. Nothing on the way may lead out of its root directory.
fn make_nodes(root: &OwnedFd, nodes: &[&DeviceNode]) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for node in nodes {
        let path = Path::new(std::ffi::OsStr::new(node.path.to_str().unwrap_or_default()));
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            continue;
        };
        let parent = rustix::fs::openat2(root, parent, flags, Mode::empty(), inside)?;
        let kind = if node.block {
            FileType::BlockDevice
        } else {
            FileType::CharacterDevice
        };
        let mode = Mode::from_raw_mode(0o666);
        match rustix::fs::mknodat(&parent, name, kind, mode, rustix::fs::makedev(node.major, node.minor)) {
            Err(rustix::io::Errno::EXIST) => continue,
            result => result?,
        }
        // Past the umask; what was just made is no link.
        rustix::fs::chmodat(&parent, name, mode, rustix::fs::AtFlags::empty())?;
    }
    Ok(())
}

fn load(nodes: &[DeviceNode]) -> io::Result<OwnedFd> {
    let own = nodes.iter().map(|node| {
        let kind = if node.block { BLOCK } else { CHARACTER };
        (kind, node.major..=node.major, Some(node.minor))
    });
    let allowed: Vec<Allowed> = ALWAYS.iter().cloned().chain(own).collect();
    bpf::load(Hook::Device, PROGRAM_NAME, &program(&allowed))
}

/// The program: reads type, major and minor from the context (`struct bpf_cgroup_dev_ctx`) and compares them with each entry.
fn program(allowed: &[Allowed]) -> Vec<[u8; 8]> {
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let answer = |value: i32| bpf::instruction(0xb7, 0x00, 0, value);
    let mut program = vec![
        // r2 = the access and, in its lower half, the type; r3 = major; r4 = minor
        bpf::instruction(0x61, 0x12, 0, 0),
        bpf::instruction(0x57, 0x02, 0, 0xffff),
        bpf::instruction(0x61, 0x13, 4, 0),
        bpf::instruction(0x61, 0x14, 8, 0),
    ];
    for (kind, majors, minor) in allowed {
        let mut tests = vec![
            (0x55, 0x02, *kind),
            (0xa5, 0x03, *majors.start() as i32),
            (0x25, 0x03, *majors.end() as i32),
        ];
        tests.extend(minor.map(|minor| (0x55, 0x04, minor as i32)));
        let end = tests.len() as i16 + 1;
        for (index, (code, register, value)) in tests.into_iter().enumerate() {
            program.push(bpf::instruction(code, register, end - index as i16, value));
        }
        program.extend([answer(1), EXIT]);
    }
    program.extend([answer(0), EXIT]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn run(program: &[[u8; 8]], kind: i32, major: u32, minor: u32) -> i32 {
        let (mut registers, mut at) = ([0i64; 5], 0);
        loop {
            let [code, register, low, high, a, b, c, d] = program[at];
            let (offset, value) = (i16::from_le_bytes([low, high]), i32::from_le_bytes([a, b, c, d]));
            let own = usize::from(register & 15);
            at += 1;
            let jump = match code {
                0x61 => {
                    registers[own] = match offset {
                        0 => i64::from(kind | 6 << 16),
                        4 => i64::from(major),
                        _ => i64::from(minor),
                    };
                    false
                }
                0x57 => {
                    registers[own] &= i64::from(value);
                    false
                }
                0xb7 => {
                    registers[own] = i64::from(value);
                    false
                }
                0x55 => registers[own] != i64::from(value),
                0xa5 => registers[own] < i64::from(value),
                0x25 => registers[own] > i64::from(value),
                0x95 => return registers[0] as i32,
                code => panic!("unknown instruction {code:x}"),
            };
            at = at.strict_add_signed(if jump { offset.into() } else { 0 });
        }
    }

    #[test]
    fn only_what_is_listed_passes() {
        let mut allowed = ALWAYS.to_vec();
        allowed.push((BLOCK, 7..=7, Some(3)));
        let program = program(&allowed);
        for (kind, major, minor) in [
            (2, 1, 3),
            (2, 1, 9),
            (2, 5, 0),
            (2, 136, 0),
            (2, 140, 77),
            (2, 143, 1),
            (1, 7, 3),
        ] {
            assert_eq!(run(&program, kind, major, minor), 1, "{kind} {major}:{minor}");
        }
        for (kind, major, minor) in [
            (1, 1, 3),
            (2, 1, 1),
            (2, 1, 11),
            (2, 5, 1),
            (2, 144, 0),
            (2, 7, 3),
            (1, 7, 4),
            (1, 8, 0),
        ] {
            assert_eq!(run(&program, kind, major, minor), 0, "{kind} {major}:{minor}");
        }
    }
}

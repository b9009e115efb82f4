//! Ports: `bind(2)` outside the allocated ranges fails with `EPERM`, at once, by a program on the container's cgroup.
//!
//! The program is attached to the unified tree's cgroup before anything runs in it and lives as long as the cgroup, so it needs no
//! agent. What counts is the cgroup in which a socket is created. Port 0 stays allowed: the kernel then picks from the ephemeral
//! range, which the configuration keeps apart from the ports that are offered. Raw sockets would bypass it;
//! the container has no `CAP_NET_RAW`.

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use proffer_shim::bpf::{self, Hook};

use super::{Error, Isolator, LaunchPlan};
use crate::cgroups::{Cgroups, Unified};
use crate::containerizer::{self, ContainerId, ContainerSpec, EnforcementNote, Resources};

const HOOKS: [Hook; 2] = [Hook::Inet4Bind, Hook::Inet6Bind];
const PROGRAM_NAME: &str = "proffer_ports";
/// A program may have 4096 instructions on every kernel; a range takes four.
const RANGES_MAX: usize = 1000;
/// Allow, and do not ask for `CAP_NET_BIND_SERVICE` (Linux 5.12).
const ALLOW_PRIVILEGED: i32 = 3;
const ALLOW: i32 = 1;

/// Enforces `ports`.
#[derive(Debug)]
pub(super) struct PortsIsolator {
    unified: Arc<Unified>,
    /// What a port that is allocated answers: whether the kernel lets it skip the check for ports below 1024.
    allow: i32,
    /// The programs of all containers without ports, which most are: each descriptor that the agent holds is copied and closed
    /// again at every start of a process.
    without: Arc<Programs>,
    attached: Mutex<HashMap<ContainerId, Arc<Programs>>>,
}

/// One program for each of [`HOOKS`].
type Programs = Vec<OwnedFd>;

impl PortsIsolator {
    pub(super) fn new(cgroups: &Cgroups) -> Result<Self, containerizer::Error> {
        let unenforceable = |reason: String| containerizer::Error::Unenforceable {
            isolator: "ports",
            reason,
        };
        let no_tree = "cgroup2 is not mounted; mount it, for example on /sys/fs/cgroup/unified";
        let unified = cgroups.unified.clone().ok_or_else(|| unenforceable(no_tree.into()))?;
        let allow = [ALLOW_PRIVILEGED, ALLOW]
            .into_iter()
            .map(|allow| bpf::load(Hook::Inet4Bind, PROGRAM_NAME, &program(&[1..=1], allow)).map(|_| allow))
            .reduce(Result::or);
        let loaded = match allow {
            Some(Ok(allow)) => load(&[], allow).map(|without| (allow, without)),
            Some(Err(error)) => Err(error),
            None => return Err(unenforceable("no program was tried".into())),
        };
        let (allow, without) = loaded.map_err(|error| {
            unenforceable(format!(
                "a cgroup program cannot be loaded (CAP_BPF or root is needed): {error}"
            ))
        })?;
        Ok(PortsIsolator {
            unified,
            allow,
            without: Arc::new(without),
            attached: Mutex::default(),
        })
    }

    fn programs(&self, ports: &[RangeInclusive<u16>]) -> Result<Arc<Programs>, Error> {
        let ranges = normalise(ports);
        if ranges.is_empty() {
            return Ok(Arc::clone(&self.without));
        }
        if ranges.len() > RANGES_MAX {
            let reason = format!("{} separate ranges are more than {RANGES_MAX}", ranges.len());
            return Err(Error::Rejected { field: "ports", reason });
        }
        load(&ranges, self.allow)
            .map(Arc::new)
            .map_err(failed("load the program for ports"))
    }

    fn attached(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, Arc<Programs>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Isolator for PortsIsolator {
    fn name(&self) -> &'static str {
        "ports"
    }

    fn note(&self) -> EnforcementNote {
        let mut text = String::from("cgroup-BPF: bind outside the allocated ranges fails with EPERM");
        if self.allow == ALLOW {
            text.push_str("; ports below 1024 need CAP_NET_BIND_SERVICE on this kernel, which tasks do not have");
        }
        EnforcementNote {
            isolator: "ports",
            text,
            enforced: true,
        }
    }

    fn prepare(&self, container: &ContainerSpec, _plan: &mut LaunchPlan) -> Result<(), Error> {
        if container.id.pod().is_some() {
            // The pod's programs hold for all in it.
            return Ok(());
        }
        let programs = self.programs(&container.resources.ports)?;
        let directory = self.unified.open(&container.id)?;
        for (hook, program) in HOOKS.iter().zip(programs.iter()) {
            bpf::attach(directory.as_fd(), *hook, program.as_fd(), None)
                .map_err(failed("attach the program for ports"))?;
        }
        self.attached().insert(container.id.clone(), programs);
        Ok(())
    }

    fn update(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let programs = self.programs(&resources.ports)?;
        let directory = self.unified.open(container)?;
        let old = self.attached().remove(container);
        for (index, (hook, program)) in HOOKS.iter().zip(programs.iter()).enumerate() {
            // After a restart of the agent the kernel knows the program.
            let found = match &old {
                Some(_) => Vec::new(),
                None => bpf::attached(directory.as_fd(), *hook, PROGRAM_NAME)
                    .map_err(failed("find the program for ports"))?,
            };
            let old = old.as_ref().and_then(|programs| programs.get(index)).or(found.first());
            bpf::attach(directory.as_fd(), *hook, program.as_fd(), old.map(AsFd::as_fd))
                .map_err(failed("replace the program for ports"))?;
        }
        self.attached().insert(container.clone(), programs);
        Ok(())
    }

    fn cleanup(&self, container: &ContainerId) {
        self.attached().remove(container);
    }
}

fn load(ranges: &[RangeInclusive<u16>], allow: i32) -> io::Result<Programs> {
    let program = program(ranges, allow);
    HOOKS
        .iter()
        .map(|hook| bpf::load(*hook, PROGRAM_NAME, &program))
        .collect()
}

fn failed(attempted: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::System {
        attempted: attempted.into(),
        source,
    }
}

/// In order, without overlap and without empty ranges; port 0 is not one to allocate.
fn normalise(ports: &[RangeInclusive<u16>]) -> Vec<RangeInclusive<u16>> {
    let mut ranges: Vec<_> = ports
        .iter()
        .map(|range| (*range.start()).max(1)..=*range.end())
        .filter(|range| !range.is_empty())
        .collect();
    ranges.sort_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u16>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                *last = *last.start()..=(*last.end()).max(*range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The program: reads the port from the context (`struct bpf_sock_addr`), compares it with each range.
fn program(ranges: &[RangeInclusive<u16>], allow: i32) -> Vec<[u8; 8]> {
    const LOAD_PORT: [u8; 8] = [0x61, 0x12, 24, 0, 0, 0, 0, 0];
    const TO_HOST_ORDER: [u8; 8] = [0xdc, 0x02, 0, 0, 16, 0, 0, 0];
    const SKIP_TWO_UNLESS_ZERO: [u8; 8] = [0x55, 0x02, 2, 0, 0, 0, 0, 0];
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let answer = |value: i32| bpf::instruction(0xb7, 0x00, 0, value);
    let mut program = vec![LOAD_PORT, TO_HOST_ORDER, SKIP_TWO_UNLESS_ZERO, answer(ALLOW), EXIT];
    for range in ranges {
        program.push(bpf::instruction(0xa5, 0x02, 3, (*range.start()).into()));
        program.push(bpf::instruction(0x25, 0x02, 2, (*range.end()).into()));
        program.push(answer(allow));
        program.push(EXIT);
    }
    program.extend([answer(0), EXIT]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_in_order() {
        assert_eq!(normalise(&[10..=20, 5..=7, 21..=30, 15..=16, 0..=0]), [5..=7, 10..=30]);
        assert_eq!(normalise(&[0..=65535, 1..=2]), [1..=65535]);
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = 9..=3;
        assert_eq!(normalise(&[reversed]), []);
    }

    #[test]
    fn the_program_is_the_measured_one() {
        let program = program(&[0x1234..=0x5678], ALLOW_PRIVILEGED);
        assert_eq!(program.len(), 5 + 4 + 2);
        assert_eq!(program[5], [0xa5, 2, 3, 0, 0x34, 0x12, 0, 0]);
        assert_eq!(program[6], [0x25, 2, 2, 0, 0x78, 0x56, 0, 0]);
        assert_eq!(program[7], [0xb7, 0, 0, 0, 3, 0, 0, 0]);
    }
}

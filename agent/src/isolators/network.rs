//! Network traffic: what the container's sockets receive and send is counted, in bytes of packets with their IP headers and in
//! packets, the loopback's too.
//!
//! Two programs, the same for all containers, add to counters that the kernel keeps for each cgroup that they are attached to. Both
//! live as long as the cgroup: an agent that was started anew finds the counters by the program.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proffer_shim::bpf::{self, Hook, map};

use super::{Error, Isolator, LaunchPlan};
use crate::cgroups::{Cgroups, Unified};
use crate::containerizer::{self, ContainerId, ContainerSpec, EnforcementNote, Usage};

const PROGRAM_NAME: &str = "proffer_network";
/// Each with the index of its two counters.
const HOOKS: [(Hook, i16); 2] = [(Hook::Ingress, 0), (Hook::Egress, 2)];

/// Counts traffic.
#[derive(Debug)]
pub(super) struct NetworkIsolator {
    unified: Arc<Unified>,
    programs: Vec<OwnedFd>,
    map: Arc<OwnedFd>,
    /// Where each container's counters are: the map, and the id of its cgroup.
    counters: Mutex<HashMap<ContainerId, (Arc<OwnedFd>, u64)>>,
}

impl NetworkIsolator {
    pub(super) fn new(cgroups: &Cgroups) -> Result<Self, containerizer::Error> {
        let unenforceable = |reason: String| containerizer::Error::Unenforceable {
            isolator: "network",
            reason,
        };
        let no_tree = "traffic is not counted: cgroup2 is not mounted";
        let unified = cgroups.unified.clone().ok_or_else(|| unenforceable(no_tree.into()))?;
        let (map, programs) = load()
            .map_err(|error| unenforceable(format!("traffic is not counted: a program cannot be loaded: {error}")))?;
        Ok(NetworkIsolator {
            unified,
            programs,
            map: Arc::new(map),
            counters: Mutex::default(),
        })
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<ContainerId, (Arc<OwnedFd>, u64)>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a container that a former agent launched; none when it was launched without this isolator.
    fn find(&self, container: &ContainerId) -> Result<Option<(Arc<OwnedFd>, u64)>, Error> {
        let directory = self.unified.open(container)?;
        let program = bpf::attached(directory.as_fd(), Hook::Ingress, PROGRAM_NAME);
        let program = program.map_err(failed("find the program that counts traffic"))?;
        let Some(program) = program.first() else {
            return Ok(None);
        };
        let map = map::of_program(program.as_fd()).map_err(failed("find the counters of traffic"))?;
        let Some(map) = map else { return Ok(None) };
        let found = (Arc::new(map), cgroup_id(&directory)?);
        self.counters().insert(container.clone(), found.clone());
        Ok(Some(found))
    }
}

impl Isolator for NetworkIsolator {
    fn name(&self) -> &'static str {
        "network"
    }

    fn note(&self) -> EnforcementNote {
        EnforcementNote {
            isolator: "network",
            text: "cgroup-BPF: bytes and packets of all sockets are counted".into(),
            enforced: true,
        }
    }

    fn prepare(&self, container: &ContainerSpec, _plan: &mut LaunchPlan) -> Result<(), Error> {
        let directory = self.unified.open(&container.id)?;
        for ((hook, _), program) in HOOKS.iter().zip(&self.programs) {
            bpf::attach(directory.as_fd(), *hook, program.as_fd(), None)
                .map_err(failed("attach the program that counts traffic"))?;
        }
        let counters = (Arc::clone(&self.map), cgroup_id(&directory)?);
        self.counters().insert(container.id.clone(), counters);
        Ok(())
    }

    fn usage(&self, container: &ContainerId, usage: &mut Usage) -> Result<(), Error> {
        let known = self.counters().get(container).cloned();
        let found = match known {
            Some(found) => Some(found),
            None => self.find(container)?,
        };
        let Some((map, cgroup)) = found else { return Ok(()) };
        let counters = map::read(map.as_fd(), cgroup).map_err(failed("read the counters of traffic"))?;
        let [received_bytes, received_packets, sent_bytes, sent_packets] = counters.map(Some);
        usage.network_received_bytes = received_bytes;
        usage.network_received_packets = received_packets;
        usage.network_sent_bytes = sent_bytes;
        usage.network_sent_packets = sent_packets;
        Ok(())
    }

    fn cleanup(&self, container: &ContainerId) {
        self.counters().remove(container);
    }
}

fn failed(attempted: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::System {
        attempted: attempted.into(),
        source,
    }
}

/// The number of its directory.
fn cgroup_id(directory: &OwnedFd) -> Result<u64, Error> {
    let status = rustix::fs::fstat(directory).map_err(io::Error::from);
    Ok(status.map_err(failed("look at the cgroup"))?.st_ino)
}

fn load() -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
    let map = map::create(PROGRAM_NAME)?;
    let programs = HOOKS
        .iter()
        .map(|(hook, counter)| bpf::load(*hook, PROGRAM_NAME, &program(map.as_raw_fd(), *counter)))
        .collect::<io::Result<_>>()?;
    Ok((map, programs))
}

/// The program: adds the packet's length (the first field of `struct __sk_buff`) to one counter and 1 to the next.
fn program(map: i32, counter: i16) -> [[u8; 8]; 11] {
    /// `bpf_get_local_storage`
    const GET_LOCAL_STORAGE: i32 = 81;
    [
        bpf::instruction(0xbf, 0x16, 0, 0),
        // r1 = the map, in two instructions
        bpf::instruction(0x18, 0x11, 0, map),
        bpf::instruction(0x00, 0x00, 0, 0),
        bpf::instruction(0xb7, 0x02, 0, 0),
        bpf::instruction(0x85, 0x00, 0, GET_LOCAL_STORAGE),
        bpf::instruction(0x61, 0x61, 0, 0),
        // *(u64 *)(r0 + offset) += r1, atomically
        bpf::instruction(0xdb, 0x10, counter * 8, 0),
        bpf::instruction(0xb7, 0x01, 0, 1),
        bpf::instruction(0xdb, 0x10, counter * 8 + 8, 0),
        // Every packet passes.
        bpf::instruction(0xb7, 0x00, 0, 1),
        bpf::instruction(0x95, 0x00, 0, 0),
    ]
}

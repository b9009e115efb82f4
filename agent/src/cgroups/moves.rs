//! Keeps it cheap to move a process into a version 1 cgroup.
//!
//! The kernel guards moves by a lock that is made for many forks and few moves: after a pause the first move waits for all
//! processors to pass a quiet point, 10 ms and more. The mount option `favordynmods` (Linux 6.0,
//! Documentation/admin-guide/cgroup-v2.rst) turns that around, for the host as a whole, as long as any hierarchy has it. We keep a
//! hierarchy of our own, without controllers and mounted nowhere, which goes with this process; the options of the host's own
//! hierarchies stay as they are.

use std::io;
use std::os::fd::OwnedFd;

use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Shared by all agents of a host.
const NAME: &str = "proffer";

/// Moves are cheap until this is closed.
#[derive(Debug)]
pub(super) struct CheapMoves {
    _hierarchy: OwnedFd,
}

impl CheapMoves {
    pub(super) fn new() -> io::Result<Self> {
        let context = mount::fsopen("cgroup", FsOpenFlags::FSOPEN_CLOEXEC)?;
        mount::fsconfig_set_flag(&context, "none")?;
        mount::fsconfig_set_string(&context, "name", NAME)?;
        mount::fsconfig_set_flag(&context, "favordynmods")?;
        mount::fsconfig_create(&context)?;
        let hierarchy = mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        Ok(CheapMoves { _hierarchy: hierarchy })
    }
}

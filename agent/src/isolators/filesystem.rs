//! The host's file system with a `/tmp` and a `/dev` of the container's own, its own `/proc`, and the kernel's control files
//! read-only.
//!
//! `/tmp` is the directory `.tmp` of the sandbox: it counts as the sandbox's disk, not as memory, and goes with it.

mod dev;

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use proffer_shim::plan::Step;
use rustix::fs::Mode;

use self::dev::Dev;
use super::{DeviceNode, Error, Isolator, LaunchPlan, text};
use crate::containerizer::{self, Config, ContainerSpec, EnforcementNote};

/// `CLONE_NEWNS` (clone(2)).
const NEW_MOUNTS: u64 = 0x0002_0000;
/// `MS_*` of mount(2).
const NO_SUID: u64 = 2;
const NO_DEVICES: u64 = 4;
const NO_EXEC: u64 = 8;
const BIND: u64 = 4096;
const RECURSIVE: u64 = 1 << 14;
const SLAVE: u64 = 1 << 19;

/// Where no sandbox can lie.
const COVERED: [&str; 3] = ["/dev", "/proc", "/sys"];
/// The name of the sandbox's directory that serves as `/tmp`.
const TMP_NAME: &str = ".tmp";
/// What uid 0 could change in the host's kernel through a `/proc` of its own, even without a capability.
const PROC_FOR_ROOT: [&CStr; 5] = [
    c"/proc/sys",
    c"/proc/sysrq-trigger",
    c"/proc/irq",
    c"/proc/bus",
    c"/proc/fs",
];

/// Separates the mounts.
#[derive(Debug)]
pub(super) struct FilesystemIsolator {
    own_proc: bool,
    dev: Dev,
    /// Those of [`PROC_FOR_ROOT`] that this kernel has.
    proc_for_root: Vec<&'static CStr>,
    /// `/sys`, and the cgroup mounts that lie elsewhere.
    read_only: Vec<PathBuf>,
}

impl FilesystemIsolator {
    pub(super) fn new(config: &Config) -> Result<Self, containerizer::Error> {
        let unenforceable = |reason: String| containerizer::Error::Unenforceable {
            isolator: "filesystem",
            reason,
        };
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| unenforceable(format!("/proc/self/mountinfo cannot be read: {error}")))?;
        if kernel_version() < Some((5, 12)) {
            return Err(unenforceable("Linux 5.12 or newer is needed (mount_setattr)".into()));
        }
        // A fresh /proc shows the pid namespace that it is mounted from, so it belongs to one.
        let own_proc = config.isolation.iter().any(|name| name == "namespaces");
        let exists = |path: &&CStr| path.to_str().is_ok_and(|path| Path::new(path).exists());
        let proc_for_root = PROC_FOR_ROOT.into_iter().filter(exists).collect();
        Ok(FilesystemIsolator {
            own_proc,
            dev: Dev::new(),
            proc_for_root,
            read_only: control_mounts(&mounts),
        })
    }
}

impl Isolator for FilesystemIsolator {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn note(&self) -> EnforcementNote {
        let text = "mount namespace: private /tmp, /dev and /proc; /sys and cgroups read-only".into();
        EnforcementNote {
            isolator: "filesystem",
            text,
            enforced: true,
        }
    }

    fn shared_mount(&self) -> Option<BorrowedFd<'_>> {
        self.dev.shared()
    }

    fn prepare(&self, container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        if let Some(covered) = COVERED.iter().find(|path| container.sandbox.starts_with(path)) {
            let reason = format!("{} lies below {covered}, which is private", container.sandbox.display());
            return Err(Error::Rejected {
                field: "sandbox",
                reason,
            });
        }
        plan.clone_flags |= NEW_MOUNTS;
        let mut mount = |source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr| {
            plan.mounts.push(&Step::Mount {
                source,
                target,
                kind,
                flags,
                data,
            });
        };
        // What the host unmounts later goes here too; nothing goes the other way.
        mount(c"", c"/", c"", SLAVE | RECURSIVE, c"");
        if self.own_proc {
            mount(c"proc", c"/proc", c"proc", NO_SUID | NO_DEVICES | NO_EXEC, c"");
        }
        if container.user.uid == 0 {
            self.proc_for_root
                .iter()
                .for_each(|path| mount(path, path, c"", BIND, c""));
            self.proc_for_root
                .iter()
                .for_each(|path| plan.mounts.push(&Step::ReadOnly(path)));
        }
        for path in &self.read_only {
            plan.mounts
                .push(&Step::ReadOnly(&text("mounts", path.as_os_str().as_encoded_bytes())?));
        }
        self.dev.prepare(&mut plan.mounts, &plan.devices);
        private_tmp(container, plan)
    }
}

fn private_tmp(container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
    let sandbox = &container.sandbox;
    let tmp = sandbox.join(TMP_NAME);
    create_tmp(&tmp).map_err(|source| Error::System {
        attempted: format!("create {}", tmp.display()),
        source,
    })?;
    let path = |path: &Path| text("sandbox", path.as_os_str().as_encoded_bytes());
    // A sandbox below /tmp would be covered: it is kept in hand and attached in its place again.
    let below_tmp = sandbox.starts_with("/tmp");
    if below_tmp {
        plan.mounts.push(&Step::Hold(&path(sandbox)?));
    }
    let bind = Step::Mount {
        source: &path(&tmp)?,
        target: c"/tmp",
        kind: c"",
        flags: BIND,
        data: c"",
    };
    plan.mounts.push(&bind);
    if below_tmp {
        let mut ancestors: Vec<_> = sandbox
            .ancestors()
            .take_while(|path| *path != Path::new("/tmp"))
            .collect();
        ancestors.reverse();
        for ancestor in ancestors {
            plan.mounts.push(&Step::Directory {
                path: &path(ancestor)?,
                mode: 0o755,
            });
        }
        plan.mounts.push(&Step::Attach(&path(sandbox)?));
    }
    Ok(())
}

/// Nothing of the container runs yet, but what was fetched into the sandbox may have left anything there.
fn create_tmp(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !std::fs::symlink_metadata(path)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        result => result?,
    }
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(0o1777))?)
}

/// `/sys` and every mounted cgroup hierarchy that is not below it.
fn control_mounts(mountinfo: &str) -> Vec<PathBuf> {
    let sys = Path::new("/sys");
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(point), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else {
            continue;
        };
        let point = PathBuf::from(point.replace("\\040", " "));
        let control = point == sys || (matches!(kind, "cgroup" | "cgroup2") && !point.starts_with(sys));
        if control && !found.contains(&point) {
            found.push(point);
        }
    }
    found
}

fn kernel_version() -> Option<(u32, u32)> {
    let uname = rustix::system::uname();
    let mut numbers = uname
        .release()
        .to_str()
        .ok()?
        .split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_mount_is_made_read_only() {
        let mounts = control_mounts(
            "1 0 8:1 / / rw - ext4 /dev/sda rw\n\
             2 1 0:2 / /sys rw - sysfs sysfs rw\n\
             3 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
             4 1 0:3 / /run/my\\040cgroup rw - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(mounts, [PathBuf::from("/sys"), PathBuf::from("/run/my cgroup")]);
    }

    #[test]
    fn this_kernel_has_a_version() {
        assert!(kernel_version().is_some());
    }
}

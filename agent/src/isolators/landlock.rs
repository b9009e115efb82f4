//! Landlock: a task may change nothing of the host's files but its sandbox, its `/tmp`, its `/dev`, its volumes and what the
//! operator adds, whatever their permissions say; and it reaches no abstract unix socket from outside.
//!
//! Reading is left to permissions. `/proc` stays writable as far as the kernel lets a process write there. The rules are made
//! in the container, where the mounts are, in some microseconds. From Linux, Documentation/userspace-api/landlock.rst.

use std::ffi::CString;

use proffer_shim::landlock;
use proffer_shim::plan::Step;

use super::{Error, Isolator, LaunchPlan, text};
use crate::containerizer::{self, Config, ContainerSpec, EnforcementNote};

/// `LANDLOCK_ACCESS_FS_*`.
const WRITE_FILE: u64 = 1 << 1;
const REMOVE: u64 = 0b11 << 4;
/// Directories, files, sockets, fifos, links; not devices.
const MAKE: u64 = 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12;
const MAKE_DEVICES: u64 = 1 << 6 | 1 << 11;
/// Renames and links between directories: without it (before Linux 5.19) none is possible, which breaks programs.
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEVICE: u64 = 1 << 15;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`.
const ABSTRACT_SOCKETS: u64 = 1;

/// Restricts writing.
#[derive(Debug)]
pub(super) struct LandlockIsolator {
    version: u32,
    /// What the operator adds.
    writable: Vec<CString>,
}

impl LandlockIsolator {
    pub(super) fn new(config: &Config) -> Result<Self, containerizer::Error> {
        let unenforceable = |reason: String| containerizer::Error::Unenforceable {
            isolator: "landlock",
            reason,
        };
        let version = landlock::version().map_err(|error| {
            unenforceable(format!(
                "the kernel has no landlock ({error}); Linux 5.19 or newer is needed, with landlock in `lsm=`"
            ))
        })?;
        if version < 2 {
            return Err(unenforceable(format!(
                "the kernel has version {version} of landlock; 2 is needed (Linux 5.19)"
            )));
        }
        let writable = config.policy.writable.iter();
        let writable = writable.map(|path| text("writable", path.as_os_str().as_encoded_bytes()));
        Ok(LandlockIsolator {
            version,
            writable: writable
                .collect::<Result<_, _>>()
                .map_err(containerizer::Error::Isolation)?,
        })
    }

    fn handled(&self) -> u64 {
        let newer = [(3, TRUNCATE), (5, IOCTL_DEVICE)];
        let newer = newer.iter().filter(|(since, _)| self.version >= *since);
        newer.fold(
            WRITE_FILE | REMOVE | MAKE | MAKE_DEVICES | REFER,
            |rights, (_, right)| rights | right,
        )
    }
}

impl Isolator for LandlockIsolator {
    fn name(&self) -> &'static str {
        "landlock"
    }

    fn note(&self) -> EnforcementNote {
        let mut text = format!(
            "landlock {}: files change only in the sandbox, /tmp, /dev, volumes",
            self.version
        );
        for path in &self.writable {
            text.push_str(", ");
            text.push_str(&path.to_string_lossy());
        }
        for (since, missing) in [(3, "truncation by path"), (6, "abstract unix sockets")] {
            if self.version < since {
                text.push_str("; not on this kernel: ");
                text.push_str(missing);
            }
        }
        EnforcementNote {
            isolator: "landlock",
            text,
            enforced: true,
        }
    }

    fn restrict(&self, container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        let handled = self.handled();
        plan.rules.push(&Step::Rules {
            files: handled,
            scoped: if self.version >= 6 { ABSTRACT_SOCKETS } else { 0 },
        });
        let mut allow = |path: &std::ffi::CStr, files: u64| {
            plan.rules.push(&Step::Allow {
                path,
                files: files & handled,
            });
        };
        let inside = WRITE_FILE | REMOVE | MAKE | REFER | TRUNCATE;
        allow(
            &text("sandbox", container.sandbox.as_os_str().as_encoded_bytes())?,
            inside,
        );
        allow(c"/tmp", inside);
        allow(c"/dev", inside | IOCTL_DEVICE);
        allow(c"/proc", WRITE_FILE | TRUNCATE);
        for path in self.writable.iter().chain(&plan.writable) {
            allow(path, inside);
        }
        // Whoever is not privileged may restrict itself only then.
        plan.confinement.push(&Step::NoNewPrivileges);
        plan.confinement.push(&Step::Restrict);
        Ok(())
    }
}

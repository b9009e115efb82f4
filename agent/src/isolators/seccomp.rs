//! Seccomp: system calls that no ordinary program needs answer `EPERM`, so that a fault in the kernel's rarely used parts is
//! out of a task's reach.
//!
//! What belongs to a capability is left to those that were given the capability. New namespaces are refused too: in a user
//! namespace of its own a program has every capability. `clone3`, whose arguments no filter can read, answers `ENOSYS`, and
//! programs fall back to `clone`. Sockets are unix, internet and netlink ones; SCTP ones, which do not heed the ports, are none
//! of them. No program takes its files out of the sandbox's disk limit. Programs of another architecture (32-bit ones) do not run.

mod filter;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use libc::c_long;
use proffer_shim::plan::Step;
use proffer_shim::seccomp;

use self::filter::Answer;
use super::{Error, Isolator, LaunchPlan};
use crate::containerizer::{self, Config, ContainerSpec, EnforcementNote};

/// Numbers of capabilities (capabilities(7)).
const NONE: u64 = 0;
const SYS_MODULE: u64 = 1 << 16;
const SYS_RAWIO: u64 = 1 << 17;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_PACCT: u64 = 1 << 20;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_BOOT: u64 = 1 << 22;
const SYS_TIME: u64 = 1 << 25;
const READ_SEARCH: u64 = 1 << 2;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// The system calls, and the capabilities of which one lets them pass.
const DENIED: &[(c_long, u64)] = &[
    (libc::SYS_acct, SYS_PACCT),
    (libc::SYS_add_key, NONE),
    (libc::SYS_adjtimex, SYS_TIME),
    (libc::SYS_bpf, SYS_ADMIN | BPF),
    (libc::SYS_clock_adjtime, SYS_TIME),
    (libc::SYS_clock_settime, SYS_TIME),
    (libc::SYS_delete_module, SYS_MODULE),
    (libc::SYS_finit_module, SYS_MODULE),
    (libc::SYS_fsconfig, SYS_ADMIN),
    (libc::SYS_fsmount, SYS_ADMIN),
    (libc::SYS_fsopen, SYS_ADMIN),
    (libc::SYS_fspick, SYS_ADMIN),
    (libc::SYS_init_module, SYS_MODULE),
    (libc::SYS_io_uring_enter, NONE),
    (libc::SYS_io_uring_register, NONE),
    (libc::SYS_io_uring_setup, NONE),
    (libc::SYS_kcmp, SYS_PTRACE),
    (libc::SYS_kexec_file_load, SYS_BOOT),
    (libc::SYS_kexec_load, SYS_BOOT),
    (libc::SYS_keyctl, NONE),
    (libc::SYS_lookup_dcookie, SYS_ADMIN),
    (libc::SYS_mount, SYS_ADMIN),
    (libc::SYS_mount_setattr, SYS_ADMIN),
    (libc::SYS_move_mount, SYS_ADMIN),
    (libc::SYS_nfsservctl, NONE),
    (libc::SYS_open_by_handle_at, READ_SEARCH),
    (libc::SYS_open_tree, SYS_ADMIN),
    (libc::SYS_perf_event_open, SYS_ADMIN | PERFMON),
    (libc::SYS_pidfd_getfd, SYS_PTRACE),
    (libc::SYS_pivot_root, SYS_ADMIN),
    (libc::SYS_process_vm_readv, SYS_PTRACE),
    (libc::SYS_process_vm_writev, SYS_PTRACE),
    (libc::SYS_ptrace, SYS_PTRACE),
    (libc::SYS_quotactl, SYS_ADMIN),
    (libc::SYS_quotactl_fd, SYS_ADMIN),
    (libc::SYS_reboot, SYS_BOOT),
    (libc::SYS_request_key, NONE),
    (libc::SYS_setns, SYS_ADMIN),
    (libc::SYS_settimeofday, SYS_TIME),
    (libc::SYS_swapoff, SYS_ADMIN),
    (libc::SYS_swapon, SYS_ADMIN),
    (libc::SYS_umount2, SYS_ADMIN),
    (libc::SYS_userfaultfd, SYS_PTRACE),
    // open_tree_attr, Linux 6.15
    (467, SYS_ADMIN),
    // file_setattr, Linux 6.17
    (469, SYS_ADMIN),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS__sysctl, NONE),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, SYS_RAWIO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, SYS_RAWIO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_sysfs, NONE),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_uselib, NONE),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ustat, NONE),
];

/// Filters system calls.
#[derive(Debug)]
pub(super) struct SeccompIsolator {
    unconfined_allowed: bool,
    /// By the capabilities that count in it.
    filters: Mutex<HashMap<u64, Arc<Vec<u8>>>>,
}

impl SeccompIsolator {
    pub(super) fn new(config: &Config) -> Result<Self, containerizer::Error> {
        seccomp::available().map_err(|error| containerizer::Error::Unenforceable {
            isolator: "seccomp",
            reason: format!("the kernel filters no system calls (CONFIG_SECCOMP_FILTER): {error}"),
        })?;
        Ok(SeccompIsolator {
            unconfined_allowed: config.policy.unconfined,
            filters: Mutex::default(),
        })
    }

    fn filter(&self, capabilities: u64) -> Arc<Vec<u8>> {
        let counting = DENIED.iter().fold(SYS_ADMIN, |all, (_, some)| all | some);
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        let filter = filters.entry(capabilities & counting);
        Arc::clone(filter.or_insert_with(|| Arc::new(filter::encode(&rules(capabilities)))))
    }
}

impl Isolator for SeccompIsolator {
    fn name(&self) -> &'static str {
        "seccomp"
    }

    fn note(&self) -> EnforcementNote {
        let count = rules(NONE).len();
        let mut text = format!("seccomp: {count} system calls of no use to ordinary programs answer EPERM");
        if self.unconfined_allowed {
            text.push_str(", unless a task asks to be unconfined");
        }
        EnforcementNote {
            isolator: "seccomp",
            text,
            enforced: true,
        }
    }

    fn restrict(&self, container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        if container.confinement.unconfined {
            if !self.unconfined_allowed {
                return Err(Error::Rejected {
                    field: "linux_info.seccomp.unconfined",
                    reason: "tasks of this agent may not be unconfined; leave it unset".into(),
                });
            }
            return Ok(());
        }
        // Whoever is not privileged may filter itself only then.
        plan.confinement.push(&Step::NoNewPrivileges);
        let filter = self.filter(container.confinement.effective);
        plan.confinement.push(&Step::FilterCalls(&filter));
        Ok(())
    }
}

/// The system calls that do not simply pass, in order.
fn rules(capabilities: u64) -> Vec<(u32, Answer)> {
    let denied = DENIED.iter().filter(|(_, lifting)| capabilities & lifting == 0);
    let mut rules: Vec<_> = denied.map(|(number, _)| (*number as u32, Answer::Denied)).collect();
    rules.push((libc::SYS_socket as u32, Answer::Socket));
    if capabilities & SYS_ADMIN == 0 {
        rules.push((libc::SYS_ioctl as u32, Answer::Control));
        rules.push((libc::SYS_clone as u32, Answer::NoNamespaces));
        rules.push((libc::SYS_unshare as u32, Answer::NoNamespaces));
        rules.push((libc::SYS_clone3 as u32, Answer::Missing));
    }
    rules.sort_by_key(|(number, _)| *number);
    rules
}

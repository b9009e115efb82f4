//! The steps by which the child gives up what it could do: capabilities, files (landlock), system calls (seccomp).

use std::ffi::CStr;

use crate::system::{self, Descriptor, Errno, check};

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`
const CAPABILITY_VERSION: u32 = 0x2008_0522;

pub(crate) fn bound_capabilities(kept: u64) -> Result<(), Errno> {
    system::bound_capabilities(kept)?;
    let mut header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: the header and the two data structures have the kernel's layout for this version and outlive the calls; the rest
    // are numbers.
    unsafe {
        check(libc::syscall(libc::SYS_capget, &mut header, data.as_mut_ptr()))?;
        data.iter_mut().for_each(|half| half.inheritable = 0);
        check(libc::syscall(libc::SYS_capset, &mut header, data.as_ptr()))?;
        let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL;
        check(libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0))?;
        if kept != 0 {
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        }
    }
    Ok(())
}

/// What is not ambient is lost when a program of an ordinary user is executed.
pub(crate) fn keep_capabilities(kept: u64) -> Result<(), Errno> {
    let mut header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    let data = [kept as u32, (kept >> 32) as u32].map(|half| CapabilityData {
        effective: half,
        permitted: half,
        inheritable: half,
    });
    // SAFETY: as above.
    unsafe {
        check(libc::syscall(libc::SYS_capset, &mut header, data.as_ptr()))?;
        for capability in (0..64).filter(|capability| kept >> capability & 1 == 1) {
            let raise = libc::PR_CAP_AMBIENT_RAISE;
            check(libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0))?;
        }
    }
    Ok(())
}

/// `struct landlock_ruleset_attr`; a kernel that does not know the later fields takes them as long as they are zero.
#[repr(C)]
struct RulesetAttributes {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent: libc::c_int,
}

const RULE_PATH_BENEATH: libc::c_int = 1;
/// `EXECUTE`, `WRITE_FILE`, `READ_FILE`, `TRUNCATE`, `IOCTL_DEV`: all that can be allowed of what is no directory.
const RIGHTS_OF_FILES: u64 = 0b111 | 1 << 14 | 1 << 15;

pub(crate) fn rules(files: u64, scoped: u64) -> Result<Descriptor, Errno> {
    let attributes = RulesetAttributes {
        handled_access_fs: files,
        handled_access_net: 0,
        scoped,
    };
    let size = size_of::<RulesetAttributes>();
    // SAFETY: the attributes and their size belong together and outlive the call.
    let rules = check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &attributes, size, 0) })?;
    Ok(Descriptor(rules as libc::c_int))
}

pub(crate) fn allow(rules: Descriptor, path: &CStr, files: u64) -> Result<(), Errno> {
    let parent = system::open(path, libc::O_PATH, 0)?;
    let add = |allowed_access: u64| {
        let rule = PathBeneath {
            allowed_access,
            parent: parent.0,
        };
        // SAFETY: the rule has the kernel's layout and outlives the call.
        check(unsafe { libc::syscall(libc::SYS_landlock_add_rule, rules.0, RULE_PATH_BENEATH, &rule, 0) }).map(drop)
    };
    let added = match add(files) {
        Err(libc::EINVAL) => add(files & RIGHTS_OF_FILES),
        result => result,
    };
    system::close(parent);
    added
}

pub(crate) fn restrict(rules: Descriptor) -> Result<(), Errno> {
    // SAFETY: a plain system call with numbers.
    let restricted = check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.0, 0) }).map(drop);
    system::close(rules);
    restricted
}

pub(crate) fn filter_calls(filter: &[u8]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: (filter.len() / size_of::<libc::sock_filter>()) as libc::c_ushort,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    // SAFETY: the kernel copies `len` instructions, at any alignment, from within the slice, and writes none.
    check(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &program) }).map(drop)
}

//! Loads cgroup programs of the kernel's BPF machine and attaches them: `bpf(2)`.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const FLAG_ALLOW_MULTI: u32 = 1 << 1;
const FLAG_REPLACE: u32 = 1 << 2;

/// Where a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `bind(2)` of an IPv4 socket.
    Inet4Bind,
    /// `bind(2)` of an IPv6 socket, IPv4-mapped addresses included.
    Inet6Bind,
}

impl Hook {
    fn attach_type(self) -> u32 {
        match self {
            Hook::Inet4Bind => 8,
            Hook::Inet6Bind => 9,
        }
    }
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, up to `expected_attach_type`.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// `union bpf_attr` for `BPF_PROG_QUERY`, up to `prog_cnt` and its padding.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a program of eight-byte instructions for one hook. `name` is at most 15 characters of `[A-Za-z0-9_.]`.
pub fn load(hook: Hook, name: &str, instructions: &[[u8; 8]]) -> io::Result<OwnedFd> {
    let mut attributes = Load {
        prog_type: PROG_TYPE_CGROUP_SOCK_ADDR,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        expected_attach_type: hook.attach_type(),
        ..Load::default()
    };
    for (to, from) in attributes.prog_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: `insns` and `license` point to memory that outlives the call and is only read.
    let descriptor = unsafe { bpf(PROG_LOAD, &mut attributes) }?;
    // SAFETY: a successful load returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Attaches a program to a cgroup beside others; with `replaced`, in place of that program, in one step.
pub fn attach(
    cgroup: BorrowedFd<'_>,
    hook: Hook,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: hook.attach_type(),
        attach_flags: FLAG_ALLOW_MULTI | replaced.map_or(0, |_| FLAG_REPLACE),
        replace_bpf_fd: replaced.map_or(0, |old| old.as_raw_fd() as u32),
    };
    // SAFETY: the attributes hold descriptors only, which are open for as long as they are borrowed.
    unsafe { bpf(PROG_ATTACH, &mut attributes) }.map(|_| ())
}

/// The programs attached to the cgroup itself (at most 64).
pub fn attached(cgroup: BorrowedFd<'_>, hook: Hook) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut query = Query {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: hook.attach_type(),
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..Query::default()
    };
    // SAFETY: `prog_ids` points to `prog_cnt` writable u32s that outlive the call.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    let count = (query.prog_cnt as usize).min(ids.len());
    ids[..count].iter().map(|id| by_id(*id)).collect()
}

fn by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = ById {
        prog_id: id,
        ..ById::default()
    };
    // SAFETY: the attributes hold integers only.
    let descriptor = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attributes) }?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// # Safety
/// `A` is the head of `union bpf_attr` for `command`, and every pointer in it is valid for what the command does with it.
unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: the pointer and the size describe `attributes`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut A, size_of::<A>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as libc::c_int)
    }
}

//! Loads cgroup programs of the kernel's BPF machine and attaches them: `bpf(2)`.

pub mod map;

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_SKB: u32 = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
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
    /// An access to a device node.
    Device,
    /// A packet that a socket is about to receive.
    Ingress,
    /// A packet that a socket sends.
    Egress,
}

impl Hook {
    fn attach_type(self) -> u32 {
        match self {
            Hook::Inet4Bind => 8,
            Hook::Inet6Bind => 9,
            Hook::Device => 6,
            Hook::Ingress => 0,
            Hook::Egress => 1,
        }
    }

    fn program_type(self) -> u32 {
        match self {
            Hook::Inet4Bind | Hook::Inet6Bind => PROG_TYPE_CGROUP_SOCK_ADDR,
            Hook::Device => PROG_TYPE_CGROUP_DEVICE,
            Hook::Ingress | Hook::Egress => PROG_TYPE_CGROUP_SKB,
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
        prog_type: hook.program_type(),
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        expected_attach_type: hook.attach_type(),
        ..Load::default()
    };
    self::name(&mut attributes.prog_name, name);
    // SAFETY: `insns` and `license` point to memory that outlives the call and is only read.
    let descriptor = unsafe { bpf(PROG_LOAD, &mut attributes) }?;
    // SAFETY: a successful load returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// One instruction: its code, its registers (the source above the destination), its offset and its number.
pub fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let ([low, high], [a, b, c, d]) = (offset.to_le_bytes(), immediate.to_le_bytes());
    [code, registers, low, high, a, b, c, d]
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

/// The programs of a name that are attached to the cgroup itself (at most 64 in all): others have theirs, systemd for one.
pub fn attached(cgroup: BorrowedFd<'_>, hook: Hook, name: &str) -> io::Result<Vec<OwnedFd>> {
    let mut wanted = [0; 16];
    self::name(&mut wanted, name);
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
    let mut found = Vec::new();
    for id in &ids[..count] {
        let program = by_id(*id)?;
        if map::program_name(program.as_fd())? == wanted {
            found.push(program);
        }
    }
    Ok(found)
}

fn name(to: &mut [u8; 16], name: &str) {
    for (to, from) in to.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
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

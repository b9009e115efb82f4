//! Counters that a program keeps for each cgroup that it is attached to: a map of the kind `BPF_MAP_TYPE_CGROUP_STORAGE`, with the
//! id of the cgroup for its key.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{ById, bpf};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_TYPE_CGROUP_STORAGE: u32 = 19;

/// How many counters a cgroup has.
pub const COUNTERS: usize = 4;

/// `union bpf_attr` for `BPF_MAP_CREATE`, up to `map_name`.
#[repr(C)]
#[derive(Default)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// `union bpf_attr` for `BPF_MAP_LOOKUP_ELEM`.
#[repr(C)]
#[derive(Default)]
struct Lookup {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The start of `struct bpf_prog_info`, up to `name`.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// Makes a map. `name` is as for programs.
pub fn create(name: &str) -> io::Result<OwnedFd> {
    let mut attributes = Create {
        map_type: MAP_TYPE_CGROUP_STORAGE,
        key_size: size_of::<u64>() as u32,
        value_size: (COUNTERS * size_of::<u64>()) as u32,
        ..Create::default()
    };
    super::name(&mut attributes.map_name, name);
    // SAFETY: the attributes hold numbers only.
    let descriptor = unsafe { bpf(MAP_CREATE, &mut attributes) }?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The counters of a cgroup, named by its id.
pub fn read(map: BorrowedFd<'_>, cgroup: u64) -> io::Result<[u64; COUNTERS]> {
    let mut counters = [0; COUNTERS];
    let mut attributes = Lookup {
        map_fd: map.as_raw_fd() as u32,
        key: &raw const cgroup as u64,
        value: counters.as_mut_ptr() as u64,
        ..Lookup::default()
    };
    // SAFETY: key and value have the sizes of every map that `create` makes and outlive the call; of another map the kernel
    // refuses the descriptor or finds no such key, which is checked by `of_program`.
    unsafe { bpf(MAP_LOOKUP_ELEM, &mut attributes) }?;
    Ok(counters)
}

/// The map that a program made by us uses; none when it uses none.
pub fn of_program(program: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut ids = [0u32; 1];
    let mut info = ProgramInfo {
        nr_map_ids: ids.len() as u32,
        map_ids: ids.as_mut_ptr() as u64,
        ..ProgramInfo::default()
    };
    inform(program, &mut info)?;
    if info.nr_map_ids != 1 {
        return Ok(None);
    }
    let mut attributes = ById {
        prog_id: ids[0],
        ..ById::default()
    };
    // SAFETY: the attributes hold numbers only.
    let descriptor = unsafe { bpf(MAP_GET_FD_BY_ID, &mut attributes) }?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// The name of a program.
pub(super) fn program_name(program: BorrowedFd<'_>) -> io::Result<[u8; 16]> {
    let mut info = ProgramInfo::default();
    inform(program, &mut info)?;
    Ok(info.name)
}

fn inform(program: BorrowedFd<'_>, info: &mut ProgramInfo) -> io::Result<()> {
    let mut attributes = InfoByFd {
        bpf_fd: program.as_raw_fd() as u32,
        info_len: size_of::<ProgramInfo>() as u32,
        info: info as *mut ProgramInfo as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes of `info`, and to the list of ids, which outlives the call with it, at most
    // as many as `nr_map_ids` says; that is zero where there is no list.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }.map(|_| ())
}

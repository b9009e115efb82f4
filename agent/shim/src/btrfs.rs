//! Subvolumes of btrfs and their quota groups: `linux/btrfs.h`, `linux/btrfs_tree.h`.

use std::ffi::CStr;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

const CREATE: libc::Ioctl = 0x5000_940e_u32 as libc::Ioctl;
const DESTROY: libc::Ioctl = 0x5000_940f_u32 as libc::Ioctl;
const SEARCH: libc::Ioctl = 0xd000_9411_u32 as libc::Ioctl;
const LOOK_UP: libc::Ioctl = 0xd000_9412_u32 as libc::Ioctl;
const GROUP_CREATE: libc::Ioctl = 0x4010_942a_u32 as libc::Ioctl;
const GROUP_LIMIT: libc::Ioctl = 0x8030_942b_u32 as libc::Ioctl;
/// `BTRFS_QGROUP_LIMIT_MAX_RFER`
const REFERENCED: u64 = 1;
/// `BTRFS_FIRST_FREE_OBJECTID`, which is also the number of a subvolume's root directory.
pub const ROOT_NUMBER: u64 = 256;
/// `BTRFS_QUOTA_TREE_OBJECTID`
const QUOTA_TREE: u64 = 8;
/// `BTRFS_QGROUP_INFO_KEY`
const GROUP_INFORMATION: u32 = 242;
const NAME_BYTES_MAX: usize = 4087;
const BUFFER_BYTES: usize = 4096 - 104;
/// Of `struct btrfs_ioctl_search_header`.
const HEADER_BYTES: usize = 32;

/// `struct btrfs_ioctl_vol_args`
#[repr(C)]
struct Named {
    descriptor: i64,
    name: [u8; NAME_BYTES_MAX + 1],
}

/// `struct btrfs_ioctl_ino_lookup_args`
#[repr(C)]
struct LookUp {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_qgroup_create_args`
#[repr(C)]
struct GroupCreate {
    create: u64,
    group: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`
#[repr(C)]
struct GroupLimit {
    group: u64,
    flags: u64,
    referenced: u64,
    exclusive: u64,
    reserved: [u64; 2],
}

/// `struct btrfs_ioctl_search_args`
#[repr(C)]
struct Search {
    tree: u64,
    objects: [u64; 2],
    offsets: [u64; 2],
    transactions: [u64; 2],
    kinds: [u32; 2],
    items: u32,
    unused: [u32; 9],
    buffer: [u8; BUFFER_BYTES],
}

/// Makes an empty subvolume in a directory; its root belongs to the caller.
pub fn create(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let mut arguments = named(name)?;
    control(parent, CREATE, &mut arguments)
}

/// Removes a subvolume of a directory with all that it holds, at once; the disk is freed in the background.
pub fn destroy(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let mut arguments = named(name)?;
    control(parent, DESTROY, &mut arguments)
}

/// The number of the subvolume in which a directory lies.
pub fn number(directory: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: zeros are values of all its fields.
    let mut arguments: LookUp = unsafe { zeroed() };
    arguments.object = ROOT_NUMBER;
    control(directory, LOOK_UP, &mut arguments)?;
    Ok(arguments.tree)
}

/// Sets how much a subvolume may refer to, in bytes. An error where the file system has no quotas.
pub fn set_limit(directory: BorrowedFd<'_>, number: u64, bytes: u64) -> io::Result<()> {
    let mut arguments = GroupLimit {
        group: number,
        flags: REFERENCED,
        referenced: bytes,
        exclusive: 0,
        reserved: [0; 2],
    };
    control(directory, GROUP_LIMIT, &mut arguments)
}

/// How much a subvolume refers to, in bytes, as of the last transaction; none where nobody counts.
pub fn used(directory: BorrowedFd<'_>, number: u64) -> io::Result<Option<u64>> {
    // SAFETY: zeros are values of all its fields.
    let mut arguments: Search = unsafe { zeroed() };
    arguments.tree = QUOTA_TREE;
    arguments.offsets = [number, number];
    arguments.transactions = [0, u64::MAX];
    arguments.kinds = [GROUP_INFORMATION, GROUP_INFORMATION];
    arguments.items = 1;
    control(directory, SEARCH, &mut arguments)?;
    if arguments.items == 0 {
        return Ok(None);
    }
    // The generation, and then what is referred to.
    let at = HEADER_BYTES + 8;
    let bytes = arguments.buffer[at..at + 8].try_into();
    Ok(bytes.ok().map(u64::from_le_bytes))
}

/// Forgets the quota group of a subvolume that is gone.
pub fn forget(directory: BorrowedFd<'_>, number: u64) -> io::Result<()> {
    let mut arguments = GroupCreate {
        create: 0,
        group: number,
    };
    control(directory, GROUP_CREATE, &mut arguments)
}

fn named(name: &CStr) -> io::Result<Named> {
    let bytes = name.to_bytes();
    if bytes.len() > NAME_BYTES_MAX {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    let mut arguments = Named {
        descriptor: 0,
        name: [0; NAME_BYTES_MAX + 1],
    };
    arguments.name[..bytes.len()].copy_from_slice(bytes);
    Ok(arguments)
}

fn control<T>(file: BorrowedFd<'_>, request: libc::Ioctl, arguments: &mut T) -> io::Result<()> {
    // SAFETY: each request reads or writes the structure that it is called with here, whose size is a part of its number.
    match unsafe { libc::ioctl(file.as_raw_fd(), request, arguments as *mut T) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernel_s() {
        assert_eq!(size_of::<Named>(), 4096);
        assert_eq!(size_of::<LookUp>(), 4096);
        assert_eq!(size_of::<Search>(), 4096);
        assert_eq!((size_of::<GroupCreate>(), size_of::<GroupLimit>()), (16, 48));
    }
}

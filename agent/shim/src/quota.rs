//! Project quotas of XFS and ext4: what carries a project's number counts together. `ioctl_xfs_fsgetxattr(2)`, `quotactl_fd(2)`.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

const GET_ATTRIBUTES: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const SET_ATTRIBUTES: libc::Ioctl = 0x401c_5820_u32 as libc::Ioctl;
/// What is made in the directory belongs to the same project.
const INHERIT: u32 = 0x200;

/// `QCMD(Q_X…, PRJQUOTA)`
const fn command(number: u32) -> u32 {
    (('X' as u32) << 8 | number) << 8 | 2
}
const GET_QUOTA: u32 = command(3);
const SET_LIMIT: u32 = command(4);
const GET_STATE: u32 = command(8);
/// `FS_QUOTA_PDQ_ENFD`
const ENFORCED: u16 = 1 << 5;
/// `FS_PROJ_QUOTA`
const PROJECT: i8 = 1 << 1;
/// `FS_DQ_BSOFT | FS_DQ_BHARD`
const BLOCK_LIMITS: u16 = 1 << 2 | 1 << 3;
const BLOCK_BYTES: u64 = 512;

/// `struct fsxattr`
#[repr(C)]
struct Attributes {
    flags: u32,
    extent_bytes: u32,
    extents: u32,
    project: u32,
    copy_extent_bytes: u32,
    padding: [u8; 8],
}

/// `struct fs_disk_quota`
#[repr(C)]
struct DiskQuota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    files_hard: u64,
    files_soft: u64,
    blocks: u64,
    files: u64,
    rest: [u64; 7],
}

/// `struct fs_quota_statv`, with room for what it may become.
#[repr(C)]
struct QuotaState {
    version: i8,
    padding: u8,
    flags: u16,
    rest: [u64; 40],
}

/// What a project has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// How much it may have, in bytes; zero for no limit.
    pub limit_bytes: u64,
    /// How much it has.
    pub used_bytes: u64,
}

/// The project of a file or directory, whose descriptor must be open for reading; zero for none.
pub fn project(file: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(attributes(file)?.project)
}

/// Puts an empty directory, and all that will be in it, into a project.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = attributes(directory)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the kernel reads a structure of this size and layout, which lives.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), SET_ATTRIBUTES, &attributes) };
    answer(result.into())
}

/// Whether the file system keeps projects within their limits.
pub fn enforced(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: zeros are values of all its fields.
    let mut state: QuotaState = unsafe { zeroed() };
    state.version = 1;
    call(file, GET_STATE, 0, &mut state)?;
    Ok(state.flags & ENFORCED != 0)
}

/// What a project has; none where the file system does not know it.
pub fn get(file: BorrowedFd<'_>, project: u32) -> io::Result<Option<Quota>> {
    // SAFETY: zeros are values of all its fields.
    let mut quota: DiskQuota = unsafe { zeroed() };
    match call(file, GET_QUOTA, project, &mut quota) {
        Ok(()) => Ok(Some(Quota {
            limit_bytes: quota.blocks_hard.saturating_mul(BLOCK_BYTES),
            used_bytes: quota.blocks.saturating_mul(BLOCK_BYTES),
        })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets what a project may have, in bytes; zero for no limit.
pub fn set_limit(file: BorrowedFd<'_>, project: u32, bytes: u64) -> io::Result<()> {
    // SAFETY: zeros are values of all its fields.
    let mut quota: DiskQuota = unsafe { zeroed() };
    quota.version = 1;
    quota.flags = PROJECT;
    quota.fields = BLOCK_LIMITS;
    quota.id = project;
    quota.blocks_hard = bytes / BLOCK_BYTES;
    quota.blocks_soft = quota.blocks_hard;
    call(file, SET_LIMIT, project, &mut quota)
}

fn attributes(file: BorrowedFd<'_>) -> io::Result<Attributes> {
    // SAFETY: zeros are values of all its fields.
    let mut attributes: Attributes = unsafe { zeroed() };
    // SAFETY: the kernel writes a structure of this size and layout, which lives.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), GET_ATTRIBUTES, &mut attributes) };
    answer(result.into())?;
    Ok(attributes)
}

fn call<T>(file: BorrowedFd<'_>, command: u32, id: u32, structure: &mut T) -> io::Result<()> {
    // SAFETY: each command reads or writes the structure that it is called with here, and no more of it than its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_raw_fd(),
            command,
            id,
            structure as *mut T,
        )
    };
    answer(result)
}

fn answer(result: libc::c_long) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernel_s() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<DiskQuota>(), 112);
        assert!(size_of::<QuotaState>() >= 160);
        assert_eq!((GET_QUOTA, SET_LIMIT), (0x58_0302, 0x58_0402));
    }
}

//! Finds a cgroup of the unified tree by the number that the kernel knows it by.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `FILEID_KERNFS`: a handle is the number alone.
const KERNFS: i32 = 0xfe;

/// `struct file_handle`
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: u64,
}

/// Opens the directory of a cgroup, by a directory of the same tree; `ESTALE` where there is none of this number.
pub fn open(tree: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    let mut handle = Handle {
        bytes: 8,
        kind: KERNFS,
        id,
    };
    // SAFETY: the kernel reads a handle of the length that it names, which lives; the descriptor is open while it is borrowed.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            tree.as_raw_fd(),
            &raw mut handle,
            libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC,
        )
    };
    match i32::try_from(opened) {
        // SAFETY: the kernel has just made it, for nobody else.
        Ok(opened) if opened >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(opened) }),
        _ => Err(io::Error::last_os_error()),
    }
}

//! What the kernel knows of seccomp.

use std::io;

/// An error where the kernel has no filters.
pub fn available() -> io::Result<()> {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one number, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &action) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

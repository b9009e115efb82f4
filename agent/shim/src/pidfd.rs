//! Signals through a pidfd to more than one process.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `PIDFD_SIGNAL_PROCESS_GROUP`, Linux 6.9.
const SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// Sends a signal to the process group of the process, which leads it. Before Linux 6.9 by the group's number, which the caller
/// gives; the process must be known to live then, since its pid keeps the number from being used again.
pub fn signal_group(process: BorrowedFd<'_>, group: u32, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed; a null `siginfo` is allowed; no memory is touched.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            SIGNAL_PROCESS_GROUP,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match (error.raw_os_error(), i32::try_from(group)) {
        (Some(libc::EINVAL), Ok(group)) if group > 1 => {
            // SAFETY: a plain system call with integers. A group above 1 is never "every process".
            match unsafe { libc::kill(-group, signal) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        }
        _ => Err(error),
    }
}

//! What the kernel knows of landlock.

use std::io;

const VERSION: libc::c_int = 1;

/// The version of landlock that the kernel has; an error where it has none.
pub fn version() -> io::Result<u32> {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the kernel reads no attributes.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

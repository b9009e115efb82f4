//! Mounts a file that holds an ext4, as a loop device.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use proffer_shim::loopback;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

/// What is to become of a file system when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) enum Keeping {
    /// What programs have synchronised is there.
    Lasting,
    /// Nothing of it is wanted: nobody waits for the disk.
    Passing,
}

/// A mount that is attached nowhere, and ends when it is dropped; and the number of its loop device.
pub(in crate::disk) fn detached(image: &File, keeping: Keeping) -> io::Result<(OwnedFd, u32)> {
    let device = loopback::attach(image.as_fd(), false)?;
    let mount = detached_device(device.number, keeping)?;
    Ok((mount, device.number))
}

/// The same of a file that a loop device has already.
pub(in crate::disk) fn detached_device(number: u32, keeping: Keeping) -> io::Result<OwnedFd> {
    let context = fsopen(c"ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), c"source", format!("/dev/loop{number}"))?;
    fsconfig_set_string(context.as_fd(), c"errors", c"continue")?;
    for flag in [c"discard", c"noinit_itable"] {
        fsconfig_set_flag(context.as_fd(), flag)?;
    }
    if keeping == Keeping::Passing {
        fsconfig_set_flag(context.as_fd(), c"nobarrier")?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOATIME;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Mounts it at a directory, to be read.
pub(super) fn mount_to_read(image: &File, directory: &Path) -> io::Result<()> {
    let device = loopback::attach(image.as_fd(), true)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME | MountFlags::RDONLY;
    let source = CString::new(format!("/dev/loop{}", device.number))?;
    Ok(rustix::mount::mount(
        &source,
        directory,
        c"ext4",
        flags,
        Some(c"errors=continue"),
    )?)
}

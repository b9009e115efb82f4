//! Volumes: mounts that are taken from one place and attached at another. Both are resolved by the kernel beneath a directory that
//! nobody but the operator or the agent can replace, so that no link of a task leads anywhere else.

use std::ffi::CStr;

use crate::system::{self, Descriptor, Errno, check};

/// The most that are in hand at once.
pub(crate) const COUNT_MAX: usize = 32;

/// Those in hand.
pub(crate) type Held = [Option<Descriptor>; COUNT_MAX];

/// Takes a copy of what is at a path, with all that is mounted below it, in hand.
pub(crate) fn hold(held: &mut Held, slot: u32, root: &CStr, path: &CStr, resolve: u64) -> Result<(), Errno> {
    let slot = held.get_mut(slot as usize).ok_or(libc::EBADF)?;
    let place = open(root, path, resolve)?;
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as libc::c_uint;
    // SAFETY: the path is a C string.
    let tree = check(unsafe { libc::syscall(libc::SYS_open_tree, place.0, c"".as_ptr(), flags) })?;
    system::close(place);
    *slot = Some(Descriptor(tree as libc::c_int));
    Ok(())
}

/// Attaches what is in hand: without devices and privileged programs, and read-only where asked.
pub(crate) fn attach(
    held: &mut Held,
    slot: u32,
    (root, path, resolve): (&CStr, &CStr, u64),
    read_only: bool,
) -> Result<(), Errno> {
    let slot = held.get_mut(slot as usize).ok_or(libc::EBADF)?;
    let tree = slot.take().ok_or(libc::EBADF)?;
    let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let place = open(root, path, resolve)?;
    // SAFETY: the paths are C strings; the attributes and their size belong together and outlive the call.
    unsafe {
        check(libc::syscall(
            libc::SYS_mount_setattr,
            tree.0,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &attributes,
            size_of::<libc::mount_attr>(),
        ))?;
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        let empty = c"".as_ptr();
        check(libc::syscall(
            libc::SYS_move_mount,
            tree.0,
            empty,
            place.0,
            empty,
            flags,
        ))?;
    }
    system::close(tree);
    system::close(place);
    Ok(())
}

fn open(root: &CStr, path: &CStr, resolve: u64) -> Result<Descriptor, Errno> {
    let root = system::open(root, libc::O_PATH | libc::O_DIRECTORY, 0)?;
    // SAFETY: all zeroes is valid for every field.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    // SAFETY: the path is a C string; the structure and its size belong together and outlive the call.
    let opened = check(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.0,
            path.as_ptr(),
            &how,
            size_of::<libc::open_how>(),
        )
    });
    system::close(root);
    opened.map(|descriptor| Descriptor(descriptor as libc::c_int))
}

//! A `/dev` of the container's own: the harmless devices, and its own terminals, shared memory and message queues.
//!
//! Devices and links are the same in every container. They are made once, in a file system that is mounted nowhere; each
//! container gets a read-only copy of that mount, which costs two system calls instead of fifteen and a file system. Kernels that
//! copy no mount that is mounted nowhere (before Linux 6.15) make them anew in each container.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use proffer_shim::plan::{Step, Steps};
use rustix::fs::{AtFlags, FileType, Mode, chmodat, makedev, mkdirat, mknodat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    open_tree,
};

use super::DeviceNode;

/// `MS_*` of mount(2).
const NO_SUID: u64 = 2;
const NO_DEVICES: u64 = 4;
const NO_EXEC: u64 = 8;

const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"/dev/null", 1, 3),
    (c"/dev/zero", 1, 5),
    (c"/dev/full", 1, 7),
    (c"/dev/random", 1, 8),
    (c"/dev/urandom", 1, 9),
    (c"/dev/tty", 5, 0),
];
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
    (c"pts/ptmx", c"/dev/ptmx"),
];
const DIRECTORIES: [&CStr; 3] = [c"/dev/pts", c"/dev/shm", c"/dev/mqueue"];
const SIZE: &CStr = c"64k";

/// What goes into the plans.
#[derive(Debug)]
pub(super) struct Dev {
    shared: Option<OwnedFd>,
    /// Whether the kernel has POSIX message queues.
    mqueue: bool,
}

impl Dev {
    pub(super) fn new() -> Self {
        let kinds = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let shared = share().inspect_err(|error| {
            tracing::info!(%error, "the kernel copies no mount that is mounted nowhere: a launch takes 0.2 ms more");
        });
        Dev {
            shared: shared.ok(),
            mqueue: kinds.split_whitespace().any(|kind| kind == "mqueue"),
        }
    }

    /// The mount that the launcher is started with.
    pub(super) fn shared(&self) -> Option<BorrowedFd<'_>> {
        self.shared.as_ref().map(AsFd::as_fd)
    }

    /// Adds the steps. `devices` are the container's own.
    pub(super) fn prepare(&self, steps: &mut Steps, devices: &[DeviceNode]) {
        if self.shared.is_some() && devices.is_empty() {
            steps.push(&Step::AttachShared(c"/dev"));
            steps.push(&Step::ReadOnly(c"/dev"));
        } else {
            make(steps);
            devices.iter().for_each(|device| make_device(steps, device));
        }
        let options = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
        steps.push(&mount(c"devpts", c"/dev/pts", NO_SUID | NO_EXEC, options));
        steps.push(&mount(c"tmpfs", c"/dev/shm", NO_SUID | NO_DEVICES, c"mode=1777"));
        if self.mqueue {
            steps.push(&mount(c"mqueue", c"/dev/mqueue", NO_SUID | NO_DEVICES | NO_EXEC, c""));
        }
    }
}

/// The steps that make what is otherwise shared.
fn make(steps: &mut Steps) {
    steps.push(&mount(c"tmpfs", c"/dev", NO_SUID | NO_EXEC, c"mode=755,size=64k"));
    for (path, major, minor) in DEVICES {
        steps.push(&Step::Device {
            path,
            mode: FileType::CharacterDevice.as_raw_mode() | 0o666,
            major,
            minor,
        });
    }
    for (text, path) in LINKS {
        steps.push(&Step::Symlink { text, path });
    }
    for path in DIRECTORIES {
        steps.push(&Step::Directory { path, mode: 0o755 });
    }
}

/// With the directories that it lies in.
fn make_device(steps: &mut Steps, device: &DeviceNode) {
    let path = Path::new(OsStr::from_bytes(device.path.to_bytes()));
    let mut directories: Vec<_> = path
        .ancestors()
        .skip(1)
        .take_while(|path| *path != Path::new("/dev"))
        .collect();
    directories.reverse();
    for directory in directories {
        if let Ok(path) = CString::new(directory.as_os_str().as_bytes()) {
            steps.push(&Step::Directory {
                path: &path,
                mode: 0o755,
            });
        }
    }
    let kind = if device.block {
        FileType::BlockDevice
    } else {
        FileType::CharacterDevice
    };
    steps.push(&Step::Device {
        path: &device.path,
        mode: kind.as_raw_mode() | 0o666,
        major: device.major,
        minor: device.minor,
    });
}

/// Makes the file system that all containers share, where the kernel can.
fn share() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "mode", "755")?;
    fsconfig_set_string(&context, "size", SIZE)?;
    fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    for (path, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(
            &root,
            name(path),
            FileType::CharacterDevice,
            mode,
            makedev(major, minor),
        )?;
        // Past the umask.
        chmodat(&root, name(path), mode, AtFlags::empty())?;
    }
    for (text, path) in LINKS {
        symlinkat(text, &root, name(path))?;
    }
    for path in DIRECTORIES {
        mkdirat(&root, name(path), Mode::from_raw_mode(0o755))?;
        chmodat(&root, name(path), Mode::from_raw_mode(0o755), AtFlags::empty())?;
    }
    // As each child will.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(&root, "", flags)?;
    Ok(root)
}

/// Below `/dev`.
fn name(path: &CStr) -> &[u8] {
    path.to_bytes().strip_prefix(b"/dev/").unwrap_or(path.to_bytes())
}

fn mount<'a>(kind: &'a CStr, target: &'a CStr, flags: u64, data: &'a CStr) -> Step<'a> {
    Step::Mount {
        source: kind,
        target,
        kind,
        flags,
        data,
    }
}

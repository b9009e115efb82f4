//! What the child of a launcher does before it becomes the task.

use std::ffi::CStr;
use std::fmt;

/// One step of the child between its creation and `execve`, carried out in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Joins the cgroup with this `cgroup.procs`.
    JoinCgroup(&'a CStr),
    /// `mount(2)`; an empty string stands for a null pointer.
    Mount {
        /// What is mounted.
        source: &'a CStr,
        /// Where.
        target: &'a CStr,
        /// The file system's type.
        kind: &'a CStr,
        /// `MS_*`.
        flags: u64,
        /// Options of the file system.
        data: &'a CStr,
    },
    /// Makes a mount, and all below it, read-only.
    ReadOnly(&'a CStr),
    /// Creates a directory; one that exists is left as it is.
    Directory {
        /// Its path.
        path: &'a CStr,
        /// Its permissions, not masked.
        mode: u32,
    },
    /// Creates a device node.
    Device {
        /// Its path.
        path: &'a CStr,
        /// Its type (`S_IFCHR` or `S_IFBLK`) and permissions, not masked.
        mode: u32,
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// Creates a symbolic link.
    Symlink {
        /// What it says.
        text: &'a CStr,
        /// Its path.
        path: &'a CStr,
    },
    /// Keeps a directory in hand, to be attached elsewhere after its path was covered.
    Hold(&'a CStr),
    /// Attaches the directory in hand.
    Attach(&'a CStr),
    /// Keeps what is at a path below a directory in hand.
    HoldBeneath {
        /// Its place among those in hand.
        slot: u32,
        /// The directory.
        root: &'a CStr,
        /// The path.
        path: &'a CStr,
        /// `RESOLVE_*`.
        resolve: u64,
    },
    /// Attaches what is in hand at a path below a directory, without devices and privileged programs.
    AttachBeneath {
        /// Its place among those in hand.
        slot: u32,
        /// The directory.
        root: &'a CStr,
        /// The path.
        path: &'a CStr,
        /// `RESOLVE_*`.
        resolve: u64,
        /// Whether nothing in it can be changed.
        read_only: bool,
    },
    /// Attaches a copy of the mount that the launcher was started with.
    AttachShared(&'a CStr),
    /// Takes all but these from the capability bounding set, and empties the inheritable and the ambient set. What is left
    /// outlives the change of the user.
    BoundCapabilities(u64),
    /// Leaves these capabilities only, and hands them on to the program.
    Capabilities(u64),
    /// No program gains privileges any more.
    NoNewPrivileges,
    /// Becomes a user; `groups` are little-endian u32s.
    Credentials {
        /// The user id.
        uid: u32,
        /// The primary group.
        gid: u32,
        /// The supplementary groups.
        groups: &'a [u8],
    },
    /// Changes the working directory.
    WorkingDirectory(&'a CStr),
    /// Opens a file as descriptor 0, 1 or 2, never through a symbolic link; anything else than 0 is created and appended to.
    Stdio {
        /// The descriptor.
        descriptor: u32,
        /// The file.
        path: &'a CStr,
    },
    /// Joins these namespaces (`CLONE_NEW*`) of the container that the order names.
    Enter(u64),
    /// Makes the standard stream of this number the one that came with the order.
    Stream(u32),
    /// Makes standard input the controlling terminal.
    Terminal,
    /// Makes the standard streams a new terminal of this size, and gives the supervisor its other side and the file `stdout`.
    Console {
        /// Lines.
        rows: u16,
        /// Characters a line.
        columns: u16,
    },
    /// Sets a resource limit.
    ResourceLimit {
        /// `RLIMIT_*`.
        resource: u32,
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// Writes a text to a file of the kernel's.
    WriteFile {
        /// The file.
        path: &'a CStr,
        /// What is written.
        text: &'a CStr,
    },
    /// Begins a set of landlock rules: none of these rights to files (`LANDLOCK_ACCESS_FS_*`) is left but where
    /// [`Step::Allow`] says so, and nothing outside is reached in these ways (`LANDLOCK_SCOPE_*`).
    Rules {
        /// The rights to files.
        files: u64,
        /// The ways.
        scoped: u64,
    },
    /// Leaves rights to what is at or below a path.
    Allow {
        /// The path; of a file only rights that a file can have count.
        path: &'a CStr,
        /// The rights.
        files: u64,
    },
    /// Puts the rules into effect.
    Restrict,
    /// Puts a filter of system calls into effect: `struct sock_filter`s.
    FilterCalls(&'a [u8]),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &CStr| text.to_string_lossy().into_owned();
        match self {
            Step::JoinCgroup(path) => write!(formatter, "join {}", text(path)),
            Step::Mount {
                source, target, kind, ..
            } => {
                let what = if kind.is_empty() { source } else { kind };
                write!(formatter, "mount {} on {}", text(what), text(target))
            }
            Step::ReadOnly(path) => write!(formatter, "make {} read-only", text(path)),
            Step::Directory { path, .. } => write!(formatter, "create directory {}", text(path)),
            Step::Device { path, .. } => write!(formatter, "create device {}", text(path)),
            Step::Symlink { path, .. } => write!(formatter, "create link {}", text(path)),
            Step::Hold(path) => write!(formatter, "hold {}", text(path)),
            Step::Attach(path) => write!(formatter, "attach {}", text(path)),
            Step::HoldBeneath { root, path, .. } => write!(formatter, "take {} in {}", text(path), text(root)),
            Step::AttachBeneath { root, path, .. } => write!(formatter, "mount on {} in {}", text(path), text(root)),
            Step::AttachShared(path) => write!(formatter, "attach the shared mount to {}", text(path)),
            Step::BoundCapabilities(_) => formatter.write_str("bound the capabilities"),
            Step::Capabilities(_) => formatter.write_str("drop capabilities"),
            Step::NoNewPrivileges => formatter.write_str("set no_new_privs"),
            Step::Credentials { uid, gid, .. } => write!(formatter, "become uid {uid} gid {gid}"),
            Step::WorkingDirectory(path) => write!(formatter, "change to {}", text(path)),
            Step::Stdio { path, .. } => write!(formatter, "open {}", text(path)),
            Step::Enter(_) => formatter.write_str("enter the container"),
            Step::Stream(descriptor) => write!(formatter, "connect stream {descriptor}"),
            Step::Console { .. } => formatter.write_str("make a terminal"),
            Step::Terminal => formatter.write_str("take the terminal"),
            Step::ResourceLimit { resource, .. } => write!(formatter, "set resource limit {resource}"),
            Step::WriteFile { path, text: value } => write!(formatter, "write {} to {}", text(value), text(path)),
            Step::Rules { .. } => formatter.write_str("make the landlock rules"),
            Step::Allow { path, .. } => write!(formatter, "let landlock allow {}", text(path)),
            Step::Restrict => formatter.write_str("put the landlock rules into effect"),
            Step::FilterCalls(_) => formatter.write_str("put the seccomp filter into effect"),
        }
    }
}

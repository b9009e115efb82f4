//! The plan of one container: what the launcher is told, as a flat list of bytes that it reads without allocating.
//!
//! Little-endian integers; a string is its length (u32), its bytes and a NUL that the length does not count. The agent writes a plan
//! with [`Writer`] and [`Steps`]; the launcher reads it with [`Plan::parse`], which checks every length before anything is used.

use std::ffi::CStr;
use std::fmt;

/// Names what the agent and the launcher agree on: a hash of the sources that say it. A plan begins with it, and the agent's
/// build finds it in the launcher that it embeds.
pub const FORMAT: u64 = hash(
    include_bytes!("record.rs"),
    hash(include_bytes!("plan.rs"), 0xcbf2_9ce4_8422_2325),
);
/// How the launcher's binary says its [`FORMAT`].
pub const FORMAT_MARK: [u8; FORMAT_MARK_PREFIX.len() + 8] = mark();
const FORMAT_MARK_PREFIX: &[u8; 24] = b"proffer-shim plan-format";
/// The byte of an order for a container with a pid namespace of its own.
pub const ORDER_OWN_PIDS: u8 = 1;
/// The byte of any other order.
pub const ORDER_HOST_PIDS: u8 = 0;
/// The byte of an order to enter a container that runs: a plan, the pipe for what is said, a pidfd of the container's main process,
/// and the three standard streams. The first that is said is a report with the supervisor, at the stage of that name.
pub const ORDER_ENTER: u8 = 2;
/// Standard input is a file.
pub const INPUT_NONE: u32 = 0;
/// Standard input is a pipe whose other end the supervisor holds as [`CONSOLE`], until it gets `SIGUSR1`.
pub const INPUT_PIPE: u32 = 1;
/// The standard streams are a terminal whose other side the supervisor holds as [`CONSOLE`], and writes what comes to the file of
/// standard output.
pub const INPUT_TERMINAL: u32 = 2;
/// The number of the supervisor's descriptor that an agent takes to attach.
pub const CONSOLE: i32 = 100;
/// The launcher's argument, followed by a hexadecimal number: no plan leaves a container other capabilities than these.
pub const CAPABILITIES_ARGUMENT: &str = "--capabilities=";
/// The attribute of a file of output that says at which byte of all the output it begins, as a decimal number. The first has none.
pub const LOG_START_ATTRIBUTE: &CStr = c"user.proffer.start";
/// The longest plan; `execve` itself takes about 2 MiB of arguments.
pub const PLAN_BYTES_MAX: usize = 8 << 20;
/// The most steps, arguments or variables.
const COUNT_MAX: u32 = 1 << 20;
/// How many of the settings are texts.
const TEXTS: usize = 12;

/// How the container is supervised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings<'a> {
    /// The supervisor is the first process of a pid namespace of the container's own; the order says the same.
    pub pid_namespace: bool,
    /// Further `CLONE_NEW*` flags for the task alone.
    pub clone_flags: u64,
    /// What the supervisor holds open for those who attach: one of `INPUT_*`.
    pub input: u32,
    /// The boot that the records belong to.
    pub boot_id: &'a [u8],
    /// The directory of the records; absolute.
    pub state_dir: &'a [u8],
    /// The directory of the unified tree's cgroup, in which the task is created; or empty.
    pub cgroup: &'a [u8],
    /// `cgroup.kill`, or empty.
    pub cgroup_kill: &'a [u8],
    /// `cgroup.procs` of a cgroup with all processes, or empty.
    pub cgroup_procs: &'a [u8],
    /// cgroup v1 `memory.oom_control`, or empty.
    pub oom_control: &'a [u8],
    /// cgroup v1 `cgroup.event_control` beside it, or empty.
    pub oom_event_control: &'a [u8],
    /// cgroup v2 `memory.events`, or empty.
    pub oom_events: &'a [u8],
    /// The file with the memory limit, or empty.
    pub memory_limit: &'a [u8],
    /// The file with the peak of memory use, or empty.
    pub memory_peak: &'a [u8],
    /// The unified tree's `cpu.stat`, or empty.
    pub cpu_stat: &'a [u8],
    /// The directory in which the supervisor keeps the files of the task's output, or empty.
    pub logs: &'a [u8],
    /// The most bytes of one such file.
    pub log_bytes: u64,
    /// How many such files there are of each stream.
    pub log_files: u32,
    /// The user and the group to whom they belong.
    pub log_owner: (u32, u32),
}

/// A text with a NUL inside, which no system call takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InteriorNul;

impl fmt::Display for InteriorNul {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("contains a NUL character")
    }
}

impl std::error::Error for InteriorNul {}

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

/// Steps under construction.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    bytes: Vec<u8>,
    count: u32,
}

impl Steps {
    /// Appends a step.
    pub fn push(&mut self, step: &Step<'_>) {
        self.count += 1;
        let bytes = &mut self.bytes;
        match *step {
            Step::JoinCgroup(path) => tagged(bytes, 1, &[path]),
            Step::Mount {
                source,
                target,
                kind,
                flags,
                data,
            } => {
                tagged(bytes, 2, &[source, target, kind, data]);
                bytes.extend(flags.to_le_bytes());
            }
            Step::ReadOnly(path) => tagged(bytes, 3, &[path]),
            Step::Directory { path, mode } => {
                tagged(bytes, 4, &[path]);
                put_u32(bytes, &[mode]);
            }
            Step::Device {
                path,
                mode,
                major,
                minor,
            } => {
                tagged(bytes, 5, &[path]);
                put_u32(bytes, &[mode, major, minor]);
            }
            Step::Symlink { text, path } => tagged(bytes, 6, &[text, path]),
            Step::Hold(path) => tagged(bytes, 7, &[path]),
            Step::Attach(path) => tagged(bytes, 8, &[path]),
            Step::HoldBeneath {
                slot,
                root,
                path,
                resolve,
            } => {
                tagged(bytes, 40, &[root, path]);
                put_u32(bytes, &[slot]);
                bytes.extend(resolve.to_le_bytes());
            }
            Step::AttachBeneath {
                slot,
                root,
                path,
                resolve,
                read_only,
            } => {
                tagged(bytes, 41, &[root, path]);
                put_u32(bytes, &[slot, u32::from(read_only)]);
                bytes.extend(resolve.to_le_bytes());
            }
            Step::AttachShared(path) => tagged(bytes, 15, &[path]),
            Step::BoundCapabilities(kept) => put_u64(bytes, 9, &[kept]),
            Step::Capabilities(kept) => put_u64(bytes, 16, &[kept]),
            Step::NoNewPrivileges => bytes.push(10),
            Step::Credentials { uid, gid, groups } => {
                bytes.push(11);
                put_u32(bytes, &[uid, gid, groups.len() as u32]);
                bytes.extend(groups);
            }
            Step::WorkingDirectory(path) => tagged(bytes, 12, &[path]),
            Step::Stdio { descriptor, path } => {
                tagged(bytes, 13, &[path]);
                put_u32(bytes, &[descriptor]);
            }
            Step::Enter(namespaces) => {
                bytes.push(30);
                bytes.extend(namespaces.to_le_bytes());
            }
            Step::Stream(descriptor) => {
                bytes.push(31);
                put_u32(bytes, &[descriptor]);
            }
            Step::Terminal => bytes.push(32),
            Step::Console { rows, columns } => {
                bytes.push(33);
                put_u32(bytes, &[u32::from(rows) << 16 | u32::from(columns)]);
            }
            Step::ResourceLimit { resource, soft, hard } => {
                bytes.push(14);
                put_u32(bytes, &[resource]);
                bytes.extend(soft.to_le_bytes());
                bytes.extend(hard.to_le_bytes());
            }
            Step::WriteFile { path, text } => tagged(bytes, 17, &[path, text]),
            Step::Rules { files, scoped } => put_u64(bytes, 18, &[files, scoped]),
            Step::Allow { path, files } => {
                tagged(bytes, 19, &[path]);
                bytes.extend(files.to_le_bytes());
            }
            Step::Restrict => bytes.push(20),
            Step::FilterCalls(filter) => {
                bytes.push(21);
                put_u32(bytes, &[filter.len() as u32]);
                bytes.extend(filter);
            }
        }
    }

    /// Appends other steps.
    pub fn append(&mut self, other: &Steps) {
        self.bytes.extend(&other.bytes);
        self.count += other.count;
    }
}

/// Writes a whole plan.
pub fn encode(
    settings: &Settings<'_>,
    argv: &[&[u8]],
    environment: &[&[u8]],
    steps: &Steps,
) -> Result<Vec<u8>, InteriorNul> {
    let mut bytes = Vec::with_capacity(1024 + steps.bytes.len());
    bytes.extend(FORMAT.to_le_bytes());
    put_u32(&mut bytes, &[u32::from(settings.pid_namespace), settings.input]);
    bytes.extend(settings.clone_flags.to_le_bytes());
    bytes.extend(settings.log_bytes.to_le_bytes());
    put_u32(
        &mut bytes,
        &[settings.log_files, settings.log_owner.0, settings.log_owner.1],
    );
    for text in settings.texts() {
        put_text(&mut bytes, text)?;
    }
    for list in [argv, environment] {
        put_u32(&mut bytes, &[list.len() as u32]);
        for text in list {
            put_text(&mut bytes, text)?;
        }
    }
    put_u32(&mut bytes, &[steps.count]);
    bytes.extend(&steps.bytes);
    Ok(bytes)
}

impl<'a> Settings<'a> {
    fn texts(&self) -> [&'a [u8]; TEXTS] {
        [
            self.boot_id,
            self.state_dir,
            self.cgroup,
            self.cgroup_kill,
            self.cgroup_procs,
            self.oom_control,
            self.oom_event_control,
            self.oom_events,
            self.memory_limit,
            self.memory_peak,
            self.cpu_stat,
            self.logs,
        ]
    }
}

/// FNV-1a.
const fn hash(bytes: &[u8], mut hash: u64) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

const fn mark() -> [u8; FORMAT_MARK_PREFIX.len() + 8] {
    let (mut mark, format) = ([0; FORMAT_MARK_PREFIX.len() + 8], FORMAT.to_le_bytes());
    let mut at = 0;
    while at < mark.len() {
        mark[at] = if at < FORMAT_MARK_PREFIX.len() {
            FORMAT_MARK_PREFIX[at]
        } else {
            format[at - FORMAT_MARK_PREFIX.len()]
        };
        at += 1;
    }
    mark
}

fn tagged(bytes: &mut Vec<u8>, tag: u8, texts: &[&CStr]) {
    bytes.push(tag);
    for text in texts {
        put_u32(bytes, &[text.to_bytes().len() as u32]);
        bytes.extend(text.to_bytes_with_nul());
    }
}

fn put_u32(bytes: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        bytes.extend(value.to_le_bytes());
    }
}

fn put_u64(bytes: &mut Vec<u8>, tag: u8, values: &[u64]) {
    bytes.push(tag);
    for value in values {
        bytes.extend(value.to_le_bytes());
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) -> Result<(), InteriorNul> {
    if text.contains(&0) {
        return Err(InteriorNul);
    }
    put_u32(bytes, &[text.len() as u32]);
    bytes.extend(text);
    bytes.push(0);
    Ok(())
}

/// A plan as the launcher reads it.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Whether the launcher becomes the first process of a pid namespace.
    pub pid_namespace: bool,
    /// [`Settings::input`].
    pub input: u32,
    /// Further `CLONE_NEW*` flags for the task.
    pub clone_flags: u64,
    /// [`Settings::log_bytes`].
    pub log_bytes: u64,
    /// [`Settings::log_files`].
    pub log_files: u32,
    /// [`Settings::log_owner`].
    pub log_owner: (u32, u32),
    /// The other settings, in the order of [`Settings`].
    texts: [&'a CStr; TEXTS],
    /// The program and its arguments.
    pub argv: Texts<'a>,
    /// `NAME=value` each.
    pub environment: Texts<'a>,
    steps: Reader<'a>,
    steps_count: u32,
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident = $index:literal;)*) => {
        impl<'a> Plan<'a> {
            $($(#[$doc])* pub fn $name(&self) -> &'a CStr { self.texts[$index] })*
        }
    };
}
settings! {
    /// [`Settings::boot_id`].
    boot_id = 0;
    /// [`Settings::state_dir`].
    state_dir = 1;
    /// [`Settings::cgroup`].
    cgroup = 2;
    /// [`Settings::cgroup_kill`].
    cgroup_kill = 3;
    /// [`Settings::cgroup_procs`].
    cgroup_procs = 4;
    /// [`Settings::oom_control`].
    oom_control = 5;
    /// [`Settings::oom_event_control`].
    oom_event_control = 6;
    /// [`Settings::oom_events`].
    oom_events = 7;
    /// [`Settings::memory_limit`].
    memory_limit = 8;
    /// [`Settings::memory_peak`].
    memory_peak = 9;
    /// [`Settings::cpu_stat`].
    cpu_stat = 10;
    /// [`Settings::logs`].
    logs = 11;
}

impl<'a> Plan<'a> {
    /// Reads a plan; none when it is not one, whole.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > PLAN_BYTES_MAX {
            return None;
        }
        let mut reader = Reader { bytes };
        if reader.u64()? != FORMAT {
            return None;
        }
        let pid_namespace = reader.u32()? != 0;
        let input = reader.u32()?;
        let clone_flags = reader.u64()?;
        let log_bytes = reader.u64()?;
        let log_files = reader.u32()?;
        let log_owner = (reader.u32()?, reader.u32()?);
        let mut texts = [c""; TEXTS];
        for text in &mut texts {
            *text = reader.text()?;
        }
        let argv = reader.texts()?;
        let environment = reader.texts()?;
        let steps_count = reader.u32()?;
        let plan = Plan {
            pid_namespace,
            input,
            clone_flags,
            log_bytes,
            log_files,
            log_owner,
            texts,
            argv,
            environment,
            steps: reader,
            steps_count,
        };
        let whole = plan.argv.count > 0 && steps_count <= COUNT_MAX && plan.steps_are_whole();
        whole.then_some(plan)
    }

    /// The steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = Step<'a>> + use<'a> {
        let mut reader = self.steps;
        (0..self.steps_count).map_while(move |_| reader.step())
    }

    fn steps_are_whole(&self) -> bool {
        let mut reader = self.steps;
        (0..self.steps_count).all(|_| reader.step().is_some()) && reader.bytes.is_empty()
    }
}

/// A list of strings inside a plan.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// How many there are.
    pub count: u32,
    reader: Reader<'a>,
}

impl<'a> Texts<'a> {
    /// The strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a CStr> + use<'a> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| reader.text())
    }
}

#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(count)?;
        self.bytes = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a CStr> {
        let length = self.u32()? as usize;
        CStr::from_bytes_with_nul(self.take(length.checked_add(1)?)?).ok()
    }

    fn texts(&mut self) -> Option<Texts<'a>> {
        let count = self.u32()?;
        if count > COUNT_MAX {
            return None;
        }
        let texts = Texts { count, reader: *self };
        for _ in 0..count {
            self.text()?;
        }
        Some(texts)
    }

    fn step(&mut self) -> Option<Step<'a>> {
        Some(match self.u8()? {
            1 => Step::JoinCgroup(self.text()?),
            2 => {
                let (source, target, kind, data) = (self.text()?, self.text()?, self.text()?, self.text()?);
                Step::Mount {
                    source,
                    target,
                    kind,
                    data,
                    flags: self.u64()?,
                }
            }
            3 => Step::ReadOnly(self.text()?),
            4 => Step::Directory {
                path: self.text()?,
                mode: self.u32()?,
            },
            5 => Step::Device {
                path: self.text()?,
                mode: self.u32()?,
                major: self.u32()?,
                minor: self.u32()?,
            },
            6 => Step::Symlink {
                text: self.text()?,
                path: self.text()?,
            },
            7 => Step::Hold(self.text()?),
            8 => Step::Attach(self.text()?),
            40 => Step::HoldBeneath {
                root: self.text()?,
                path: self.text()?,
                slot: self.u32()?,
                resolve: self.u64()?,
            },
            41 => Step::AttachBeneath {
                root: self.text()?,
                path: self.text()?,
                slot: self.u32()?,
                read_only: self.u32()? != 0,
                resolve: self.u64()?,
            },
            15 => Step::AttachShared(self.text()?),
            9 => Step::BoundCapabilities(self.u64()?),
            16 => Step::Capabilities(self.u64()?),
            10 => Step::NoNewPrivileges,
            11 => {
                let (uid, gid, length) = (self.u32()?, self.u32()?, self.u32()? as usize);
                Step::Credentials {
                    uid,
                    gid,
                    groups: self.take(length)?,
                }
            }
            12 => Step::WorkingDirectory(self.text()?),
            13 => Step::Stdio {
                path: self.text()?,
                descriptor: self.u32()?,
            },
            14 => Step::ResourceLimit {
                resource: self.u32()?,
                soft: self.u64()?,
                hard: self.u64()?,
            },
            30 => Step::Enter(self.u64()?),
            31 => Step::Stream(self.u32()?),
            32 => Step::Terminal,
            17 => Step::WriteFile {
                path: self.text()?,
                text: self.text()?,
            },
            18 => Step::Rules {
                files: self.u64()?,
                scoped: self.u64()?,
            },
            19 => Step::Allow {
                path: self.text()?,
                files: self.u64()?,
            },
            20 => Step::Restrict,
            21 => {
                let length = self.u32()? as usize;
                Step::FilterCalls(self.take(length)?)
            }
            33 => {
                let size = self.u32()?;
                Step::Console {
                    rows: (size >> 16) as u16,
                    columns: size as u16,
                }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Step<'static>] = &[
        Step::JoinCgroup(c"/c/cgroup.procs"),
        Step::Mount {
            source: c"",
            target: c"/",
            kind: c"",
            flags: 7,
            data: c"size=1",
        },
        Step::ReadOnly(c"/sys"),
        Step::Directory {
            path: c"/d",
            mode: 0o755,
        },
        Step::Device {
            path: c"/dev/null",
            mode: 0o666,
            major: 1,
            minor: 3,
        },
        Step::Symlink {
            text: c"a",
            path: c"/b",
        },
        Step::Hold(c"/h"),
        Step::Attach(c"/i"),
        Step::HoldBeneath {
            slot: 3,
            root: c"/r",
            path: c"p",
            resolve: 8,
        },
        Step::AttachBeneath {
            slot: 3,
            root: c"/r",
            path: c"p",
            resolve: 12,
            read_only: true,
        },
        Step::AttachShared(c"/j"),
        Step::BoundCapabilities(u64::MAX - 1),
        Step::Capabilities(3),
        Step::NoNewPrivileges,
        Step::Credentials {
            uid: 1,
            gid: 2,
            groups: &[3, 0, 0, 0, 4, 0, 0, 0],
        },
        Step::WorkingDirectory(c"/w"),
        Step::Stdio {
            descriptor: 1,
            path: c"/w/stdout",
        },
        Step::Enter(1 << 33),
        Step::Stream(2),
        Step::Terminal,
        Step::Console { rows: 24, columns: 80 },
        Step::ResourceLimit {
            resource: 7,
            soft: 8,
            hard: 9,
        },
        Step::WriteFile {
            path: c"/p",
            text: c"1",
        },
        Step::Rules { files: 5, scoped: 6 },
        Step::Allow { path: c"/q", files: 4 },
        Step::Restrict,
        Step::FilterCalls(&[1, 2, 3, 4, 5, 6, 7, 8]),
    ];

    fn example() -> Vec<u8> {
        let mut steps = Steps::default();
        STEPS.iter().for_each(|step| steps.push(step));
        let settings = Settings {
            pid_namespace: true,
            clone_flags: 0x1234,
            boot_id: b"b",
            state_dir: b"/s",
            cpu_stat: b"/cpu.stat",
            ..Settings::default()
        };
        encode(&settings, &[b"/bin/echo", b""], &[b"A=b"], &steps).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = example();
        let plan = Plan::parse(&bytes).unwrap();
        assert!(plan.pid_namespace);
        assert_eq!(plan.clone_flags, 0x1234);
        assert_eq!(
            (plan.boot_id(), plan.state_dir(), plan.cpu_stat()),
            (c"b", c"/s", c"/cpu.stat")
        );
        assert_eq!(plan.argv.iter().collect::<Vec<_>>(), [c"/bin/echo", c""]);
        assert_eq!(plan.environment.iter().collect::<Vec<_>>(), [c"A=b"]);
        assert_eq!(plan.steps().collect::<Vec<_>>(), STEPS);
    }

    #[test]
    fn a_plan_that_is_not_whole_is_refused() {
        let bytes = example();
        for length in 0..bytes.len() {
            assert!(Plan::parse(&bytes[..length]).is_none(), "{length}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Plan::parse(&longer).is_none());
        for (index, _) in bytes.iter().enumerate() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 0xff;
            if let Some(plan) = Plan::parse(&damaged) {
                assert!(plan.steps().count() == STEPS.len() && plan.argv.iter().count() > 0);
            }
        }
    }

    #[test]
    fn a_text_with_a_nul_is_refused() {
        let refused = encode(&Settings::default(), &[b"a\0b"], &[], &Steps::default());
        assert_eq!(refused, Err(InteriorNul));
    }
}

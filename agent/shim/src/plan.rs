//! The plan of one container: what the launcher is told, as a flat list of bytes that it reads without allocating.
//!
//! Little-endian integers; a string is its length (u32), its bytes and a NUL that the length does not count. The agent writes a plan
//! with [`encode`] and [`Steps`]; the launcher reads it with [`Plan::parse`], which checks every length before anything is used.

mod read;
mod step;
mod write;

use std::ffi::CStr;
use std::fmt;

use self::read::Reader;
pub use self::read::Texts;
pub use self::step::Step;
pub use self::write::Steps;
use self::write::{put_text, put_u32};

/// Names what the agent and the launcher agree on: a hash of the sources that say it. A plan begins with it, and the agent's
/// build finds it in the launcher that it embeds.
pub const FORMAT: u64 = hash_all(&[
    include_bytes!("plan.rs"),
    include_bytes!("plan/step.rs"),
    include_bytes!("plan/write.rs"),
    include_bytes!("plan/read.rs"),
    include_bytes!("record.rs"),
]);
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

const fn hash_all(sources: &[&[u8]]) -> u64 {
    let (mut all, mut at) = (0xcbf2_9ce4_8422_2325, 0);
    while at < sources.len() {
        all = hash(sources[at], all);
        at += 1;
    }
    all
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

#[cfg(test)]
mod tests;

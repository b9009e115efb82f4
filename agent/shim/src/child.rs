//! The child: carries out the plan's steps and becomes the program.
//!
//! The supervisor stands still until the child has executed the program or ended (`CLONE_VFORK`), and finds in a page that both
//! share how far it came. Where there is a unified tree the child is created inside its cgroup (`CLONE_INTO_CGROUP`), which is
//! much cheaper than moving it there.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

use proffer_shim::plan::{Plan, Step};
use proffer_shim::record::{Process, Stage, Text};

use crate::confine;
use crate::system::{self, Descriptor, Errno, check};
use crate::volumes;

const PATH_BYTES: usize = 4096;
const PATH_DEFAULT: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The mount that all containers share, if there is one; the program's standard error takes its place.
const SHARED: Descriptor = Descriptor(2);

/// What the child leaves behind, in memory shared by both. Written by the child while the supervisor stands still.
#[derive(Default)]
struct Outcome {
    stage: AtomicU32,
    errno: AtomicI32,
    pid: AtomicU32,
    start_time: AtomicU64,
}

/// What the steps need besides their paths; -1 where there is none.
#[derive(Clone, Copy)]
pub(crate) struct Given {
    /// A pidfd of the main process of the container that is entered.
    pub(crate) container: Descriptor,
    /// The standard streams.
    pub(crate) streams: [Descriptor; 3],
    /// The socket over which the supervisor gets the other side of a terminal.
    pub(crate) console: Descriptor,
}

impl Given {
    /// Nothing.
    pub(crate) const NONE: Given = Given {
        container: Descriptor(-1),
        streams: [Descriptor(-1); 3],
        console: Descriptor(-1),
    };
}

/// What the child needs.
pub(crate) struct Task<'a> {
    plan: &'a Plan<'static>,
    /// Where the record of the start goes; none for a process that enters a container, of which there is no record.
    state_dir: Option<Descriptor>,
    given: Given,
    shim: Process,
    argv: *const *const libc::c_char,
    environment: *const *const libc::c_char,
    search_path: &'static [u8],
    program: &'static CStr,
    outcome: &'static Outcome,
}

impl<'a> Task<'a> {
    pub(crate) fn new(
        plan: &'a Plan<'static>,
        state_dir: Option<Descriptor>,
        given: Given,
        shim: Process,
    ) -> Result<Self, Errno> {
        let (arguments, variables) = (plan.argv.count as usize, plan.environment.count as usize);
        let pointers = system::pointers(arguments + variables + 2)?;
        let (argv, environment) = pointers.split_at_mut(arguments + 1);
        // The last pointer of each stays null.
        argv.iter_mut()
            .zip(plan.argv.iter())
            .for_each(|(to, text)| *to = text.as_ptr());
        environment
            .iter_mut()
            .zip(plan.environment.iter())
            .for_each(|(to, text)| *to = text.as_ptr());
        let search_path = plan
            .environment
            .iter()
            .find_map(|text| text.to_bytes().strip_prefix(b"PATH="));
        Ok(Task {
            plan,
            state_dir,
            given,
            shim,
            argv: argv.as_ptr(),
            environment: environment.as_ptr(),
            search_path: search_path.unwrap_or(PATH_DEFAULT),
            program: plan.argv.iter().next().ok_or(libc::EINVAL)?,
            outcome: system::shared(Outcome::default())?,
        })
    }

    /// The main process, as the agent names it.
    pub(crate) fn process(&self) -> Process {
        Process {
            pid: self.outcome.pid.load(Relaxed),
            start_time: self.outcome.start_time.load(Relaxed),
        }
    }

    fn stage(&self, stage: Stage) {
        self.outcome.stage.store(stage.to_u32(), Relaxed);
    }
}

/// Creates the task; returns when its program has been executed, with its pid as the supervisor names it.
pub(crate) fn start(task: &Task<'_>) -> Result<i32, (Stage, Errno)> {
    task.stage(Stage::Clone);
    let cgroup = task.plan.cgroup();
    let cgroup = if cgroup.is_empty() {
        Ok(None)
    } else {
        system::open(cgroup, libc::O_DIRECTORY, 0).map(Some)
    };
    let flags = task.plan.clone_flags | libc::CLONE_VFORK as u64;
    let pid = match cgroup.and_then(|cgroup| system::clone(flags, cgroup)) {
        Ok(0) => {
            let errno = run(task).err().unwrap_or(0);
            task.outcome.errno.store(errno, Relaxed);
            system::exit(127)
        }
        Ok(pid) => pid as i32,
        Err(errno) => return Err((Stage::Clone, errno)),
    };
    let (stage, errno) = (
        Stage::from_u32(task.outcome.stage.load(Relaxed)),
        task.outcome.errno.load(Relaxed),
    );
    if errno == 0 && stage == Stage::Exec {
        return Ok(pid);
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place for the answer.
    unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
    // Killed before its program ran: the memory limit was too small even for that, or someone was quicker.
    Err((stage, if errno == 0 { libc::ENOMEM } else { errno }))
}

fn run(task: &Task<'_>) -> Result<(), Errno> {
    task.stage(Stage::Record);
    // SAFETY: a plain system call.
    unsafe { libc::setsid() };
    record(task)?;
    let mut held = Held::default();
    for (index, step) in task.plan.steps().enumerate() {
        task.stage(Stage::Step(index as u32));
        apply(task, &step, &mut held)?;
    }
    task.stage(Stage::Exec);
    system::unblock_signals()?;
    execute(task)
}

/// Says who runs before anything does. An agent that has given this container up has left a file of that name, and then nothing is
/// run.
fn record(task: &Task<'_>) -> Result<(), Errno> {
    let process = system::myself()?;
    task.outcome.pid.store(process.pid, Relaxed);
    task.outcome.start_time.store(process.start_time, Relaxed);
    let Some(state_dir) = task.state_dir else { return Ok(()) };
    let mut text = Text::<256>::default();
    text.push(b"proffer-state 1\nboot ")
        .push(task.plan.boot_id().to_bytes());
    for (key, process) in [(b"shim", task.shim), (b"task", process)] {
        text.push(b"\n")
            .push(key)
            .push(b" ")
            .number(process.pid.into())
            .push(b" ")
            .number(process.start_time);
    }
    text.push(b"\nend\n");
    system::write_record(state_dir, (c"state.tmp", c"state"), text.as_bytes(), (false, false))
}

/// What is in hand between two steps.
#[derive(Default)]
struct Held {
    directory: Option<Descriptor>,
    rules: Option<Descriptor>,
    volumes: volumes::Held,
}

fn apply(task: &Task<'_>, step: &Step<'_>, held: &mut Held) -> Result<(), Errno> {
    match *step {
        Step::JoinCgroup(procs) => system::write_file(procs, b"0"),
        Step::Mount {
            source,
            target,
            kind,
            flags,
            data,
        } => mount(source, target, kind, flags, data),
        Step::ReadOnly(path) => read_only(path),
        Step::Directory { path, mode } => {
            // SAFETY: the path is a C string.
            match check(unsafe { libc::mkdir(path.as_ptr(), mode) }) {
                Err(libc::EEXIST) | Ok(_) => Ok(()),
                Err(errno) => Err(errno),
            }
        }
        Step::Device {
            path,
            mode,
            major,
            minor,
        } => {
            let device = libc::makedev(major, minor);
            // SAFETY: the path is a C string.
            check(unsafe { libc::mknod(path.as_ptr(), mode, device) }).map(drop)
        }
        // SAFETY: both are C strings.
        Step::Symlink { text, path } => check(unsafe { libc::symlink(text.as_ptr(), path.as_ptr()) }).map(drop),
        Step::AttachShared(path) => copy(SHARED, c"", libc::AT_EMPTY_PATH).and_then(|tree| attach(tree, path)),
        Step::Hold(path) => hold(path).map(|tree| held.directory = Some(tree)),
        Step::Attach(path) => attach(held.directory.take().ok_or(libc::EBADF)?, path),
        Step::HoldBeneath {
            slot,
            root,
            path,
            resolve,
        } => volumes::hold(&mut held.volumes, slot, root, path, resolve),
        Step::AttachBeneath {
            slot,
            root,
            path,
            resolve,
            read_only,
        } => volumes::attach(&mut held.volumes, slot, (root, path, resolve), read_only),
        Step::BoundCapabilities(kept) => confine::bound_capabilities(kept),
        Step::Capabilities(kept) => confine::keep_capabilities(kept),
        // SAFETY: a plain system call with numbers.
        Step::NoNewPrivileges => check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop),
        Step::Credentials { uid, gid, groups } => become_user(uid, gid, groups),
        Step::WorkingDirectory(path) => system::change_directory(path),
        Step::Stdio { descriptor, path } => redirect(descriptor, path),
        Step::Enter(namespaces) => system::join(task.given.container, namespaces as libc::c_int),
        Step::Stream(descriptor) => {
            let stream = task.given.streams.get(descriptor as usize).ok_or(libc::EBADF)?;
            // SAFETY: a plain system call with numbers.
            unsafe { libc::umask(0o022) };
            system::duplicate(*stream, Descriptor(descriptor as libc::c_int))
        }
        Step::Console { rows, columns } => make_terminal(task.given.console, rows, columns),
        // SAFETY: a plain system call with numbers.
        Step::Terminal => check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }).map(drop),
        Step::ResourceLimit { resource, soft, hard } => {
            let limit = libc::rlimit64 {
                rlim_cur: soft,
                rlim_max: hard,
            };
            let none = ptr::null_mut::<libc::rlimit64>();
            // SAFETY: the new limit is valid for the call, the old one is not asked for.
            check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &limit, none) }).map(drop)
        }
        Step::WriteFile { path, text } => system::write_file(path, text.to_bytes()),
        Step::Rules { files, scoped } => confine::rules(files, scoped).map(|rules| held.rules = Some(rules)),
        Step::Allow { path, files } => confine::allow(held.rules.ok_or(libc::EBADF)?, path, files),
        Step::Restrict => confine::restrict(held.rules.take().ok_or(libc::EBADF)?),
        Step::FilterCalls(filter) => confine::filter_calls(filter),
    }
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Result<(), Errno> {
    let or_null = |text: &CStr| if text.is_empty() { ptr::null() } else { text.as_ptr() };
    let (source, kind, data) = (or_null(source), or_null(kind), or_null(data));
    // SAFETY: each is null or a C string that outlives the call.
    check(unsafe { libc::mount(source, target.as_ptr(), kind, flags, data.cast()) }).map(drop)
}

/// `mount_setattr`, Linux 5.12: the mount and all below it in one step.
fn read_only(path: &CStr) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string; the attributes and their size belong together and outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

fn hold(path: &CStr) -> Result<Descriptor, Errno> {
    copy(Descriptor(libc::AT_FDCWD), path, libc::AT_RECURSIVE)
}

/// A copy of a mount, attached nowhere.
fn copy(directory: Descriptor, path: &CStr, flags: libc::c_int) -> Result<Descriptor, Errno> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | flags as libc::c_uint;
    // SAFETY: the path is a C string.
    let tree = check(unsafe { libc::syscall(libc::SYS_open_tree, directory.0, path.as_ptr(), flags) })?;
    Ok(Descriptor(tree as libc::c_int))
}

fn attach(tree: Descriptor, path: &CStr) -> Result<(), Errno> {
    let (here, flags) = (libc::AT_FDCWD, libc::MOVE_MOUNT_F_EMPTY_PATH);
    // SAFETY: both paths are C strings.
    check(unsafe { libc::syscall(libc::SYS_move_mount, tree.0, c"".as_ptr(), here, path.as_ptr(), flags) }).map(drop)
}

fn become_user(uid: u32, gid: u32, groups: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel copies `groups.len() / 4` numbers from within the slice, at any alignment; the rest are numbers. Raw
    // calls, because the C library's change every thread, and there is one.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, groups.len() / 4, groups.as_ptr()))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid)).map(drop)
    }
}

/// A fifo in the file's place is not waited for.
fn redirect(descriptor: u32, path: &CStr) -> Result<(), Errno> {
    let flags = if descriptor == 0 {
        libc::O_RDONLY
    } else {
        libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND
    };
    let file = open_stream(path, flags)?;
    system::duplicate(file, Descriptor(descriptor as libc::c_int))?;
    // SAFETY: a plain system call with numbers.
    unsafe { libc::umask(0o022) };
    system::close(file);
    Ok(())
}

fn open_stream(path: &CStr, flags: libc::c_int) -> Result<Descriptor, Errno> {
    let file = system::open(
        path,
        flags | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY,
        0o640,
    )?;
    // SAFETY: plain system calls with numbers.
    unsafe {
        let flags = check(libc::fcntl(file.0, libc::F_GETFL))?;
        check(libc::fcntl(file.0, libc::F_SETFL, flags & !libc::O_NONBLOCK))?;
    }
    Ok(file)
}

/// By the user, whose terminal it then is. What it shows goes to the file `stdout`, through the supervisor.
fn make_terminal(console: Descriptor, rows: u16, columns: u16) -> Result<(), Errno> {
    let kept = system::open(c"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK, 0)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the numbers and the size outlive the calls that read them.
    let terminal = unsafe {
        check(libc::ioctl(kept.0, libc::TIOCSPTLCK, &0 as *const libc::c_int))?;
        check(libc::ioctl(kept.0, libc::TIOCSWINSZ, &size))?;
        Descriptor(check(libc::ioctl(kept.0, libc::TIOCGPTPEER, flags))?)
    };
    let log = open_stream(c"stdout", libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND)?;
    system::send(console, [kept, log])?;
    for stream in 0..3 {
        system::duplicate(terminal, Descriptor(stream))?;
    }
    // SAFETY: plain system calls with numbers.
    unsafe {
        libc::umask(0o022);
        check(libc::ioctl(0, libc::TIOCSCTTY, 0)).map(drop)
    }
}

/// Looks a name without a slash up in `PATH`, as shells do.
fn execute(task: &Task<'_>) -> Result<(), Errno> {
    let name = task.program.to_bytes();
    if name.contains(&b'/') {
        return Err(execute_file(task, task.program));
    }
    let mut result = libc::ENOENT;
    for directory in task.search_path.split(|byte| *byte == b':') {
        let mut file = Text::<PATH_BYTES>::default();
        let directory = if directory.is_empty() { b"." } else { directory };
        file.push(directory).push(b"/").push(name).push(b"\0");
        // None when it did not fit.
        let Ok(file) = CStr::from_bytes_with_nul(file.as_bytes()) else {
            continue;
        };
        match execute_file(task, file) {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => result = libc::EACCES,
            errno => return Err(errno),
        }
    }
    Err(result)
}

fn execute_file(task: &Task<'_>, file: &CStr) -> Errno {
    // SAFETY: both lists end with a null pointer, and they and their strings are never unmapped.
    unsafe { libc::execve(file.as_ptr(), task.argv, task.environment) };
    system::errno()
}

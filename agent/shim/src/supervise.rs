//! The supervisor: creates the task, waits for the container to end, and leaves the record of it.

use std::ffi::CStr;

use proffer_shim::plan::Plan;
use proffer_shim::record::{Process, Report, Stage, Text, keyed, number};

use crate::child::{self, Task};
use crate::console::{Console, Prepared, end_input};
use crate::logs::Logs;
use crate::system::{self, Descriptor, Errno, check};

/// What the supervisor waits on.
pub(crate) struct Watch {
    signals: Descriptor,
    /// An eventfd that the kernel raises when a v1 memory cgroup runs out.
    oom: Option<Descriptor>,
    /// The pipe to the agent, whose end ends all; none where the container outlives the agent.
    pub(crate) agent: Option<Descriptor>,
}

pub(crate) fn run(plan: &Plan<'static>, state_dir: Descriptor, shim: Process) -> ! {
    let mut report = Report {
        errno: 0,
        stage: Stage::Watch,
        shim,
        task: Process::default(),
    };
    let ready = prepare(plan).and_then(|watch| Ok((watch, Prepared::new(plan)?)));
    let (watch, input) = match ready {
        Ok(ready) => ready,
        Err(errno) => fail(state_dir, report, errno),
    };
    let mut logs = match Logs::open(plan) {
        Ok(logs) => logs,
        Err(errno) => {
            report.stage = Stage::Logs;
            fail(state_dir, report, errno)
        }
    };
    let mut given = input.given();
    if let Some(logs) = &logs {
        [given.streams[1], given.streams[2]] = logs.task();
    }
    let task = match Task::new(plan, Some(state_dir), given, shim) {
        Ok(task) => task,
        Err(errno) => fail(state_dir, report, errno),
    };
    let main = match child::start(&task) {
        Ok(pid) => pid,
        Err((stage, errno)) => {
            report.stage = stage;
            fail(state_dir, report, errno)
        }
    };
    let console = input.keep();
    report.stage = Stage::Exec;
    report.task = task.process();
    crate::report(report);
    if let Some(logs) = &logs {
        logs.started();
    }
    let _mounts = keep_mounts(report.task);
    let (status, oom_seen) = supervise(plan, &watch, main, (console, &mut logs), &kill_all);
    if let Some(console) = console {
        console.pump();
    }
    if let Some(logs) = &mut logs {
        logs.finish();
    }
    let text = exit_record(plan, status, oom_seen);
    // While the agent that started this container lives it hears of the exit at once and makes it durable itself, so the disk is
    // not waited for twice. The record is for those that come after it.
    let durable = system::write(crate::REPORT, text.as_bytes()).is_err();
    let _ = system::write_record(state_dir, (c"exit.tmp", c"exit"), text.as_bytes(), (durable, true));
    system::exit(0)
}

fn fail(state_dir: Descriptor, mut report: Report, errno: Errno) -> ! {
    report.errno = errno;
    let mut text = Text::<128>::default();
    text.push(b"proffer-exit 1\n")
        .line(b"failed", Some(errno.unsigned_abs().into()))
        .push(b"end\n");
    let _ = system::write_record(
        state_dir,
        (c"exit.tmp", c"exit"),
        text.as_bytes(),
        (launcher_is_gone(), true),
    );
    crate::report(report);
    system::exit(1)
}

/// Holds the task's mounts open: they are then taken down when this process ends, and the end of the task is not heard only after
/// that.
fn keep_mounts(task: Process) -> Option<Descriptor> {
    let mut path = Text::<64>::default();
    path.push(b"/proc/").number(task.pid.into()).push(b"/ns/mnt\0");
    let path = CStr::from_bytes_with_nul(path.as_bytes()).ok()?;
    // A task that has ended already has none.
    system::open(path, libc::O_RDONLY, 0).ok()
}

pub(crate) fn prepare(plan: &Plan<'_>) -> Result<Watch, Errno> {
    // SAFETY: plain system calls with numbers; the signal set is initialised before it is used.
    let signals = unsafe {
        libc::setsid();
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))?;
        libc::umask(0);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGUSR1);
        check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?
    };
    let oom = if plan.oom_event_control().is_empty() {
        None
    } else {
        Some(watch_oom(plan)?)
    };
    Ok(Watch {
        signals: Descriptor(signals),
        oom,
        agent: None,
    })
}

/// Linux, Documentation/admin-guide/cgroup-v1/memory.rst, section 9.
fn watch_oom(plan: &Plan<'_>) -> Result<Descriptor, Errno> {
    // SAFETY: a plain system call with numbers.
    let event = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    let control = system::open(plan.oom_control(), libc::O_RDONLY, 0)?;
    let mut line = Text::<64>::default();
    line.number(event as u64).push(b" ").number(control.0 as u64);
    system::write_file(plan.oom_event_control(), line.as_bytes())?;
    system::close(control);
    Ok(Descriptor(event))
}

/// Returns when no process of the container is left: the wait status of the main one, and whether memory ran out.
pub(crate) fn supervise(
    plan: &Plan<'_>,
    watch: &Watch,
    main: i32,
    (mut console, logs): (Option<Console>, &mut Option<Logs>),
    kill_all: &dyn Fn(&Plan<'_>),
) -> (i32, bool) {
    let mut status = None;
    let mut oom_seen = false;
    let mut agent = watch.agent;
    loop {
        if agent.is_some_and(is_gone) {
            agent = None;
            kill_all(plan);
        }
        if let Some(event) = watch.oom
            && system::read(event, &mut [0; 8]).is_ok()
        {
            oom_seen = true;
            kill_all(plan);
        }
        if console.is_some_and(|console| !console.pump()) {
            console = None;
        }
        let mut signal = [0; size_of::<libc::signalfd_siginfo>()];
        while system::read(watch.signals, &mut signal).is_ok() {
            // `ssi_signo` comes first.
            match i32::from_ne_bytes([signal[0], signal[1], signal[2], signal[3]]) {
                libc::SIGTERM => kill_all(plan),
                libc::SIGUSR1 => end_input(plan),
                _ => {}
            }
        }
        let children_left = reap(main, &mut status);
        match status {
            Some(status) if !children_left => return (status, oom_seen),
            Some(_) => kill_all(plan),
            None if !children_left => return (libc::SIGKILL, oom_seen),
            None => {}
        }
        wait(watch, agent, console, logs.as_ref().map_or([None; 2], Logs::pipes));
        if let Some(logs) = logs {
            logs.take();
        }
    }
}

/// Whether children are left.
fn reap(main: i32, main_status: &mut Option<i32>) -> bool {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the answer.
        match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG | libc::__WALL) } {
            0 => return true,
            pid if pid > 0 => {
                if pid == main {
                    *main_status = Some(status);
                }
            }
            _ => return false,
        }
    }
}

fn wait(watch: &Watch, agent: Option<Descriptor>, console: Option<Console>, [output, errors]: [Option<Descriptor>; 2]) {
    let watched = |descriptor: Option<Descriptor>, events| libc::pollfd {
        // A negative descriptor is passed over.
        fd: descriptor.map_or(-1, |descriptor| descriptor.0),
        events,
        revents: 0,
    };
    // That the agent is gone is told without being asked for.
    let mut all = [
        watched(Some(watch.signals), libc::POLLIN),
        watched(watch.oom, libc::POLLIN),
        watched(agent, 0),
        watched(console.map(|console| console.terminal), libc::POLLIN),
        watched(output, libc::POLLIN),
        watched(errors, libc::POLLIN),
    ];
    // SAFETY: the pointer and the count are an array's.
    unsafe { libc::poll(all.as_mut_ptr(), all.len() as libc::nfds_t, -1) };
}

pub(crate) fn kill_all(plan: &Plan<'_>) {
    // SAFETY: plain system calls with numbers. Process 1 of the container's own pid namespace reaches that namespace only.
    unsafe {
        if plan.pid_namespace && libc::getpid() == 1 {
            libc::kill(-1, libc::SIGKILL);
            return;
        }
    }
    let killed = !plan.cgroup_kill().is_empty() && system::write_file(plan.cgroup_kill(), b"1").is_ok();
    if !killed && !plan.cgroup_procs().is_empty() {
        kill_listed(plan.cgroup_procs());
    }
}

/// Kernels before 5.14 have no `cgroup.kill`. What is forked meanwhile is met when it is reaped or at the next child's end.
fn kill_listed(procs: &CStr) {
    let mut buffer = [0; 4096];
    let Ok(text) = system::read_file(procs, &mut buffer) else {
        return;
    };
    for pid in text.split(|byte| *byte == b'\n').filter_map(number) {
        if pid > 1 && pid <= i32::MAX as u64 {
            // SAFETY: a plain system call with numbers.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
    }
}

fn exit_record(plan: &Plan<'_>, status: i32, oom_seen: bool) -> Text<512> {
    let mut buffer = [0; 4096];
    let mut figure = |path: &CStr, key: &[u8]| -> Option<u64> {
        if path.is_empty() {
            return None;
        }
        let text = system::read_file(path, &mut buffer).ok()?;
        if key.is_empty() { number(text) } else { keyed(text, key) }
    };
    let kills = figure(plan.oom_control(), b"oom_kill").or_else(|| figure(plan.oom_events(), b"oom_kill"));
    let mut text = Text::default();
    text.push(b"proffer-exit 1\n");
    if libc::WIFEXITED(status) {
        text.line(b"code", Some(libc::WEXITSTATUS(status) as u64));
    } else {
        text.line(b"signal", Some(libc::WTERMSIG(status) as u64));
    }
    if oom_seen || kills.is_some_and(|count| count > 0) {
        text.push(b"oom\n");
        text.line(b"limit", figure(plan.memory_limit(), b""));
    }
    text.line(b"peak", figure(plan.memory_peak(), b""));
    text.line(b"cpu", figure(plan.cpu_stat(), b"usage_usec"));
    text.push(b"end\n");
    text
}

fn launcher_is_gone() -> bool {
    is_gone(crate::REPORT)
}

/// Whether the agent, which holds the other end of the pipe for as long as it lives, is gone.
fn is_gone(pipe: Descriptor) -> bool {
    let mut pipe = [libc::pollfd {
        fd: pipe.0,
        events: 0,
        revents: 0,
    }];
    // SAFETY: the pointer and the count are an array's.
    let ready = unsafe { libc::poll(pipe.as_mut_ptr(), 1, 0) };
    ready != 0
}

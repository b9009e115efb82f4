//! Runs one more program in a container that runs.
//!
//! It joins the container's cgroups and namespaces and gives the same privileges up. A cgroup of its own below the container's, in
//! the unified tree where there is one, holds what it starts. There is no record of it: with the agent's process it ends.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use proffer_shim::plan::{Settings, Step, Steps};
use proffer_shim::record::{Process, Report, Stage};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use rustix::pty::OpenptFlags;
use tokio::sync::watch;

use super::container::{self, Container};
use super::spec::{ContainerId, ContainerSpec, Exit, WindowSize};
use super::{Inner, LaunchError, launch};
use crate::isolators::LaunchPlan;

/// `CLONE_NEW*` (clone(2)) of mounts, cgroups, host name, IPC and network; its supervisor is in the pid namespace.
const NAMESPACES: u64 = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x4000_0000;
/// The device number of `/dev/ptmx`.
const PTMX: (u32, u32) = (5, 2);

/// What the program's standard streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// A pipe each.
    Pipes,
    /// One terminal of the container's, of this size.
    Terminal(WindowSize),
}

/// A program that entered a container. Dropping it ends it with all that it started.
#[derive(Debug)]
pub struct EnteredProgram {
    /// Our ends of its streams; whoever takes one out closes it by dropping it.
    pub input: Option<OwnedFd>,
    /// Standard output, or both output streams of a terminal.
    pub output: Option<OwnedFd>,
    /// Standard error; none with a terminal.
    pub errors: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    supervisor: Arc<OwnedFd>,
    main: Option<OwnedFd>,
    main_pid: u32,
    end: watch::Receiver<Option<Exit>>,
}

impl EnteredProgram {
    /// Waits until it has ended with all that it started.
    pub async fn wait(&self) -> Exit {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_default(),
            Err(_closed) => Exit {
                lost: true,
                ..Exit::default()
            },
        }
    }

    /// Sends a signal to the program's process group; SIGKILL to all that it started. One that has ended is not an error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        if signal == Signal::KILL.as_raw() {
            terminate(&self.supervisor);
            return Ok(());
        }
        let Some(main) = self.main.as_ref().filter(|_| self.end.borrow().is_none()) else {
            return Ok(());
        };
        match proffer_shim::pidfd::signal_group(main.as_fd(), self.main_pid, signal) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    /// Tells the program that its terminal has another size; nothing without a terminal.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => resize(terminal, size),
            None => Ok(()),
        }
    }
}

impl Drop for EnteredProgram {
    fn drop(&mut self) {
        if self.end.borrow().is_none() {
            terminate(&self.supervisor);
        }
    }
}

/// Waits for the end of a program.
pub(super) struct End {
    says: File,
    supervisor: Arc<OwnedFd>,
    cgroup: Option<ContainerId>,
    told: watch::Sender<Option<Exit>>,
}

impl End {
    /// Tells of the end, and removes what is left.
    pub(super) async fn follow(self, inner: Weak<Inner>) {
        let exit = container::hear_exit(&self.says).await.ok().flatten();
        let exit = exit.map_or_else(
            || Exit {
                lost: true,
                ..Exit::default()
            },
            Exit::from,
        );
        let _ = container::wait_for(&self.supervisor).await;
        container::reap(&self.supervisor);
        if let Some(cgroup) = self.cgroup {
            let removed = tokio::task::spawn_blocking(move || {
                // The containerizer that comes after this one removes it with the container's.
                let Some(inner) = inner.upgrade() else { return Ok(()) };
                // A supervisor that was killed leaves what it watched.
                inner.kill_left_over(&cgroup)?;
                remove_cgroup(&inner, &cgroup)
            });
            if let Ok(Err(error)) = removed.await {
                tracing::warn!(%error, "the cgroup of a program in a container cannot be removed");
            }
        }
        let _ = self.told.send(Some(exit));
    }
}

/// Runs the program of the specification in the container of that id.
pub(super) fn enter(
    inner: &Inner,
    spec: &ContainerSpec,
    streams: Streams,
) -> Result<(EnteredProgram, End), LaunchError> {
    launch::check(spec).map_err(|(field, reason)| launch::refused(spec, field, reason))?;
    let gone = || launch::refused(spec, "container_id", "the container does not run".into());
    let target = inner.container(&spec.id).map_err(|_| gone())?;
    if target.exit.initialized() || target.task().is_none() {
        return Err(gone());
    }
    let mut launch_plan = LaunchPlan::default();
    for isolator in &inner.isolators {
        let restricted = isolator.restrict(spec, &mut launch_plan);
        restricted.map_err(|error| launch::isolation_error(spec, isolator.name(), error))?;
    }
    let ends = open_streams(&target, spec.user.uid, streams)
        .map_err(|error| launch::failed(spec, "open the standard streams", &error))?;
    let cgroup = create_cgroup(inner, &spec.id)
        .map_err(|error| launch::isolation_error(spec, "cgroups", crate::isolators::Error::from(error)))?;
    let entered = order(inner, spec, &target, &launch_plan, ends, cgroup.as_ref());
    match entered {
        Ok((program, says, told)) => {
            let end = End {
                says,
                supervisor: Arc::clone(&program.supervisor),
                cgroup,
                told,
            };
            Ok((program, end))
        }
        Err(error) => {
            if let Some(cgroup) = &cgroup {
                let _ = inner.kill_left_over(cgroup);
                let _ = remove_cgroup(inner, cgroup);
            }
            Err(error)
        }
    }
}

type Ordered = (EnteredProgram, File, watch::Sender<Option<Exit>>);

fn order(
    inner: &Inner,
    spec: &ContainerSpec,
    target: &Container,
    launch_plan: &LaunchPlan,
    ends: Ends,
    cgroup: Option<&ContainerId>,
) -> Result<Ordered, LaunchError> {
    let failed = |stage: &'static str| move |error: io::Error| launch::failed(spec, stage, &error);
    let plan = encode(inner, spec, launch_plan, ends.ours.terminal.is_some(), cgroup);
    let bytes = plan.map_err(failed("write the plan"))?;
    let plan = launch::write_plan(&bytes).map_err(failed("write the plan"))?;
    let main = target.task().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
    let main = main.map_err(failed("find the container"))?;
    let theirs = ends.theirs.each_ref().map(AsFd::as_fd);
    let mut says = inner
        .starter
        .order_entry(&plan, main, theirs)
        .map_err(failed("order the launcher"))?;
    drop(ends.theirs);
    let report = hear(&mut says).map_err(failed("hear the launcher's report"))?;
    if report.errno != 0 {
        launch::wait_for_supervisor(&report);
        let error = io::Error::from_raw_os_error(report.errno);
        let stage = match report.stage {
            Stage::Supervisor => "enter the container".into(),
            Stage::Clone => "create the process".into(),
            stage => launch::stage_text(spec, &bytes, stage),
        };
        return Err(launch::failed(spec, &stage, &error));
    }
    let held = hold(report.shim, report.task).map_err(failed("hold the supervisor"))?;
    let (supervisor, main) = held;
    let (told, end) = watch::channel(None);
    let program = EnteredProgram {
        input: ends.ours.input,
        output: ends.ours.output,
        errors: ends.ours.errors,
        terminal: ends.ours.terminal,
        supervisor: Arc::new(supervisor),
        main,
        main_pid: report.task.pid,
        end,
    };
    Ok((program, says, told))
}

/// First it is said who the supervisor is, then how far it came. One that says nothing has ended with the container.
fn hear(says: &mut File) -> io::Result<Report> {
    let mut message = [0; Report::BYTES];
    says.read_exact(&mut message)?;
    let made = Report::from_bytes(message);
    if made.stage != Stage::Supervisor || made.errno != 0 {
        return Ok(made);
    }
    match says.read_exact(&mut message) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            launch::wait_for_supervisor(&made);
            Err(io::Error::new(error.kind(), "the container ended meanwhile"))
        }
        result => result.map(|()| Report::from_bytes(message)),
    }
}

/// The supervisor is our child, which keeps its pid until we reap it; the program may have ended.
fn hold(supervisor: Process, main: Process) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let supervisor = container::open(supervisor)?.ok_or(io::ErrorKind::NotFound)?;
    Ok((supervisor, container::hold(main)?))
}

fn encode(
    inner: &Inner,
    spec: &ContainerSpec,
    launch_plan: &LaunchPlan,
    terminal: bool,
    cgroup: Option<&ContainerId>,
) -> io::Result<Vec<u8>> {
    let mut steps = Steps::default();
    launch::join_cgroups(inner, spec, &mut steps)?;
    steps.push(&Step::Enter(NAMESPACES));
    steps.append(&launch_plan.rules);
    steps.push(&Step::WorkingDirectory(&CString::new(
        spec.sandbox.as_os_str().as_encoded_bytes(),
    )?));
    (0..3).for_each(|stream| steps.push(&Step::Stream(stream)));
    if terminal {
        steps.push(&Step::Terminal);
    }
    steps.append(&launch_plan.privileges);
    steps.append(&launch_plan.confinement);
    let unified = inner.cgroups.unified.as_ref().zip(cgroup);
    let file = |file: &str| {
        let path = unified.map(|(unified, cgroup)| unified.hierarchy().path(cgroup, file));
        path.unwrap_or_default()
    };
    let kill = match unified {
        Some((unified, cgroup)) if unified.hierarchy().has(cgroup, "cgroup.kill") => file("cgroup.kill"),
        _ => String::new(),
    };
    let directory = file("");
    let settings = Settings {
        cgroup: directory.as_bytes(),
        cgroup_kill: kill.as_bytes(),
        ..Settings::default()
    };
    launch::encode_plan(&settings, spec, &steps)
}

/// Below the container's, so that all of the container's limits hold for it.
fn create_cgroup(inner: &Inner, container: &ContainerId) -> Result<Option<ContainerId>, crate::cgroups::Error> {
    let Some(unified) = &inner.cgroups.unified else {
        return Ok(None);
    };
    let name = ContainerId(format!("{container}/enter-{}", uuid::Uuid::new_v4().simple()));
    unified.hierarchy().create(&name)?;
    Ok(Some(name))
}

fn remove_cgroup(inner: &Inner, cgroup: &ContainerId) -> Result<(), super::Error> {
    let Some(unified) = &inner.cgroups.unified else {
        return Ok(());
    };
    unified.hierarchy().remove(cgroup).map_err(super::cgroup_error)
}

/// Both ends of the standard streams.
struct Ends {
    ours: Ours,
    theirs: [OwnedFd; 3],
}

struct Ours {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

fn open_streams(target: &Container, uid: u32, streams: Streams) -> io::Result<Ends> {
    let size = match streams {
        Streams::Terminal(size) => size,
        Streams::Pipes => {
            let pipe = || pipe_with(PipeFlags::CLOEXEC);
            let ((read, write), (output, say), (errors, complain)) = (pipe()?, pipe()?, pipe()?);
            let ours = Ours {
                input: Some(write),
                output: Some(output),
                errors: Some(errors),
                terminal: None,
            };
            return Ok(Ends {
                ours,
                theirs: [read, say, complain],
            });
        }
    };
    let (terminal, program) = open_terminal(target, uid)?;
    resize(&terminal, size)?;
    let ours = Ours {
        input: Some(terminal.try_clone()?),
        output: Some(terminal.try_clone()?),
        errors: None,
        terminal: Some(terminal),
    };
    let theirs = [program.try_clone()?, program.try_clone()?, program];
    Ok(Ends { ours, theirs })
}

/// A terminal of the container's own `/dev/pts`: our side, and the program's. The way there is the container's, so that nothing on
/// it leads out.
fn open_terminal(target: &Container, uid: u32) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{}/root", target.task_pid()), flags, Mode::empty())?;
    // Looked at after it was opened: only then was it still the container's.
    if !target.runs() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let terminal = rustix::fs::openat2(&root, "dev/pts/ptmx", flags, Mode::empty(), inside)?;
    let device = rustix::fs::fstat(&terminal)?.st_rdev;
    if (rustix::fs::major(device), rustix::fs::minor(device)) != PTMX {
        return Err(io::Error::other("the container has no /dev/pts/ptmx"));
    }
    rustix::pty::unlockpt(&terminal)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let program = rustix::pty::ioctl_tiocgptpeer(&terminal, flags)?;
    rustix::fs::fchown(&program, Some(rustix::fs::Uid::from_raw(uid)), None)?;
    Ok((terminal, program))
}

pub(super) fn resize(terminal: &OwnedFd, size: WindowSize) -> io::Result<()> {
    let size = rustix::termios::Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

fn terminate(supervisor: &OwnedFd) {
    // One that has ended is not signalled.
    let _ = rustix::process::pidfd_send_signal(supervisor, Signal::TERM);
}

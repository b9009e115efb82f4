//! One launched container: its processes held by pidfd, and its end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use proffer_shim::record::{self, Process, State};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::OnceCell;

use super::spec::{ContainerId, Exit};

/// A container that has been launched or re-adopted, and not yet forgotten.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: ContainerId,
    /// None when it had ended before it was re-adopted.
    processes: Option<Processes>,
    pub(super) exit: OnceCell<Exit>,
    /// One change at a time.
    pub(super) updating: Mutex<()>,
}

#[derive(Debug)]
struct Processes {
    shim: OwnedFd,
    /// None when the main process had ended before it could be held.
    task: Option<OwnedFd>,
    task_pid: u32,
    /// What the supervisor says to the agent that launched the container. For as long as it is open the supervisor tells of the
    /// exit through it and leaves it to us to make that durable.
    says: Option<File>,
}

impl Container {
    /// Holds the processes that a report or a record names; none when the supervisor is gone.
    pub(super) fn adopt(
        id: &ContainerId,
        (shim, task): (Process, Process),
        says: Option<File>,
    ) -> io::Result<Option<Self>> {
        let shim = match &says {
            // Our own child, which keeps its pid until we reap it.
            Some(_) => open(shim)?,
            None => hold(shim)?,
        };
        let Some(shim) = shim else { return Ok(None) };
        let processes = Processes {
            shim,
            task: hold(task)?,
            task_pid: task.pid,
            says,
        };
        Ok(Some(Container {
            id: id.clone(),
            processes: Some(processes),
            exit: OnceCell::new(),
            updating: Mutex::default(),
        }))
    }

    /// Holds the processes of a record.
    pub(super) fn adopt_state(id: &ContainerId, state: &State) -> io::Result<Option<Self>> {
        Container::adopt(id, (state.shim, state.task), None)
    }

    /// A container that has ended.
    pub(super) fn ended(id: &ContainerId, exit: Exit) -> Self {
        Container {
            id: id.clone(),
            processes: None,
            exit: OnceCell::new_with(Some(exit)),
            updating: Mutex::default(),
        }
    }

    /// The main process.
    pub(super) fn task_pid(&self) -> u32 {
        self.processes.as_ref().map_or(0, |processes| processes.task_pid)
    }

    /// The supervisor, while it may live.
    pub(super) fn supervisor(&self) -> Option<&OwnedFd> {
        self.processes.as_ref().map(|processes| &processes.shim)
    }

    /// The main process by a pidfd, whatever became of its number.
    pub(super) fn task(&self) -> Option<BorrowedFd<'_>> {
        self.processes.as_ref()?.task.as_ref().map(AsFd::as_fd)
    }

    /// Whether the main process has not ended.
    pub(super) fn runs(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.task().is_some_and(|task| {
            let mut ready = [PollFd::from_borrowed_fd(task, PollFlags::IN)];
            rustix::event::poll(&mut ready, Some(&now)) == Ok(0)
        })
    }

    /// Returns when all processes of the container but its supervisor have ended: with the exit, where the supervisor said it to
    /// us; where it did not, it has ended itself, and what it has left to say is in the record.
    pub(super) async fn ended_with(&self) -> io::Result<Option<record::Exit>> {
        let Some(processes) = &self.processes else {
            return Ok(None);
        };
        if let Some(says) = &processes.says
            && let Some(exit) = hear_exit(says).await?
        {
            return Ok(Some(exit));
        }
        wait_for(&processes.shim).await?;
        self.reap();
        Ok(None)
    }

    /// Waits for the supervisor's own end, up to `seconds`; whether it has come.
    pub(super) fn supervisor_ended_within(&self, seconds: i64) -> io::Result<bool> {
        let Some(processes) = &self.processes else {
            return Ok(true);
        };
        let timeout = Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        };
        let mut ready = [PollFd::new(&processes.shim, PollFlags::IN)];
        let ended = loop {
            match rustix::event::poll(&mut ready, Some(&timeout)) {
                Err(Errno::INTR) => {}
                result => break result? > 0,
            }
        };
        if ended {
            self.reap();
        }
        Ok(ended)
    }

    /// The supervisor is a child of the agent that launched it, and of nobody in particular after a restart.
    fn reap(&self) {
        if let Some(processes) = &self.processes {
            reap(&processes.shim);
        }
    }

    /// Signals the main process's group.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        let Some(Processes {
            task: Some(task),
            task_pid,
            ..
        }) = &self.processes
        else {
            return Ok(());
        };
        // An unreaped or living process keeps its pid; one that is gone is not signalled by number.
        match proffer_shim::pidfd::signal_group(task.as_fd(), *task_pid, signal) {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    /// Asks the supervisor to kill everything.
    pub(super) fn terminate(&self) -> io::Result<()> {
        let Some(processes) = &self.processes else {
            return Ok(());
        };
        match rustix::process::pidfd_send_signal(&processes.shim, Signal::TERM) {
            Err(Errno::SRCH) | Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Takes note of the end of a process, where it is a child of ours.
pub(super) fn reap(process: &OwnedFd) {
    let _ = rustix::process::waitid(
        WaitId::PidFd(process.as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    );
}

/// Returns when the process has ended.
pub(super) async fn wait_for(process: &OwnedFd) -> io::Result<()> {
    // Its successor is unsafe because a descriptor might be closed meanwhile; this one is borrowed from its owner.
    #[allow(deprecated)]
    let process = AsyncFd::with_interest(process.as_fd(), Interest::READABLE)?;
    process.readable().await?.retain_ready();
    Ok(())
}

/// None when the supervisor ended without a word.
pub(super) async fn hear_exit(says: &File) -> io::Result<Option<record::Exit>> {
    rustix::io::ioctl_fionbio(says, true)?;
    #[allow(deprecated)]
    let says = AsyncFd::with_interest(says.as_fd(), Interest::READABLE)?;
    let mut message = [0; 1024];
    loop {
        let mut ready = says.readable().await?;
        // A message of this size comes whole.
        match ready.try_io(|says| Ok(rustix::io::read(says.get_ref(), &mut message)?)) {
            Ok(length) => {
                return Ok(std::str::from_utf8(&message[..length?])
                    .ok()
                    .and_then(record::Exit::parse));
            }
            Err(_not_yet) => {}
        }
    }
}

pub(super) fn open(process: Process) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(Errno::SRCH | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a pidfd, and looks after that whether it is still the process that was meant.
pub(super) fn hold(process: Process) -> io::Result<Option<OwnedFd>> {
    let Some(pidfd) = open(process)? else { return Ok(None) };
    let mut stat = [0; 1024];
    // In one read: a file of `/proc` says no length, and whoever asks for all of it reads it in small pieces.
    match File::open(format!("/proc/{}/stat", process.pid)).and_then(|mut file| file.read(&mut stat)) {
        Ok(length) if proffer_shim::record::start_time(&stat[..length]) == Some(process.start_time) => Ok(Some(pidfd)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

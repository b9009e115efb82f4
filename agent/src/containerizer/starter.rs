//! The resident launcher process: it creates the supervisor of every container, and ends with the agent.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use proffer_shim::plan::{CAPABILITIES_ARGUMENT, ORDER_ENTER, ORDER_HOST_PIDS, ORDER_OWN_PIDS};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};

/// How the launcher is started.
#[derive(Debug)]
pub(super) struct Settings {
    /// Its binary.
    pub(super) program: PathBuf,
    /// The capabilities that a plan may leave, where all plans drop the others.
    pub(super) capabilities: Option<u64>,
    /// The mount that plans may attach copies of.
    pub(super) shared_mount: Option<OwnedFd>,
}

/// Gives orders to the launcher; starts it again should it have been killed.
#[derive(Debug)]
pub(super) struct Starter {
    settings: Settings,
    running: Mutex<Running>,
}

impl Starter {
    /// Starts the launcher.
    pub(super) fn open(settings: Settings) -> io::Result<Self> {
        let running = Mutex::new(Running::start(&settings)?);
        Ok(Starter { settings, running })
    }

    /// Orders a container; what its supervisor says can be read from the pipe that is returned. It keeps the other end open for
    /// as long as it lives.
    pub(super) fn order(&self, own_pids: bool, plan: &File) -> io::Result<File> {
        let kind = if own_pids { ORDER_OWN_PIDS } else { ORDER_HOST_PIDS };
        self.send_order(kind, plan, &[])
    }

    /// Orders a program in a container that runs, by a pidfd of its main process, with the program's standard streams.
    pub(super) fn order_entry(
        &self,
        plan: &File,
        container: BorrowedFd<'_>,
        streams: [BorrowedFd<'_>; 3],
    ) -> io::Result<File> {
        let [input, output, errors] = streams;
        self.send_order(ORDER_ENTER, plan, &[container, input, output, errors])
    }

    fn send_order(&self, kind: u8, plan: &File, more: &[BorrowedFd<'_>]) -> io::Result<File> {
        let (hear, say) = pipe_with(PipeFlags::CLOEXEC)?;
        let files = [&[plan.as_fd(), say.as_fd()], more].concat();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match send(running.orders.as_fd(), kind, &files) {
            Err(Errno::PIPE | Errno::CONNRESET) => {
                tracing::warn!("the launcher was killed; it is started again");
                *running = Running::start(&self.settings)?;
                send(running.orders.as_fd(), kind, &files)?;
            }
            result => result?,
        }
        Ok(File::from(hear))
    }
}

#[derive(Debug)]
struct Running {
    orders: OwnedFd,
    /// Dropped after the socket, whose closing ends the process.
    _process: Reaped,
}

impl Running {
    fn start(settings: &Settings) -> io::Result<Self> {
        let kind = SocketType::SEQPACKET;
        let (orders, input) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Running {
            orders,
            _process: Reaped(spawn(settings, &input)?),
        })
    }
}

#[derive(Debug)]
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

fn send(orders: BorrowedFd<'_>, kind: u8, files: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(6))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(files));
    sendmsg(orders, &[IoSlice::new(&[kind])], &mut control, SendFlags::NOSIGNAL).map(drop)
}

fn spawn(settings: &Settings, input: &OwnedFd) -> io::Result<Child> {
    // A program that another thread is just starting may hold the freshly written launcher open for writing.
    for _ in 0..100 {
        match spawn_once(settings, input) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
    spawn_once(settings, input)
}

/// Nothing is asked of `Command` for which it would fork: the size of the agent must not matter.
fn spawn_once(settings: &Settings, input: &OwnedFd) -> io::Result<Child> {
    let shared = settings.shared_mount.as_ref().map(OwnedFd::try_clone).transpose()?;
    let capabilities = settings
        .capabilities
        .map(|kept| format!("{CAPABILITIES_ARGUMENT}{kept:x}"));
    Command::new(&settings.program)
        .args(capabilities)
        .env_clear()
        .stdin(input.try_clone()?)
        .stdout(Stdio::null())
        .stderr(shared.map_or_else(Stdio::null, Stdio::from))
        .spawn()
}

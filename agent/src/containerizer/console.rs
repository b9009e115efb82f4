//! The standard input of a running container, taken from the supervisor that holds it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use proffer_shim::plan::CONSOLE;
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, Signal, pidfd_getfd};

use super::container::Container;
use super::enter;
use super::spec::WindowSize;

/// Our descriptor of it; dropping it leaves the container's input open.
#[derive(Debug)]
pub struct Console {
    /// Write to it what the container is to read.
    pub input: OwnedFd,
    /// Whether it is a terminal.
    pub terminal: bool,
}

impl Console {
    /// Tells the container that its terminal has another size; nothing without a terminal.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        match self.terminal {
            true => enter::resize(&self.input, size),
            false => Ok(()),
        }
    }
}

/// None when the container was not launched with one, or its pipe was ended.
pub(super) fn take(container: &Container) -> io::Result<Option<Console>> {
    let Some(supervisor) = container.supervisor() else {
        return Ok(None);
    };
    match pidfd_getfd(supervisor, CONSOLE, PidfdGetfdFlags::empty()) {
        Ok(input) => {
            let terminal = rustix::termios::isatty(input.as_fd());
            Ok(Some(Console { input, terminal }))
        }
        Err(Errno::BADF | Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Lets the container see the end of its input once nobody else holds it.
pub(super) fn end(container: &Container) -> io::Result<()> {
    let Some(supervisor) = container.supervisor() else {
        return Ok(());
    };
    match rustix::process::pidfd_send_signal(supervisor, Signal::USR1) {
        Err(Errno::SRCH) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

//! What a supervisor holds open so that agents, one after the other, can attach to its container.
//!
//! A task with a terminal outlives the agent, so the other side of the terminal cannot be the agent's: the supervisor has it, and
//! writes what the task shows to the file of its standard output. An agent takes a copy of the descriptor (`pidfd_getfd`) to type.

use proffer_shim::plan::{CONSOLE, INPUT_PIPE, INPUT_TERMINAL, Plan};

use crate::child::Given;
use crate::system::{self, Descriptor, Errno};

/// All that a terminal holds at most, in reads.
const READS_MAX: u32 = 32;

/// Between the creation of the task and its program.
pub(crate) struct Prepared {
    /// The child's end, and ours.
    ends: Option<[Descriptor; 2]>,
    terminal: bool,
}

/// A terminal whose output is written down.
#[derive(Clone, Copy)]
pub(crate) struct Console {
    pub(crate) terminal: Descriptor,
    log: Descriptor,
}

impl Prepared {
    pub(crate) fn new(plan: &Plan<'_>) -> Result<Self, Errno> {
        let terminal = plan.input == INPUT_TERMINAL;
        let ends = if terminal || plan.input == INPUT_PIPE {
            Some(system::pair(!terminal)?)
        } else {
            None
        };
        Ok(Prepared { ends, terminal })
    }

    /// For the child.
    pub(crate) fn given(&self) -> Given {
        match self.ends {
            Some([theirs, _]) if self.terminal => Given {
                console: theirs,
                ..Given::NONE
            },
            Some([theirs, _]) => Given {
                streams: [theirs, Descriptor(-1), Descriptor(-1)],
                ..Given::NONE
            },
            None => Given::NONE,
        }
    }

    /// The program has been executed: keeps what is needed under the number that agents know.
    pub(crate) fn keep(self) -> Option<Console> {
        let [theirs, ours] = self.ends?;
        system::close(theirs);
        if !self.terminal {
            let _ = system::renumber(ours, Descriptor(CONSOLE));
            return None;
        }
        let received = system::receive(ours, &mut [0]).ok()??;
        system::close(ours);
        let &[terminal, log] = received.as_slice() else {
            return None;
        };
        system::renumber(terminal, Descriptor(CONSOLE)).ok()?;
        Some(Console {
            terminal: Descriptor(CONSOLE),
            log,
        })
    }
}

impl Console {
    /// Writes down what the terminal shows now; false when no program has it open any more. What the disk has no room for is lost:
    /// the task does not wait for it.
    pub(crate) fn pump(&self) -> bool {
        let mut buffer = [0; 4096];
        // More is looked for after signals were.
        for _ in 0..READS_MAX {
            match system::read(self.terminal, &mut buffer) {
                Ok(length @ 1..) => {
                    let _ = system::write(self.log, &buffer[..length]);
                }
                Err(libc::EAGAIN) => return true,
                Err(libc::EINTR) => {}
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }
}

/// Whoever fed the task has come to the end: no agent can attach any more.
pub(crate) fn end_input(plan: &Plan<'_>) {
    if plan.input == INPUT_PIPE {
        system::close(Descriptor(CONSOLE));
    }
}

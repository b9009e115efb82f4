//! The starter: takes the agent's orders and creates a supervisor for each.
//!
//! An order is one message: a byte that says whether the container has a pid namespace of its own, and two descriptors, the plan
//! and the pipe for what the supervisor says. Orders that are still under way when the agent dies are carried out; the records
//! decide whether their programs run.

use proffer_shim::plan::{ORDER_OWN_PIDS, PLAN_BYTES_MAX, Plan};
use proffer_shim::record::{Process, Report, Stage};

use crate::system::{self, Descriptor, Errno};
use crate::{REPORT, supervise};

/// The socket of the orders, and in a supervisor the plan.
const INPUT: Descriptor = Descriptor(0);

/// Ends with the agent, whose end of the socket is closed then. `without_capabilities` is said by an agent whose plans all drop
/// them: the bounding set, which limits programs and not this one, is then emptied once for all.
pub(crate) fn run(without_capabilities: bool) -> ! {
    // Inherited by all: a signal to the agent's process group is none of theirs.
    system::reset_signals();
    system::close_from(3);
    // No directory may be kept in use.
    let _ = system::change_directory(c"/");
    if without_capabilities {
        // Otherwise each child tries, and says why it failed.
        let _ = system::drop_bounding_set();
    }
    let mut kind = [0];
    while let Ok(Some([plan, says])) = system::receive(INPUT, &mut kind) {
        let namespace = if kind[0] == ORDER_OWN_PIDS {
            libc::CLONE_NEWPID
        } else {
            0
        };
        match system::fork(libc::CLONE_PARENT | namespace) {
            Ok(0) => supervisor(plan, says),
            Ok(_) => {}
            Err(errno) => {
                let report = failure(Process::default(), Stage::Supervisor, errno);
                let _ = system::write(says, &report.to_bytes());
            }
        }
        system::close(plan);
        system::close(says);
    }
    system::exit(0)
}

fn supervisor(plan: Descriptor, says: Descriptor) -> ! {
    let shim = system::myself().unwrap_or_default();
    match start(plan, says) {
        Ok((plan, state_dir)) => supervise::run(&plan, state_dir, shim),
        Err((stage, errno)) => {
            let report = failure(shim, stage, errno);
            let _ = system::write(says, &report.to_bytes());
            system::exit(1)
        }
    }
}

/// Lets go of the starter's descriptors and reads the plan.
fn start(plan: Descriptor, says: Descriptor) -> Result<(Plan<'static>, Descriptor), (Stage, Errno)> {
    let moved = system::duplicate(plan, INPUT).and_then(|()| system::duplicate(says, REPORT));
    moved.map_err(|errno| (Stage::Plan, errno))?;
    system::close_from(3);
    let bytes = system::map(INPUT, PLAN_BYTES_MAX).map_err(|errno| (Stage::Plan, errno))?;
    let plan = Plan::parse(bytes).ok_or((Stage::Plan, libc::EINVAL))?;
    let state_dir =
        system::open(plan.state_dir(), libc::O_DIRECTORY, 0).map_err(|errno| (Stage::StateDirectory, errno))?;
    Ok((plan, state_dir))
}

fn failure(shim: Process, stage: Stage, errno: Errno) -> Report {
    Report {
        errno,
        stage,
        shim,
        task: Process::default(),
    }
}

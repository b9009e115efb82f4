//! The starter: takes the agent's orders and creates a supervisor for each.
//!
//! An order is one message: a byte that says whether the container has a pid namespace of its own, and two descriptors, the plan
//! and the pipe for what the supervisor says. A third kind of order enters a container that runs, whose pid namespace the starter
//! joins for the moment of the fork ([`crate::enter`]). Orders that are still under way when the agent dies are carried out; the records
//! decide whether their programs run.

use proffer_shim::plan::{ORDER_ENTER, ORDER_OWN_PIDS, PLAN_BYTES_MAX, Plan};
use proffer_shim::record::{Process, Report, Stage};

use crate::child::Given;
use crate::system::{self, Descriptor, Errno};
use crate::{REPORT, enter, supervise};

/// The socket of the orders, and in a supervisor the plan.
const INPUT: Descriptor = Descriptor(0);

/// Ends with the agent, whose end of the socket is closed then. `capabilities` are those that a plan may leave, where the agent
/// says so: the bounding set, which limits programs and not this one, is then brought down to them once for all.
pub(crate) fn run(capabilities: Option<u64>) -> ! {
    // Inherited by all: a signal to the agent's process group is none of theirs.
    system::reset_signals();
    system::close_from(3);
    // No directory may be kept in use.
    let _ = system::change_directory(c"/");
    if let Some(kept) = capabilities {
        // Otherwise each child tries, and says why it failed.
        let _ = system::bound_capabilities(kept);
    }
    let own_pids = system::open(c"/proc/self/ns/pid", libc::O_RDONLY, 0);
    let mut kind = [0];
    while let Ok(Some(files)) = system::receive(INPUT, &mut kind) {
        match (kind[0], files.as_slice()) {
            (ORDER_ENTER, &[plan, says, container, input, output, errors]) => {
                let given = Given {
                    container,
                    streams: [input, output, errors],
                    ..Given::NONE
                };
                match own_pids.and_then(|own_pids| enter::fork(container, own_pids, says)) {
                    Ok(0) => enter::run(plan, says, given),
                    forked => refuse(says, forked),
                }
            }
            (kind, &[plan, says]) => {
                let namespace = if kind == ORDER_OWN_PIDS { libc::CLONE_NEWPID } else { 0 };
                match system::fork(libc::CLONE_PARENT | namespace) {
                    Ok(0) => supervisor(plan, says),
                    forked => refuse(says, forked),
                }
            }
            _ => {}
        }
        files.as_slice().iter().for_each(|file| system::close(*file));
    }
    system::exit(0)
}

fn refuse(says: Descriptor, forked: Result<i64, Errno>) {
    if let Err(errno) = forked {
        let report = failure(Process::default(), Stage::Supervisor, errno);
        let _ = system::write(says, &report.to_bytes());
    }
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
    let plan = read_plan(plan, says).map_err(|errno| (Stage::Plan, errno))?;
    system::close_from(3);
    let state_dir =
        system::open(plan.state_dir(), libc::O_DIRECTORY, 0).map_err(|errno| (Stage::StateDirectory, errno))?;
    Ok((plan, state_dir))
}

/// Puts plan and pipe in their places.
pub(crate) fn read_plan(plan: Descriptor, says: Descriptor) -> Result<Plan<'static>, Errno> {
    system::duplicate(plan, INPUT)?;
    system::duplicate(says, REPORT)?;
    Plan::parse(system::map(INPUT, PLAN_BYTES_MAX)?).ok_or(libc::EINVAL)
}

pub(crate) fn failure(shim: Process, stage: Stage, errno: Errno) -> Report {
    Report {
        errno,
        stage,
        shim,
        task: Process::default(),
    }
}

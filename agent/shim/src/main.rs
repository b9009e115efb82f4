//! The launcher of one container: `proffer-shim < plan`.
//!
//! Single-threaded, static, and without an allocator at work: it runs raw system calls on the bytes of the plan. Three processes,
//! one after the other:
//!
//! 1. the one that the agent spawns reads the plan, creates the supervisor as its own sibling (`CLONE_PARENT`: a child of the
//!    agent) and ends;
//! 2. the supervisor is process 1 of the container's pid namespace, in the host's other namespaces and outside the container's
//!    cgroups. It reaps, kills the rest when the main process ends or memory runs out, and leaves the record of the exit. It needs
//!    no agent, and if it is killed the kernel kills the container with it;
//! 3. the child (`CLONE_VM | CLONE_VFORK`) carries out the plan's steps and becomes the program.
//!
//! There is no `std` runtime (`no_main`): no signal is handled, nothing is printed, and the error of any step goes back as a
//! number.
#![no_main]

mod child;
mod supervise;
mod system;

use proffer_shim::plan::{FORMAT_MARK, PLAN_BYTES_MAX, Plan};
use proffer_shim::record::{Process, Report, Stage};
use system::{Descriptor, Errno};

/// The report goes to the standard output, which is a pipe to the agent.
const REPORT: Descriptor = Descriptor(1);

/// Read by the agent's build.
static MARK: [u8; FORMAT_MARK.len()] = FORMAT_MARK;

/// Entered by the C runtime.
#[unsafe(no_mangle)]
pub extern "C" fn main() -> libc::c_int {
    match start() {
        Ok((plan, state_dir)) => supervise::run(&plan, state_dir),
        Err((stage, errno)) => {
            report(Report {
                errno,
                stage,
                shim: Process::default(),
                task: Process::default(),
            });
            system::exit(1)
        }
    }
}

/// Returns in the supervisor only.
fn start() -> Result<(Plan<'static>, Descriptor), (Stage, Errno)> {
    // Otherwise it would be left out of the binary.
    std::hint::black_box(&MARK);
    system::reset_signals();
    system::close_from(3);
    let bytes = system::map(Descriptor(0), PLAN_BYTES_MAX).map_err(|errno| (Stage::Plan, errno))?;
    let plan = Plan::parse(bytes).ok_or((Stage::Plan, libc::EINVAL))?;
    let state_dir =
        system::open(plan.state_dir(), libc::O_DIRECTORY, 0).map_err(|errno| (Stage::StateDirectory, errno))?;
    system::change_directory(c"/").map_err(|errno| (Stage::StateDirectory, errno))?;
    let namespace = if plan.pid_namespace { libc::CLONE_NEWPID } else { 0 };
    match system::fork(libc::CLONE_PARENT | namespace) {
        Ok(0) => Ok((plan, state_dir)),
        Ok(_) => system::exit(0),
        Err(errno) => Err((Stage::Supervisor, errno)),
    }
}

fn report(report: Report) {
    // An agent that has died meanwhile finds the records.
    let _ = system::write(REPORT, &report.to_bytes());
}

//! The launcher of containers: `proffer-shim [--capabilities=HEX] <&orders`, resident for as long as the agent lives.
//!
//! Single-threaded, static, and without an allocator at work: it runs raw system calls on the bytes of the plans. Three kinds of
//! processes:
//!
//! 1. the *starter*, which the agent spawns once, takes orders from a socket, creates a supervisor for each as its own sibling
//!    (`CLONE_PARENT`: a child of the agent), and ends with the agent. A container then costs no `execve` of the launcher and no
//!    copy of the agent's process;
//! 2. the *supervisor* is process 1 of the container's pid namespace, in the host's other namespaces and outside the container's
//!    cgroups. It reaps, kills the rest when the main process ends or memory runs out, and leaves the record of the exit. It needs
//!    no agent, and if it is killed the kernel kills the container with it;
//! 3. the *child* (`CLONE_VFORK`) carries out the plan's steps and becomes the program.
//!
//! A program that enters a container which runs already has a supervisor of its own kind ([`enter`]), inside the container's pid
//! namespace.
//!
//! There is no `std` runtime (`no_main`): no signal is handled, nothing is printed, and the error of any step goes back as a
//! number.
#![no_main]

mod child;
mod confine;
mod console;
mod enter;
mod logs;
mod starter;
mod supervise;
mod system;
mod volumes;

use std::ffi::CStr;

use proffer_shim::plan::{CAPABILITIES_ARGUMENT, FORMAT_MARK};
use proffer_shim::record::Report;
use system::Descriptor;

/// What the supervisor says goes to its standard output, which is a pipe to the agent.
const REPORT: Descriptor = Descriptor(1);

/// Read by the agent's build.
static MARK: [u8; FORMAT_MARK.len()] = FORMAT_MARK;

/// Entered by the C runtime.
///
/// # Safety
/// `arguments` are `count` C strings that live as long as the process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(count: libc::c_int, arguments: *const *const libc::c_char) -> libc::c_int {
    // Otherwise it would be left out of the binary.
    std::hint::black_box(&MARK);
    // There is one argument only that it may have.
    let argument = (count > 1).then(|| {
        // SAFETY: there are more than one, as promised.
        unsafe { CStr::from_ptr(*arguments.add(1)) }
    });
    starter::run(argument.and_then(capabilities))
}

fn capabilities(argument: &CStr) -> Option<u64> {
    let digits = argument.to_bytes().strip_prefix(CAPABILITIES_ARGUMENT.as_bytes())?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn report(report: Report) {
    // An agent that has died meanwhile finds the records.
    let _ = system::write(REPORT, &report.to_bytes());
}

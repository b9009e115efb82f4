//! The supervisor of a program that enters a container which runs already.
//!
//! It lives in the container's pid namespace, so that what its program leaves behind becomes its own child, and for the rest outside
//! the container: in the host's other namespaces and the agent's cgroup. Its child joins the cgroups and the namespaces. It leaves no
//! record: it ends, with all that descends from it, when the program ends, when the agent asks for it or is gone, and when the
//! container ends.

use std::ffi::CStr;

use proffer_shim::plan::Plan;
use proffer_shim::record::{Process, Report, Stage, Text, number};

use crate::child::{self, Given, Task};
use crate::starter::{failure, read_plan};
use crate::supervise::{self, supervise};
use crate::system::{self, Descriptor, Errno};

/// Forks inside the pid namespace of the container; the caller itself stays where it is. It says who was made before that one goes
/// on: whatever becomes of it, the agent must take note of its end, without which the container's namespace cannot end.
pub(crate) fn fork(container: Descriptor, own_pids: Descriptor, says: Descriptor) -> Result<i64, Errno> {
    let [wait, go] = system::pair(true)?;
    let joined = system::join(container, libc::CLONE_NEWPID);
    let forked = joined.and_then(|()| system::fork(libc::CLONE_PARENT));
    if forked == Ok(0) {
        system::close(go);
        // Until the caller closes its end.
        let _ = system::read(wait, &mut [0]);
        system::close(wait);
        return forked;
    }
    if let Ok(pid) = forked {
        let made = Process {
            pid: pid as u32,
            start_time: 0,
        };
        let _ = system::write(says, &failure(made, Stage::Supervisor, 0).to_bytes());
    }
    system::close(wait);
    system::close(go);
    if joined.is_ok() && system::join(own_pids, libc::CLONE_NEWPID).is_err() {
        // Whatever it made from here on would be a part of that container; the agent starts another.
        system::exit(1);
    }
    forked
}

/// Returns never.
pub(crate) fn run(plan: Descriptor, says: Descriptor, given: Given) -> ! {
    let shim = system::myself().unwrap_or_default();
    let failed = |says: Descriptor, stage: Stage, errno: Errno| -> ! {
        let _ = system::write(says, &failure(shim, stage, errno).to_bytes());
        system::exit(1)
    };
    let plan = match read_plan(plan, says) {
        Ok(plan) => plan,
        Err(errno) => failed(says, Stage::Plan, errno),
    };
    system::close(says);
    let watch = supervise::prepare(&plan).and_then(|mut watch| {
        watch.agent = Some(crate::REPORT);
        Task::new(&plan, None, given, shim).map(|task| (watch, task))
    });
    let (watch, task) = match watch {
        Ok(ready) => ready,
        Err(errno) => failed(crate::REPORT, Stage::Watch, errno),
    };
    let main = match child::start(&task) {
        Ok(pid) => pid,
        Err((stage, errno)) => failed(crate::REPORT, stage, errno),
    };
    // Their other ends are to see the end of what the program wrote.
    given.streams.iter().for_each(|stream| system::close(*stream));
    crate::report(Report {
        errno: 0,
        stage: Stage::Exec,
        shim,
        task: task.process(),
    });
    let (status, _) = supervise(&plan, &watch, main, (None, &mut None), &kill_all);
    let text = exit_record(status);
    let _ = system::write(crate::REPORT, text.as_bytes());
    system::exit(0)
}

/// The cgroup of its own holds all; without one all are its descendants.
fn kill_all(plan: &Plan<'_>) {
    if !plan.cgroup_kill().is_empty() && system::write_file(plan.cgroup_kill(), b"1").is_ok() {
        return;
    }
    let Ok(Process { pid, .. }) = system::myself() else {
        return;
    };
    let mut path = Text::<64>::default();
    path.push(b"/proc/").number(pid.into());
    path.push(b"/task/").number(pid.into()).push(b"/children\0");
    let mut buffer = [0; 4096];
    let Ok(path) = CStr::from_bytes_with_nul(path.as_bytes()) else {
        return;
    };
    // Those that are left, or become its children meanwhile, are met when one of these is reaped.
    let Ok(children) = system::read_file(path, &mut buffer) else {
        return;
    };
    for child in children.split(|byte| *byte == b' ').filter_map(number) {
        let mut path = Text::<64>::default();
        path.push(b"/proc/").number(child).push(b"\0");
        let Ok(path) = CStr::from_bytes_with_nul(path.as_bytes()) else {
            continue;
        };
        if let Ok(process) = system::open(path, libc::O_DIRECTORY, 0) {
            system::kill(process);
            system::close(process);
        }
    }
}

fn exit_record(status: i32) -> Text<128> {
    let mut text = Text::default();
    text.push(b"proffer-exit 1\n");
    if libc::WIFEXITED(status) {
        text.line(b"code", Some(libc::WEXITSTATUS(status) as u64));
    } else {
        text.line(b"signal", Some(libc::WTERMSIG(status) as u64));
    }
    text.push(b"end\n");
    text
}

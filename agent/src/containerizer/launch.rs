//! Starts one container: checks the specification, lets the isolators prepare, writes the plan, orders the launcher and hears its
//! report.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};

use proffer_shim::plan::{self, Plan, Settings, Step, Steps};
use proffer_shim::record::{Report, Stage};
use rustix::fs::MemfdFlags;

use super::container::Container;
use super::spec::{ContainerInput, ContainerSpec, Launched, WindowSize};
use super::{Inner, LaunchError};
use crate::cgroups::Version;
use crate::faults;
use crate::isolators::{self, LaunchPlan};

/// Launches a container; when that fails nothing of it is left.
pub(super) fn launch(
    inner: &Inner,
    spec: &ContainerSpec,
    ready: impl FnOnce() -> bool,
) -> Result<(Container, Launched), LaunchError> {
    check(spec)
        .and_then(|()| check_isolators(inner, spec))
        .map_err(|(field, reason)| refused(spec, field, reason))?;
    inner.records.create(&spec.id).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => refused(spec, "id", "is in use".into()),
        _ => failed(spec, "create the directory of its records", &error),
    })?;
    let launched = launch_prepared(inner, spec, ready);
    if launched.is_err() {
        let _ = inner.cgroups.kill(&spec.id);
        inner.remove(&spec.id).unwrap_or_else(|error| {
            tracing::warn!(container_id = %spec.id, %error, "what a failed launch left could not be removed");
        });
    }
    launched
}

fn launch_prepared(
    inner: &Inner,
    spec: &ContainerSpec,
    ready: impl FnOnce() -> bool,
) -> Result<(Container, Launched), LaunchError> {
    let system = |error: crate::cgroups::Error| isolation_error(spec, "cgroups", isolators::Error::from(error));
    inner.cgroups.create(&spec.id).map_err(system)?;
    let mut launch_plan = LaunchPlan::default();
    for isolator in &inner.isolators {
        isolator
            .prepare(spec, &mut launch_plan)
            .and_then(|()| isolator.restrict(spec, &mut launch_plan))
            .map_err(|error| isolation_error(spec, isolator.name(), error))?;
    }
    let bytes = encode(inner, spec, &launch_plan).map_err(|error| failed(spec, "write the plan", &error))?;
    let plan = write_plan(&bytes).map_err(|error| failed(spec, "write the plan", &error))?;
    if !ready() {
        return Err(LaunchError {
            id: spec.id.clone(),
            stage: "wait for the checkpoint".into(),
            reason: "the agent stops".into(),
            errno: 0,
        });
    }
    let reached = faults::LAUNCH_BEFORE_ORDER.reach();
    reached.map_err(|error| failed(spec, "order the launcher", &error))?;
    let mut pipe = inner
        .starter
        .order(launch_plan.pid_namespace, &plan)
        .map_err(|error| failed(spec, "order the launcher", &error))?;
    let mut message = [0; Report::BYTES];
    pipe.read_exact(&mut message)
        .map_err(|error| failed(spec, "hear the launcher's report", &error))?;
    let report = Report::from_bytes(message);
    if report.errno != 0 {
        wait_for_supervisor(&report);
        let error = io::Error::from_raw_os_error(report.errno);
        return Err(failed(spec, &stage_text(spec, &bytes, report.stage), &error));
    }
    let container = Container::adopt(&spec.id, (report.shim, report.task), Some(pipe))
        .and_then(|container| container.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
        .map_err(|error| failed(spec, "hold the supervisor", &error))?;
    Ok((
        container,
        Launched {
            pid: report.task.pid,
            shim_pid: report.shim.pid,
        },
    ))
}

/// The fields that come from outside.
pub(super) fn check(spec: &ContainerSpec) -> Result<(), (&'static str, String)> {
    let refuse = |field, reason: &str| Err((field, reason.to_owned()));
    if !spec.id.is_valid() {
        return refuse(
            "id",
            "expected 1 to 128 characters of [A-Za-z0-9._-], not starting with a dot",
        );
    }
    if spec.argv.first().is_none_or(String::is_empty) {
        return refuse("argv", "must begin with a program");
    }
    if !spec.sandbox.is_absolute() {
        return refuse("sandbox", "must be an absolute path");
    }
    for (name, value) in &spec.environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err((
                "environment",
                format!("{name:?}: a name must not be empty or contain = or NUL, a value no NUL"),
            ));
        }
    }
    if spec.argv.iter().any(|argument| argument.contains('\0')) {
        return refuse("argv", "must not contain a NUL character");
    }
    Ok(())
}

/// Nothing that is asked for is left out silently.
fn check_isolators(inner: &Inner, spec: &ContainerSpec) -> Result<(), (&'static str, String)> {
    let asked = &spec.confinement;
    let needed = [
        ("rlimits", "rlimit_info", !asked.rlimits.is_empty()),
        ("capabilities", "linux_info", asked.effective | asked.bounding != 0),
    ];
    let needed = needed
        .into_iter()
        .chain([("devices", "devices", !spec.resources.devices.is_empty())])
        .chain(["volumes", "filesystem"].map(|name| (name, "container.volumes", !spec.volumes.is_empty())));
    let absent = |name: &str| inner.isolators.iter().all(|isolator| isolator.name() != name);
    match { needed }.find(|(name, _, asked)| *asked && absent(name)) {
        Some((name, field, _)) => Err((
            field,
            format!("needs the isolator {name}, which this agent does not use"),
        )),
        None => Ok(()),
    }
}

fn encode(inner: &Inner, spec: &ContainerSpec, launch_plan: &LaunchPlan) -> io::Result<Vec<u8>> {
    let mut steps = Steps::default();
    join_cgroups(inner, spec, &mut steps)?;
    steps.append(&launch_plan.holds);
    steps.append(&launch_plan.mounts);
    steps.append(&launch_plan.volumes);
    steps.append(&launch_plan.rules);
    // As root, since the way to the sandbox need not be open to the user; the files then as the user.
    steps.push(&Step::WorkingDirectory(&CString::new(
        spec.sandbox.as_os_str().as_encoded_bytes(),
    )?));
    steps.append(&launch_plan.privileges);
    push_streams(spec.input, &mut steps);
    steps.append(&launch_plan.confinement);

    let state_dir = inner.records.directory(&spec.id);
    let file = |file: &str| match &inner.cgroups.unified {
        Some(unified) => unified.hierarchy().path(&spec.id, file),
        None => String::new(),
    };
    let (cgroup, cgroup_kill, cpu_stat) = (file(""), file("cgroup.kill"), file("cpu.stat"));
    let cgroup_procs = inner
        .cgroups
        .hierarchies()
        .first()
        .map(|hierarchy| hierarchy.path(&spec.id, "cgroup.procs"));
    let watched = &launch_plan.watched;
    let settings = Settings {
        pid_namespace: launch_plan.pid_namespace,
        input: match spec.input {
            ContainerInput::Empty => plan::INPUT_NONE,
            ContainerInput::Pipe => plan::INPUT_PIPE,
            ContainerInput::Terminal(_) => plan::INPUT_TERMINAL,
        },
        clone_flags: launch_plan.clone_flags,
        boot_id: inner.boot_id.as_bytes(),
        state_dir: state_dir.as_os_str().as_encoded_bytes(),
        cgroup: cgroup.as_bytes(),
        cgroup_kill: cgroup_kill.as_bytes(),
        cgroup_procs: cgroup_procs.as_deref().unwrap_or_default().as_bytes(),
        oom_control: watched.oom_control.as_bytes(),
        oom_event_control: watched.oom_event_control.as_bytes(),
        oom_events: watched.oom_events.as_bytes(),
        memory_limit: watched.memory_limit.as_bytes(),
        memory_peak: watched.memory_peak.as_bytes(),
        cpu_stat: cpu_stat.as_bytes(),
        logs: match spec.input {
            // What a terminal shows is one stream, in one file.
            ContainerInput::Terminal(_) => b"",
            _ => spec.sandbox.as_os_str().as_encoded_bytes(),
        },
        log_bytes: inner.logs.bytes_max / u64::from(inner.logs.files.max(1)),
        log_files: inner.logs.files,
        log_owner: (spec.user.uid, spec.user.gid),
    };
    encode_plan(&settings, spec, &steps)
}

/// The standard streams: what the task writes goes to the supervisor, which divides it among files.
fn push_streams(input: ContainerInput, steps: &mut Steps) {
    match input {
        ContainerInput::Empty => steps.push(&Step::Stdio {
            descriptor: 0,
            path: c"/dev/null",
        }),
        ContainerInput::Pipe => steps.push(&Step::Stream(0)),
        ContainerInput::Terminal(WindowSize { rows, columns }) => {
            steps.push(&Step::Console { rows, columns });
            return;
        }
    }
    steps.push(&Step::Stream(1));
    steps.push(&Step::Stream(2));
}

/// The steps to join the version 1 cgroups; in the unified tree's a process is created.
pub(super) fn join_cgroups(inner: &Inner, spec: &ContainerSpec, steps: &mut Steps) -> io::Result<()> {
    let hierarchies = inner.cgroups.hierarchies().iter();
    for hierarchy in hierarchies.filter(|hierarchy| hierarchy.version == Version::V1) {
        let procs = CString::new(hierarchy.path(&spec.id, "cgroup.procs"))?;
        steps.push(&Step::JoinCgroup(&procs));
    }
    Ok(())
}

/// The plan that runs the program of the specification.
pub(super) fn encode_plan(settings: &Settings<'_>, spec: &ContainerSpec, steps: &Steps) -> io::Result<Vec<u8>> {
    let variables: Vec<String> = spec
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let variables: Vec<&[u8]> = variables.iter().map(|variable| variable.as_bytes()).collect();
    let argv: Vec<&[u8]> = spec.argv.iter().map(|argument| argument.as_bytes()).collect();
    let bytes = plan::encode(settings, &argv, &variables, steps).map_err(io::Error::other)?;
    if bytes.len() > plan::PLAN_BYTES_MAX {
        return Err(io::Error::from_raw_os_error(rustix::io::Errno::TOOBIG.raw_os_error()));
    }
    Ok(bytes)
}

/// The plan as a file without a name.
pub(super) fn write_plan(plan: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("proffer-plan", MemfdFlags::CLOEXEC)?);
    file.write_all(plan)?;
    Ok(file)
}

/// The supervisor of a failed launch is our child, and about to end.
pub(super) fn wait_for_supervisor(report: &Report) {
    if let Some(pid) = i32::try_from(report.shim.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
}

pub(super) fn stage_text(spec: &ContainerSpec, plan: &[u8], stage: Stage) -> String {
    match stage {
        Stage::Plan => "read the plan".into(),
        Stage::StateDirectory => "open the directory of its records".into(),
        Stage::Supervisor => "create the supervisor".into(),
        Stage::Watch => "prepare to watch".into(),
        Stage::Logs => format!("make stdout and stderr in {}", spec.sandbox.display()),
        Stage::Clone => "create its namespaces".into(),
        Stage::Record => "write the record of its start".into(),
        Stage::Exec => format!("execute {}", spec.argv[0]),
        Stage::Step(index) => Plan::parse(plan)
            .and_then(|plan| plan.steps().nth(index as usize).map(|step| step.to_string()))
            .unwrap_or_else(|| format!("step {index}")),
    }
}

pub(super) fn refused(spec: &ContainerSpec, field: &str, reason: String) -> LaunchError {
    LaunchError {
        id: spec.id.clone(),
        stage: format!("check {field}"),
        reason,
        errno: 0,
    }
}

pub(super) fn failed(spec: &ContainerSpec, stage: &str, error: &io::Error) -> LaunchError {
    LaunchError {
        id: spec.id.clone(),
        stage: stage.to_owned(),
        reason: error.to_string(),
        errno: error.raw_os_error().unwrap_or(0),
    }
}

pub(super) fn isolation_error(spec: &ContainerSpec, isolator: &str, error: isolators::Error) -> LaunchError {
    let errno = error.errno();
    match error {
        isolators::Error::Rejected { field, reason } => refused(spec, field, reason),
        error => {
            let cause = std::error::Error::source(&error).map(|cause| cause.to_string());
            let reason = cause.unwrap_or_else(|| "not available on this host".into());
            LaunchError {
                id: spec.id.clone(),
                stage: format!("isolate {isolator}: {error}"),
                reason,
                errno,
            }
        }
    }
}

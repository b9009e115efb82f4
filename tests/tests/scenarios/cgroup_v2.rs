//! The agent's own tests and the scenarios of this binary again, on a kernel with nothing but cgroup v2, in an emulated machine. Its
//! kernel has the file systems with quotas, too.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, ensure};
use proffer_tests::cluster::built;
use proffer_tests::vm::{self, Machine};

/// What is run there, by test binary: what touches the kernel; emulation makes the rest only slow.
const TESTS: [(&str, &str); 6] = [
    // But for what cannot be there: an agent that lacks a capability.
    (
        "containerizer",
        "--test-threads=2 confinement:: devices:: enter:: io:: isolation:: launch:: ports:: recovery:: usage:: \
         --skip what_the_agent_itself_cannot_do",
    ),
    // But for btrfs, which this kernel is not given.
    (
        "disk",
        "--test-threads=1 back_ends:: tasks::a_task_cannot tasks::each_task --skip btrfs --skip what_ended_is_shown",
    ),
    (
        "executors",
        "--test-threads=2 a_group_shares the_sum_of a_custom_executor_outlives grows_and_shrinks",
    ),
    ("volumes", "--test-threads=2 a_task_has tasks_of_a_pod"),
    ("intruder", ""),
    (
        "scenarios",
        "--test-threads=1 isolation:: kill::a_ agent_recovery::a_task_outlives exec::a_program_runs",
    ),
];

/// How the agent and its tests are made.
const HOW: &str = "`cargo test -p proffer-agent --no-run` builds it";
/// What they are made of.
const SOURCES: [&str; 4] = ["agent/src", "agent/shim/src", "proto/src", "proto/proto"];

#[test]
fn containers_are_isolated_on_pure_cgroup_v2() -> anyhow::Result<()> {
    if std::env::var_os("PROFFER_IN_VM").is_some() {
        println!("skipped: this is the emulated machine");
        return Ok(());
    }
    if let Some(reason) = vm::missing() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let this = std::env::current_exe()?;
    let profile = built("proffer-under-test")?
        .parent()
        .map(PathBuf::from)
        .unwrap_or_default();
    let kernel = match vm::kernel(profile.parent().unwrap_or(&profile)) {
        Ok(kernel) => kernel,
        Err(error) => {
            println!("skipped: {error:#}");
            return Ok(());
        }
    };
    let mut files = vec![
        (this.clone(), "deps/scenarios".to_owned()),
        (built("proffer-under-test")?, "proffer-under-test".to_owned()),
        (built("proffer-probe")?, "proffer-probe".to_owned()),
    ];
    let agent = profile.join("proffer-agent");
    ensure_fresh(&agent, "agent/src/main.rs")?;
    files.push((agent, "proffer-agent".to_owned()));
    let mut script = String::from("export PROFFER_AGENT=/tests/proffer-agent\n");
    for (name, arguments) in TESTS {
        if name != "scenarios" {
            files.push((agents(&this, name)?, format!("deps/{name}")));
        }
        // With what they print: a test that was skipped says so.
        script += &format!("./deps/{name} --show-output {arguments} || exit 1\n");
    }
    let machine = Machine {
        directory: PathBuf::from(format!("/var/tmp/proffer-vm-{}", std::process::id())),
        files,
        programs: vec![
            ("bash", "bin/bash"),
            ("mkfs.ext4", "sbin/mkfs.ext4"),
            ("mkfs.xfs", "sbin/mkfs.xfs"),
        ],
        script,
    };
    let printed = machine.run(&kernel)?;
    let results: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with("test result: ok"))
        .collect();
    println!("{}", results.join("\n"));
    ensure!(results.len() == TESTS.len(), "some tests did not run:\n{printed}");
    ensure!(!printed.contains("skipped:"), "a test was skipped:\n{printed}");
    Ok(())
}

/// The agent's test binary of that name, which lies beside this one: the newest, if it was built from what is there now.
fn agents(this: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let directory = this.parent().context("the test binary has no directory")?;
    let mut found = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let hash = own.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        if hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            found.push((path.metadata()?.modified()?, path));
        }
    }
    let newest = found.into_iter().max().map(|(_, path)| path);
    let path = newest.with_context(|| format!("there are no tests {name} of the agent; {HOW}"))?;
    let own = format!("agent/tests/{name}");
    ensure_fresh(&path, &own)?;
    ensure_fresh(&path, &format!("{own}.rs"))?;
    Ok(path)
}

/// Whether a binary was built from the agent's sources, and its own, as they are now.
fn ensure_fresh(binary: &Path, own: &str) -> anyhow::Result<()> {
    let built = binary
        .metadata()
        .with_context(|| format!("{}; {HOW}", binary.display()))?
        .modified()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for source in SOURCES.iter().copied().chain([own]) {
        let is_older = changed(&root.join(source))? <= built;
        ensure!(is_older, "{source} is newer than {}; {HOW}", binary.display());
    }
    Ok(())
}

/// When the newest file at or below a path was changed, but for unit tests, which are in other binaries; nothing there was never changed.
fn changed(path: &Path) -> anyhow::Result<SystemTime> {
    let Ok(metadata) = path.metadata() else {
        return Ok(SystemTime::UNIX_EPOCH);
    };
    let mut newest = if metadata.is_file() {
        metadata.modified()?
    } else {
        SystemTime::UNIX_EPOCH
    };
    if metadata.is_dir() {
        for entry in path.read_dir()? {
            let entry = entry?;
            let is_unit_test = ["tests", "tests.rs", "fixtures"]
                .iter()
                .any(|name| entry.file_name() == *name);
            if !is_unit_test {
                newest = newest.max(changed(&entry.path())?);
            }
        }
    }
    Ok(newest)
}

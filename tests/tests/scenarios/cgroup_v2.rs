//! The containerizer's own tests and the scenarios of this binary again, on a kernel with nothing but cgroup v2, in an emulated
//! machine.

use std::path::{Path, PathBuf};

use anyhow::Context;
use proffer_tests::cluster::built;
use proffer_tests::vm::{self, Machine};

/// Of the containerizer's tests those of cgroups and isolators, but for what cannot be there: an agent that lacks a capability.
const CONTAINERS: &str = "confinement:: devices:: enter:: io:: isolation:: launch:: ports:: recovery:: usage:: \
                          --skip what_the_agent_itself_cannot_do";

/// What is run there: what touches the kernel; emulation makes the rest only slow.
const SCENARIOS: &str = "isolation:: kill::a_ agent_recovery::a_task_outlives exec::a_program_runs";

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
    let target = built("proffer-under-test")?
        .parent()
        .and_then(|profile| profile.parent())
        .map(PathBuf::from);
    let kernel = match vm::kernel(&target.unwrap_or_default()) {
        Ok(kernel) => kernel,
        Err(error) => {
            println!("skipped: {error:#}");
            return Ok(());
        }
    };
    let machine = Machine {
        directory: PathBuf::from(format!("/var/tmp/proffer-vm-{}", std::process::id())),
        files: vec![
            (containerizer(&this)?, "deps/containerizer"),
            (this, "deps/scenarios"),
            (built("proffer-under-test")?, "proffer-under-test"),
            (built("proffer-probe")?, "proffer-probe"),
        ],
        script: format!(
            "./deps/containerizer --test-threads=2 {CONTAINERS} && exec ./deps/scenarios --test-threads=1 {SCENARIOS}\n"
        ),
    };
    let printed = machine.run(&kernel)?;
    let results: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with("test result: ok"))
        .collect();
    println!("{}", results.join("\n"));
    anyhow::ensure!(results.len() == 2, "some tests did not run:\n{printed}");
    anyhow::ensure!(!printed.contains("skipped:"), "a scenario was skipped:\n{printed}");
    Ok(())
}

/// The agent's test binary of that name, which lies beside this one; the newest, where there are several.
fn containerizer(this: &Path) -> anyhow::Result<PathBuf> {
    let directory = this.parent().context("the test binary has no directory")?;
    let mut found = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("containerizer-") && !name.contains('.') {
            found.push((path.metadata()?.modified()?, path));
        }
    }
    let newest = found.into_iter().max().map(|(_, path)| path);
    newest.context("the agent's tests are not there; `cargo test -p proffer-agent --no-run` builds them")
}

//! The scenarios of this binary again, on a kernel with nothing but cgroup v2, in an emulated machine.

use std::path::PathBuf;

use proffer_tests::cluster::built;
use proffer_tests::vm::{self, Machine};

/// What is run there: what touches the kernel; emulation makes the rest only slow.
const SCENARIOS: &str = "isolation:: kill::a_ agent_recovery:: launch::a_task_runs exec::a_program_runs";

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
            (this, "deps/scenarios"),
            (built("proffer-under-test")?, "proffer-under-test"),
            (built("proffer-probe")?, "proffer-probe"),
        ],
        script: format!("exec ./deps/scenarios --test-threads=1 {SCENARIOS}\n"),
    };
    let printed = machine.run(&kernel)?;
    let result = printed.lines().find(|line| line.starts_with("test result: ok"));
    anyhow::ensure!(result.is_some(), "no test ran:\n{printed}");
    anyhow::ensure!(!printed.contains("skipped:"), "a scenario was skipped:\n{printed}");
    Ok(())
}

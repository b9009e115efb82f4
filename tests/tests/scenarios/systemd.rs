//! The units of `docs/systemd`: systemd reads them without a complaint, and the programs know what they set.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::Args;
use proffer_tests::cluster::built;

const BINARY: &str = "/usr/local/bin/proffer";

fn units() -> anyhow::Result<Vec<(String, String)>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/systemd");
    ["proffer-agent.service", "proffer-master.service"]
        .into_iter()
        .map(|name| Ok((name.to_owned(), std::fs::read_to_string(directory.join(name))?)))
        .collect()
}

/// The values of a setting.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let pairs = unit.lines().filter_map(|line| line.split_once('='));
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

#[test]
fn systemd_reads_the_units_without_a_complaint() -> anyhow::Result<()> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed (apt-get install systemd)");
        return Ok(());
    }
    let directory = PathBuf::from(format!("/var/tmp/proffer-units-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let binary = built("proffer-under-test")?;
    let binary = binary.to_str().context("the path of the binary is text")?;
    for (name, unit) in units()? {
        ensure!(unit.contains(BINARY), "{name} starts another binary");
        let path = directory.join(&name);
        std::fs::write(&path, unit.replace(BINARY, binary))?;
        // What it does not know it warns of, and passes over.
        let output = Command::new("systemd-analyze").arg("verify").arg(&path).output()?;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && text.trim().is_empty(), "{name}: {text}");
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

#[test]
fn the_programs_know_the_commands_and_variables_of_the_units() -> anyhow::Result<()> {
    let agent = proffer_agent::Args::augment_args(clap::Command::new("agent"));
    let master = proffer_master::Args::augment_args(clap::Command::new("master"));
    for (name, unit) in units()? {
        let program = name.trim_start_matches("proffer-").trim_end_matches(".service");
        assert_eq!(values(&unit, "ExecStart"), [format!("{BINARY} {program}")]);
        assert_eq!(
            values(&unit, "EnvironmentFile"),
            [format!("-/etc/proffer/{program}.env")]
        );
        let command = [&agent, &master]
            .into_iter()
            .find(|command| command.get_name() == program);
        let flags = command.context("no such program")?;
        let known: Vec<_> = flags
            .get_arguments()
            .filter_map(|flag| flag.get_env()?.to_str())
            .collect();
        let set = values(&unit, "Environment").into_iter();
        let shown = unit.lines().filter_map(|line| line.strip_prefix("# PROFFER_"));
        let shown = shown.map(|line| format!("PROFFER_{line}"));
        for line in set.map(str::to_owned).chain(shown) {
            let variable = line.split('=').next().unwrap_or_default();
            ensure!(known.contains(&variable), "{name}: {variable} is none of {known:?}");
        }
    }
    Ok(())
}

#[test]
fn a_stop_of_the_agents_unit_spares_its_tasks() -> anyhow::Result<()> {
    let units = units()?;
    let agent = &units[0].1;
    for (key, value) in [
        ("KillMode", "process"),
        ("Delegate", "yes"),
        ("OOMPolicy", "continue"),
        ("TasksMax", "infinity"),
        ("Restart", "always"),
    ] {
        assert_eq!(values(agent, key), [value], "{key}");
    }
    // Each of these would be the tasks' too, or hides from the agent what it changes.
    let harmful = [
        "RuntimeDirectory",
        "PrivateTmp",
        "PrivateMounts",
        "PrivateDevices",
        "DevicePolicy",
    ];
    let harmful = harmful
        .into_iter()
        .chain(["ProtectControlGroups", "ProtectSystem", "OOMScoreAdjust", "Nice"]);
    for key in harmful {
        assert!(values(agent, key).is_empty(), "{key}");
    }
    Ok(())
}

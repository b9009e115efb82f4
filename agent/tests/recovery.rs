//! What an agent makes of what an earlier one left: after a reboot, with other resources, from an older release.
//!
//! `fixtures/journal-N` is the journal of an agent of an earlier release that was killed. One is recorded before the journal gets
//! records that the release does not know, and never again, as its bytes are the point:
//! `PROFFER_RECORD=<agent of the release> PROFFER_INTO=agent/tests/fixtures/journal-N cargo test -p proffer-agent --test recovery -- --ignored`

mod support;

use std::process::Command;

use anyhow::{Context, ensure};
use proffer_proto::v1;
use proffer_proto::v1::TaskState::*;
use proffer_proto::v1::executor_info::Type;
use proffer_proto::v1::task_status::Reason;
use support::{AgentProcess, FakeMaster, can_contain, shell, until};

fn executor(id: &str, kind: Type, command: Option<&str>) -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        executor_id: id.into(),
        r#type: Some(kind.into()),
        command: command.map(|command| v1::CommandInfo {
            value: Some(command.into()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Processes with a certain argument.
fn running_with(argument: &str) -> usize {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines
        .filter(|line| line.split(|byte| *byte == 0).any(|part| part == argument.as_bytes()))
        .count()
}

#[tokio::test]
async fn after_a_reboot_nothing_is_taken_over_and_all_is_told() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    if !Command::new("unshare").args(["--mount", "true"]).status()?.success() {
        eprintln!("skipped: the host has no unshare");
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::prepare(&master.address)?;
    let boot_id = agent.path("boot_id");
    std::fs::write(&boot_id, "11111111-1111-1111-1111-111111111111\n")?;
    agent.boot_id = Some(boot_id.clone());
    agent.restart()?;
    master.registered(1).await?;
    // None of these ends by itself; the argument tells them from other tests' processes.
    let mark = format!("98{}", std::process::id());
    let sleep = format!("sleep {mark}");
    master.launch(shell("alone", &sleep)).await?;
    let group = vec![shell("first", &sleep), shell("second", &sleep)];
    master
        .launch_on(executor("pod", Type::Default, None), group, true, true)
        .await?;
    let mut given = shell("given", "");
    given.command = None;
    master
        .launch_on(executor("custom", Type::Custom, Some(&sleep)), vec![given], false, true)
        .await?;
    for id in ["alone", "first", "second"] {
        master.update(id, TaskRunning).await?;
    }
    until("all run", || (running_with(&mark) == 4).then_some(())).await?;

    // The machine comes up again: another boot, and nothing runs that the agent started, though pids may be in use again. Here
    // they all are, by the very processes.
    agent.kill().await?;
    std::fs::write(&boot_id, "22222222-2222-2222-2222-222222222222\n")?;
    agent.restart()?;
    master.registered(2).await?;
    for id in ["alone", "first", "second", "given"] {
        let lost = master.update(id, TaskLost).await?;
        assert_eq!(lost.reason(), Reason::AgentRestarted, "{lost:?}");
        assert!(
            lost.message().starts_with("the agent's machine was rebooted"),
            "{lost:?}"
        );
    }
    until("nothing is left of the boot before", || {
        (running_with(&mark) == 0 && agent.cgroups_left().is_empty()).then_some(())
    })
    .await?;
    let register = agent.call(get(v1::agent::call::Type::GetState)).await?;
    let state = register.get_state.context("a state")?;
    ensure!(state.get_executors.is_some_and(|known| known.executors.is_empty()));
    // The agent is of use.
    master.launch(shell("new", "true")).await?;
    master.update("new", TaskFinished).await?;
    Ok(())
}

fn get(kind: v1::agent::call::Type) -> v1::agent::Call {
    let mut call = v1::agent::Call::default();
    call.set_type(kind);
    call
}

#[tokio::test]
async fn an_agent_may_have_other_resources_but_not_less_than_its_tasks_hold() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    master.launch(shell("holds", "sleep 1000")).await?;
    master.update("holds", TaskRunning).await?;
    agent.kill().await?;

    agent.resources = "cpus:0.4;mem:1024;disk:1024;ports:[31900-31909]".into();
    agent.restart()?;
    ensure!(!agent.ended().await?.success(), "it must not start");
    let log = std::fs::read_to_string(agent.path("log"))?;
    let refusal = "resources: cpus:0.4;disk:1024;mem:1024;ports:[31900-31909] is less than the tasks that run here hold, which is cpus:0.5;mem:64";
    ensure!(log.contains(refusal), "{log}");

    // What runs fits, though it is less than before.
    agent.resources = "cpus:1;mem:64;disk:9;ports:[31900-31909]".into();
    agent.restart()?;
    let register = master.registered(2).await?;
    assert_eq!(register.tasks.len(), 1);
    let named: Vec<&str> = register
        .agent
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect();
    assert_eq!(named, ["cpus", "mem", "disk", "ports"]);
    // Still the same container.
    let call = agent.call(get(v1::agent::call::Type::GetContainers)).await?;
    assert_eq!(call.get_containers.context("containers")?.containers.len(), 1);
    agent.kill().await?;

    agent.resources = "cpus:8;mem:2048;disk:1024;ports:[31900-31909];gold:7".into();
    agent.restart()?;
    let register = master.registered(3).await?;
    assert_eq!((register.tasks.len(), register.agent.resources.len()), (1, 5));
    Ok(())
}

/// The tasks of a recorded journal: one runs, one has failed and waits for its acknowledgement, one is being killed, one has checks.
const RECORDED: [(&str, &str); 4] = [
    ("runs", "sleep 1000"),
    ("failed", "exit 7"),
    ("killed", "trap '' TERM; while :; do sleep 1; done"),
    ("checked", "sleep 1000"),
];

#[tokio::test]
#[ignore = "records a release's journal"]
async fn record_a_journal() -> anyhow::Result<()> {
    let program = std::env::var("PROFFER_RECORD").context("PROFFER_RECORD: the agent that is recorded")?;
    let into = std::env::var("PROFFER_INTO").context("PROFFER_INTO: the file that is written")?;
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::prepare(&master.address)?;
    agent.program = program.into();
    agent.restart()?;
    master.registered(1).await?;
    for (id, line) in RECORDED.iter().filter(|(id, _)| *id != "failed") {
        let mut task = shell(id, line);
        if *id == "checked" {
            let mut check = v1::HealthCheck {
                command: Some(v1::CommandInfo {
                    value: Some("true".into()),
                    ..Default::default()
                }),
                delay_seconds: Some(0.0),
                interval_seconds: Some(0.1),
                ..Default::default()
            };
            check.set_type(v1::health_check::Type::Command);
            task.health_check = Some(Box::new(check));
        }
        master.launch(task).await?;
        master.update(id, TaskRunning).await?;
    }
    until("the check is told", || {
        master.look(|state| {
            let mut updates = state.updates.iter();
            updates.any(|update| update.status.healthy == Some(true)).then_some(())
        })
    })
    .await?;
    master.look(|state| state.acknowledges = false);
    master.launch(shell("failed", RECORDED[1].1)).await?;
    master.seen("failed", TaskRunning).await?;
    master.kill("killed", std::time::Duration::from_secs(1000)).await?;
    // Both are in the journal when a later task is.
    master.launch(shell("last", "true")).await?;
    master.seen("last", TaskRunning).await?;
    until("the failure is told", || {
        master.look(|state| {
            let mut updates = state.updates.iter();
            updates
                .any(|update| update.status.task_id.value == "failed" && update.latest_state() == TaskFailed)
                .then_some(())
        })
    })
    .await?;
    agent.kill().await?;
    let bytes = std::fs::read(agent.path("work/journal"))?;
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    std::fs::write(into, &bytes[..end])?;
    agent.program = env!("CARGO_BIN_EXE_proffer-agent").into();
    Ok(())
}

#[tokio::test]
async fn the_journal_of_an_older_release_is_taken_over() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut recorded: Vec<_> = std::fs::read_dir(fixtures)?.collect::<Result<_, _>>()?;
    recorded.sort_by_key(std::fs::DirEntry::path);
    ensure!(!recorded.is_empty(), "no journal was recorded");
    for fixture in recorded {
        let master = FakeMaster::start().await?;
        let mut agent = AgentProcess::prepare(&master.address)?;
        std::fs::create_dir_all(&agent.work)?;
        let mut bytes = std::fs::read(fixture.path())?;
        // The zeros at the end of the space were left out.
        bytes.resize(bytes.len().next_multiple_of(1 << 20), 0);
        std::fs::write(agent.path("work/journal"), bytes)?;
        agent.restart()?;
        let register = master.registered(1).await?;
        assert_eq!(register.agent.id, Some("agent-1".into()), "{fixture:?}");
        // Their containers are those of another machine.
        for id in ["runs", "killed", "checked"] {
            let lost = master.update(id, TaskLost).await?;
            assert!(
                lost.message().contains("its container is not there any more"),
                "{fixture:?}: {lost:?}"
            );
        }
        let checked = master.update("checked", TaskLost).await?;
        assert_eq!(checked.healthy, Some(true), "{fixture:?}");
        let failed = master.update("failed", TaskFailed).await?;
        assert_eq!(failed.message(), "exited with code 7", "{fixture:?}");
        master.launch(shell("new", "true")).await?;
        master.update("new", TaskFinished).await?;
    }
    Ok(())
}

//! What an agent makes of what an earlier one left: after a reboot, with other resources, from an older release.

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

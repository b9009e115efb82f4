//! Checks of tasks in real containers, told to a fake master.

mod support;

use std::path::{Path, PathBuf};

use proffer_proto::link::StatusUpdate;
use proffer_proto::v1;
use proffer_proto::v1::TaskState::*;
use proffer_proto::v1::task_status::Reason;
use support::{AgentProcess, FakeMaster, can_contain, shell, until};

/// Waits for an update of the task of which this holds.
async fn update(
    master: &FakeMaster,
    what: &str,
    holds: impl Fn(&v1::TaskStatus) -> bool,
) -> anyhow::Result<v1::TaskStatus> {
    until(what, || {
        master.look(|state| {
            let statuses = state.updates.iter().map(|update: &StatusUpdate| &update.status);
            statuses.clone().find(|status| holds(status)).cloned()
        })
    })
    .await
}

fn command(script: &str) -> v1::CommandInfo {
    v1::CommandInfo {
        value: Some(script.into()),
        ..Default::default()
    }
}

/// The file of that name somewhere below.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(directory).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        match entry.file_type().ok()? {
            kind if kind.is_dir() => find(&path, name),
            _ => (entry.file_name() == name).then_some(path),
        }
    })
}

#[tokio::test]
async fn health_is_told_kept_over_a_restart_and_ends_the_task_when_it_is_lost() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let mut task = shell("t", "echo here > alive-mark; exec sleep 1000");
    // Runs in the container, with the task's variables and in its sandbox; leaves a process behind every time.
    task.health_check = Some(Box::new(v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Command.into()),
        command: Some(command(
            "sleep 1000 & grep -q here alive-mark && test $MESOS_TASK_ID = t || { echo no mark; exit 4; }",
        )),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.1),
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(2),
        ..Default::default()
    }));
    master.launch(task).await?;
    let healthy = update(&master, "it is healthy", |status| status.healthy == Some(true)).await?;
    assert_eq!(
        (healthy.state(), healthy.reason()),
        (TaskRunning, Reason::TaskHealthCheckStatusUpdated)
    );
    assert_eq!(
        master.update("t", TaskRunning).await?.healthy,
        None,
        "the first update knows nothing yet"
    );

    agent.kill().await?;
    let before = master.look(|state| state.updates.len());
    agent.restart()?;
    let register = master.registered(2).await?;
    let known = register.tasks[0].statuses.last().and_then(|status| status.healthy);
    assert!(known.is_none() || known == Some(true), "{register:?}");
    std::fs::remove_file(find(&agent.path("work"), "alive-mark").expect("the mark"))?;
    let unhealthy = update(&master, "it is unhealthy", |status| {
        status.healthy == Some(false) && status.state() == TaskRunning
    })
    .await?;
    assert!(
        unhealthy.message().contains("exited with code 4: ") && unhealthy.message().contains("no mark"),
        "{unhealthy:?}"
    );
    let killed = master.update("t", TaskKilled).await?;
    assert_eq!(
        (killed.healthy, killed.reason()),
        (Some(false), Reason::TaskHealthCheckStatusUpdated)
    );
    // Nothing was told anew: what comes again because its acknowledgement was lost has its old id.
    let after = master.look(|state| {
        let (earlier, later): (Vec<_>, Vec<_>) = state.updates.iter().enumerate().partition(|(at, _)| *at < before);
        let known = |update: &StatusUpdate| earlier.iter().any(|(_, other)| other.status.uuid == update.status.uuid);
        let new = later.iter().filter(|(_, update)| !known(update));
        let mut new: Vec<_> = new
            .map(|(_, update)| (update.status.state(), update.status.healthy))
            .collect();
        new.dedup();
        new
    });
    assert_eq!(after, [(TaskRunning, Some(false)), (TaskKilled, Some(false))]);
    until("the containers are gone", || {
        agent.cgroups_left().is_empty().then_some(())
    })
    .await
}

#[tokio::test]
async fn a_check_tells_exit_codes_and_a_stuck_one_is_ended() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let _agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let mut task = shell("t", "exec sleep 1000");
    // 7 the first time; then it never ends by itself.
    task.check = Some(Box::new(v1::CheckInfo {
        r#type: Some(v1::check_info::Type::Command.into()),
        command: Some(v1::check_info::Command {
            command: command("test -e been-here && { trap '' TERM; sleep 1000; }; touch been-here; exit 7"),
        }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.1),
        timeout_seconds: Some(1.0),
        ..Default::default()
    }));
    master.launch(task).await?;
    let code = |status: &v1::TaskStatus| {
        let command = status.check_status.as_ref().and_then(|check| check.command);
        command.map(|command| command.exit_code)
    };
    let first = master.update("t", TaskRunning).await?;
    assert_eq!(code(&first), Some(None), "{first:?}");
    let seven = update(&master, "the exit code is told", |status| code(status) == Some(Some(7))).await?;
    assert_eq!(
        (seven.state(), seven.reason()),
        (TaskRunning, Reason::TaskCheckStatusUpdated)
    );
    let stuck = update(&master, "the stuck check is told", |status| {
        code(status) == Some(None) && status.message().contains("no answer within 1 s")
    })
    .await?;
    assert_eq!(stuck.state(), TaskRunning);
    master.kill("t", std::time::Duration::ZERO).await?;
    master.update("t", TaskKilled).await?;
    Ok(())
}

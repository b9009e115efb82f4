//! The agent as a process, real containers, and a fake master.

mod support;

use std::time::Duration;

use proffer_proto::v1::TaskState::*;
use proffer_proto::v1::task_status::Reason;
use support::{AgentProcess, FakeMaster, can_contain, read_file, shell, until};

#[tokio::test]
async fn a_task_runs_and_finishes() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    let register = master.registered(1).await?;
    assert_eq!((register.agent.id, register.tasks.len()), (None, 0));
    master
        .launch(shell("hello", "echo hello $MESOS_TASK_ID $(id -un)"))
        .await?;
    let running = master.update("hello", TaskRunning).await?;
    assert!(
        running
            .container_status
            .and_then(|status| status.executor_pid)
            .is_some()
    );
    master.update("hello", TaskFinished).await?;
    let answer = agent.call(read_file("hello", "stdout")).await?;
    assert_eq!(answer.read_file.unwrap_or_default().data, b"hello hello nobody\n");
    until("the containers are gone", || {
        agent.cgroups_left().is_empty().then_some(())
    })
    .await
}

#[tokio::test]
async fn failures_are_told_apart() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let _agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    master.launch(shell("code", "exit 3")).await?;
    let failed = master.update("code", TaskFailed).await?;
    assert_eq!(failed.message(), "exited with code 3");

    let mut greedy = shell("greedy", "a=x; while :; do a=$a$a; done");
    greedy.resources[1].scalar.as_mut().unwrap().value = 16.0;
    master.launch(greedy).await?;
    let failed = master.update("greedy", TaskFailed).await?;
    assert_eq!(failed.reason(), Reason::ContainerLimitationMemory, "{failed:?}");
    assert!(failed.message().contains("the limit is 16.0 MiB"), "{failed:?}");
    assert_eq!(failed.limitation.unwrap().resources[0].name, "mem");

    let mut stranger = shell("stranger", "true");
    stranger.command.as_mut().unwrap().user = Some("no-such-user".into());
    master.launch(stranger).await?;
    let failed = master.update("stranger", TaskFailed).await?;
    assert_eq!(failed.reason(), Reason::ContainerLaunchFailed);
    assert!(failed.message().contains("`no-such-user` does not exist"), "{failed:?}");

    let mut root = shell("root", "true");
    root.command.as_mut().unwrap().user = Some("root".into());
    master.launch(root).await?;
    assert_eq!(
        master.update("root", TaskError).await?.reason(),
        Reason::TaskUnauthorized
    );

    let mut absent = shell("absent", "/no/such/program");
    absent.command.as_mut().unwrap().shell = Some(false);
    master.launch(absent).await?;
    let failed = master.update("absent", TaskFailed).await?;
    assert_eq!(failed.reason(), Reason::ContainerLaunchFailed);
    assert!(failed.message().contains("/no/such/program"), "{failed:?}");
    Ok(())
}

#[tokio::test]
async fn a_killed_task_may_clean_up_and_must_end() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    master
        .launch(shell(
            "polite",
            "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done",
        ))
        .await?;
    master
        .launch(shell("stubborn", "trap '' TERM; while :; do sleep 0.05; done"))
        .await?;
    for task in ["polite", "stubborn"] {
        master.update(task, TaskRunning).await?;
    }
    // The shell needs a moment until its trap stands: the signal is repeated by nobody.
    tokio::time::sleep(Duration::from_millis(300)).await;
    master.kill("polite", Duration::from_secs(30)).await?;
    let killed = master.update("polite", TaskKilled).await?;
    assert!(killed.message().contains("exited with code 0"), "{killed:?}");
    let answer = agent.call(read_file("polite", "stdout")).await?;
    assert_eq!(answer.read_file.unwrap_or_default().data, b"bye\n");
    master.kill("stubborn", Duration::from_millis(100)).await?;
    let killed = master.update("stubborn", TaskKilled).await?;
    assert!(killed.message().contains("SIGKILL"), "{killed:?}");
    Ok(())
}

#[tokio::test]
async fn tasks_outlive_a_killed_agent() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    master
        .launch(shell("long", "while [ ! -e stop ]; do sleep 0.05; done; exit 5"))
        .await?;
    master
        .launch(shell(
            "short",
            "while [ ! -e stop ]; do sleep 0.05; done; echo x > stopped; exit 7",
        ))
        .await?;
    for task in ["long", "short"] {
        master.update(task, TaskRunning).await?;
    }
    let sandbox = |task: &str| {
        let parent = agent.path("work/sandboxes/framework-1").join(task);
        let run = std::fs::read_dir(parent)?.next().expect("there is one run")?;
        anyhow::Ok(run.path())
    };
    let (long, short) = (sandbox("long")?, sandbox("short")?);
    agent.kill().await?;
    std::fs::write(short.join("stop"), "")?;
    until("the short task has ended", || {
        short.join("stopped").exists().then_some(())
    })
    .await?;
    agent.restart()?;
    let register = master.registered(2).await?;
    assert_eq!(register.agent.id.map(|id| id.value).as_deref(), Some("agent-1"));
    assert_eq!(register.tasks.len(), 2);
    assert_eq!(
        master.update("short", TaskFailed).await?.message(),
        "exited with code 7"
    );
    std::fs::write(long.join("stop"), "")?;
    assert_eq!(master.update("long", TaskFailed).await?.message(), "exited with code 5");
    Ok(())
}

#[tokio::test]
async fn an_update_is_sent_until_it_is_acknowledged() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    master.look(|state| state.acknowledges = false);
    master.launch(shell("once", "true")).await?;
    let first = master.update("once", TaskRunning).await?;
    until("the terminal state rides along", || {
        master.look(|state| {
            state
                .updates
                .iter()
                .any(|update| update.latest_state() == TaskFinished)
                .then_some(())
        })
    })
    .await?;
    agent.kill().await?;
    master.look(|state| {
        state.updates.clear();
        state.acknowledges = true;
    });
    agent.restart()?;
    let register = master.registered(2).await?;
    assert_eq!(register.tasks[0].state(), TaskFinished);
    assert_eq!(register.tasks[0].status_update_uuid, first.uuid);
    assert_eq!(master.update("once", TaskRunning).await?.uuid, first.uuid);
    master.update("once", TaskFinished).await?;
    Ok(())
}

#[tokio::test]
async fn an_agent_that_leaves_takes_its_tasks_along() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    master.launch(shell("sleeper", "sleep 1000")).await?;
    master.update("sleeper", TaskRunning).await?;
    agent.signal(rustix::process::Signal::USR1)?;
    assert!(agent.ended().await?.success());
    until("the master hears of it", || {
        master.look(|state| state.unregistered.then_some(()))
    })
    .await?;
    assert!(agent.cgroups_left().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_torn_journal_is_cut_and_a_corrupt_one_refused() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    master.launch(shell("first", "exec sleep 300")).await?;
    master.update("first", TaskRunning).await?;
    master.launch(shell("second", "exec sleep 300")).await?;
    master.update("second", TaskRunning).await?;
    agent.kill().await?;
    let path = agent.path("work/journal");
    let sound = std::fs::read(&path)?;
    let end = sound.len() - sound.iter().rev().take_while(|byte| **byte == 0).count();

    let mut torn = sound.clone();
    torn[end..end + 40].fill(0xa5);
    std::fs::write(&path, &torn)?;
    agent.restart()?;
    assert_eq!(master.registered(2).await?.tasks.len(), 2);
    agent.kill().await?;

    // As the start left it: compacted, and nothing written since.
    let compacted = std::fs::read(&path)?;
    for mut corrupt in [compacted.clone(), sound] {
        corrupt[30] ^= 1;
        std::fs::write(&path, &corrupt)?;
        agent.restart()?;
        assert!(!agent.ended().await?.success());
    }
    let log = std::fs::read_to_string(agent.path("log"))?;
    assert_eq!(
        log.matches("is corrupt: what begins at byte 20 is damaged").count(),
        2,
        "{log}"
    );
    std::fs::write(&path, &compacted)?;
    agent.restart()?;
    assert_eq!(master.registered(3).await?.tasks.len(), 2, "none was killed");
    Ok(())
}

#[tokio::test]
async fn a_work_directory_has_one_agent() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let second = agent.another()?;
    let first = agent.child.replace(second);
    assert!(!agent.ended().await?.success());
    agent.child = first;
    let log = std::fs::read_to_string(agent.path("log"))?;
    assert!(log.contains("another agent uses the work directory"), "{log}");
    Ok(())
}

#[tokio::test]
async fn the_operator_api_refuses_what_it_cannot_do() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    master
        .launch(shell("linker", "ln -s /etc/passwd link; exec sleep 300"))
        .await?;
    master.update("linker", TaskRunning).await?;
    let link = agent.path("work/sandboxes/framework-1/linker");
    until("the link is there", || {
        let run = std::fs::read_dir(&link).ok()?.next()?.ok()?;
        run.path().join("link").symlink_metadata().ok()
    })
    .await?;
    for (file, code) in [
        ("link", tonic::Code::PermissionDenied),
        ("../../../../journal", tonic::Code::PermissionDenied),
        ("absent", tonic::Code::NotFound),
    ] {
        let error = agent.call(read_file("linker", file)).await.expect_err(file);
        let status = error.downcast::<tonic::Status>()?;
        assert_eq!(status.code(), code, "{file}: {status}");
    }
    let mut call = proffer_proto::v1::agent::Call::default();
    let error = agent.call(call.clone()).await.expect_err("no type");
    assert!(error.to_string().contains("type: must be"), "{error}");
    call.set_type(proffer_proto::v1::agent::call::Type::GetContainers);
    let containers = agent
        .call(call.clone())
        .await?
        .get_containers
        .unwrap_or_default()
        .containers;
    assert!(
        containers[0]
            .resource_statistics
            .as_ref()
            .is_some_and(|usage| usage.mem_limit_bytes == Some(64 << 20))
    );
    call.set_type(proffer_proto::v1::agent::call::Type::PruneImages);
    assert!(
        agent
            .call(call)
            .await
            .expect_err("unsupported")
            .to_string()
            .contains("not supported")
    );
    Ok(())
}
